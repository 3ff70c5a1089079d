"""What goes wrong is said at its place: before anything is sent, or as the cell's own error."""

from __future__ import annotations

from typing import Any

from realkernel import RealKernel


def test_an_input_that_cannot_be_pickled(shared_kernel: RealKernel, shared_server: Any) -> None:
    """The error names the variable, its type, the line and a way out; nothing is submitted."""
    shared_kernel.do("import threading\nlock = threading.Lock()\nbeside = 1")
    before = len(shared_server.observer.jobs())
    ran = shared_kernel.run("%%async_run --name locked\na = beside\nwith lock:\n    b = 2")
    assert ran.error is not None
    assert ran.error["ename"] == "NotPickledError"
    for part in ("'lock'", "_thread.lock", "line 3", "Nothing was submitted"):
        assert part in ran.traceback
    assert len(shared_server.observer.jobs()) == before
    # One that is not needed does not matter.
    shared_kernel.do("%%async_run --name free\na = beside + 1")
    shared_kernel.do("%async_gather free")
    assert shared_kernel.value("a") == 2


def test_a_syntax_error(shared_kernel: RealKernel, shared_server: Any) -> None:
    """It is reported at its line, as for any cell; nothing is submitted."""
    before = len(shared_server.observer.jobs())
    ran = shared_kernel.run("%%async_run --name broken\na = 1\nb = (2 +\nc = = 3\n")
    assert ran.error is not None
    assert ran.error["ename"] == "SyntaxError"
    assert "line 3" in ran.traceback or "line 4" in ran.traceback
    assert "dask_async_run" not in ran.traceback
    assert len(shared_server.observer.jobs()) == before


def test_an_exception(shared_kernel: RealKernel, shared_server: Any) -> None:
    """It is raised as itself, with the cell's own lines; what was done before it stands."""
    cell = (
        "%%async_run --name failing\n"
        "done = 'before'\n"
        "def inner(n):\n"
        "    return 1 / n\n"
        "print('so far')\n"
        "inner(0)\n"
    )
    count = shared_kernel.do(cell).count
    ran = shared_kernel.run("%async_gather failing")
    assert ran.stdout == "so far\n"
    assert ran.error is not None
    assert ran.error["ename"] == "ZeroDivisionError"
    for part in (f"Cell In[{count}], line 6", f"Cell In[{count}], line 4", "return 1 / n"):
        assert part in ran.traceback
    assert "dask_async_run/" not in ran.traceback
    assert "site-packages" not in ran.traceback
    assert shared_kernel.value("done") == "before"
    again = shared_kernel.run("%tb").text
    assert f"Cell In[{count}], line 4" in again
    assert "dask_async_run/" not in again
    # As itself: a script can catch it.
    caught = shared_kernel.do(
        "try:\n"
        "    get_ipython().run_line_magic('async_gather', 'failing')\n"
        "except ZeroDivisionError as error:\n"
        "    print('caught', error)"
    )
    assert "caught division by zero" in caught.stdout
    # Of several, those after it are named.
    for name, code in (("one", "1 / 0"), ("two", "x = 1"), ("three", "x = 2")):
        shared_kernel.do(f"%async_run --name {name} {code}")
    several = shared_kernel.run("%async_gather one two three")
    assert several.error is not None
    assert "Not gathered yet: %async_gather two three" in several.text
    shared_kernel.do("%async_gather two three")
    assert shared_kernel.value("x") == 2


def test_a_result_whose_pickling_interrupts(shared_kernel: RealKernel) -> None:
    """Nobody interrupts a cell that has ended: it is the object's own doing, and costs it alone."""
    shared_kernel.do(
        "%%async_run --name refusing\n"
        "class Refuses:\n    def __reduce__(self): raise KeyboardInterrupt\n"
        "refuses, fine = Refuses(), 5"
    )
    told = shared_kernel.do("%async_gather refusing").text
    assert told == "refusing: refuses did not come back: KeyboardInterrupt\n"
    assert shared_kernel.value("fine") == 5


def test_comments_above_the_magic(shared_kernel: RealKernel) -> None:
    """As editors put there; they are the cell's own, and lines keep their numbers."""
    cell = "# %% training\n\n%%async_run --name commented\nabove = 1\n1 / 0\n"
    count = shared_kernel.do(cell).count
    ran = shared_kernel.run("%async_gather commented")
    assert f"Cell In[{count}], line 5" in ran.traceback
    assert shared_kernel.value("above") == 1
    other = shared_kernel.run("# a comment\n%%timeit\n1")
    assert "`%%timeit` not found" in other.text


def test_a_fork_of_the_kernel_has_no_connection(shared_kernel: RealKernel) -> None:
    """It is told so at once; the kernel's own goes on."""
    shared_kernel.do("%async_run --name before x = 1")
    ran = shared_kernel.do(
        "import multiprocessing\n"
        "def ask(magic, line):\n"
        "    try:\n"
        "        get_ipython().run_line_magic(magic, line)\n"
        "    except Exception as error:\n"
        "        return str(error)\n"
        "with multiprocessing.get_context('fork').Pool(1) as pool:\n"
        "    for call in [('async_run', 'y = 1'), ('async_gather', 'before')]:\n"
        "        print(pool.apply_async(ask, call).get(20))",
        60,
    )
    assert ran.stdout.count("is a fork of the one that is connected to the server") == 2
    shared_kernel.do("%async_gather before")
    assert shared_kernel.value("x") == 1


def test_wrong_usage(shared_kernel: RealKernel, shared_server: Any) -> None:
    """An unknown option and a misspelt job say so in a line; nothing is submitted."""
    before = len(shared_server.observer.jobs())
    ran = shared_kernel.run("%%async_run --nmae typo\nx = 1")
    assert "--nmae" in ran.text
    assert "Did you mean --name? %async_run -h shows" in ran.text  # %%async_run -h has no cell
    assert "--nmae" not in shared_kernel.do("%async_run -h").text
    assert len(shared_server.observer.jobs()) == before
    assert "--name comes before the code" in shared_kernel.run("%async_run y = 2 --name q").text
    nested = shared_kernel.run("%%async_run --name a\n\n%%async_run --name b\nx = 1")
    assert "another %%async_run in the cell" in nested.text
    assert len(shared_server.observer.jobs()) == before
    told = shared_kernel.do("%async_run --name odd --also settings,known known = 1")
    assert "--also settings: neither the cell nor the notebook has it" in told.stderr
    assert "known:" not in told.stderr
    assert shared_kernel.do("%async_run --only known known = 2").stderr == ""
    shared_kernel.do("%async_gather")
    shared_kernel.do("%async_run --name training x = 1")
    ran = shared_kernel.run("%async_gather trainign")
    assert ran.error is not None
    assert "'training'" in ran.traceback
    shared_kernel.do("%async_gather training")


def test_input_is_an_error_and_not_a_hang(shared_kernel: RealKernel, shared_server: Any) -> None:
    """Nobody is there to answer."""
    shared_kernel.do("%%async_run --name asking\nanswer = input('name? ')")
    job = shared_server.observer.wait("asking")
    assert job.state == "failed"
    ran = shared_kernel.run("%async_gather asking")
    assert ran.error is not None
    assert "input" in ran.traceback


def test_a_debugger_is_told_that_the_cells_frames_are_gone(shared_kernel: RealKernel) -> None:
    """It stands in what raised the exception here, and shows what is to be done."""
    shared_kernel.do("%%async_run --name undebugged\n1 / 0")
    shared_kernel.run("%async_gather undebugged")
    refused = "There is nothing to debug: the cell ran elsewhere"
    for _ in range(2):
        assert refused in shared_kernel.run("%debug").stderr
    shared_kernel.run("1 / 0")  # here
    assert "----> 1 1 / 0" in shared_kernel.run("%debug").text
    shared_kernel.do("%pdb on")
    told = shared_kernel.run("%async_gather undebugged").text
    shared_kernel.do("%pdb off")
    stopped = told[told.index("ZeroDivisionError: division by zero> ") :]
    assert "its frames ended with its process" in stopped
    assert "Run the cell here, without %%async_run, to look into them." in stopped


def test_a_job_that_failed_says_so_of_a_variable_that_it_has_not(shared_kernel: RealKernel) -> None:
    """As one whose name was not found: that the variable is misspelt is not the reason."""
    shared_kernel.do("%%async_run --name early\n1 / 0\nlate = 1")
    ran = shared_kernel.run("job = Out[max(Out)]\njob.wait()\njob['late']")
    told = "early has no variable 'late': it is failed (ZeroDivisionError: division by zero)"
    assert told in ran.traceback


def test_a_script_that_is_run_by_the_notebook_has_its_own_namespace(
    shared_kernel: RealKernel,
) -> None:
    """``%run`` gives it a module of its own, of which its cells read, and where they bind."""
    shared_kernel.do(
        "%%writefile script.py\n"
        "import dask_async_run\n"
        "with dask_async_run.connect(start=False) as session:\n"
        "    mine = 3\n"
        "    def plus(x): return x + mine\n"
        "    session.run('made = plus(mine)', name='scripts').wait()\n"
        "    session.gather('scripts')\n"
        "    print(made, __name__)"
    )
    shared_kernel.do("mine = 100")
    assert shared_kernel.do("%run script.py").stdout == "6 __main__\n"
    assert shared_kernel.value("(made, mine)") == (6, 3)
    shared_kernel.do(
        "import dask_async_run\nsession = dask_async_run.connect(start=False)\nhere = 1"
    )
    shared_kernel.do("session.run('here += 1', name='own').wait()\nsession.gather('own')")
    assert shared_kernel.value("here") == 2
