"""Pairs of kernels for the contract's tests, one of each kind for a whole module."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .compare import Judge, environment, folder_of_server, kernel_pair
from .kernels import RemoteKernel, side_by_side


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """Folder of the one server that the contract's remote kernels share."""
    side_by_side(bool, bool)  # starts the judge's thread
    with folder_of_server() as folder:
        # Now: what a test starts has to be gone after it, and this one outlives them all.
        start = (
            "from dask_async_run.server.launch import ensure_server; ensure_server(dashboard=False)"
        )
        # As a kernel of the judge's would start it.
        env = {**os.environ, "PYTHONHASHSEED": "0", **environment(folder)}
        subprocess.run([sys.executable, "-c", start], env=env, check=True, timeout=120)
        yield folder


@pytest.fixture(scope="module")
def plain_pair(server_folder: Path) -> Iterator[Judge]:
    """Two kernels that both run cells plainly: what differs here is the judge's own fault."""
    with kernel_pair(server_folder, remote=False) as judge:
        yield judge


@pytest.fixture(scope="module")
def remote_pair(server_folder: Path) -> Iterator[Judge]:
    """A plain kernel, and one that runs every cell through `%%async_run`."""
    with kernel_pair(server_folder) as judge:
        for kernel in (judge.plain, judge.other):
            # What a library does when it is first used shall not depend on the order of cases.
            kernel.silently("import pandas, matplotlib.pyplot as plt; plt.subplots(); plt.close()")
        yield judge


@pytest.fixture(scope="module")
def lone_kernel(
    server_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RemoteKernel]:
    """A kernel with the extension, for what a plain run has no counterpart of."""
    folder = tmp_path_factory.mktemp("lone")
    env = {**environment(server_folder), "JPY_SESSION_NAME": str(folder / "lone.ipynb")}
    with RemoteKernel(folder, env) as kernel:
        yield kernel


@pytest.fixture
def kernel(lone_kernel: RemoteKernel, request: pytest.FixtureRequest) -> RemoteKernel:
    """The module's kernel, looking new, in a folder of the test's own."""
    lone_kernel.reset(request.node.name)
    lone_kernel.prefix = request.node.name.removeprefix("test_") + "-"
    return lone_kernel
