"""What clients can ask of the registry: one method each, called by name from outside.

`dask_async_run.registry.Registry` has the same methods and says what they mean.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version

from dask_async_run.errors import FrameError, JobStateError, NoSuchJobError, ServerError
from dask_async_run.glimpse import ending
from dask_async_run.job import JobSpec, JobView, Message
from dask_async_run.messages import unpack
from dask_async_run.scheduler.bells import Bell
from dask_async_run.scheduler.events import (
    CancelAsked,
    Created,
    Record,
    Refused,
    Stopping,
    Store,
    TellWorker,
)
from dask_async_run.scheduler.registry import JobRegistry, Live

MAX_WAIT = 60.0
"""Seconds after which a long poll is answered anyhow: who asked may be gone."""

STOPPING = "the server is stopping. %async_run_server starts it again."

PAGE = 200
"""Jobs that are listed in one go, before somebody else has a turn."""

_ID = re.compile(r"[0-9a-f]{32}")


class ClientOps:
    """Operations for kernels, the command line, and the server's own process."""

    NAMES = (
        "hello",
        "create",
        "jobs",
        "show",
        "spec",
        "result",
        "outputs",
        "look",
        "wait",
        "cancel",
        "gathered",
        "forget",
        "warm",
        "idle",
        "stopping",
    )

    def __init__(self, registry: JobRegistry) -> None:
        self._registry = registry
        self._journal = registry.journal

    async def hello(self) -> Message:
        try:
            package = version("dask-async-run")
        except PackageNotFoundError:  # not installed, only on the path
            package = "unknown"
        return {
            "version": package,
            "state_folder": str(self._registry.folder),
            "host_token": self._registry.token,
            "python": list(sys.version_info[:3]),
        }

    async def create(self, spec: Message) -> Message:
        job = JobSpec.from_message(spec)
        if known := self._registry.rows(jobs=[job.id]):
            return known[0]
        self._check(job)
        now = time.time()
        record = Record(
            id=job.id,
            notebook=job.notebook,
            name=job.name,
            version=self._journal.next_version(job.notebook, job.name),
            after=frozenset(job.after),
            retries=job.retries,
        )
        ended = self._journal.ended(job.after)
        self._journal.create(record, job, now)  # on disk, or an error and nothing happened
        self._registry.live[job.id] = Live(parents=tuple(job.parents))
        self._registry.apply(Created(record, ended, now))
        return self._registry.row(job.id)

    async def jobs(
        self, notebook: str | None = None, states: Sequence[str] | None = None
    ) -> list[Message]:
        found: list[Message] = []
        after = 0
        while rows := self._registry.rows(notebook, states, after=after, limit=PAGE):
            found += rows
            after = rows[-1]["number"]
            if len(rows) < PAGE:
                break
            await asyncio.sleep(0)  # others are served, too, while ten thousand are listed
        return found

    async def show(self, job: str) -> Message:
        return self._registry.row(job)

    async def spec(self, job: str) -> Message:
        spec = self._journal.spec(job)
        if spec is None:
            raise NoSuchJobError(job, self._journal.names())
        return spec.to_message()

    async def result(self, job: str) -> Message | None:
        self._registry.row(job)
        result = self._journal.result(job)
        return result.to_message() if result else None

    async def outputs(
        self, job: str, since: int = 0, wait: float = 0.0, tail: str | None = None
    ) -> Message:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(wait, MAX_WAIT)
        self._registry.row(job)
        known = self._tail(job) if tail is None else tail
        while True:
            ended = not self._registry.is_open(job)
            outputs = self._journal.outputs(job, since)
            left = deadline - loop.time()
            if outputs or ended or left <= 0 or self._tail(job) != known:
                break
            if not await self._wait(self._registry.news, [job], left):
                deadline = 0.0
        row = self._registry.row(job)
        more = bool(outputs) and outputs[-1][0] < row["outputs"]
        return {
            "outputs": outputs,
            "more": more,
            "tail": self._tail(job),
            "state": row["state"],
            "done": ended and not more,
        }

    async def look(
        self, seen: dict[str, str], pictures: dict[str, int], wait: float = 0.0
    ) -> list[Message]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(wait, MAX_WAIT)
        while True:
            marks = {job: self._mark(job) for job in seen}
            news = {job: mark for job, mark in marks.items() if mark not in ("", seen[job])}
            left = deadline - loop.time()
            if news or left <= 0:
                break
            if not await self._wait(self._registry.news, list(seen), left):
                deadline = 0.0
        return [self._glimpse(job, mark, pictures.get(job, 0)) for job, mark in news.items()]

    async def wait(
        self,
        jobs: Sequence[str],
        timeout: float | None = None,  # noqa: ASYNC109  (to be over is an answer)
        any: bool = False,  # noqa: A002
    ) -> list[Message]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(MAX_WAIT if timeout is None else timeout, MAX_WAIT)
        self._check_exist(jobs)
        unfinished = {job for job in jobs if self._registry.is_open(job)}
        while unfinished and not (any and len(unfinished) < len(set(jobs))):
            left = deadline - loop.time()
            if left <= 0 or not await self._wait(self._registry.changes, unfinished, left):
                break
            unfinished = {job for job in unfinished if self._registry.is_open(job)}
        return self._registry.rows(jobs=jobs)

    async def cancel(self, jobs: Sequence[str]) -> dict[str, str]:
        done: dict[str, str] = {}
        self._check_exist(jobs)
        # The last made first: so that none of them is cancelled because of another one.
        for row in reversed(self._registry.rows(jobs=jobs)):
            job = row["id"]
            for instruction in self._registry.apply(CancelAsked(job, time.time())):
                match instruction:
                    case Refused(reason=reason):
                        done[job] = reason
                    case TellWorker(worker=worker):
                        done[job] = f"told to stop, on {worker}"
                    case Store(record=record) if record.id == job:
                        done[job] = record.reason
        await self._registry.committed()
        return done

    async def gathered(self, jobs: Sequence[str]) -> None:
        self._check_exist(jobs)
        for job in jobs:
            self._journal.mark(job, "gathered")
        await self._registry.committed()

    async def forget(self, jobs: Sequence[str]) -> None:
        self._check_exist(jobs)
        views = [JobView.from_message(row) for row in self._registry.rows(jobs=jobs)]
        for view in views:
            self._check_ended(view)
        for view in views:
            self._check_not_needed(view)
        for view in views:
            self._registry.collector.consider(self._journal.frames(view.id))
            self._journal.delete(view.id)
            self._registry.cluster.unpublish(view.id)
        await self._registry.committed()
        self._registry.collect()

    async def warm(self, modules: Sequence[str]) -> None:
        await self._registry.cluster.warm(modules)

    async def idle(self) -> Message:
        return {
            "unfinished": len(self._registry.machine.records),
            "clients": self._registry.cluster.clients(),
        }

    async def stopping(self, reason: str, lose: bool = True) -> None:
        self._registry.apply(Stopping(reason, time.time(), lose))
        await self._registry.committed()

    async def _wait(self, bell: Bell, jobs: Collection[str], seconds: float) -> bool:
        rung = await bell.wait(jobs, seconds)
        if self._registry.closed:
            raise ServerError(STOPPING)
        return rung

    def _mark(self, job: str) -> str:
        """Answer a word that is another one when there is something new to see of a job."""
        live = self._registry.live.get(job)
        if live is not None:
            return f"{self._registry.machine.records[job].state} {live.beats}"
        if self._registry.is_open(job):
            return ""  # it has ended, and that is not on record yet: no news before it is
        rows = self._registry.rows(jobs=[job])
        return str(rows[0]["state"]) if rows else "forgotten"

    def _glimpse(self, job: str, mark: str, picture: int) -> Message:
        rows = self._registry.rows(jobs=[job])
        if not rows:
            return {"job": job, "mark": mark, "view": None, "text": "", "picture": None}
        latest = self._journal.latest(job)
        end = ending(((number, unpack(packed)) for number, packed in latest), self._tail(job))
        shown = asdict(end.picture) if end.picture else None
        if shown is not None and shown["number"] == picture:
            shown["data"] = ""
        view = {**rows[0], "source": "", "result": None}
        return {"job": job, "mark": mark, "view": view, "text": end.text, "picture": shown}

    def _tail(self, job: str) -> str:
        live = self._registry.live.get(job)
        return live.tail if live is not None else self._journal.tail(job)

    def _check(self, spec: JobSpec) -> None:
        if not _ID.fullmatch(spec.id):
            raise ServerError(f"{spec.id[:40]!r} cannot be the id of a job")
        self._check_exist([*spec.after, *spec.parents])
        for digest in spec.payload.digests:
            if not self._registry.store.has(digest):
                raise FrameError(digest, f"is missing from {self._registry.store.folder}")

    def _check_exist(self, jobs: Sequence[str]) -> None:
        unknown = set(jobs) - self._journal.known(jobs)
        if unknown:
            raise NoSuchJobError(min(unknown), self._journal.names())

    def _check_ended(self, view: JobView) -> None:
        if view.id in self._registry.machine.records:
            raise JobStateError(
                view.name,
                view.state,
                f"it cannot be forgotten before it has ended. %async_cancel {view.label} ends it",
            )

    def _check_not_needed(self, view: JobView) -> None:
        for job, live in self._registry.live.items():
            if view.id in live.parents:
                follower = self._registry.machine.records[job]
                raise JobStateError(
                    view.name,
                    view.state,
                    f"it cannot be forgotten while job {follower.name!r}, which is "
                    f"{follower.state}, needs its result. Wait for that one, or cancel it",
                )
