"""Real kernels on real servers."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from elsewhere import Elsewhere, dask_elsewhere
from observer import Observer, stop_server
from realkernel import RealKernel
from waiting import wait_for

LOAD = "%load_ext dask_async_run\n"
SERVE = LOAD + "%async_run_server --workers 2 --no-dashboard"

OpenKernel = Callable[..., RealKernel]


@pytest.fixture
def open_kernel(folders: Any, tmp_path: Path) -> Iterator[OpenKernel]:
    """Make kernels, all in the same folder; after the test they and the server are stopped."""
    with ExitStack() as stack:
        stack.callback(stop_server)

        def make(notebook: str = "story.ipynb", **env: str) -> RealKernel:
            return stack.enter_context(RealKernel(tmp_path, notebook, env))

        yield make


@pytest.fixture
def observer(folders: Any) -> Observer:
    """What the journal of the test's own server says."""
    return Observer(folders.state)


@pytest.fixture
def elsewhere(folders: Any, tmp_path: Path) -> Iterator[Elsewhere]:
    """A cluster of somebody else's."""
    with dask_elsewhere(tmp_path) as started:
        yield started


@dataclass(frozen=True)
class SharedServer:
    """A server for the tests of a module that leave it alone."""

    env: Mapping[str, str]
    observer: Observer


@pytest.fixture(scope="module")
def shared_server() -> Iterator[SharedServer]:
    """A server in the foreground of a process of its own, with two workers."""
    with tempfile.TemporaryDirectory(prefix="dar-", dir="/tmp") as home:
        env = {
            "DASK_ASYNC_RUN_STATE": f"{home}/state",
            "DASK_ASYNC_RUN_RUNTIME": f"{home}/runtime",
        }
        with pytest.MonkeyPatch.context() as patch:
            for name, value in env.items():
                patch.setenv(name, value)
            command = [sys.executable, "-m", "dask_async_run", "server", "--workers", "2"]
            log = Path(home, "log")
            with log.open("wb") as out:
                process = subprocess.Popen(
                    [*command, "--no-dashboard"], stdout=out, stderr=subprocess.STDOUT, cwd=home
                )
            try:
                observer = Observer(Path(home, "state"))

                def ready() -> int | None:
                    assert process.poll() is None, log.read_text()
                    return observer.server_pid()

                wait_for(ready, 60, "the server's connection file")
                yield SharedServer(env, observer)
            finally:
                process.terminate()
                process.wait(60)


@pytest.fixture
def shared_kernel(
    shared_server: SharedServer, folders: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[RealKernel]:
    """A kernel connected to the shared server, with a notebook of the test's own."""
    with RealKernel(tmp_path, f"{request.node.name}.ipynb", shared_server.env) as kernel:
        kernel.do(LOAD + "%async_run_server")
        yield kernel
