"""The Dask task of a job: claims it, has its cell run, reports how it ended."""

from __future__ import annotations

import asyncio
import logging
import socket
import tempfile
import time
from collections.abc import Coroutine
from concurrent.futures import Future, wait
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from distributed import Worker, get_worker, secede
from distributed.core import Status

from dask_async_run.advice import advice, out_of_files
from dask_async_run.errors import AsyncRunError, ServerError
from dask_async_run.job import JobResult, Message, Payload, State
from dask_async_run.registry import Claim, Registry
from dask_async_run.worker.host import Cancellation, CellHost
from dask_async_run.worker.plugin import CellPlugin
from dask_async_run.worker.processes import HAS_SUBREAPERS
from dask_async_run.worker.recorder import Output
from dask_async_run.worker.supervisor import Ending, Supervisor

logger = logging.getLogger(__name__)

T = TypeVar("T")

_CELLS_FILES = 16
"""A few more than a worker opens for a cell."""

LOOK_FOR_FILES = 0.5
"""Seconds between two looks whether this process can open files again."""
LOOK = 5.0
"""Seconds between two looks whether the worker, which waits for an answer, is closed."""


def run_cell(job: str) -> Message:
    """Run a job's cell; in a task thread of a worker that has a `CellPlugin`.

    Parameters
    ----------
    job : str
        Id of the job.

    Returns
    -------
    dict
        What plain Dask code can read of the published future: ``job``, its ``state`` and the
        ``reason`` for it; of a cell that has run also ``error`` (the exception's type and
        text) and ``bound``, the names that it bound. A cell that failed is no failed task:
        what becomes of jobs that wait for it is the registry's business.

    Raises
    ------
    ServerError
        The registry does not answer; whether the cell ran is for it to find out.
    """
    worker = get_worker()
    host = CellPlugin.host_of(worker)
    registry = Registry.of_worker(worker)
    # Known here before it is claimed: it can be cancelled right after the claim.
    with host.running(job) as cancellation, ExitStack() as afterwards:
        claim = _claim(worker, host, registry, job, cancellation)
        if not claim.granted:
            return {"job": job, "state": claim.state, "reason": claim.reason}
        sink = RegistrySink(worker, registry, job, claim.attempt)
        try:
            ending = _supervise(worker, host, sink, claim, cancellation, afterwards)
        except Exception as error:
            logger.exception("job %s cannot be run", job)
            why = f"its worker could not run it: {error}"
            if isinstance(error, OSError):
                why = f"{why}. {advice(error, _folder(host))}"
            ending = Ending(State.LOST, why)
        reply = _answer(
            worker,
            registry.finish(
                job,
                ending.state,
                ending.reason,
                ending.result,
                attempt=claim.attempt,
                last=sink.rest,
            ),
        )
    result = ending.result or JobResult()
    return {
        "job": job,
        "state": reply["state"],
        "reason": ending.reason,
        "error": f"{result.ename}: {result.evalue}" if result.ename else "",
        "bound": result.bound,
    }


class RegistrySink:
    """Records a cell's outputs in the registry; a `supervisor.Sink`.

    Parameters
    ----------
    worker : Worker
        In whose event loop the calls are made.
    registry : Registry
    job : str
        Whose outputs they are.
    attempt : int

    Attributes
    ----------
    rest : dict or None
        The last record, for `Registry.finish`.
    """

    def __init__(self, worker: Worker, registry: Registry, job: str, attempt: int) -> None:
        self._worker = worker
        self._registry = registry
        self._job = job
        self._attempt = attempt
        self.rest: Message | None = None

    def record(
        self, batch: int, outputs: list[Output], tail: str | None, info: Message
    ) -> Future[bool]:
        return _begin(self._worker, self._record(batch, outputs, tail, info))

    def last(self, batch: int, outputs: list[Output], tail: str | None, info: Message) -> None:
        self.rest = {"batch": batch, "outputs": outputs, "tail": tail, "info": info}

    def remark(self, text: str) -> None:
        """Show what the cell waits for, until it puts something out."""
        info = {"last_line": text}
        call = self._registry.record(self._job, [], f"{text}\n", info, attempt=self._attempt)
        with suppress(AsyncRunError, OSError, TimeoutError):
            _answer(self._worker, call)

    def record_rest(self) -> None:
        """Record the last outputs now, if that can be done: the end will take a while."""
        if self.rest is not None:
            with suppress(AsyncRunError, OSError, TimeoutError):
                _answer(self._worker, self._record(**self.rest))

    async def _record(
        self, batch: int, outputs: list[Output], tail: str | None, info: Message
    ) -> bool:
        answer = await self._registry.record(
            self._job, outputs, tail, info, attempt=self._attempt, batch=batch
        )
        return bool(answer["accepted"]) and not answer["stopping"]


def _claim(
    worker: Worker, host: CellHost, registry: Registry, job: str, cancellation: Cancellation
) -> Claim:
    """Ask whether a job's cell may run here, unless the answer is here already."""
    task = str(worker.get_current_task())
    asks = worker.address, socket.gethostname(), task
    advance = host.advances.take(task)
    if advance is None:
        return _answer(worker, registry.claim(job, *asks))
    if advance.cancelled:
        cancellation.ask()
    if advance.returned is None:
        return advance.claim
    _awaited(worker, advance.returned)
    return _answer(worker, registry.claim(job, *asks, advance.token))


def _folder(host: CellHost) -> Path:
    """Answer where a worker's cells have their files."""
    around = host.surroundings
    return around.frames.store.folder.parent if around is not None else Path(tempfile.gettempdir())


def _supervise(
    worker: Worker,
    host: CellHost,
    sink: RegistrySink,
    claim: Claim,
    cancellation: Cancellation,
    afterwards: ExitStack,
) -> Ending:
    """Have the cell run; `afterwards` waits until its process is gone."""
    spec = claim.spec
    assert spec is not None
    around = host.surroundings or _answer(worker, host.look_around())
    frames = around.frames
    results = [message["result"] for message in claim.members if message["result"]]
    payloads = [spec.payload, *(JobResult.from_message(result).values for result in results)]
    needed = [frame for payload in payloads for frame in payload.named]
    needed += [frame for parent in claim.parents for frame in parent.named]
    if spec.memory is None and host.memory_limit:
        spec = replace(spec, memory=host.memory_limit)
    task: Message = {
        "spec": spec.to_message(),
        "parents": [parent.message for parent in claim.parents],
        "members": claim.members,
        "frames": str(frames.store.folder),
        "dask": host.way_to_dask(),
    }
    if spec.modules or any(parent.message["spec"].get("modules") for parent in claim.parents):
        task["modules"] = str(frames.modules)
    if spec.files:
        folder = tempfile.TemporaryDirectory(prefix="dask-async-run-cell-")
        task["folder"] = afterwards.enter_context(folder)
    process = None
    if not _can_open_files(worker, sink, cancellation):
        return Ending(State.CANCELLED, "cancelled before it ran")
    if _may_share(host, claim):
        task["again"] = True
        process = host.idle.take(spec.of)
    supervisor = Supervisor(spec, task, sink, on_dask=secede, process=process)
    afterwards.enter_context(supervisor)
    if claim.attempt > 1:
        supervisor.say(f"The cell's process died; it runs again (attempt {claim.attempt}).\n")
    cancellation.on_ask(supervisor.cancel)
    with frames.used(needed):
        if not frames.shared:
            _begin(worker, frames.fetch(needed)).result()
        try:
            ending = supervisor.run(host.template, around.environ, spec.warm)
        finally:
            if not frames.shared:
                with suppress(AsyncRunError, OSError):
                    _begin(worker, frames.leave(needed)).result()
        if supervisor.unfit:
            host.idle.refuse(spec.of)
        elif (spent := supervisor.keep_process()) is not None:
            host.idle.put(spec.of, spent)
        if ending.died and claim.attempt <= spec.retries:
            return replace(ending, state=State.LOST)  # which the registry lets run again
        if ending.died and spec.retries:
            ending = replace(ending, reason=f"{ending.reason} (attempt {claim.attempt})")
        if ending.result is None:
            return ending
        left = Payload.from_message(ending.result.payload).named
        if frames.shared:
            return ending
        sink.record_rest()
        with frames.used(left):
            try:
                _begin(worker, frames.send(left)).result()
            except (AsyncRunError, OSError) as error:
                return Ending(State.LOST, f"its result could not be sent: {error}")
    return ending


def _can_open_files(worker: Worker, sink: RegistrySink, cancellation: Cancellation) -> bool:
    """Wait until this process can open as many files as a cell needs; False if it is cancelled.

    None of the cell has run: what waits can still run.
    """
    said = False
    while why := out_of_files(_CELLS_FILES):
        if cancellation.asked:
            return False
        if worker.status in (Status.closing, Status.closed, Status.failed):
            raise ServerError("its worker was closed while it could not open files.")
        if not said:
            said = True
            sink.remark(f"The cell waits for its worker. {why}")
        time.sleep(LOOK_FOR_FILES)
    return True


def _may_share(host: CellHost, claim: Claim) -> bool:
    """Whether a cell may run in the process of another member of its sweep, and one after it."""
    spec = claim.spec
    assert spec is not None
    alone = claim.parents or spec.files or spec.modules or spec.memory or claim.attempt > 1
    return bool(spec.of) and not alone and HAS_SUBREAPERS and host.idle.is_open_to(spec.of)


def _begin(worker: Worker, call: Coroutine[Any, Any, T]) -> Future[T]:
    """Begin a coroutine in the worker's event loop, from another thread."""
    loop: Any = worker.loop
    return asyncio.run_coroutine_threadsafe(call, loop.asyncio_loop)


def _answer(worker: Worker, call: Coroutine[Any, Any, T]) -> T:
    """Wait for a coroutine's result; not in the worker's event loop.

    However long it takes: a scheduler that is not heard of for some time, since its disk or
    its machine is at a standstill, is still going to be told what a cell has made. One that is
    gone closes the connection, or the worker.
    """
    return _awaited(worker, _begin(worker, call))


def _awaited(worker: Worker, future: Future[T]) -> T:
    """Wait for what the worker's event loop answers; as `_answer`."""
    while not wait([future], timeout=LOOK).done:
        if worker.status in (Status.closing, Status.closed, Status.failed):
            future.cancel()
            raise ServerError("its worker was closed before the scheduler answered.")
    return future.result()
