"""A Dask cluster that somebody else started, whose scheduler's disk nobody else sees."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

from waiting import wait_for

HIDE = 'mount -t tmpfs -o mode=0700 none "$0" && exec "$@"'
"""What a shell in a mount namespace of its own does: hides a folder, then is the command."""


@dataclass
class Elsewhere:
    """The processes of ``dask scheduler`` and ``dask worker``.

    `notebook` is a folder that the workers do not see.
    """

    file: str
    notebook: Path
    address: str
    scheduler: subprocess.Popen[str]
    workers: list[subprocess.Popen[str]]
    start_worker: Callable[..., None]


def namespace() -> list[str]:
    """The command that gives a process a mount namespace: as root, or as a user's own root."""
    if unshare := shutil.which("unshare"):
        for options in (["--mount"], ["-Urm"]):
            if subprocess.run([unshare, *options, "true"], capture_output=True).returncode == 0:
                return [unshare, *options]
    pytest.skip("this machine lets nobody have a mount namespace (unshare --mount)")


def environment_without(folder: Path, *distributions: str) -> str:
    """Make a Python environment that has what this one has, but some distributions.

    Its packages are links to the ones here; what is installed as editable is not there.

    Returns
    -------
    str
        Its Python.
    """
    venv.create(folder, symlinks=True, with_pip=False)
    here = Path(sysconfig.get_path("purelib"))
    there = next(folder.glob("lib/python*/site-packages"))
    hidden = {
        file.parts[0] for name in distributions for file in metadata.distribution(name).files or ()
    }
    for entry in here.iterdir():
        if entry.name not in hidden | {"__pycache__"} and entry.suffix != ".pth":
            (there / entry.name).symlink_to(entry)
    return str(folder / "bin" / "python")


def another_python() -> str:
    """Find a Python of another minor version that can run the Dask which is here, or skip."""
    names = [f"python3.{minor}" for minor in range(10, 20) if minor != sys.version_info.minor]
    beside = Path(sys.base_prefix).parent
    places = [shutil.which(name) for name in names]
    places += [str(found) for name in names for found in beside.glob(f"*/bin/{name}")]
    for place in filter(None, places):
        imports = [place, "-c", "import distributed"]
        environ = {**os.environ, **packages_for(place)}
        if subprocess.run(imports, env=environ, capture_output=True).returncode == 0:
            return place
    pytest.skip("this machine has no other Python that can run Dask")


def packages_for(python: str) -> dict[str, str]:
    """The environment in which a Python that is not this one's finds what is installed here."""
    here = Path(sys.executable).parent
    own = Path(python).parent == here or (Path(python).parents[1] / "pyvenv.cfg").exists()
    return {} if own else {"PYTHONPATH": sysconfig.get_path("purelib")}


@contextmanager
def dask_elsewhere(
    tmp_path: Path, python: str = sys.executable, threads: int = 2, dashboard: bool = False
) -> Iterator[Elsewhere]:
    """Start a scheduler that alone sees its state folder, and a worker.

    Parameters
    ----------
    tmp_path : Path
    python : str
        Whose Dask it is.
    threads : int
        Of each worker.
    dashboard : bool
        Whether the scheduler has Dask's pages.
    """
    hidden = tmp_path / "hidden"
    file = tmp_path / "scheduler.json"
    hidden.mkdir()
    notebook = tmp_path / "notebook"
    notebook.mkdir()
    dask = [python, "-m", "dask"]
    logs = (tmp_path / "dask.log").open("w")

    def start(*command: str, **environment: str) -> subprocess.Popen[str]:
        environ = {**os.environ, **environment}
        return subprocess.Popen(
            command,
            env=environ,
            cwd=tmp_path,  # which ``python -m`` imports from
            stdout=logs,
            stderr=logs,
            text=True,
            start_new_session=True,
        )

    scheduler = start(
        *namespace(),
        *("sh", "-c", HIDE, str(hidden)),
        *(*dask, "scheduler", "--host", "127.0.0.1", "--port", "0"),
        *(("--dashboard-address", "127.0.0.1:0") if dashboard else ("--no-dashboard",)),
        *("--scheduler-file", str(file)),
        DASK_ASYNC_RUN_STATE=str(hidden),
    )
    workers: list[subprocess.Popen[str]] = []

    def start_worker(python: str = python) -> None:
        command = [python, "-m", "dask", "worker", "--scheduler-file", str(file)]
        command += ["--nthreads", str(threads)]
        own = tmp_path / f"worker-{len(workers)}"
        own.mkdir()
        workers.append(
            start(
                *(*namespace(), "sh", "-c", HIDE, str(notebook)),
                *(*command, "--no-nanny", "--no-dashboard", "--local-directory", str(own)),
                TMPDIR=str(own),
                **packages_for(python),
            )
        )

    try:
        wait_for(file.exists, 60)
        start_worker()
        address = json.loads(file.read_text())["address"]
        yield Elsewhere(str(file), notebook, address, scheduler, workers, start_worker)
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
