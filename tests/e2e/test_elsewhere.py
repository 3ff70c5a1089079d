"""A cluster that somebody else started, whose scheduler's disk nobody else sees."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from realkernel import RealKernel
from waiting import wait_for

OpenKernel = Callable[..., RealKernel]

HIDE = 'mount -t tmpfs -o mode=0700 none "$0" && exec "$@"'
"""What a shell in a mount namespace of its own does: hides a folder, then is the command."""


@dataclass
class Elsewhere:
    """The processes of ``dask scheduler`` and ``dask worker``."""

    address: str
    scheduler: subprocess.Popen[str]
    workers: list[subprocess.Popen[str]]
    start_worker: Callable[[], None]


def _namespace() -> list[str]:
    """The command that gives a process a mount namespace: as root, or as a user's own root."""
    if unshare := shutil.which("unshare"):
        for options in (["--mount"], ["-Urm"]):
            if subprocess.run([unshare, *options, "true"], capture_output=True).returncode == 0:
                return [unshare, *options]
    pytest.skip("this machine lets nobody have a mount namespace (unshare --mount)")


@pytest.fixture
def elsewhere(folders: Any, tmp_path: Path) -> Iterator[Elsewhere]:
    """Start a scheduler that alone sees its state folder, and a worker."""
    hidden = tmp_path / "hidden"
    file = tmp_path / "scheduler.json"
    hidden.mkdir()
    dask = [sys.executable, "-m", "dask"]
    logs = (tmp_path / "dask.log").open("w")

    def start(*command: str, **environment: str) -> subprocess.Popen[str]:
        environ = {**os.environ, **environment}
        return subprocess.Popen(
            command, env=environ, stdout=logs, stderr=logs, text=True, start_new_session=True
        )

    scheduler = start(
        *_namespace(),
        *("sh", "-c", HIDE, str(hidden)),
        *(*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"),
        *("--scheduler-file", str(file)),
        DASK_ASYNC_RUN_STATE=str(hidden),
    )
    workers: list[subprocess.Popen[str]] = []

    def start_worker() -> None:
        command = [*dask, "worker", "--scheduler-file", str(file), "--nthreads", "2"]
        own = tmp_path / f"worker-{len(workers)}"
        own.mkdir()
        workers.append(
            start(
                *(*command, "--no-nanny", "--no-dashboard", "--local-directory", str(own)),
                TMPDIR=str(own),
            )
        )

    try:
        wait_for(file.exists, 60)
        start_worker()
        yield Elsewhere(str(file), scheduler, workers, start_worker)
    finally:
        for process in (*workers, scheduler):
            process.send_signal(signal.SIGINT)
        for process in (*workers, scheduler):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        logs.close()
        print((tmp_path / "dask.log").read_text()[-3000:])


@pytest.mark.timeout(180)
def test_frames_go_where_no_folder_is_shared(
    elsewhere: Elsewhere, open_kernel: OpenKernel, tmp_path: Path
) -> None:
    """Large inputs, changes in place, a job on a job, results: over the network only."""
    kernel = open_kernel()
    kernel.do(
        f"%load_ext dask_async_run\n%async_run_server {elsewhere.address}\n"
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
    connect = f"%load_ext dask_async_run\n%async_run_server {elsewhere.address}"
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
