"""`%async_cancel` ends every kind of cell, and the state tells the truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psutil
import pytest

from realkernel import RealKernel
from waiting import wait_for


@dataclass(frozen=True)
class Case:
    """A cell that does not end by itself.

    Parameters
    ----------
    name : str
        The job's name.
    body : str
        What it does after it has printed "begun".
    signal : str
        The signal that ends it.
    raises : bool
        Whether it ends in a KeyboardInterrupt, and what it had bound is kept.
    before : str
        What it does before it prints.
    busy : bool
        Whether it uses the processor: then it is in the middle of it when it has used some.
    """

    name: str
    body: str
    signal: str
    raises: bool
    before: str = "pass"
    busy: bool = False


CASES = [
    Case("sleeping", "time.sleep(1000)", "SIGINT", raises=True),
    Case("python", "while True: pass", "SIGINT", raises=True, busy=True),
    # Python's handlers of signals only run between two bytecodes: here there is none for minutes.
    Case(
        "numpy",
        "numpy.linalg.eigvals(matrix)",
        "SIGKILL",
        raises=False,
        before="import numpy; matrix = numpy.random.rand(5000, 5000)",
        busy=True,
    ),
    Case(
        "ignoring",
        "time.sleep(1000)",
        "SIGTERM",
        raises=True,
        before="signal.signal(signal.SIGINT, signal.SIG_IGN)",
    ),
    Case(
        "stubborn",
        "while True: time.sleep(1)",
        "SIGKILL",
        raises=False,
        before="[signal.signal(s, signal.SIG_IGN) for s in (signal.SIGINT, signal.SIGTERM)]",
    ),
]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_cancel(case: Case, shared_kernel: RealKernel, shared_server: Any) -> None:
    """The process is gone, the job is cancelled, says how, and keeps what came before."""
    observer = shared_server.observer
    shared_kernel.do(
        f"%%async_run --name {case.name}\n"
        f"import signal, subprocess, time; {case.before}\n"
        "child = subprocess.Popen(['sleep', '1000'], start_new_session=True).pid\n"
        "print('begun', child, flush=True)\n"
        f"{case.body}\n"
        "print('not reached')"
    )
    observer.wait_for_text(case.name, "begun")
    child = psutil.Process(int(observer.printed(case.name).split()[1]))
    running = observer.wait(case.name, "running")
    assert running.pid is not None
    cell = psutil.Process(running.pid)
    if case.busy:
        used = cell.cpu_times().user
        wait_for(lambda: cell.cpu_times().user > used + 0.5, what="the cell is busy")
    shared_kernel.do(f"%async_cancel {case.name}")

    job = observer.wait(case.name)
    assert job.state == "cancelled"
    assert case.signal in job.reason
    assert psutil.wait_procs([cell, child], timeout=60)[1] == []
    gathered = shared_kernel.run(f"%async_gather {case.name}")
    assert gathered.stdout.startswith("begun")
    assert "not reached" not in gathered.stdout
    assert gathered.error is not None
    if case.raises:
        assert gathered.error["ename"] == "KeyboardInterrupt"
        assert "line 5" in gathered.traceback
        assert shared_kernel.value("child") == child.pid  # what was done before it stands
        assert "What it had done by then is merged: child" in gathered.stderr
    else:
        assert "cancelled" in gathered.traceback


@pytest.mark.timeout(300)
def test_cancel_of_a_job_that_waits(shared_kernel: RealKernel, shared_server: Any) -> None:
    """It never runs, and what waits for it is cancelled by name."""
    observer = shared_server.observer
    shared_kernel.do("%%async_run --name first\nimport time; time.sleep(1000); a = 1")
    shared_kernel.do("%async_run --name second b = a + 1")
    shared_kernel.do("%async_run --name third c = b + 1")
    observer.wait("first", "running")
    shared_kernel.do("%async_cancel second")
    assert observer.wait("second").state == "cancelled"
    third = observer.wait("third")
    assert third.state == "cancelled"
    assert "'second'" in third.reason
    assert observer.job("first").state == "running"
    shared_kernel.do("%async_cancel first")
    assert observer.wait("first").state == "cancelled"
    assert observer.job("second").started is None


@pytest.mark.timeout(300)
def test_interrupting_a_gather_changes_nothing(
    shared_kernel: RealKernel, shared_server: Any
) -> None:
    """Ctrl-C while gathering leaves the job running and the namespace as it was."""
    observer = shared_server.observer
    shared_kernel.do("result = 'mine'")
    shared_kernel.do(
        "%%async_run --name waited\nimport time\nprint('begun', flush=True)\n"
        "time.sleep(1000); result = 'its'"
    )
    observer.wait_for_text("waited", "begun")
    shared_kernel.attended = True  # else it does not say that it waits
    gathering = shared_kernel.submit("%async_gather waited")
    shared_kernel.wait_until_shows(gathering, "waiting for waited")
    shared_kernel.interrupt()
    ran = shared_kernel.finish(gathering)
    assert ran.error is not None
    assert ran.error["ename"] == "KeyboardInterrupt"
    assert ran.traceback == (
        "KeyboardInterrupt: not waited for any more, but not stopped either: waited. "
        "Nothing was gathered."
    )
    assert observer.job("waited").state == "running"
    assert shared_kernel.value("result") == "mine"
    shared_kernel.do("%async_cancel waited")
    observer.wait("waited", "cancelled")
