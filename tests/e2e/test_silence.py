"""What stands still (SIGSTOP, a machine that swaps): who waits for it says so."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil
import pytest

from observer import Observer
from realkernel import RealKernel
from waiting import wait_for

OpenKernel = Callable[..., RealKernel]


@pytest.mark.timeout(300)
def test_who_waits_for_a_silent_worker_says_so(open_kernel: OpenKernel, observer: Observer) -> None:
    """And goes on when it does; nothing is lost."""
    kernel = open_kernel()
    kernel.do("%load_ext dask_async_run\n%async_run_server --workers 1 --no-dashboard")
    server = psutil.Process(observer.server_pid())
    [worker] = [p for p in server.children() if "spawn_main" in " ".join(p.cmdline())]

    def listed() -> str:
        return " ".join(kernel.run("%async_jobs").text.split())

    worker.suspend()
    try:
        kernel.do("%async_run --name one x = 1")
        wait_for(lambda: "which has not been heard of for" in listed(), 90, what="the reason")
        assert "waits for its worker tls://127.0.0.1:" in listed()
    finally:
        worker.resume()
    assert observer.wait("one").state == "finished"


@pytest.mark.timeout(300)
def test_who_stops_a_silent_server_is_told_and_can_be_interrupted(
    open_kernel: OpenKernel, observer: Observer
) -> None:
    """The interrupt does not wait for the answer, and the server is as it was."""
    kernel = open_kernel()
    kernel.attended = True
    kernel.do("%load_ext dask_async_run\n%async_run_server --workers 1 --no-dashboard")
    server = psutil.Process(observer.server_pid())
    server.suspend()
    try:
        stopping = kernel.submit("%async_stop_server")
        kernel.wait_until_shows(stopping, "the server 'default' has not answered for 2 s")
        begun = time.monotonic()
        kernel.interrupt()
        told = kernel.finish(stopping)
        assert time.monotonic() - begun < 5
        assert told.error is not None
        assert told.error["ename"] == "KeyboardInterrupt"
        assert "has not answered" not in told.text  # it is taken away
    finally:
        server.resume()
    assert kernel.do("%async_run --gather 6 * 7").result == "42"
