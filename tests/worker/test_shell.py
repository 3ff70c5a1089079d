"""Where a cell differs from one in a kernel on purpose, and where it must not."""

from __future__ import annotations

import io
import pickle
import sys
import time
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cells import Cells
from dask_async_run import worker
from dask_async_run.job import State
from dask_async_run.kernel.magics import MAGICS
from dask_async_run.worker.questions import NOTEBOOKS_MAGICS


@dataclass(frozen=True)
class Question:
    name: str
    code: str
    told: str = "nobody is there to answer"


@pytest.mark.parametrize(
    "question",
    [
        Question("input", "input('name? ')"),
        Question("getpass", "import getpass\ngetpass.getpass()"),
        Question("breakpoint", "breakpoint()"),
        Question("pdb", "import pdb\npdb.set_trace()\n1"),
        Question("%debug", "%debug"),
        Question("ipdb", "from IPython.core.debugger import set_trace\nset_trace()\n1"),
    ],
    ids=lambda question: question.name,
)
def test_a_question_is_a_clear_error(cells: Cells, question: Question) -> None:
    """It does not hang, and shows where it was asked, nothing of ours."""
    ended = cells.run(question.code)
    assert ended.state is State.FAILED
    assert ended.result.ename == "StdinNotImplementedError"
    assert question.told in ended.result.evalue
    assert str(Path(worker.__file__).parent) not in ended.shown.traceback


def test_the_notebooks_magics_say_that_they_are_the_notebooks(cells: Cells) -> None:
    """And what the cell did before is kept."""
    assert set(NOTEBOOKS_MAGICS) == set(MAGICS)
    for code in (
        "x = 1\n%async_gather train",
        "x = 1\nget_ipython().run_cell_magic('async_run', '', 'y')",
    ):
        ended = cells.run(code)
        assert ended.result.ename == "UsageError"
        assert "works in the notebook, and not in a cell that runs with %%async_run" in (
            ended.result.evalue
        )
        assert ended.result.bound == ["x"]


def test_pdb_after_an_error_leaves_the_error(cells: Cells) -> None:
    """`%pdb on` would open a debugger."""
    ended = cells.run("%pdb on\n1/0")
    assert ended.result.ename == "ZeroDivisionError"
    assert "debugger" in ended.text("stderr")


@pytest.mark.parametrize(
    "code",
    ["import sys\nprint(repr(sys.stdin.read()))", "!cat; echo \"''\"", "%%bash\ncat; echo \"''\""],
)
def test_standard_input_is_at_its_end(cells: Cells, code: str) -> None:
    """For the cell and for commands."""
    assert cells.run(code).text().strip() == "''"


def test_windows_cannot_be_opened(cells: Cells) -> None:
    """%matplotlib with a toolkit says what to use instead."""
    ended = cells.run("get_ipython().enable_gui('qt')")
    assert "%matplotlib inline" in ended.text("stderr")


def test_the_pager_shows_its_text_in_the_cell(cells: Cells) -> None:
    """Nobody closes a pager."""
    ended = cells.run("len?")
    assert "Return the number of items" in ended.shown.data[0]["text/plain"]


def test_in_and_out_have_the_kernels_numbers(cells: Cells) -> None:
    """In[n] is the cell, Out[n] its result."""
    code = "x = 5\nx"
    ended = cells.run(code, execution_count=12)
    assert ended.outputs[-1]["execution_count"] == 12
    ended = cells.run("print(In[12][:5], len(In))", execution_count=12)
    assert ended.text() == "print 13\n"


def test_a_traceback_names_the_cell_and_the_file_of_the_kernel(cells: Cells) -> None:
    """`Cell In[n], line k`; the code object has the kernel's file name."""
    ended = cells.run("def f():\n    1/0\n\nf()", filename="/tmp/ipykernel_77/88.py")
    assert "Cell In[7], line 4" in ended.shown.traceback
    assert "Cell In[7], line 2, in f()" in ended.shown.traceback
    code = "def f(): pass\nf.__code__.co_filename"
    assert cells.run(code, filename="/tmp/ipykernel_77/88.py").shown.result == (
        "'/tmp/ipykernel_77/88.py'"
    )


def test_cells_within_the_cell_have_files_of_their_own(cells: Cells) -> None:
    """The cell's own lines stay what they are in its traceback."""
    code = "get_ipython().run_cell('a = 1\\n' * 5)\nx = 1\nraise ValueError(x)"
    assert "----> 3 raise ValueError(x)" in cells.run(code).shown.traceback


def test_a_terminals_cell_looks_like_a_terminals(cells: Cells) -> None:
    """Plain text only; the class has IPython's name; no loop runs around a cell."""
    code = (
        "import asyncio\n"
        "print(type(get_ipython()).__name__, 'IPKernelApp' in get_ipython().config)\n"
        "try: asyncio.get_running_loop()\n"
        "except RuntimeError: print('no loop')\n"
        "await asyncio.sleep(0)\n"
        "from IPython.display import HTML\n"
        "HTML('<b>')"
    )
    shell = {"class": "TerminalInteractiveShell", "kernel": False}
    ended = cells.run(code, shell=shell)
    assert ended.text().splitlines()[0] == "TerminalInteractiveShell False"
    assert list(ended.shown.data[0]) == ["text/plain"]
    sync = cells.run(code.replace("await", "#"), shell=shell)
    assert "no loop" in sync.text()
    assert cells.run("!echo x", shell=shell).text() == "x\n"


def test_a_shell_that_was_of_another_kind_is_as_if_it_had_not_been(cells: Cells) -> None:
    """Cells make one shell after the other out of the template's, which is a notebook's."""
    code = (
        "import os, sys\n"
        "shell = get_ipython()\n"
        "def seen():\n"
        "    formatter = shell.display_formatter\n"
        "    enabled = [f.enabled for f in formatter.formatters.values()]\n"
        "    return (repr(type(shell)), shell.rich, dict(shell.config), dict(os.environ),\n"
        "            enabled, list(formatter.active_types), 'ipykernel.zmqshell' in sys.modules)\n"
        "before = seen()\n"
        "shell.become('Other', rich=False)\n"
        "between = seen()\n"
        "shell.become('ZMQInteractiveShell', rich=True)\n"
        "before == seen(), [a != b for a, b in zip(before, between)]"
    )
    assert cells.run(code).shown.result == f"(True, {[True] * 7})"


def test_colours_are_the_kernels(cells: Cells) -> None:
    shell = {"class": "ZMQInteractiveShell", "kernel": True, "colors": "nocolor"}
    ended = cells.run("1/0", shell=shell)
    assert "\x1b" not in "".join(ended.outputs[-1]["traceback"])


def test_the_first_cell_and_a_later_one_see_a_fresh_shell(cells: Cells) -> None:
    """Nothing of what was rehearsed is left."""
    code = (
        "import sys\n"
        "print(sorted(k for k in globals() if not k.startswith('_')))\n"
        "print(_, Out, [i for i in In if i][1:], hasattr(sys, 'last_value'), "
        "len(__warningregistry__)"
        " if '__warningregistry__' in globals() else 0)"
    )
    names = "['In', 'Out', 'exit', 'get_ipython', 'open', 'quit', 'sys']"
    for _ in range(2):
        assert cells.run(code).text() == f"{names}\n {{}} [] False 0\n"


def test_main_is_the_cells_namespace(cells: Cells) -> None:
    """Pickling by reference and `import __main__` work as in a kernel."""
    code = (
        "import __main__, pickle\nclass C: pass\n"
        "print(pickle.loads(pickle.dumps(C)) is C, __main__.C is C, C.__module__, __name__)\n"
        "print(hasattr(__main__, '__file__'))"
    )
    assert cells.run(code).text() == "True True __main__ __main__\nFalse\n"


def test_a_command_that_floods_takes_its_time_and_no_more(cells: Cells) -> None:
    """pexpect's reading would take a minute for 20 MB."""
    begun = time.monotonic()
    ended = cells.run("!yes | head -c 4000000\n_exit_code")
    assert ended.shown.result == "0"
    assert time.monotonic() - begun < 25


@pytest.mark.parametrize(
    ("command", "code"),
    [("true", 0), ("exit 3", 3), ("kill -9 $$", -9), ("sh -c 'kill -9 $$'", -9)],
)
def test_exit_codes_of_commands(cells: Cells, command: str, code: int) -> None:
    """As IPython gives them."""
    assert cells.run(f"!{command}\n_exit_code").shown.result == str(code)


def test_a_command_has_a_terminal_of_its_own(cells: Cells) -> None:
    """24 by 80, as in a notebook."""
    assert cells.run("!stty size; tty | cut -c1-9").text() == "24 80\r\n/dev/pts/\r\n"


def test_inputs_that_cannot_be_loaded_are_a_clear_failure(cells: Cells) -> None:
    """A module that is missing here, for instance; the cell is not run."""
    stream = b"\x80\x05cno_such_module\nname\n."
    ended = cells.run("print('ran')", inputs={"stream": stream, "frames": [], "stream_frame": None})
    assert ended.state is State.FAILED
    assert ended.reason.startswith("not run: its inputs could not be loaded: ModuleNotFoundError")
    assert ended.text() == ""
    error = ended.shown.error or {}
    assert error["ename"] == "ModuleNotFoundError"
    assert "dask_async_run" not in "".join(error["traceback"])


def test_a_name_that_is_read_and_cannot_be_loaded_is_told(
    cells: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By name, with the reason; one that is not read keeps nothing from running."""
    gone = types.ModuleType("no_such_module")
    gone.Thing = type("Thing", (), {"__module__": "no_such_module"})  # type: ignore[attr-defined]
    file = io.BytesIO()
    pickler = pickle.Pickler(file, protocol=5)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "no_such_module", gone)
        items: list[Any] = [("early", {}), ("name", "thing", gone.Thing()), ("late", {}), ("end",)]
        for item in items:
            pickler.dump(item)
    inputs: dict[str, Any] = {"stream": file.getvalue(), "frames": [], "stream_frame": None}
    ended = cells.run("print(thing)", inputs=inputs, reads=["print", "thing"])
    assert ended.state is State.FAILED
    why = "ModuleNotFoundError: No module named 'no_such_module'"
    assert ended.reason == f"not run: thing, which it reads, could not be loaded here: {why}"
    assert ended.text() == ""
    shown = "".join((ended.shown.error or {})["traceback"])
    assert f"thing, which it reads, could not be loaded here: {why}" in shown
    ended = cells.run("print('ran')\neval('thing')", inputs=inputs)
    assert ended.text() == "ran\n"
    shown = "".join((ended.shown.error or {})["traceback"])
    assert f"'thing' of the notebook is not in this cell: it cannot be loaded ({why})" in shown


def test_a_missing_frame_is_a_clear_failure(cells: Cells) -> None:
    inputs = {"stream": b"", "frames": [], "stream_frame": ["0" * 32 + "-5", 5]}
    ended = cells.run("print('ran')", inputs=inputs)
    assert "FrameError: frame 000000000000 is missing" in ended.reason


def test_a_result_that_cannot_be_stored_is_told(cells: Cells, tmp_path: Path) -> None:
    """The folder is gone: output and what is small are kept, the state says failed, and why."""
    code = (
        "import shutil\nprint('computed')\n"
        f"shutil.rmtree({str(cells.frames)!r})\nsmall = 1\nb = bytes(range(256)) * 4000"
    )
    ended = cells.run(code)
    assert ended.state is State.FAILED
    assert ended.reason.startswith("the server's state folder was moved or removed")
    assert ended.text() == "computed\n"
    assert set(ended.result.failed) == {"b"}
    assert "small" in ended.result.bound


def test_a_result_that_is_larger_than_files_may_be(cells: Cells) -> None:
    """What is small comes back, of the rest it is said which limit was in the way."""
    code = (
        "import resource, numpy as np\nsmall = 1\nlarge = np.ones(1_000_000)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, resource.RLIM_INFINITY))"
    )
    ended = cells.run(code)
    assert ended.state is State.FAILED
    limit = "the limit on the size of files is too low (ulimit -f)"
    assert ended.reason == f"{limit}: there was no space for large"
    assert set(ended.result.failed) == {"large"}
    assert "small" in ended.result.bound


def test_a_cell_that_does_not_use_dask_has_nothing_of_it(cells: Cells) -> None:
    """It knows the way to the cluster, and does not go it."""
    ended = cells.run("import sys; print({'dask', 'distributed', 'tornado'} & {*sys.modules})")
    assert ended.text() == "set()\n"
