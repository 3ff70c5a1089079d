"""The Dask cluster inside a server process."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from dask_async_run.errors import ServerError
from dask_async_run.server import door
from dask_async_run.server.options import Options, dask_config

DASHBOARD_PORT = 8787
"""Where the dashboard is, if the port is free; else anywhere."""


def scratch_of(state: Path) -> Path:
    """Folder for what a server's processes need for a while: what its workers spill, above all."""
    return state / "scratch"


def make_cluster(options: Options, state: Path, security: Any) -> Any:
    """Return a `LocalCluster` that is not started yet; `start` does.

    Parameters
    ----------
    options : Options
        With `workers` filled in.
    state : Path
        The state folder; workers keep what they spill in its folder ``scratch``.
    security : distributed.Security
        Credentials that all of its processes and every client have.
    """
    import dask
    from dask.system import CPU_COUNT
    from distributed import LocalCluster

    workers = options.workers or 1
    scratch = scratch_of(state)
    shutil.rmtree(scratch, ignore_errors=True)  # what a killed server left
    scratch.mkdir(mode=0o700, exist_ok=True)
    # Each new Dask client writes its key to a temporary file for a moment. The folder for those
    # that the server was started with may be gone soon, with a login or a batch job.
    tempfile.tempdir = str(scratch)
    preloads = dask.config.get("distributed.worker.preload")
    dask.config.set({"temporary-directory": str(scratch)})
    dask.config.set(dask_config(workers, CPU_COUNT, preloads))
    if not options.dashboard:
        # A scheduler has a web server in any case, which shows its tasks without Bokeh too.
        dask.config.set({"distributed.scheduler.http.routes": ["distributed.http.health"]})
    # Dask's nannies start workers with a seed of their own, which would make sets of texts be
    # walked in another order in cells than in the notebook.
    seed = {name: os.environ[name] for name in ("PYTHONHASHSEED",) if name in os.environ}
    # A worker's own web page tells of its tasks, too, and has no door.
    dask.config.set({"distributed.worker.http.routes": ["distributed.http.health"]})
    return LocalCluster(
        name=f"dask_async_run {options.name}",
        asynchronous=True,
        protocol="tls://",
        host="127.0.0.1",
        security=security,
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        memory_limit=options.memory_bytes,
        dashboard_address=f"127.0.0.1:{DASHBOARD_PORT if options.dashboard else 0}",
        scheduler_kwargs={"dashboard": options.dashboard},
        silence_logs=False,
        env=seed,
    )


async def start(cluster: Any, state: Path, secret: str, options: Options) -> None:
    """Start the cluster, give it registry and cells; a task has run on it on return.

    The dashboard is shown to nobody who does not know the secret; see `door`.
    """
    from dask_async_run.clients import make_client
    from dask_async_run.scheduler.plugin import RegistryPlugin
    from dask_async_run.worker.plugin import CellPlugin

    _require_semaphores()
    await cluster
    web = cluster.scheduler.http_server
    door.shut(cluster.scheduler.http_application, secret, web.port)
    async with make_client(cluster, asynchronous=True, set_as_default=False) as client:
        await client.register_plugin(
            RegistryPlugin(str(state), disk_limit=options.disk_bytes, acting=True, memory=True)
        )
        await client.register_plugin(CellPlugin())
        await client.submit(os.getpid, pure=False)


def _require_semaphores() -> None:
    """Check that this machine has what Dask starts a worker with.

    Raises
    ------
    ServerError
        It has not, as in some containers; Python's own error does not say what is missing.
    """
    try:
        multiprocessing.get_context("spawn").Lock()
    except OSError as error:
        raise ServerError(
            f"Python can make no semaphore here ({error.strerror or error}), which workers are "
            "started with. They lie in shared memory: have /dev/shm mounted, writable and with "
            "room left (a container: --shm-size)."
        ) from error


def dashboard_address(cluster: Any) -> str:
    """Web address of the dashboard on this machine."""
    import dask

    tls = dask.config.get("distributed.scheduler.dashboard.tls.cert", None)
    port = cluster.scheduler.services["dashboard"].port
    return f"http{'s' if tls else ''}://127.0.0.1:{port}/status"


def lives(cluster: Any) -> bool:
    """Whether its scheduler runs: any client may have shut it down."""
    return cluster.scheduler is not None and cluster.scheduler.status.name == "running"


def replace_dead_nannies(cluster: Any, workers: int) -> None:
    """Have `workers` nannies again, soon.

    A nanny starts its worker again, unless that fails or somebody retired the worker:
    then it ends too. Dask only forgets it after ``lost-worker-timeout``.
    """
    for name, nanny in list(cluster.workers.items()):
        if nanny.status.name in ("closed", "failed"):
            del cluster.workers[name]
    if len(cluster.workers) < workers:
        cluster.scale(workers)


async def close(cluster: Any) -> None:
    """Stop the workers, then the scheduler."""
    if not lives(cluster):
        cluster.shutdown_scheduler = False  # else it would be waited for
    await cluster.close()
