"""A server or a worker that has as many files open as it may: what waits says so, and goes on."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import pytest

from observer import Observer
from realkernel import RealKernel
from waiting import wait_for

OpenKernel = Callable[..., RealKernel]
SERVE = "%load_ext dask_async_run\n%async_run_server --workers 1 --no-dashboard"


@contextmanager
def few_files(process: psutil.Process) -> Iterator[None]:
    """Have a process open no further file in the block."""
    before = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (8, before[1]))
    try:
        yield
    finally:
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, before)


@pytest.mark.timeout(300)
def test_a_server_that_cannot_open_files_says_so_and_goes_on(
    open_kernel: OpenKernel, observer: Observer
) -> None:
    """Nobody can connect to it: a job waits, with the reason and what to do."""
    kernel = open_kernel()
    kernel.do(SERVE)
    server = psutil.Process(observer.server_pid())
    with few_files(server):
        kernel.do("%async_run --name first x = 1")

        def listed() -> str:
            return " ".join(kernel.run("%async_jobs").text.split())

        wait_for(lambda: "ulimit" in listed(), what="the reason")
        assert (
            f"waits for the server. Process {server.pid} has as many files open as it may (8): "
            "close some, or start it where the limit is higher (ulimit -n, "
        ) in listed()
    assert observer.wait("first").state == "finished"


@pytest.mark.timeout(300)
def test_a_worker_that_cannot_open_files_says_so_and_goes_on(
    open_kernel: OpenKernel, observer: Observer
) -> None:
    """Its cell has not begun: it is not lost, and can be cancelled."""
    kernel = open_kernel()
    kernel.do(SERVE)
    kernel.do("%async_run --name warm x = 1")
    observer.wait("warm", "finished")
    server = psutil.Process(observer.server_pid())
    [worker] = [p for p in server.children() if "spawn_main" in " ".join(p.cmdline())]

    def says(name: str) -> bool:
        job = observer.job(name)
        return job is not None and "The cell waits for its worker. Process " in (
            job.last_line or ""
        )

    with few_files(worker):
        kernel.do("%async_run --name one x = 1")
        wait_for(lambda: says("one"), what="the reason")
        kernel.do("%async_cancel one")
        assert observer.wait("one").reason == "cancelled before it ran"
        kernel.do("%async_run --name two x = 1")
        wait_for(lambda: says("two"), what="the reason")
    assert observer.wait("two").state == "finished"
