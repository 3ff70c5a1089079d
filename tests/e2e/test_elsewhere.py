"""A cluster that somebody else started, whose scheduler's disk nobody else sees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from elsewhere import Elsewhere
from realkernel import RealKernel

OpenKernel = Callable[..., RealKernel]


@pytest.mark.timeout(180)
def test_frames_go_where_no_folder_is_shared(
    elsewhere: Elsewhere, open_kernel: OpenKernel, tmp_path: Path
) -> None:
    """Large inputs, changes in place, a job on a job, results: over the network only."""
    kernel = open_kernel()
    kernel.do(
        f"%load_ext dask_async_run\n%async_run_server {elsewhere.file}\n"
        "import numpy as np\n"
        "a = np.arange(3_000_000.0); same = a; empty = np.zeros(0); words = ['w'] * 200_000"
    )
    kernel.do(
        "%%async_run --name one\nb = a * 2\na[1] = -1\nwords.append('x' * 300_000)\nn = empty.size"
    )
    kernel.do("%%async_run --name two\nc = b[:1_000_000].copy(); total = float(b.sum() + a[1])")
    kernel.do("%async_gather")
    told = kernel.do(
        "print(same is a, a[:3], b[-1], c[-1], total, len(words), len(words[-1]), n)"
    ).stdout
    assert (
        told == f"True [ 0. -1.  2.] 5999998.0 1999998.0 {2 * sum(range(3_000_000)) - 1.0} "
        "200001 300000 0\n"
    )
    assert list((tmp_path / "hidden").iterdir()) == []


@pytest.mark.timeout(180)
def test_a_finished_result_outlives_kernel_and_worker(
    elsewhere: Elsewhere, open_kernel: OpenKernel
) -> None:
    """It lies beside the journal: another kernel gathers it after both were killed."""
    connect = f"%load_ext dask_async_run\n%async_run_server {elsewhere.file}"
    kernel = open_kernel()
    kernel.do(connect)
    kernel.do(
        "%%async_run --name kept\nimport numpy as np\nkept = np.ones(2_000_000); print('made')"
    )
    kernel.do("%async_wait kept")
    kernel.kill()
    worker = elsewhere.workers[0]
    worker.kill()
    worker.wait()
    kernel.restart()
    kernel.do(connect)
    assert "made" in kernel.do("%async_gather kept").stdout
    assert kernel.do("print(kept.sum())").stdout == "2000000.0\n"
    elsewhere.start_worker()
    kernel.do("%%async_run --name again\nkept[0] = 5; total = float(kept.sum())")
    kernel.do("%async_gather again")
    assert kernel.do("print(total, kept[0])").stdout == "2000004.0 5.0\n"
