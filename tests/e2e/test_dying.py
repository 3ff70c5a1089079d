"""A cell runs at most once, whoever dies; what it put out stays."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from observer import Observer
from realkernel import RealKernel

SERVE = "%load_ext dask_async_run\n%async_run_server --workers 2 --no-dashboard"
OpenKernel = Callable[..., RealKernel]


@pytest.mark.timeout(300)
def test_a_cell_that_kills_its_own_process(open_kernel: OpenKernel, observer: Observer) -> None:
    """Its job says by which signal, keeps its output, and the worker goes on."""
    kernel = open_kernel()
    kernel.do(SERVE)
    kernel.do(
        "%%async_run --name suicide\n"
        "import os, signal\n"
        "print('last words', flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    job = observer.wait("suicide")
    assert job.state in ("failed", "lost")
    assert "signal 9" in job.reason or "SIGKILL" in job.reason
    gathered = kernel.run("%async_gather suicide")
    assert gathered.stdout == "last words\n"
    assert gathered.error is not None
    assert job.reason in gathered.traceback
    kernel.do("%async_run --name next x = 1")
    kernel.do("%async_gather next")
    assert kernel.value("x") == 1


@pytest.mark.timeout(300)
def test_a_worker_killed_while_it_supervises(
    open_kernel: OpenKernel, observer: Observer, tmp_path: Path
) -> None:
    """The cell has run once and does not go on; its job is lost and keeps its output."""
    kernel = open_kernel()
    kernel.do(SERVE)
    kernel.do(
        "%%async_run --name once\n"
        "import time\n"
        "with open('ran', 'a') as file:\n"
        "    file.write('a line\\n')\n"
        "print('begun', flush=True)\n"
        "time.sleep(1000)"
    )
    observer.wait_for_text("once", "begun")
    running = observer.wait("once", "running")
    assert running.pid is not None
    cell = psutil.Process(running.pid)
    template = cell.parent()
    assert template is not None
    worker = template.parent()
    assert worker is not None
    os.kill(worker.pid, signal.SIGKILL)

    job = observer.wait("once")
    assert job.state == "lost"
    assert "worker" in job.reason
    assert psutil.wait_procs([cell, template], timeout=60)[1] == []
    gathered = kernel.run("%async_gather once")
    assert gathered.stdout == "begun\n"
    assert gathered.error is not None
    assert "lost" in gathered.traceback
    # Dask would have run it again by now: two more cells have gone through the workers.
    for name in ("one", "two"):
        kernel.do(f"%async_run --name {name} x = {name!r}")
        kernel.do(f"%async_gather {name}")
        assert kernel.value("x") == name
    assert (tmp_path / "ran").read_text() == "a line\n"
    assert observer.wait("once").state == "lost"
