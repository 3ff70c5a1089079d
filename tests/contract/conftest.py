"""Pairs of kernels for the contract's tests, one of each kind for a whole module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .compare import Judge, folder_of_server, kernel_pair


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """Folder of the one server that the contract's remote kernels share."""
    with folder_of_server() as folder:
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
        yield judge
