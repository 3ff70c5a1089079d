"""The template process: starts, forks, warms up, and whoever dies leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

import dask_async_run
from cells import CellRun, Cells, runs
from dask_async_run.job import State
from dask_async_run.worker import template_handle
from dask_async_run.worker.template import SPARES
from dask_async_run.worker.template_handle import TemplateHandle
from waiting import wait_for


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Cells]:
    """Cells of a template of the test's own, which it may kill."""
    handle = TemplateHandle()
    yield Cells(handle, tmp_path / "frames")
    handle.close()


def test_it_has_one_thread_and_imports_neither_dask_nor_numpy(own: Cells) -> None:
    """A fork copies one thread only; a cell that needs neither does not pay for them."""
    ended = own.run(
        "import sys, psutil\n"
        "heavy = {'dask', 'distributed', 'numpy', 'pandas', 'tornado', 'zmq', 'jupyter_client'}\n"
        "sorted(heavy & set(sys.modules))"
    )
    assert ended.shown.result == "[]"
    assert own.template.pid is not None
    assert psutil.Process(own.template.pid).num_threads() == 1


def test_ipykernel_is_there_and_imported_by_who_wants_it(own: Cells) -> None:
    """As in a kernel's process, where libraries look for it."""
    code = "import sys\n'ipykernel.zmqshell' in sys.modules, 'zmq' in sys.modules"
    assert own.run(code).shown.result == "(True, False)"
    code = "from ipykernel.zmqshell import ZMQInteractiveShell as Shell\nShell.__name__"
    assert own.run(code).shown.result == "'ZMQInteractiveShell'"
    code = "import sys, ipykernel.kernelbase\nipykernel.__version__ != '', 'zmq' in sys.modules"
    assert own.run(code).shown.result == "(True, True)"


def test_it_warms_up_what_it_is_told_and_knows_to_be_safe(own: Cells) -> None:
    """After the first cell, for the next ones; unknown names are left alone."""
    own.run("1", warm=["json", "wave", "numpy", "no_such_module"])
    code = "import sys\n'numpy' in sys.modules, 'wave' in sys.modules"
    wait_for(lambda: own.run(code).shown.result == "(True, False)", what="numpy to be warm")
    assert own.template.pid is not None
    assert psutil.Process(own.template.pid).status() != psutil.STATUS_ZOMBIE


def test_cells_get_the_environment_that_is_asked_for(own: Cells) -> None:
    """Threads of BLAS, set before numpy is imported."""
    code = "import os\nos.environ['OMP_NUM_THREADS']"
    assert own.run(code, environ={"OMP_NUM_THREADS": "3"}).shown.result == "'3'"


def test_two_cells_at_once_do_not_see_each_other(own: Cells) -> None:
    """One template serves a worker with several threads."""
    one = own.start("import time\nx = 1\nprint('go')\ntime.sleep(1000)")
    one.wait_for_text("go")
    two = own.run("try:\n    x\nexcept NameError:\n    print('private')")
    assert two.text() == "private\n"
    one.supervisor.cancel()
    assert one.end().state is State.CANCELLED


def test_a_cell_has_no_descriptors_but_its_own(own: Cells) -> None:
    """Neither those of other cells nor the template's."""
    other = own.start("import time\nprint('go')\ntime.sleep(1000)")
    other.wait_for_text("go")
    # stdin, stdout, stderr and duplicates of two, messages, task, the loop's three, and
    # the one with which the folder is read; and the reserve's eight.
    listed = own.run("import os\nlen(os.listdir('/proc/self/fd'))").shown.result
    other.supervisor.cancel()
    other.end()
    alone = own.run("import os\nlen(os.listdir('/proc/self/fd'))").shown.result
    assert listed == alone
    assert int(str(alone)) <= 11 + 8


def test_a_killed_template_loses_its_cells(own: Cells) -> None:
    """The job is lost, what it printed is kept, nothing of it lives on; the next one runs."""
    code = "import subprocess, time\np = subprocess.Popen(['setsid', 'sleep', '1000'])\n"
    run = own.start(code + "time.sleep(1)\nprint('go', p.pid, 'END')\ntime.sleep(1000)")
    run.wait_for_text("END")
    pids = [run.pid, int(run.sink.text().split()[1])]
    assert own.template.pid is not None
    os.kill(own.template.pid, signal.SIGKILL)
    ended = run.end()
    assert ended.state is State.LOST
    assert "template process died" in ended.reason
    assert "signal 9 (SIGKILL)" in ended.reason
    assert ended.text().startswith("go ")
    wait_for(lambda: not any(map(runs, pids)), what="the end of all that it started")
    assert own.run("2").shown.result == "2"


@pytest.fixture
def few_processes() -> Iterator[Callable[[int], Path]]:
    """Have a process, and what it starts from then on, be no more than there are; answers a file.

    What is written there is how many they may be.
    """
    with ExitStack() as stack:

        def limit(pid: int) -> Path:
            for root in (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")):
                group = root / f"dar-{uuid.uuid4().hex}"
                with suppress(OSError):
                    group.mkdir()
                    stack.callback(group.rmdir)
                    (group / "pids.max").write_text("1")
                    (group / "cgroup.procs").write_text(str(pid))
                    members = group / "cgroup.procs"
                    stack.callback(wait_for, lambda at=members: not at.read_text(), 60)
                    return group / "pids.max"
            pytest.skip("nobody may limit processes here")

        yield limit


def _fill(own: Cells) -> list[CellRun]:
    """Have cells run in all processes that wait to be one."""
    runs = []
    for _ in range(SPARES):
        runs.append(own.start("import time\nprint('go')\ntime.sleep(1000)"))
        runs[-1].wait_for_text("go")
    return runs


def test_where_no_process_is_allowed_cells_go_on_and_others_wait(
    few_processes: Callable[[int], Path], own: Cells
) -> None:
    """They are told; where there is room again they run."""
    own.run("1")
    template = psutil.Process(own.template.pid)
    wait_for(lambda: len(template.children()) == SPARES, what="processes that wait")
    allowed = few_processes(template.pid)
    running = _fill(own)
    late = [own.start(f"print({number})") for number in (1, 2)]
    for run in late:
        run.wait_for_text("no room for another process", "stderr")
    allowed.write_text("max")
    assert [run.end().text() for run in late] == ["1\n", "2\n"]
    for run in running:
        run.supervisor.cancel()
        assert run.end().state is State.CANCELLED
    assert template.is_running()


def test_who_waited_too_long_for_a_process_has_not_run(
    few_processes: Callable[[int], Path], own: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job is lost, or cancelled if that was asked for meanwhile; and says why."""
    own.run("1")
    template = psutil.Process(own.template.pid)
    wait_for(lambda: len(template.children()) == SPARES, what="processes that wait")
    few_processes(template.pid)
    running = _fill(own)
    monkeypatch.setattr(template_handle, "PATIENCE", 1.0)
    late = [own.start("print('ran')") for _ in range(2)]
    late[1].wait_for_text("The cell waits", "stderr")
    late[1].supervisor.cancel()
    ended = [run.end() for run in late]
    assert [end.state for end in ended] == [State.LOST, State.CANCELLED]
    assert "not run: the system has no room for a process (Resource temp" in ended[0].reason
    assert not any(end.text() for end in ended)
    for run in running:
        run.supervisor.cancel()
        run.end()


WORKER = """
import pathlib, sys, threading
sys.path[:0] = {path!r}
from cells import Cells
from dask_async_run.worker.template_handle import TemplateHandle
handle = TemplateHandle()
cells = Cells(handle, pathlib.Path({folder!r}))
run = cells.start({code!r})
run.wait_for_text("END")
print(handle.pid, run.pid, *run.sink.text().split()[1:-1], flush=True)
threading.Event().wait()
"""

CODE = """
import os, subprocess, time
p = subprocess.Popen(["setsid", "sleep", "1000"])
if os.fork() == 0:
    if os.fork() == 0:
        os.setsid()
        print("PIDS", os.getppid() and os.getpid(), flush=True)
        os.execvp("sleep", ["sleep", "1000"])
    os._exit(0)
os.wait()
time.sleep(0.5)
print(p.pid, "END")
time.sleep(1000)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_killed_worker_leaves_nothing_behind(tmp_path: Path, number: int) -> None:
    """The template sees its socket close and ends all cells, with whatever they started."""
    path = [
        str(Path(__file__).parents[1] / "helpers"),
        str(Path(dask_async_run.__file__).parents[1]),
    ]
    program = WORKER.format(path=path, folder=str(tmp_path / "frames"), code=CODE)
    worker = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    pids = [int(word) for word in worker.stdout.readline().split()]
    assert len(pids) == 4
    assert all(map(runs, pids))
    worker.send_signal(number)
    worker.wait(60)
    worker.stdout.close()
    wait_for(lambda: not any(map(runs, pids)), timeout=60, what="the end of all processes")


def test_a_template_that_cannot_start_says_why(
    own: Cells, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The last line of what it said is in the job's reason, all of it in the worker's log."""
    monkeypatch.setattr(template_handle, "bootstrap", lambda paths, fd: "import no_such_module")
    ended = own.run("1")
    assert ended.state is State.LOST
    assert "exit code 1: ModuleNotFoundError: No module named 'no_such_module'" in ended.reason
    assert "Traceback" in caplog.text
    monkeypatch.undo()
    assert own.run("2").shown.result == "2"


def test_closing_ends_cells_and_what_they_started(own: Cells) -> None:
    """As a worker does that closes in order."""
    run = own.start(CODE)
    run.wait_for_text("END")
    pids = [run.pid, *(int(word) for word in run.sink.text().split()[1:-1])]
    own.template.close()
    assert not any(map(runs, pids))
    ended = run.end()
    assert (ended.state, "closing" in ended.reason) == (State.LOST, True)
    with pytest.raises(RuntimeError, match="closing"):
        own.template.start()
