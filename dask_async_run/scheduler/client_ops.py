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
from typing import Any

from dask_async_run.errors import FrameError, JobStateError, NoSuchJobError, ServerError
from dask_async_run.job import NOT_ON_RECORD, JobResult, JobSpec, JobView, Message, Payload
from dask_async_run.messages import dask_key
from dask_async_run.scheduler.bells import Bell
from dask_async_run.scheduler.chains import mended
from dask_async_run.scheduler.events import (
    CancelAsked,
    Created,
    Record,
    Refused,
    Stopping,
    Store,
    SweepCreated,
    TellWorker,
)
from dask_async_run.scheduler.registry import JobRegistry, Live
from dask_async_run.scheduler.sweep_creation import create_sweep

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
        "endings",
        "labels",
        "count",
        "show",
        "spec",
        "result",
        "collected",
        "remains",
        "outcome",
        "outputs",
        "look",
        "wait",
        "cancel",
        "gathered",
        "forget",
        "kept",
        "warm",
        "idle",
        "stopping",
        "check_store",
        "recall",
        "restore",
    )

    def __init__(self, registry: JobRegistry) -> None:
        self._registry = registry
        self._journal = registry.journal
        self._version = _version()  # which is in a file: there may be none to open later

    async def hello(self) -> Message:
        return {
            "version": self._version,
            "state_folder": str(self._registry.folder),
            "host_token": self._registry.token,
            "python": list(sys.version_info[:3]),
            "page": self._registry.page,
            "peers": True,
            "endings": True,
            "unread": True,
        }

    async def create(self, spec: Message) -> Message:
        job = JobSpec.from_message(spec)
        if self._journal.known([job.id]):
            return self._registry.row(job.id)
        place = await self._registry.stores.checked(job.store)
        job = self._with_names(job)
        coming = self._registry.holders.is_coming
        await self._registry.stores.at_hand(d for d in job.payload.digests if not coming(d))
        job = self._with_names(job)  # what was coming may have come meanwhile
        self._check(job)
        if job.rerun_of and job.after:
            job = mended(job, self._journal.ended(job.after), self._journal)
        if job.futures:
            await self._keep(job)
            job = self._with_names(job)
        if self._journal.known([job.id]):  # asked for twice
            return self._registry.row(job.id)
        now = time.time()
        version = self._journal.next_version(job.notebook, job.name)
        if (old := self._stored(job.cache)) is not None:
            self._take_over(job, old, version, now, place)
            return self._registry.row(job.id)
        event: Created | SweepCreated
        if job.has_members:
            event = create_sweep(self._journal, job, version, now, place)
            made = [job.id, *(member.id for member in event.members)]
        else:
            event = self._create(job, version, now, place)
            made = [job.id]
            self._registry.created = job
        for each in made:
            self._registry.live[each] = Live(parents=tuple(job.parents))
        self._registry.apply(event)
        return self._registry.row(job.id)

    def _with_names(self, job: JobSpec) -> JobSpec:
        return job.renamed(self._registry.arrivals.named(job.payload.digests))

    def _stored(self, cache: str) -> JobView | None:
        """Answer a job whose stored result need not be made again, if there is one."""
        for job in self._journal.finished_with(cache) if cache else ():
            payload = Payload.from_message((self._journal.result(job) or JobResult()).payload)
            if all(map(self._registry.store.has, payload.digests)):
                return JobView.from_message(self._registry.row(job))
        return None

    def _take_over(self, job: JobSpec, old: JobView, version: int, now: float, place: str) -> None:
        ran = time.strftime("%Y-%m-%d %H:%M", time.localtime(old.ended))
        reason = old.reason or f"not run: this is the stored result of {old.label}, of {ran}"
        record = Record(job.id, job.notebook, job.name, version, reason=reason)
        self._journal.create(record, job, now, finished=[(job.id, old.id)], place=place)
        self._registry.taken_over(job.id)

    def _create(self, job: JobSpec, version: int, now: float, place: str) -> Created:
        record = Record(
            id=job.id,
            notebook=job.notebook,
            name=job.name,
            version=version,
            after=frozenset(job.after),
            retries=job.retries,
        )
        ended = self._journal.ended(job.after)
        self._journal.create(
            record, job, now, place=place
        )  # on disk, or an error and nothing happened
        return Created(record, ended, now)

    async def jobs(
        self,
        notebook: str | None = None,
        states: Sequence[str] | None = None,
        wanted: Sequence[str] | None = None,
        gathered: bool | None = None,
        latest: int | None = None,
        sweep: str | None = None,
        owner: str = "",
    ) -> list[Message]:
        found: list[Message] = []
        after = 0
        chosen: Any = {"wanted": wanted, "gathered": gathered, "latest": latest, "sweep": sweep}
        chosen["owner"] = owner
        while rows := self._registry.rows(notebook, states, after=after, limit=PAGE, **chosen):
            found += rows
            after = rows[-1]["number"]
            if len(rows) < PAGE:
                break
            await asyncio.sleep(0)  # others are served, too, while ten thousand are listed
        return found

    async def endings(self, jobs: Sequence[str]) -> Message:
        closed = [job for job in jobs if not self._registry.is_open(job)]
        ended: list[Message] = []
        for start in range(0, len(closed), PAGE):
            ended += self._registry.rows(jobs=closed[start : start + PAGE])
            await asyncio.sleep(0)
        there = {row["id"] for row in ended}
        return {"ended": ended, "gone": [job for job in closed if job not in there]}

    async def labels(self, wanted: Sequence[str] = ()) -> list[list[Any]]:
        return self._journal.labels(wanted)

    async def count(self, notebook: str | None = None, owner: str = "") -> int:
        return self._journal.count(notebook, owner)

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

    async def collected(self, sweep: str) -> list[Message]:
        self._registry.row(sweep)
        return self._journal.collected(sweep)

    async def remains(self, job: str) -> Message:
        row = self._registry.row(job)
        result = self._journal.result(job)
        outputs = self._journal.outputs(job)
        return {
            "result": result.to_message() if result else None,
            "outputs": outputs,
            "more": bool(outputs) and outputs[-1][0] < row["outputs"],
        }

    async def outcome(self, job: str, wait: float = 0.0) -> Message:
        [view] = await self.wait([job], wait)
        return {"view": view, **({} if self._registry.is_open(job) else await self.remains(job))}

    async def outputs(
        self, job: str, since: int = 0, wait: float = 0.0, tail: str | None = None
    ) -> Message:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(wait, MAX_WAIT)
        self._registry.row(job)
        known = self._registry.tail(job) if tail is None else tail
        while True:
            ended = not self._registry.is_open(job)
            outputs = self._journal.outputs(job, since)
            left = deadline - loop.time()
            if outputs or ended or left <= 0 or self._registry.tail(job) != known:
                break
            if not await self._wait(self._registry.news, [job], left):
                deadline = 0.0
        row = self._registry.row(job)
        more = bool(outputs) and outputs[-1][0] < row["outputs"]
        return {
            "outputs": outputs,
            "more": more,
            "tail": self._registry.tail(job),
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
        refused: set[str] = set()
        self._check_exist(jobs)
        # The last made first: so that none of them is cancelled because of another one.
        for row in reversed(self._registry.rows(jobs=jobs)):
            job = row["id"]
            for instruction in self._registry.apply(CancelAsked(job, time.time())):
                match instruction:
                    case Refused(reason=reason):
                        done[job] = reason
                        refused.add(job)
                    case TellWorker() if row["members"]:
                        done.setdefault(job, "told its members to stop")
                    case TellWorker():
                        done[job] = "told to stop"
                    case Store(record=record) if record.id == job:
                        done[job] = record.reason
        try:
            await self._registry.committed()
        except ServerError as error:
            if self._registry.closed:
                raise
            # It holds: cells that were told stop, others do not begin as long as this server lives.
            for job in done.keys() - refused:
                done[job] += f". It is {NOT_ON_RECORD}, and lost if the server dies before: {error}"
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
        self._check_not_to_be_gathered_with(views)
        frames = [
            self._journal.frames(each)
            for view in views
            for each in [view.id, *(row["id"] for row in self._journal.rows(sweep=view.id))]
        ]
        self._journal.forget(view.id for view in views)
        for each in frames:
            self._registry.collector.consider(each)
        for view in views:
            self._registry.cluster.unpublish(view.id)
            self._registry.cluster.release(view.id)
            self._registry.ring(view.id)
        await self._registry.committed()
        self._registry.collect()
        self._registry.stores.tidy()

    async def check_store(self, url: str) -> Message:
        return await self._registry.stores.check(url)

    async def recall(self, digests: Sequence[str]) -> None:
        await self._registry.stores.recall(digests)

    async def restore(self, url: str) -> Message:
        return await self._registry.stores.restore(url)

    async def kept(self) -> list[Any]:
        return self._registry.cluster.kept()

    async def warm(self, modules: Sequence[str]) -> None:
        await self._registry.cluster.warm(modules)

    async def idle(self) -> Message:
        return {
            "unfinished": sum(not r.sweep for r in self._registry.machine.records.values()),
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
            record = self._registry.machine.records[job]
            return f"{record.state} {live.beats} {len(record.after)}"
        if self._registry.is_open(job):
            return ""  # it has ended, and that is not on record yet: no news before it is
        rows = self._registry.rows(jobs=[job])
        return str(rows[0]["state"]) if rows else "forgotten"

    def _glimpse(self, job: str, mark: str, picture: int) -> Message:
        rows = self._registry.rows(jobs=[job])
        if not rows:
            return {"job": job, "mark": mark, "view": None, "text": "", "picture": None}
        end = self._registry.ending(job)
        shown = asdict(end.picture) if end.picture else None
        if shown is not None and shown["number"] == picture:
            shown["data"] = ""
        view = {**rows[0], "source": "", "result": None}
        return {"job": job, "mark": mark, "view": view, "text": end.text, "picture": shown}

    async def _keep(self, job: JobSpec) -> None:
        missing = await self._registry.cluster.keep(job.id, map(dask_key, job.futures))
        if missing:
            self._registry.cluster.release(job.id)
            raise ServerError(
                f"the cluster does not have the data of the Dask future {missing[0]!r} any more: "
                "it was cancelled or lost. Compute it again. Nothing was submitted."
            )

    def _check(self, spec: JobSpec) -> None:
        if not _ID.fullmatch(spec.id):
            raise ServerError(f"{spec.id[:40]!r} cannot be the id of a job")
        self._check_room()
        if spec.of:
            sweep = spec.name.partition("[")[0]
            advice = f"%async_rerun {sweep} --failed runs those again that did not finish"
            raise JobStateError(spec.name, "part of a sweep", advice)
        self._check_exist([*spec.after, *spec.parents], spec.name if spec.rerun_of else "")
        for digest in spec.payload.digests:
            store, holders = self._registry.store, self._registry.holders
            if not (store.has(digest) or holders.is_coming(digest)):
                raise FrameError(digest, holders.missing(digest, store.folder))

    def _check_room(self) -> None:
        limit = self._registry.disk_limit
        if limit is not None and (kept := self._journal.frame_bytes()) > limit:
            raise ServerError(
                f"jobs keep {kept / 2**30:.2f} GiB of inputs and results, more than the server's "
                f"limit of {limit / 2**30:.2f} GiB: forget some (%async_forget, dask-async-run "
                "prune). Nothing was submitted"
            )

    def _check_exist(self, jobs: Sequence[str], rerun: str = "") -> None:
        unknown = set(jobs) - self._journal.known(jobs) if jobs else None
        if unknown and rerun:
            gone = "a job that it comes after was forgotten. Submit its cell again."
            raise JobStateError(rerun, "not run again", gone)
        if unknown:
            raise NoSuchJobError(min(unknown), self._journal.names())

    def _check_ended(self, view: JobView) -> None:
        if view.of:
            raise JobStateError(
                view.name,
                view.state,
                "a member is forgotten with its sweep, and not alone",
            )
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

    def _check_not_to_be_gathered_with(self, views: Sequence[JobView]) -> None:
        """Check that nothing which was not gathered builds on any: without it, it cannot be."""
        found = self._journal.ungathered_on({view.id for view in views})
        if found is None:
            return
        needed, follower = found
        view = next(view for view in views if view.id == needed)
        raise JobStateError(
            view.name,
            view.state,
            f"it cannot be forgotten before {follower.label!r} is gathered, whose result builds "
            f"on it. %async_gather {follower.label} does that; or forget both together",
        )


def _version() -> str:
    try:
        return version("dask-async-run")
    except PackageNotFoundError:  # not installed, only on the path
        return "unknown"
