"""A Dask cluster that somebody else started, whose scheduler's disk nobody else sees."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from waiting import wait_for

HIDE = 'mount -t tmpfs -o mode=0700 none "$0" && exec "$@"'
"""What a shell in a mount namespace of its own does: hides a folder, then is the command."""


@dataclass
class Elsewhere:
    """The processes of ``dask scheduler`` and ``dask worker``."""

    file: str
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


@contextmanager
def dask_elsewhere(tmp_path: Path) -> Iterator[Elsewhere]:
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
        address = json.loads(file.read_text())["address"]
        yield Elsewhere(str(file), address, scheduler, workers, start_worker)
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
