"""The registry for a thread that may wait, as a kernel's main thread.

An interrupt ends the wait, and nothing else. Who waits for a scheduler that is silent is told.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, ParamSpec, Protocol, TypeVar

from distributed import Client

from dask_async_run import errors
from dask_async_run.carrier import FrameCarrier
from dask_async_run.frames import Frame
from dask_async_run.glimpse import Glimpse
from dask_async_run.job import JobResult, JobSpec, JobView, Message
from dask_async_run.peers import Peers
from dask_async_run.registry.answers import (
    Endings,
    Outcome,
    Outputs,
    Remains,
)
from dask_async_run.registry.calls import PATIENCE
from dask_async_run.registry.operations import Registry
from dask_async_run.snapshots import Snapshot

P = ParamSpec("P")
T = TypeVar("T")

SILENT_AFTER = 2.0
"""Seconds without an answer after which that is said."""


class Line(Protocol):
    """Where it is said, while it is so; see `PassingLine`."""

    def show(self, text: str) -> None: ...

    def clear(self) -> None: ...


class SyncRegistry:
    """The registry's operations for a thread that waits; see `Registry` for each.

    Parameters
    ----------
    client : Client
        A synchronous one. ``KeyboardInterrupt`` gets through while a method waits; the
        scheduler does not notice.
    patience, alive
        See `Registry`.
    line : Line or None
        Where to say that the scheduler is silent; None: nowhere.

    Attributes
    ----------
    calls : int
        How many have been made.

    Raises
    ------
    ForgottenJobError
        Every method, where another one has told of a job that is not there any more.
    """

    def __init__(
        self,
        client: Client,
        patience: float = PATIENCE,
        alive: Callable[[], bool] | None = None,
        line: Line | None = None,
    ) -> None:
        self.calls = 0
        self._client = client
        self._line = line
        self._labels: dict[str, str] = {}  # of the jobs that it has told of, by id
        self._registry = Registry.of_client(client, patience, alive)
        self._carrier = FrameCarrier(self._registry)
        self._marking: asyncio.Task[None] | None = None
        self._process = os.getpid()

    def hello(self) -> Message:
        return self._sync(self._registry.hello)

    def create(self, spec: JobSpec) -> JobView:
        return self._known([self._sync(self._registry.create, spec)])[0]

    def cancel(self, jobs: Iterable[str]) -> dict[str, str]:
        return self._sync(self._registry.cancel, jobs)

    def jobs(
        self,
        notebook: str | None = None,
        states: Iterable[str] | None = None,
        wanted: Iterable[str] | None = None,
        gathered: bool | None = None,
        latest: int | None = None,
        sweep: str | None = None,
        owner: str = "",
    ) -> list[JobView]:
        return self._known(
            self._sync(
                self._registry.jobs, notebook, states, wanted, gathered, latest, sweep, owner
            )
        )

    def endings(self, jobs: Iterable[str]) -> Endings:
        return self._sync(self._registry.endings, list(jobs))

    def labels(self, wanted: Iterable[str] = ()) -> list[JobView]:
        return self._known(self._sync(self._registry.labels, wanted))

    def collected(self, sweep: str) -> list[Message]:
        return self._sync(self._registry.collected, sweep)

    def count(self, notebook: str | None = None, owner: str = "") -> int:
        return self._sync(self._registry.count, notebook, owner)

    def show(self, job: str) -> JobView:
        return self._known([self._sync(self._registry.show, job)])[0]

    def spec(self, job: str) -> JobSpec:
        return self._sync(self._registry.spec, job)

    def result(self, job: str) -> JobResult | None:
        return self._sync(self._registry.result, job)

    def remains(self, job: str) -> Remains:
        return self._sync(self._registry.remains, job)

    def outcome(self, job: str, wait: float) -> Outcome:
        return self._sync_for(wait, self._registry.outcome, job, wait)

    def outputs(
        self, job: str, since: int = 0, wait: float = 0.0, tail: str | None = None
    ) -> Outputs:
        return self._sync_for(wait, self._registry.outputs, job, since, wait, tail)

    def look(
        self, seen: Mapping[str, str], pictures: Mapping[str, int], wait: float = 0.0
    ) -> list[Glimpse]:
        return self._sync_for(wait, self._registry.look, seen, pictures, wait)

    def wait(
        self,
        jobs: Sequence[str],
        timeout: float | None = None,
        any: bool = False,  # noqa: A002
    ) -> list[JobView]:
        views = self._sync_for(timeout, self._registry.wait, jobs, timeout, any)
        if gone := {*jobs} - {view.id for view in views}:
            raise self._gone(errors.NoSuchJobError(min(gone)))
        return views

    def gathered(self, jobs: Iterable[str]) -> None:
        """As `Registry.gathered`; returns at once, and the next call is made after it.

        Should it get lost, with the server or this kernel, the jobs can be gathered again.
        """
        marked = list(jobs)
        loop: Any = self._client.loop
        loop.add_callback(lambda: self._mark(marked))

    def settle(self) -> None:
        """Wait until nothing is on its way."""
        with suppress(errors.AsyncRunError):
            self._sync(self._marked)

    def _mark(self, jobs: list[str]) -> None:
        self._marking = asyncio.ensure_future(self._mark_after(self._marking, jobs))

    async def _mark_after(self, before: asyncio.Task[None] | None, jobs: list[str]) -> None:
        if before is not None:
            await before
        with suppress(errors.AsyncRunError):
            await self._registry.gathered(jobs)

    async def _marked(self) -> None:
        marking, self._marking = self._marking, None
        if marking is not None:
            await asyncio.shield(marking)

    def forget(self, jobs: Iterable[str]) -> None:
        self._sync(self._registry.forget, jobs)

    def missing_frames(self, digests: Sequence[str]) -> list[str]:
        return self._sync(self._registry.missing_frames, digests)

    def bring(self, snapshot: Snapshot) -> bool:
        return self._sync(self._registry.bring, snapshot)

    def use_peers(self) -> None:
        """Have large frames go straight to workers and from them, where these can be reached."""
        self._carrier = FrameCarrier(self._registry, Peers(self._client.rpc))

    def place_frame(self, frame: Frame, view: memoryview) -> None:
        """Bring a frame's bytes where a job can use them; see `FrameCarrier`."""
        self._sync_for(None, self._carrier.place, frame, view)

    def fetch_frame(self, digest: str, size: int) -> bytearray:
        """Fetch a frame's bytes."""
        return self._sync_for(None, self._carrier.fetch, digest, size)

    def check_store(self, url: str) -> Message:
        return self._sync_for(None, self._registry.check_store, url)

    def recall(self, digests: Sequence[str]) -> None:
        self._sync_for(None, self._registry.recall, digests)

    def restore(self, url: str) -> Message:
        return self._sync_for(None, self._registry.restore, url)

    def keep(self, job: str, keys: Iterable[Any]) -> None:
        self._sync(self._registry.keep, job, keys)

    def kept(self) -> list[Any]:
        return self._sync(self._registry.kept)

    def warm(self, modules: Sequence[str]) -> None:
        """As `Registry.warm`; returns at once, and nobody hears whether it was done."""

        async def tell() -> None:
            with suppress(errors.AsyncRunError):
                await self._registry.warm(modules)

        loop: Any = self._client.loop
        loop.add_callback(tell)

    def idle(self) -> Message:
        return self._sync(self._registry.idle)

    def stopping(self, reason: str = "the server was stopped", lose: bool = True) -> None:
        self._sync(self._registry.stopping, reason, lose)

    def _sync(self, operation: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        return self._sync_for(0.0, operation, *args, **kwargs)

    def _sync_for(
        self,
        seconds: float | None,
        operation: Callable[P, Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Do an operation that may take some seconds, or as long as it likes (None)."""
        if os.getpid() != self._process:
            # A fork has no thread but its own: the client's event loop never answers here.
            raise errors.ServerError(
                f"this process is a fork of the one that is connected to the server "
                f"({self._process}), and has no connection. Submit and gather there."
            )
        if self._client.status in ("closing", "closed"):
            raise errors.ServerError(
                "the connection to the server is closed. %async_run_server makes a new one, in a "
                "script connect()."
            )

        self.calls += 1

        async def call() -> T:
            await self._marked()
            return await operation(*args, **kwargs)

        try:
            if self._line is None or seconds is None:
                result: T = self._client.sync(call)
                return result
            loop: Any = self._client.loop
            answer = asyncio.run_coroutine_threadsafe(call(), loop.asyncio_loop)
            _wait(answer, SILENT_AFTER + seconds, self._line)
            return answer.result()
        except errors.NoSuchJobError as error:
            raise self._gone(error) from None

    def _gone(self, error: errors.NoSuchJobError) -> errors.NoSuchJobError:
        """Answer the error that says what a job was called, if that is known here."""
        label = self._labels.get(error.name)
        return error if label is None else errors.ForgottenJobError(label)

    def _known(self, views: list[JobView]) -> list[JobView]:
        self._labels.update((view.id, view.label) for view in views)
        return views


def _wait(answer: Future[T], patience: float, line: Line) -> None:
    """Wait for an answer; an interrupt gives it up."""
    done = threading.Event()
    answer.add_done_callback(lambda _: done.set())
    begun = time.monotonic()
    try:
        try:
            if done.wait(patience):
                return
            while not done.is_set():
                waited = time.monotonic() - begun
                line.show(
                    f"the server has not answered for {waited:.0f} s: it is busy, or was stopped. "
                    "Waiting for it"
                )
                done.wait(1.0)
        finally:
            line.clear()
    except KeyboardInterrupt:
        answer.cancel()
        raise


def sync(client: Client) -> SyncRegistry:
    """Return the registry of a synchronous client's scheduler."""
    return SyncRegistry(client)
