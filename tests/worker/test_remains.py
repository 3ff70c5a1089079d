"""Cells that follow one another in one process: none finds anything of the one before."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cells import Cells, Ended, runs
from dask_async_run.job import State
from dask_async_run.worker.doors import Doors
from dask_async_run.worker.idle import IdleCells
from waiting import wait_for

PID = "import os\nprint(os.getpid())"

LOOK = """\
import asyncio, builtins, contextvars, gc, os, random, signal, sys, threading, warnings
def _look():
    shell = get_ipython()
    yield "names", sorted(n for n in globals() if not n.startswith("_dont"))
    yield "Out", dict(Out), _, __, ___, shell.displayhook.values
    yield "In", In, _i, _ii, shell.execution_count
    yield "history", shell.history_manager.input_hist_raw
    yield "environment", dict(os.environ), os.getcwd(), sys.argv, sys.path
    yield "threads", [t.name for t in threading.enumerate()]
    yield "handlers", [type(signal.getsignal(n)) for n in (2, 15, 10, 14)]
    yield "limits", __import__("resource").getrlimit(7), sys.getrecursionlimit()
    yield "loop", len(asyncio.all_tasks(asyncio.get_running_loop()))
    yield "garbage", [o for o in gc.get_objects() if type(o).__name__ == "Left"]
    yield "last", hasattr(sys, "last_value"), shell.last_execution_result.info
    yield "shell", sorted(vars(shell)), shell.asked_exit, shell.absent
    yield "hook", {k: v for k, v in vars(shell.displayhook).items() if "object at" not in repr(v)}
for _dont in _look():
    print(_dont)
"""

EVERYTHING = """\
import asyncio, itertools, random
class Left:
    def __init__(self):
        self.me = self
    def __del__(self):
        print("an end")
left = Left()
def f(x=[1, 2]):
    x.append(3)
    return x
f(); f()
numbers = list(range(10_000))
generator = (n for n in numbers)
next(generator)
random.seed(1)
print("said"); display(left)
left
"""


@pytest.fixture
def waiting(cells: Cells) -> Iterator[Callable[..., Doors]]:
    """Runs a cell after which its process waits; answers the process."""
    kept: list[Doors] = []

    def run(code: str, **spec: Any) -> Doors:
        ended = cells.run(code, again=True, **spec)
        assert ended.state is State.FINISHED, ended.outputs
        assert ended.process is not None, f"the process has not been kept: {ended.trace}"
        kept.append(ended.process)
        return ended.process

    yield run
    for doors in kept:
        if not doors.is_shut:
            doors.close()


def trace_of(cells: Cells, code: str, **spec: Any) -> str:
    """Run a cell; answer what kept its process from waiting, empty if it waits."""
    ended = cells.run(code, again=True, **spec)
    if ended.process is not None:
        ended.process.close()
        return ""
    pids = {info["pid"] for info in ended.sink.infos} - {None}  # a short cell may end before one
    assert not any(map(runs, pids))
    return ended.trace


def pid_of(ended: Ended) -> int:
    return int(ended.text())


def test_the_next_cell_runs_in_the_same_process(cells: Cells, waiting: Any) -> None:
    """Again and again, with outputs and results of their own."""
    process = waiting("x = 1\nx")
    pids = set()
    for n in range(5):
        ended = cells.run(f"{PID}\ny = {n}\ny", again=True, process=process)
        assert (ended.state, ended.shown.result) == (State.FINISHED, str(n))
        assert ended.result.bound == ["os", "y"]
        pids.add(pid_of(ended))
        assert ended.process is process
    assert pids == {process.pid}


def test_nothing_is_found_of_the_cell_before(cells: Cells, waiting: Any) -> None:
    """The same is seen in a process that has run another cell as in a new one."""
    fresh = cells.run(LOOK).text()
    used = cells.run(LOOK, process=waiting(EVERYTHING))
    assert used.state is State.FINISHED, used.outputs
    assert used.text() == fresh
    assert used.text("stderr") == ""


@pytest.mark.parametrize("code", ["os.environ['LEFT'] = '1'", "sys.path.append('/')"])
def test_what_a_cell_changes_is_seen_after_any_number(
    cells: Cells, waiting: Any, code: str
) -> None:
    """Its surroundings are known by then, as they were before it."""
    process = waiting("1")
    for _ in range(3):
        assert cells.run("1", again=True, process=process).process is process
    changed = cells.run(f"import os, sys\n{code}", again=True, process=process)
    assert changed.process is None
    other = trace_of(cells, f"import os, sys\n{code}")
    assert changed.trace == other
    assert other


def test_what_a_finaliser_prints_is_no_output_of_the_next_cell(cells: Cells, waiting: Any) -> None:
    """Nor of its own, as in a process that ends."""
    ended = cells.run("print('mine')", process=waiting(EVERYTHING))
    assert ended.text() == "mine\n"


@pytest.mark.parametrize(
    "code",
    [
        "1 / 0",
        "import threading as t\nt.Thread(target=t.Event().wait, daemon=True).start()",
        "import subprocess\np = subprocess.Popen(['sleep', '1000'])",
        "f = open('/dev/null')\nimport builtins\nbuiltins.kept = f",
        "import os\nos.environ['LEFT'] = '1'",
        "import os\nos.chdir('/')",
        "import os\nos.umask(0)",
        "import sys\nsys.path.append('/left')",
        "import sys\nsys.setrecursionlimit(2345)",
        "import sys\nsys.stdout = sys.stderr",
        "import sys\nsys.settrace(lambda *_: None)",
        "import signal\nsignal.signal(signal.SIGUSR1, lambda *_: None)",
        "import signal\nsignal.setitimer(signal.ITIMER_REAL, 1000)",
        "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (200, 4096))",
        "import atexit\natexit.register(print, 'end')",
        "import warnings\nwarnings.simplefilter('ignore')",
        "import logging\nlogging.basicConfig()",
        "import decimal\ndecimal.getcontext().prec = 5",
        "import contextvars\nvariable = contextvars.ContextVar('v')\nvariable.set(1)",
        "import builtins\nbuiltins.left = 1",
        "import json\njson.loads = str",
        "import sys, types\nsys.modules['left'] = types.ModuleType('left')",
        "import sys\ndel sys.modules['json.tool' if 'json.tool' in sys.modules else 'json']",
        "import asyncio\nasyncio.get_running_loop().call_later(1e4, print)",
        "class Left: pass\nimport copyreg, pickle\ncopyreg.pickle(Left, str)",
        "import numpy as np\nnp.set_printoptions(precision=2)",
        "import matplotlib.pyplot as plt\nplt.rcParams['lines.linewidth'] = 7",
        "%precision 3",
        "%%capture\nprint(1)",
        "!true",
        "import builtins, numpy\nbuiltins.print = numpy.arange(3)",
        "import ctypes\nctypes.CDLL(None).getpid()",
        "import sys\nsys.addaudithook(lambda *_: None)",
        "import ipywidgets\nipywidgets.IntProgress()",
        "get_ipython().events.register('pre_run_cell', lambda *_: None)",
        "import gc\ngc.disable()",
    ],
)
def test_a_process_with_a_trace_in_it_ends(cells: Cells, code: str) -> None:
    """It is not used again, and is gone as after any other cell."""
    assert trace_of(cells, code)


def test_a_module_of_the_users_own_is_a_trace(cells: Cells, tmp_path: Path) -> None:
    """It may keep anything; an installed one that is imported is none."""
    (tmp_path / "mine.py").write_text("count = 0\n")
    code = (
        f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\nimport mine\ndel mine\nsys.path.pop(0)"
    )
    assert trace_of(cells, code) == "module mine"
    assert trace_of(cells, "import wave, xml.dom.pulldom") == ""


def test_memory_that_is_not_given_back_is_a_trace(cells: Cells, waiting: Any) -> None:
    """What the namespace held is."""
    waiting("x = bytearray(200_000_000)\ny = len(x)\ndel x")
    kept = "import linecache\nlinecache.cache['left'] = 1, None, [b'1' * 100_000_000], 'left'"
    assert trace_of(cells, kept) == "memory"


def test_a_process_that_was_killed_while_it_waited_is_replaced(cells: Cells, waiting: Any) -> None:
    """The next cell runs in another one, once."""
    process = waiting("x = 1")
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: not runs(process.pid), what="the process's end")
    ended = cells.run(f"{PID}", process=process)
    assert (ended.state, ended.reason) == (State.FINISHED, "")
    assert pid_of(ended) != process.pid


def test_one_that_is_killed_before_it_begins_is_replaced(cells: Cells, waiting: Any) -> None:
    """Stopped, it gets the task, and is killed before it reads it: nothing has happened."""
    process = waiting("x = 1")
    os.kill(process.pid, signal.SIGSTOP)
    started = cells.start(PID, process=process)
    os.kill(process.pid, signal.SIGKILL)
    ended = started.end()
    assert (ended.state, ended.reason) == (State.FINISHED, "")
    assert pid_of(ended) != process.pid


def test_how_it_dies_is_told_of_the_right_cell(cells: Cells, waiting: Any) -> None:
    """With the fatal signal's report and its own line; the process is not used again."""
    process = waiting("x = 1")
    code = "import ctypes\ndef crash():\n    ctypes.string_at(0)\n\ncrash()"
    ended = cells.run(code, again=True, process=process)
    assert ended.state is State.FAILED
    assert "SIGSEGV" in ended.reason
    assert "line 3" in ended.text("stderr") or "crash" in ended.text("stderr")
    assert ended.process is None


def test_a_cell_in_a_used_process_can_be_stopped(cells: Cells, waiting: Any) -> None:
    """Interrupted: it keeps what it bound, and the process ends."""
    process = waiting("x = 1")
    code = "import time\ny = 1\nprint('on', flush=True)\ntime.sleep(1000)"
    started = cells.start(code, again=True, process=process)
    started.wait_for_text("on")
    started.supervisor.cancel()
    ended = started.end()
    assert (ended.state, ended.result.bound) == (State.CANCELLED, ["time", "y"])
    assert ended.process is None
    assert not runs(process.pid)


def test_its_time_is_its_own(cells: Cells, waiting: Any) -> None:
    """A cell's timeout begins with it."""
    process = waiting("import time\ntime.sleep(0.5)", limit=30)
    ended = cells.run("import time\ntime.sleep(1000)", limit=0.3, process=process)
    assert ended.state is State.TIMED_OUT


def test_a_finaliser_that_hangs_ends_the_process(cells: Cells) -> None:
    """The cell has finished before."""
    code = """
class Hangs:
    def __del__(self):
        import time
        time.sleep(1000)
left = [Hangs()]
"""
    ended = cells.run(code, again=True, only=["nothing"])
    assert ended.state is State.FINISHED
    assert ended.process is None


def test_processes_wait_for_a_while(waiting: Callable[..., Doors]) -> None:
    """Then they are let go of, and end; another sweep does not get them."""
    calls: list[tuple[float, Callable[[], None]]] = []
    idle = IdleCells(lambda seconds, call: calls.append((seconds, call)))
    process = waiting("x = 1")
    idle.put("a sweep", process)
    assert idle.take("another") is None
    assert idle.take("a sweep") is process
    idle.put("a sweep", process)
    assert len(calls) == 1
    pid = process.pid
    assert pid is not None
    wait_for(lambda: (calls.pop()[1](), not calls)[1], what="the last look", timeout=10)
    assert process.is_shut
    assert idle.take("a sweep") is None
    wait_for(lambda: not runs(pid), what="the process's end")


def test_none_waits_where_they_are_unfit_or_nobody_comes(cells: Cells, waiting: Any) -> None:
    """They are closed at once."""
    idle = IdleCells(lambda seconds, call: None)
    idle.put("a sweep", first := waiting("x = 1"))
    idle.refuse("a sweep")
    assert first.is_shut
    assert not idle.is_open_to("a sweep")
    idle.put("a sweep", second := waiting("x = 1"))
    assert second.is_shut
    idle.put("another", third := waiting("x = 1"))
    idle.close()
    assert third.is_shut
    idle.put("another", fourth := waiting("x = 1"))
    assert fourth.is_shut
