"""The Dask worker plugin: makes a worker able to run cells."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from distributed import Worker
from distributed.diagnostics.plugin import WorkerPlugin

from dask_async_run.errors import AsyncRunError, ServerError
from dask_async_run.job import Message
from dask_async_run.messages import CLAIM, unpack
from dask_async_run.registry import Claim
from dask_async_run.worker.host import CellHost

logger = logging.getLogger(__name__)

NAME = "dask-async-run-cells"

SETTLE = 10.0
"""Seconds that a worker which is stopped has to bring on what kernels gave it."""


class CellPlugin(WorkerPlugin):
    """Holds what the cells of one worker share.

    ``client.register_plugin(CellPlugin())`` installs it on all workers, also on those that
    come later. Registering it again keeps the one that runs.
    """

    name = NAME
    idempotent = True

    def __init__(self) -> None:
        self.host: CellHost | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()

    @classmethod
    def host_of(cls, worker: Worker) -> CellHost:
        """Return what the plugin holds for `worker`.

        Raises
        ------
        ServerError
            The worker has no such plugin.
        """
        plugin = worker.plugins.get(NAME)
        if not isinstance(plugin, cls) or plugin.host is None:
            raise ServerError(
                f"the Dask worker {worker.address} cannot run cells: its plugin was not installed "
                "or has been removed. Connect to the cluster again with %async_run_server ADDRESS."
            )
        return plugin.host

    async def setup(self, worker: Worker) -> None:
        """Start the template process, which gets ready on its own."""
        self.host = CellHost(worker)
        worker.handlers["async_run_cell"] = self._handle
        worker.handlers["async_run_frames"] = self._serve
        # Not taken away again: a message that nobody takes would end the connection.
        worker.stream_handlers[CLAIM] = self._take_claim
        try:
            await asyncio.to_thread(self.host.template.start)
        except OSError:
            # Not this worker's end: the first cell tries again, and says so if it cannot.
            logger.exception("the template process did not start")

    async def teardown(self, worker: Worker) -> None:
        """End the template process and all cells; their jobs are lost."""
        for handler in ("async_run_cell", "async_run_frames"):
            worker.handlers.pop(handler, None)
        host, self.host = self.host, None
        if host is not None:
            if host.surroundings is not None:
                await host.surroundings.frames.settle(SETTLE)
            await asyncio.to_thread(host.close)

    async def _serve(self, **request: Any) -> Message:
        """Worker's RPC handler for frames: see `FramesHere.serve`."""
        if self.host is None:
            return {"problem": "it is being closed"}
        try:
            around = await self.host.look_around()
        except (AsyncRunError, OSError) as error:
            return {"problem": str(error)}
        return await around.frames.serve(**request)

    def _take_claim(self, task: str, token: str, claim: bytes) -> None:
        """Worker's handler for what comes ahead of a task, in the scheduler's own stream."""
        if self.host is not None:
            self.host.advances.put(task, token, Claim.from_message(unpack(claim)))

    async def _handle(
        self, do: str, job: str = "", modules: Sequence[str] = (), task: str = ""
    ) -> bool:
        """Worker's RPC handler.

        ``cancel``: whether the job is known here; ``drop``: whether the claim that came ahead
        for a task was here, and will not be used; ``warm``; ``claims``: whether claims may come
        ahead.
        """
        if self.host is None:
            return False
        if do == "warm":
            await asyncio.to_thread(self.host.template.warm, modules)
        elif do == "drop":
            return self.host.advances.drop(task)
        elif do == "cancel":
            return self.host.cancel(job)
        return do in ("warm", "claims")
