"""How cells end, and how they are stopped: in real cell processes."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from cells import Cells, Failing, Recorded, Slow, runs
from dask_async_run.job import State
from dask_async_run.worker import supervisor
from dask_async_run.worker.template import SPARES
from waiting import wait_for

SEGFAULT = "import ctypes\ndef crash():\n    ctypes.string_at(0)\n\ncrash()"


SLOWLY = "import time\nfor i in range(9): print(i, flush=True); time.sleep(0.05)"


def test_a_cell_that_ends_is_finished(cells: Cells) -> None:
    """State, no reason, what it bound."""
    ended = cells.run("x = 1\nx")
    assert (ended.state, ended.reason) == (State.FINISHED, "")
    assert ended.result.bound == ["x"]
    assert ended.shown.result == "1"


def test_a_cell_that_raises_is_failed_and_keeps_what_it_did(cells: Cells) -> None:
    """As in a kernel: names bound before the exception are bound."""
    ended = cells.run("x = 1\nraise ValueError('bad')\ny = 2")
    assert ended.state is State.FAILED
    assert (ended.result.ename, ended.result.evalue) == ("ValueError", "bad")
    assert ended.result.bound == ["x"]


def test_sys_exit_is_told_apart(cells: Cells) -> None:
    """SystemExit fails the cell, and the reason says that it was one."""
    ended = cells.run("x = 1\nimport sys\nsys.exit(3)")
    assert (ended.state, ended.result.ename) == (State.FAILED, "SystemExit")
    assert ended.reason == "the cell called sys.exit(3)"
    assert "x" in ended.result.bound


def test_exit_lets_the_cell_end(cells: Cells) -> None:
    """exit() ends a kernel after the cell; there is no kernel here."""
    ended = cells.run("exit()\nx = 1\nx")
    assert (ended.state, ended.shown.result) == (State.FINISHED, "1")


@dataclass(frozen=True)
class Death:
    code: str
    reason: str


@pytest.mark.parametrize(
    "death",
    [
        Death("import os; os._exit(1)", "the cell's process died: exit code 1"),
        Death("import os; os._exit(0)", "the cell's process died: exit code 0"),
        Death(
            "import os; os.closerange(3, 1000)",
            "the cell's process died: exit code 70, as when it cannot hand over what it has: did "
            "the cell close files that it had not opened?",
        ),
        Death(SEGFAULT, "the cell's process died: killed by signal 11 (SIGSEGV)"),
        Death("import os; os.abort()", "the cell's process died: killed by signal 6 (SIGABRT)"),
        Death(
            "import os; os.kill(os.getpid(), 9)",
            "the cell's process died: killed by signal 9 (SIGKILL), not by us",
        ),
    ],
    ids=lambda death: death.code,
)
def test_a_dying_process_is_told_apart(cells: Cells, death: Death) -> None:
    """What it printed before is there, and how it died is said."""
    ended = cells.run("print('before')\n" + death.code)
    assert ended.state is State.FAILED
    assert ended.reason.startswith(death.reason)
    assert ended.ending.result is None
    assert ended.text() == "before\n"


def test_a_sigterm_of_somebody_else_costs_nothing_that_was_bound(cells: Cells) -> None:
    """A batch system's, an out-of-memory daemon's, the cell's own; `--retries` may run it again."""
    ended = cells.run("import os\nx = 1\nprint('before')\nos.kill(os.getpid(), 15)\nx = 2")
    assert ended.state is State.FAILED
    assert ended.reason == "the cell's process died: ended by signal 15 (SIGTERM), not by us"
    assert ended.ending.died
    assert ended.result.bound == ["os", "x"]
    assert ended.text() == "before\n"


def test_a_sigterm_while_a_thread_is_started_costs_nothing_either(cells: Cells) -> None:
    """The code that it interrupts holds locks which starting another thread waits for."""
    code = (
        "import os, numpy as np\nfrom concurrent.futures import thread\na = np.ones(3_000_000)\n"
        "with thread._global_shutdown_lock: os.kill(os.getpid(), 15)"
    )
    ended = cells.run(code, timeout=30)
    assert ended.result.bound == ["os", "np", "thread", "a"]
    assert ended.result.nbytes > 24_000_000


def test_a_crash_says_where_the_cell_was(cells: Cells) -> None:
    """The cell's own frames, none of IPython's or ours."""
    error = cells.run(SEGFAULT).text("stderr")
    assert error.startswith("Fatal Python error: Segmentation fault\n")
    assert "Cell In[7], line 3, in crash\n  Cell In[7], line 5, in <module>\n" in error
    assert "IPython" not in error
    assert "dask_async_run" not in error


@dataclass(frozen=True)
class Stop:
    """A cell that says "go", and which signal ends it."""

    name: str
    code: str
    by: str = "SIGINT"
    shown: str = ""
    grace: float = 20.0  # a busy machine takes its time until the first one is heeded


IGNORE = "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"

STOPS = [
    Stop("sleep", "import time\nx = 1\nprint('go')\ntime.sleep(1000)"),
    Stop("busy loop", "print('go')\nwhile True: pass"),
    Stop(
        "long operation in C",
        "import numpy as np, threading\na = np.random.rand(6000, 6000)\n"
        "threading.Timer(0.5, print, ['go']).start()\nnp.linalg.svd(a)",
        by="SIGKILL",  # which no code of Python can come before
        grace=0.3,
    ),
    Stop(
        "swallows it",
        "import time\nwhile True:\n    try: print('go'); time.sleep(1000)\n    except: pass",
        by="SIGTERM",
        grace=0.3,
    ),
    Stop("ignores SIGINT", IGNORE + "print('go')\ntime.sleep(1000)", by="SIGTERM", grace=0.3),
    Stop(
        "ignores both",
        IGNORE + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('go')\ntime.sleep(1000)",
        by="SIGKILL",
        grace=0.3,
    ),
    Stop(
        "stopped process",
        "import os, subprocess, time\n"
        "subprocess.Popen(['sh', '-c', f'kill -STOP {os.getpid()}; echo go'])\ntime.sleep(1000)",
        by="SIGKILL",
        grace=0.3,
    ),
    Stop("shell command", "!echo go; sleep 1000"),
    Stop("subprocess", "import subprocess\nsubprocess.run('echo go; sleep 1000', shell=True)"),
    # Not `echo go; sleep 1000`: dash loses a SIGINT that comes between the two.
    Stop(
        "os.system",
        "import os, sys\nprogram = 'import time; print(1, chr(103) + chr(111), flush=True); "
        "time.sleep(1000)'\nos.system(f'{sys.executable} -c \"{program}\"')",
    ),
    Stop("bash", "%%bash\necho go\nsleep 1000"),
    Stop("await", "import asyncio\nprint('go')\nawait asyncio.sleep(1000)"),
    Stop("await, busy", "import asyncio\nawait asyncio.sleep(0)\nprint('go')\nwhile True: pass"),
    Stop(
        "handles it",
        "import time\ntry:\n    print('go')\n    time.sleep(1000)\n"
        "except KeyboardInterrupt:\n    print('handled')\nx = 5",
        shown="handled",
    ),
    Stop(
        "cleans up",
        "import time\ntry:\n    print('go')\n    time.sleep(1000)\nfinally:\n    print('clean')",
        shown="clean",
    ),
    Stop(
        "pool",
        "import multiprocessing, time\nwith multiprocessing.get_context('fork').Pool(2) as p:\n"
        "    print('go')\n    p.map(time.sleep, [1000, 1000])",
    ),
    Stop("flood of text", "print('go')\nwhile True: print('x' * 1000)"),
    Stop("flood of displays", "print('go')\nwhile True: display('x' * 100_000)"),
    Stop(
        "flood of both", "import sys\nprint('go')\nwhile True: print(1); print(2, file=sys.stderr)"
    ),
]


@pytest.mark.parametrize("stop", STOPS, ids=lambda stop: stop.name)
def test_a_cancelled_cell_stops(cells: Cells, stop: Stop) -> None:
    """On the first rung of the ladder that it heeds, which the reason names."""
    run = cells.start(stop.code, grace=stop.grace)
    run.wait_for_text("go")
    pid = run.pid
    run.supervisor.cancel()
    ended = run.end()
    assert ended.state is State.CANCELLED
    assert ended.reason == f"cancelled; stopped by {stop.by}"
    assert stop.shown in ended.text()
    assert not psutil.pid_exists(pid)


def test_what_was_bound_before_a_cancel_is_kept(cells: Cells) -> None:
    """As after an interrupt in a kernel; the error is shown."""
    run = cells.start("x = 1\nimport time\nprint('go')\ntime.sleep(1000)")
    run.wait_for_text("go")
    run.supervisor.cancel()
    ended = run.end()
    assert ended.result.bound == ["x", "time"]
    assert ended.result.ename == "KeyboardInterrupt"
    assert "time.sleep(1000)" in ended.shown.traceback


def test_what_was_bound_is_kept_of_a_cell_that_swallows_interrupts(cells: Cells) -> None:
    """A bare `except` in a loop that trains for hours costs nobody the night's work."""
    code = (
        "import time\nseen = 0\n"
        "while True:\n    try:\n        print('go')\n        time.sleep(1000)\n"
        "    except:\n        seen += 1"
    )
    run = cells.start(code, grace=0.3)
    run.wait_for_text("go")
    run.supervisor.cancel()
    ended = run.end()
    assert ended.reason == "cancelled; stopped by SIGTERM"
    assert ended.result.bound == ["time", "seen"]
    assert "line 6" in ended.shown.traceback
    assert "time.sleep(1000)" in ended.shown.traceback
    assert "IPython" not in ended.shown.traceback


HANGS = (
    "import time\nclass Hanging:\n"
    "    def __init__(self, how): self.how = how\n"
    "    def __reduce__(self):\n        print('go')\n        self.how()\n        return int, ()\n"
    "def swallows():\n    while True:\n        try: time.sleep(1000)\n        except: pass\n"
)


@pytest.mark.parametrize(
    ("how", "by"),
    [
        ("lambda: time.sleep(1000)", "SIGINT"),
        ("swallows", "SIGTERM"),
        ("lambda: signal.pthread_sigmask(0, [2, 15]) and 0 or time.sleep(1000)", "SIGKILL"),
    ],
    ids=["sleeps", "swallows", "blocks"],
)
def test_a_value_that_hangs_while_it_is_pickled_is_given_up(
    cells: Cells, how: str, by: str
) -> None:
    """Wherever it is held; the others come back, as far as a signal is heeded at all."""
    code = f"{HANGS}import signal\na, b = [1], 2\nh = Hanging({how})\nheld = {{'h': h}}\nz = 3"
    run = cells.start(code, grace=1.0)
    run.wait_for_text("go")
    run.supervisor.cancel()
    ended = run.end(timeout=40)
    assert ended.state is State.CANCELLED
    assert ended.reason == f"cancelled; stopped by {by} while its result was pickled"
    if by == "SIGKILL":
        assert ended.ending.result is None
        return
    assert {"a", "b", "z", "Hanging"} <= set(ended.result.bound)
    why = "KeyboardInterrupt: its pickling took until the job was cancelled"
    assert ended.result.failed == {"h": why, "held": why}


def test_each_value_that_hangs_is_given_up_in_its_turn(cells: Cells) -> None:
    """Also in what went in, and was changed; also where the cell's exception holds one."""
    code = (
        f"{HANGS}a, b, c = (Hanging(lambda: time.sleep(1000)) for _ in range(3))\nz = 3\n"
        "error = ValueError('bad')\nerror.held = Hanging(lambda: time.sleep(1000))\nraise error"
    )
    run = cells.start(code, grace=1.0)
    run.wait_for_text("go")
    run.supervisor.cancel()
    ended = run.end(timeout=40)
    assert ended.reason == "cancelled; stopped by SIGINT while its result was pickled"
    assert ended.result.failed.keys() == {"a", "b", "c"} | ({"error"} & ended.result.failed.keys())
    assert "z" in ended.result.bound
    assert (ended.result.ename, ended.result.evalue) == ("ValueError", "bad")


def test_a_result_that_only_takes_its_time_is_not_cut_short_by_a_cancel(cells: Cells) -> None:
    """What had run to its end has finished, where nothing of it had to be given up."""
    code = "import numpy as np\na = [np.full(5_000_000, i) for i in range(9)]\nprint('go')"
    run = cells.start(code, grace=0.1)
    wait_for(lambda: run.supervisor._phase == "collecting", what="the result is made")
    run.supervisor.cancel()
    ended = run.end()
    assert (ended.state, ended.reason) == (State.FINISHED, "")
    assert ended.result.nbytes > 9 * 40_000_000


@pytest.mark.parametrize(
    "used_up",
    [
        "files = []\nwhile len(files) < 10**6: files.append(os.open(os.devnull, os.O_RDONLY))",
        "resource.setrlimit(resource.RLIMIT_AS, (1, resource.RLIM_INFINITY))",
    ],
    ids=["files", "memory"],
)
def test_a_cell_that_has_used_up_its_limits_keeps_its_result(cells: Cells, used_up: str) -> None:
    """The soft ones: what handing it over needs is lifted first."""
    code = (
        "import os, resource\nimport numpy as np\na = np.ones(500_000)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))\n" + used_up
    )
    ended = cells.run(code)
    assert "a" in ended.result.bound, ended.reason
    assert ended.result.failed == {}
    assert ended.result.ename in ("", "OSError")


def test_a_cell_that_breaks_what_ends_it_has_ended_all_the_same(cells: Cells) -> None:
    """Nothing of ours is seen."""
    ended = cells.run("import builtins\nx = 1\ndel builtins.print")
    assert (ended.state, ended.text("stderr")) == (State.FINISHED, "")


def test_forks_of_a_cell_end_on_sigterm_as_anywhere(cells: Cells) -> None:
    """A pool's `terminate` is no last call."""
    code = (
        "import multiprocessing, time\n"
        "process = multiprocessing.get_context('fork').Process(target=time.sleep, args=[1000])\n"
        "process.start()\nprocess.terminate()\nprocess.join()\ncode = process.exitcode\nprint(code)"
    )
    ended = cells.run(code)
    assert (ended.state, ended.text()) == (State.FINISHED, "-15\n")


def test_cancelled_before_it_ran(cells: Cells) -> None:
    """No process is made."""
    run = cells.start("1")  # makes sure that there is a template
    run.end()
    sink = Recorded()
    started = cells.prepare("print('ran')", sink)
    started.cancel()
    with started:
        ending = started.run(cells.template)
    assert (ending.state, ending.reason) == (State.CANCELLED, "cancelled before it ran")
    assert sink.outputs == []


def test_cancelled_at_any_moment(cells: Cells) -> None:
    """From the fork to the last statement, the process ends and the state is honest."""
    states = set()
    for step in range(30):
        run = cells.start("x = 1\nprint('done')")
        run.thread.join(step * 0.004)
        run.supervisor.cancel()
        ended = run.end()
        states.add(ended.state)
        if ended.state is State.CANCELLED:
            assert "cancelled" in ended.reason
        else:
            assert (ended.state, ended.text()) == (State.FINISHED, "done\n")
    assert State.CANCELLED in states


def test_a_cell_may_run_for_its_timeout_and_no_longer(cells: Cells) -> None:
    """State, reason, and what was bound."""
    ended = cells.run("x = 1\nimport time\ntime.sleep(1000)", limit=2.0)
    assert ended.state is State.TIMED_OUT
    assert ended.reason == "ran longer than 2 s; stopped by SIGINT"
    assert "x" in ended.result.bound


def slow_inputs(seconds: int) -> dict[str, Any]:
    """Inputs that take so long to load."""
    sleep = b"\x80\x05ctime\nsleep\n(K" + bytes([seconds]) + b"tR0"
    stream = sleep + pickle.dumps(("end",), protocol=5)[2:]
    return {"stream": stream, "frames": [], "stream_frame": None}


def test_loading_the_inputs_is_not_the_cells_time(
    cells: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However short its timeout is: it has it from its own beginning. Nor does loading for ever."""
    ended = cells.run("x = 1", inputs=slow_inputs(3), limit=2.0)
    assert (ended.state, ended.reason, ended.result.bound) == (State.FINISHED, "", ["x"])
    monkeypatch.setattr(supervisor, "LOADING", 0.5)
    ended = cells.run("x = 1", inputs=slow_inputs(200), limit=0.3, grace=0.2)
    assert ended.state is State.TIMED_OUT
    assert ended.reason == "its inputs were not loaded within 0.5 s; stopped by SIGTERM"


def test_a_cell_that_wants_too_much_memory_is_stopped(cells: Cells) -> None:
    """Its children's memory counts; how much it was is said."""
    code = (
        "import subprocess, sys\n"
        "subprocess.run([sys.executable, '-c', 'import time; b = b\"x\" * 400_000_000; "
        "time.sleep(1000)'])"
    )
    ended = cells.run(code, memory=300_000_000, grace=0.5)
    assert ended.state is State.FAILED
    assert "MiB of memory, more than the 286.1 MiB allowed; stopped by SIG" in ended.reason


def test_mapped_input_is_not_counted_as_memory(cells: Cells) -> None:
    """Pages of a file that others can have back."""
    code = (
        "import mmap, tempfile, time\n"
        "f = tempfile.TemporaryFile(); f.truncate(500_000_000)\n"
        "m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_COPY)\n"
        "n = sum(m[::4096]); print('read'); time.sleep(1.2); del m; f.close(); del f"
    )
    assert cells.run(code, memory=300_000_000).state is State.FINISHED


def test_usage_is_recorded(cells: Cells) -> None:
    """Memory in bytes, CPU in percent, pid, last line."""
    sink = Recorded()
    run = cells.start(
        "b = b'x' * 100_000_000\nprint('\\x1b[31mred\\x1b[0m line\\n')\nwhile True: pass", sink
    )

    def used() -> Any:
        """What was recorded last, once the cell's process has made its string, and is busy."""
        info: Any = sink.infos[-1] if sink.infos else {}
        return info if info and info["memory"] > 100_000_000 and info["cpu"] > 20 else None

    info = wait_for(used, what="memory and CPU time")
    run.supervisor.cancel()
    run.end()
    assert info["pid"] == run.pid
    assert info["last_line"] == "red line"


def test_an_unwanted_cell_is_stopped(cells: Cells) -> None:
    """The registry's answer says so: the job was ended otherwise."""
    sink = Recorded()
    run = cells.start("import time\nprint('go')\ntime.sleep(1000)", sink)
    run.wait_for_text("go")
    sink.wanted = False
    assert run.end().state is State.CANCELLED


DAEMON = """
import os, subprocess, sys, time
subprocess.Popen(["sleep", "1001"])                                # a child
subprocess.Popen(["setsid", "sleep", "1002"])                      # in its own session
os.system("(setsid sleep 1003 >/dev/null 2>&1 &) ; sleep 0.1")     # a daemon: an orphan
if os.fork() == 0:
    if os.fork() == 0:
        os.setsid()
        os.execvp("sleep", ["sleep", "1004"])
    os._exit(0)
pids = []
while len(pids) < 4:
    found = subprocess.run(["pgrep", "-f", "^sleep 100[1-4]$"], capture_output=True, text=True)
    pids = found.stdout.split()
print("PIDS", *pids, "END")
"""


def until(path: Path) -> str:
    """Code that waits for a file."""
    return f"import os, time\nwhile not os.path.exists({str(path)!r}): time.sleep(0.01)\n"


@pytest.fixture
def frozen(cells: Cells) -> Iterator[None]:
    """A template that notes no end of a cell's process while the block runs."""
    template = psutil.Process(cells.template.pid)
    cells.run("1")  # it has been made, and has its spare processes
    wait_for(lambda: len(template.children()) == SPARES, what="spare processes")
    yield
    template.resume()


def test_the_end_is_known_before_the_process_is_gone(
    cells: Cells, frozen: None, tmp_path: Path
) -> None:
    """All is said and nobody is left; the slot is free when the process is gone."""
    run = cells.start(f"print('go')\n{until(tmp_path / 'on')}x = 1\nprint('done')")
    run.wait_for_text("go")
    template = psutil.Process(cells.template.pid)
    template.suspend()
    (tmp_path / "on").touch()
    wait_for(lambda: run.endings, what="an ending")
    assert (run.endings[0].state, run.sink.text()) == (State.FINISHED, "go\ndone\n")
    assert run.thread.is_alive()
    template.resume()
    run.end()


def test_the_end_is_not_known_while_something_is_left(
    cells: Cells, frozen: None, tmp_path: Path
) -> None:
    """What the cell started is gone when its job has ended."""
    run = cells.start(
        "import subprocess\nsubprocess.Popen(['sleep', '1005'])\n"
        f"print('go')\n{until(tmp_path / 'on')}"
    )
    run.wait_for_text("go")
    cell, template = psutil.Process(run.pid), psutil.Process(cells.template.pid)
    template.suspend()
    (tmp_path / "on").touch()
    wait_for(lambda: cell.status() == psutil.STATUS_ZOMBIE, what="the cell's process to end")
    assert run.endings == []
    template.resume()
    assert run.end().state is State.FINISHED


@pytest.mark.parametrize("end", ["", "os._exit(1)", "os.kill(os.getpid(), 9)", "while True: pass"])
def test_whatever_a_cell_started_ends_with_it(cells: Cells, end: str) -> None:
    """Children, own sessions, orphans; however the cell ends."""
    run = cells.start(DAEMON + end, grace=0.3)
    run.wait_for_text("END")
    pids = [int(word) for word in run.sink.text().split()[1:-1]]
    if end.startswith("while"):
        run.supervisor.cancel()
    run.end()
    assert not [pid for pid in pids if runs(pid)]


def test_a_slow_registry_does_not_stall_the_cell(cells: Cells) -> None:
    """Not one record is answered while the cell prints; all arrives afterwards."""
    sink = Slow()
    run = cells.start(
        "for i in range(100_000): print(i)\nopen(DONE, 'w').close()".replace(
            "DONE", repr(str(cells.frames.parent / "done"))
        ),
        sink,
    )
    wait_for((cells.frames.parent / "done").exists, what="the cell to run to its end")
    assert sink.records == 1
    sink.release()
    ended = run.end()
    assert ended.text() == "".join(f"{i}\n" for i in range(100_000))


def test_a_record_that_fails_is_made_again(cells: Cells) -> None:
    """Nothing is lost, nothing comes twice."""
    sink = Failing()
    ended = cells.start("for i in range(5): print(i, flush=True); display(i)", sink).end()
    assert ended.text() == "0\n1\n2\n3\n4\n"
    assert sink.failures > 0


def test_a_registry_that_stands_still_for_long_loses_nothing(
    cells: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer is waited for: what was printed meanwhile comes after it."""
    monkeypatch.setattr(supervisor, "RECORD_DEADLINE", 0.2)
    sink = Slow()
    done = cells.frames.parent / "done"
    run = cells.start(f"{SLOWLY}\nopen({str(done)!r}, 'w').close()", sink)
    wait_for(done.exists, what="the cell to run to its end")
    past = time.monotonic() + 1
    wait_for(lambda: time.monotonic() > past, what="its deadline")
    assert run.thread.is_alive()
    sink.release()
    assert run.end().text() == "".join(f"{i}\n" for i in range(9))


def test_the_end_tells_what_could_never_be_recorded(
    cells: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it: also what came after the record that was tried again and again."""
    monkeypatch.setattr(supervisor, "RECORD_DEADLINE", 0.2)
    sink = Failing(always=True)
    run = cells.start(
        "import time\nfor i in range(9): print(i, flush=True); time.sleep(0.05)", sink
    )
    assert run.end().text() == "".join(f"{i}\n" for i in range(9))
    assert sink.records == 1


def test_a_cell_that_lingers_after_its_result_is_ended(
    cells: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result counts; the slot is free soon."""
    monkeypatch.setattr(supervisor, "EXIT_GRACE", 0.2)
    code = "import atexit, os, signal\natexit.register(os.kill, os.getpid(), signal.SIGSTOP)\nx = 1"
    ended = cells.run(code)
    assert (ended.state, ended.result.bound[-1]) == (State.FINISHED, "x")


def test_text_of_exit_functions_is_recorded(cells: Cells) -> None:
    """What a Python process does at its end is done."""
    assert cells.run("import atexit\natexit.register(print, 'bye');").text() == "bye\n"


def test_threads_and_tasks_of_the_cell_end_before_it(cells: Cells) -> None:
    """In a kernel they would go on; here nothing would."""
    code = (
        "import asyncio, threading\nturn = threading.Event()\n"
        "threading.Thread(target=lambda: (turn.wait(20), print('thread'))).start()\n"
        "async def f():\n    await asyncio.sleep(0.1)\n    print('task')\n    turn.set()\n"
        "task = asyncio.create_task(f())"
    )
    ended = cells.run(code)
    assert ended.text() == "task\nthread\n"
    assert ended.text("stderr") == ""


def test_threads_that_wait_for_work_are_not_waited_for(cells: Cells) -> None:
    """Those of executors and of joblib, which every parallel estimator leaves behind."""
    code = (
        "import time\n"
        "from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor\n"
        "from joblib import Parallel, delayed\n"
        "pools = [ProcessPoolExecutor(1), ThreadPoolExecutor(1)]\n"
        "print([pool.submit(max, 1, 2).result() for pool in pools])\n"
        "print(Parallel(n_jobs=2)(delayed(max)(i, 2) for i in range(4)))"
    )
    ended = cells.run(code)
    assert ended.state is State.FINISHED
    assert ended.text() == "[2, 2]\n[2, 2, 2, 3]\n"
    assert ended.text("stderr") == ""


@pytest.mark.parametrize("end", ["", "os.kill(os.getpid(), 9)"])
def test_shared_memory_does_not_outlive_the_cell(cells: Cells, end: str) -> None:
    """The resource tracker unlinks it, also after a crash, when it is let."""
    code = (
        "import os\nfrom multiprocessing import shared_memory\n"
        "block = shared_memory.SharedMemory(create=True, size=1_000_000)\n"
        "print(block.name)\n"
    )
    ended = cells.run(code + end)
    name = ended.text().split()[0]
    assert not Path("/dev/shm", name).exists()
    if not end:
        assert ended.text("stderr") == ""


def test_no_descriptor_is_left_open(cells: Cells) -> None:
    """Neither by cells that end nor by cells that are killed."""
    cells.run("1")
    before = psutil.Process().num_fds()
    for code in ("1", "import os; os._exit(1)", "import os; os.kill(os.getpid(), 9)"):
        cells.run(code)
    assert psutil.Process().num_fds() == before


@pytest.fixture(autouse=True)
def _no_zombies() -> Iterator[None]:
    yield
    zombies = [p for p in psutil.Process().children() if p.status() == psutil.STATUS_ZOMBIE]
    assert not zombies
