"""One template process for each module; a kernel to compare with for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cells import Cells
from dask_async_run.worker.template_handle import TemplateHandle
from realkernel import RealKernel


@pytest.fixture(scope="module")
def template() -> Iterator[TemplateHandle]:
    handle = TemplateHandle()
    handle.start()
    yield handle
    handle.close()


@pytest.fixture
def cells(template: TemplateHandle, tmp_path: Path) -> Cells:
    return Cells(template, tmp_path / "frames")


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[RealKernel]:
    with pytest.MonkeyPatch.context() as patch:
        # With it, ipykernel does not read file descriptors 1 and 2.
        patch.delenv("PYTEST_CURRENT_TEST")
        started = RealKernel(tmp_path).start()
    yield started
    started.close()
