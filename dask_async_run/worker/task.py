"""The Dask task of a job: claims it, has its cell run, reports how it ended."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Coroutine
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, TypeVar

from distributed import Worker, get_worker

from dask_async_run.errors import AsyncRunError
from dask_async_run.job import Message, Payload, State
from dask_async_run.registry import Claim, Registry
from dask_async_run.worker.frames_here import FramesHere
from dask_async_run.worker.host import Cancellation, CellHost
from dask_async_run.worker.plugin import CellPlugin
from dask_async_run.worker.recorder import Output
from dask_async_run.worker.supervisor import Ending, Supervisor

logger = logging.getLogger(__name__)

T = TypeVar("T")

ANSWER = 60.0
"""Seconds after which an RPC is given up."""


def run_cell(job: str) -> Message:
    """Run a job's cell; in a task thread of a worker that has a `CellPlugin`.

    Parameters
    ----------
    job : str
        Id of the job.

    Returns
    -------
    dict
        ``job`` and its ``state``, also if the cell failed or was not run: what becomes of
        jobs that wait for it is the registry's business.

    Raises
    ------
    ServerError
        The registry does not answer; whether the cell ran is for it to find out.
    """
    worker = get_worker()
    host = CellPlugin.host_of(worker)
    registry = Registry.of_worker(worker)
    # Known here before it is claimed: it can be cancelled right after the claim.
    with host.running(job) as cancellation:
        claim = _answer(worker, registry.claim(job, worker.address, socket.gethostname()))
        if not claim.granted:
            return {"job": job, "state": claim.state}
        try:
            ending = _supervise(worker, host, registry, claim, cancellation)
        except Exception as error:
            logger.exception("job %s cannot be run", job)
            ending = Ending(State.LOST, f"its worker could not run it: {error}")
        reply = _answer(
            worker,
            registry.finish(job, ending.state, ending.reason, ending.result, attempt=claim.attempt),
        )
    return {"job": job, "state": reply["state"]}


class RegistrySink:
    """Records a cell's outputs in the registry; a `supervisor.Sink`.

    Parameters
    ----------
    worker : Worker
        In whose event loop the calls are made.
    registry : Registry
    claim : Claim
        Whose job's outputs they are.
    """

    def __init__(self, worker: Worker, registry: Registry, job: str, attempt: int) -> None:
        self._worker = worker
        self._registry = registry
        self._job = job
        self._attempt = attempt

    def record(
        self, batch: int, outputs: list[Output], tail: str | None, info: Message
    ) -> Future[bool]:
        return _begin(self._worker, self._record(batch, outputs, tail, info))

    async def _record(
        self, batch: int, outputs: list[Output], tail: str | None, info: Message
    ) -> bool:
        answer = await self._registry.record(
            self._job, outputs, tail, info, attempt=self._attempt, batch=batch
        )
        return bool(answer["accepted"]) and not answer["stopping"]


def _supervise(
    worker: Worker,
    host: CellHost,
    registry: Registry,
    claim: Claim,
    cancellation: Cancellation,
) -> Ending:
    spec = claim.spec
    assert spec is not None
    frames, environ = _answer(worker, _surroundings(host))
    payloads = [spec.payload, *(parent.spec.payload for parent in claim.parents)]
    payloads += [Payload.from_message(parent.result.payload) for parent in claim.parents]
    needed = [frame for payload in payloads for frame in payload.named]
    if spec.memory is None and host.memory_limit:
        spec = replace(spec, memory=host.memory_limit)
    task = {
        "spec": spec.to_message(),
        "parents": [
            {"spec": parent.spec.to_message(), "result": parent.result.to_message()}
            for parent in claim.parents
        ],
        "frames": str(frames.store.folder),
    }
    sink = RegistrySink(worker, registry, spec.id, claim.attempt)
    supervisor = Supervisor(spec, task, sink)
    cancellation.on_ask(supervisor.cancel)
    with frames.used(needed):
        _begin(worker, frames.fetch(needed)).result()
        ending = supervisor.run(host.template, environ, spec.warm)
        if ending.result is None:
            return ending
        left = Payload.from_message(ending.result.payload).named
        with frames.used(left):
            try:
                _begin(worker, frames.send(left)).result()
            except (AsyncRunError, OSError) as error:
                return Ending(State.LOST, f"its result could not be sent: {error}")
    return ending


async def _surroundings(host: CellHost) -> tuple[FramesHere, dict[str, str]]:
    return await host.frames(), await host.environ()


def _begin(worker: Worker, call: Coroutine[Any, Any, T]) -> Future[T]:
    """Begin a coroutine in the worker's event loop, from another thread."""
    loop: Any = worker.loop
    return asyncio.run_coroutine_threadsafe(call, loop.asyncio_loop)


def _answer(worker: Worker, call: Coroutine[Any, Any, T]) -> T:
    """Wait for a coroutine's result; not in the worker's event loop."""
    return _begin(worker, call).result(ANSWER)
