"""What a server can be asked to be."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dask_async_run.errors import ServerError
from dask_async_run.folders import DEFAULT_SERVER, server_name

IDLE_TIMEOUT = 24 * 3600.0
"""Seconds without a client and without an unfinished job until a server stops."""

_LIFELINE = "dask_async_run.worker.lifeline"

_BLAS_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


@dataclass(frozen=True, slots=True)
class Options:
    """How to start a server; two processes agree on it through the command line.

    Parameters
    ----------
    name : str
        The server's name.
    workers : int or None
        How many cells run side by side; None: one for each core.
    memory_limit : str or None
        Of each worker, as Dask writes it (``4GiB``); None: no limit.
    dashboard : bool
        Whether to serve Dask's dashboard.
    idle_timeout : float
        Seconds without a client and without an unfinished job after which the
        server stops; 0: never.
    disk_limit : str or None
        Of what jobs may keep (inputs and results, ``200GiB``) before it takes no more;
        None: no limit.
    """

    name: str = DEFAULT_SERVER
    workers: int | None = None
    memory_limit: str | None = None
    dashboard: bool = True
    idle_timeout: float = IDLE_TIMEOUT
    disk_limit: str | None = None

    def checked(self) -> Options:
        """Return these options with `workers` filled in.

        Raises
        ------
        ServerError
            One of them makes no sense; the text says which, and gives an example.
        """
        from dask.system import CPU_COUNT  # here: respects affinity and cgroups, but takes 0.3 s

        server_name(self.name)
        workers = CPU_COUNT if self.workers is None else self.workers
        if workers < 1:
            raise ServerError(f"a server cannot have {workers} workers: give it at least 1.")
        if self.memory_limit is not None:
            _nbytes(self.memory_limit)
        if self.disk_limit is not None:
            _nbytes(self.disk_limit)
        if not (self.idle_timeout >= 0 and math.isfinite(self.idle_timeout)):
            raise ServerError(
                f"the idle timeout cannot be {self.idle_timeout}: give seconds, or 0 for never."
            )
        return replace(self, workers=workers)

    def arguments(self) -> list[str]:
        """As arguments of ``python -m dask_async_run server``."""
        given = ["--name", self.name, "--idle-timeout", repr(self.idle_timeout)]
        if self.workers is not None:
            given += ["--workers", str(self.workers)]
        if self.memory_limit is not None:
            given += ["--memory-limit", self.memory_limit]
        if self.disk_limit is not None:
            given += ["--disk-limit", self.disk_limit]
        if not self.dashboard:
            given += ["--no-dashboard"]
        return given

    @property
    def disk_bytes(self) -> int | None:
        """`disk_limit` in bytes; None if there is none."""
        return None if self.disk_limit is None else _nbytes(self.disk_limit)

    @property
    def memory_bytes(self) -> int:
        """`memory_limit` in bytes; 0, Dask's "no limit", if there is none."""
        return 0 if self.memory_limit is None else _nbytes(self.memory_limit)


def _nbytes(text: str) -> int:
    from dask.utils import parse_bytes  # here: as above

    try:
        # A unit alone is one of it to Dask, and nothing at all is one byte.
        nbytes = int(parse_bytes(text)) if text[:1].isdigit() else 0
    except ValueError:
        nbytes = 0
    if nbytes < 1:
        raise ServerError(f"{text!r} is no size: write it as in 4GiB or 500MB.")
    return nbytes


def dask_config(workers: int, cores: int, preloads: Sequence[str] = ()) -> dict[str, object]:
    """Dask's configuration in a server, whatever the user's own files say.

    To be set after ``import distributed``, which fills in what nested parts lack.

    Parameters
    ----------
    workers : int
        Slots, each of one thread.
    cores : int
        Processors that the server may use.
    preloads : sequence of str
        The user's own of ``distributed.worker.preload``.
    """
    threads = str(max(1, cores // workers))
    return {
        # A cell that holds the GIL, or a laptop that sleeps, does not make a worker dead.
        "distributed.scheduler.worker-ttl": None,
        # A job runs at most once because the registry lets it be claimed once. Dask's own
        # counter would give up on a *waiting* task after it has sat on four workers that died.
        "distributed.scheduler.allowed-failures": 1_000_000,
        # A slot that is busy takes no further task along when its worker dies.
        "distributed.scheduler.worker-saturation": 1.0,
        # Daemonic processes may not have children: cells have.
        "distributed.worker.daemon": False,
        # Only a spawned worker does not inherit the server's locks and sockets.
        "distributed.worker.multiprocessing-method": "spawn",
        "distributed.worker.preload": [_LIFELINE, *preloads],
        # The nanny starts a worker again; Dask must not scale the cluster down meanwhile.
        "distributed.deploy.lost-worker-timeout": "1 day",
        # What runs in the server's own processes is known, and costs little: looking at it
        # a hundred times a second cost more, in a server that has nothing to do too.
        "distributed.worker.profile.enabled": False,
        "distributed.admin.tick.interval": "500ms",
        "distributed.admin.system-monitor.interval": "1s",
        "distributed.worker.memory.monitor-interval": "1s",
        # Nannies set these to 1, and glibc's trim threshold, which slows large allocations
        # down. What the user's environment says wins over both.
        "distributed.nanny.pre-spawn-environ": {
            **dict.fromkeys(_BLAS_VARIABLES, threads),
            "MALLOC_TRIM_THRESHOLD_": None,
        },
    }


def _set_by_a_nanny() -> set[str]:
    """Answer the variables that a cluster of the user's own has set in this process.

    A nanny puts what its workers shall have, ``OMP_NUM_THREADS=1`` among them, into its own
    environment for good. What this process was started with is the user's.
    """
    import dask

    try:
        block = Path("/proc/self/environ").read_bytes()
    except OSError:  # not Linux
        return set()
    at_start = {entry.partition(b"=")[0].decode(errors="replace") for entry in block.split(b"\0")}
    meant = dask.config.get("distributed.nanny.pre-spawn-environ", {})
    return {
        name
        for name, value in meant.items()
        if value is not None and os.environ.get(name) == str(value) and name not in at_start
    }


def server_environment() -> dict[str, str]:
    """Environment of a detached server: this process's, freed of what is only this one's."""
    from dask_async_run.folders import (
        RUNTIME_VARIABLE,
        STATE_VARIABLE,
        runtime_folder,
        state_folder,
    )

    private = {
        "JPY_PARENT_PID",  # a kernel's own: who reads it ends with that parent
        "JPY_SESSION_NAME",
        "JPY_INTERRUPT_EVENT",
        "PYTHONINSPECT",
        "PYTHONSTARTUP",
    }
    private |= _set_by_a_nanny()
    kept = {name: value for name, value in os.environ.items() if name not in private}
    # The server runs in another working folder: relative ones would mean something else.
    return {
        **kept,
        RUNTIME_VARIABLE: str(runtime_folder()),
        STATE_VARIABLE: str(state_folder().parent),
    }
