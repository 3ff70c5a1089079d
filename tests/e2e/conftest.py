"""Real kernels on real servers."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from elsewhere import Elsewhere, dask_elsewhere, environment_without
from observer import Observer, stop_server
from realkernel import RealKernel
from slot import Slot
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


@pytest.fixture
def bare_elsewhere(folders: Any, tmp_path: Path) -> Iterator[Elsewhere]:
    """A cluster whose Python has no part of this project, and not all that it requires."""
    lacking = ("dask-async-run", "ipython", "traitlets", "jedi", "xxhash", "platformdirs")
    with dask_elsewhere(tmp_path, environment_without(tmp_path / "bare", *lacking)) as started:
        yield started


@dataclass(frozen=True)
class SharedServer:
    """A server for the tests of a module that leave it alone."""

    env: Mapping[str, str]
    observer: Observer


@contextmanager
def serving(workers: int) -> Iterator[SharedServer]:
    """Run a server in the foreground of a process of its own."""
    with tempfile.TemporaryDirectory(prefix="dar-", dir="/tmp") as home:
        env = {
            "DASK_ASYNC_RUN_STATE": f"{home}/state",
            "DASK_ASYNC_RUN_RUNTIME": f"{home}/runtime",
        }
        with pytest.MonkeyPatch.context() as patch:
            for name, value in env.items():
                patch.setenv(name, value)
            command = [sys.executable, "-m", "dask_async_run", "server", "--workers", str(workers)]
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


@pytest.fixture(scope="module")
def shared_server() -> Iterator[SharedServer]:
    """A server with two workers."""
    with serving(2) as server:
        yield server


@pytest.fixture(scope="module", params=["own", "foreign"])
def slot(request: pytest.FixtureRequest) -> Iterator[Slot]:
    """A server of one's own, or somebody else's cluster."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dar-", dir="/tmp")))
        if request.param == "own":
            server = stack.enter_context(serving(1))
            connect, env = "%async_run_server", server.env
        else:
            cluster = stack.enter_context(dask_elsewhere(home, threads=1))
            connect, env = f"%async_run_server {cluster.file}", {}
        (home / "notebooks").mkdir()
        kernel = stack.enter_context(RealKernel(home / "notebooks", "shared.ipynb", env))
        kernel.do(LOAD + connect)
        yield Slot(kernel, LOAD + connect, env)


@pytest.fixture
def shared_kernel(
    shared_server: SharedServer, folders: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[RealKernel]:
    """A kernel connected to the shared server, with a notebook of the test's own."""
    with RealKernel(tmp_path, f"{request.node.name}.ipynb", shared_server.env) as kernel:
        kernel.do(LOAD + "%async_run_server")
        yield kernel


@pytest.fixture(scope="module")
def kernel(
    shared_server: SharedServer,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[RealKernel]:
    """One kernel for those tests of a module that leave it alone, and use names of their own."""
    name = request.module.__name__.rpartition(".")[2]
    folder = tmp_path_factory.mktemp(name)
    with RealKernel(folder, f"{name}.ipynb", shared_server.env) as started:
        started.do(LOAD + "%async_run_server")
        yield started
