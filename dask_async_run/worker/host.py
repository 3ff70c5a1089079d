"""What the cells of one worker share: template process, frame store, threads."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dask.system import CPU_COUNT
from distributed import Worker

from dask_async_run.credentials import for_clients
from dask_async_run.errors import AsyncRunError
from dask_async_run.job import Message
from dask_async_run.registry import Registry
from dask_async_run.worker.ahead import Advances
from dask_async_run.worker.frames_here import FramesHere
from dask_async_run.worker.idle import IdleCells
from dask_async_run.worker.template_handle import TemplateHandle

logger = logging.getLogger(__name__)

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Cancellation:
    """Whether one job's cell is to stop; known from before its claim to after its end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked = False
        self._stop: Callable[[], None] | None = None

    @property
    def asked(self) -> bool:
        """Whether somebody has asked."""
        return self._asked

    def on_ask(self, stop: Callable[[], None]) -> None:
        """Have `stop` called when it is asked for; at once if it was already."""
        with self._lock:
            self._stop = stop
            asked = self._asked
        if asked:
            stop()

    def ask(self) -> None:
        """Ask; from any thread, any number of times."""
        with self._lock:
            self._asked = True
            stop = self._stop
        if stop is not None:
            stop()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all cells of a worker find.

    Parameters
    ----------
    frames : FramesHere
    environ : dict of str to str
        Environment variables that they are to have.
    """

    frames: FramesHere
    environ: dict[str, str]


class CellHost:
    """One worker's cells.

    Parameters
    ----------
    worker : Worker

    Attributes
    ----------
    template : TemplateHandle
    idle : IdleCells
    advances : Advances
    surroundings : Surroundings or None
        None until `look_around` was awaited.
    """

    def __init__(self, worker: Worker) -> None:
        self.template = TemplateHandle()
        self.idle = IdleCells(self._later)
        self.advances = Advances(self._later, self._give_back)
        self._worker = worker
        self._running: dict[str, Cancellation] = {}
        self.surroundings: Surroundings | None = None
        self._looking = asyncio.Lock()
        self._way: Message | None = None

    @contextmanager
    def running(self, job: str) -> Iterator[Cancellation]:
        """Make a job known to `cancel` while the block runs."""
        cancellation = self._running[job] = Cancellation()
        try:
            yield cancellation
        finally:
            del self._running[job]

    def cancel(self, job: str) -> bool:
        """Ask a job's cell to stop; whether it is here."""
        cancellation = self._running.get(job)
        if cancellation is None:
            return self.advances.cancel(job)
        cancellation.ask()
        return True

    def _give_back(self, job: str, token: str, done: Callable[[bool], None]) -> None:
        async def give_back() -> None:
            try:
                await Registry.of_worker(self._worker).give_back(job, token)
            except (AsyncRunError, OSError) as error:
                logger.warning("the claim of job %s could not be given back: %s", job, error)
                done(False)
            else:
                done(True)

        self._worker.loop.add_callback(give_back)

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        loop = self._worker.loop
        loop.add_callback(loop.call_later, seconds, call)

    async def look_around(self) -> Surroundings:
        """Find out where the cells run, once: `surroundings` has it from then on."""
        async with self._looking:
            if self.surroundings is None:
                frames = await FramesHere.of_worker(self._worker)
                self.surroundings = Surroundings(frames, await self._environ())
        return self.surroundings

    @property
    def memory_limit(self) -> int | None:
        """Bytes that a cell may use that says nothing itself: the worker's own limit."""
        return self._worker.memory_manager.memory_limit or None

    async def _environ(self) -> dict[str, str]:
        """Return the environment variables that cells are to have.

        A Dask nanny sets one BLAS thread a worker. A cell gets its share of the cores:
        all slots of this machine busy with threaded code then fill it just so.
        """
        identity = await self._worker.scheduler.identity()
        here = self._worker.ip
        slots = sum(
            other["nthreads"] for other in identity["workers"].values() if other["host"] == here
        )
        share = str(max(1, CPU_COUNT // max(1, slots)))
        # What somebody set on purpose stays.
        return {name: share for name in _THREADS if os.environ.get(name, "1") == "1"}

    def way_to_dask(self) -> Message:
        """Return what a cell process connects to the cluster with; as `inside.open_way`."""
        if self._way is None:
            security = for_clients(self._worker.security, "worker")
            self._way = {
                "address": self._worker.scheduler.address,
                "security": pickle.dumps(security),
            }
        return self._way

    def close(self) -> None:
        """End the template process and all cells; blocks until they are gone."""
        self.idle.close()
        self.template.close()
        if self.surroundings is not None:
            self.surroundings.frames.close()
