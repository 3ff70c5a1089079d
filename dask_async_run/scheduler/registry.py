"""The registry: decides with the `Machine`, writes to the journal, carries out.

Lives in the scheduler's event loop. What can be asked of it from outside is in
`client_ops` and `cell_ops`; its client side is `dask_async_run.registry`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import secrets
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from dask_async_run.bars import Overwritten
from dask_async_run.errors import NoSuchJobError, ServerError
from dask_async_run.folders import FRAMES, STATE_VARIABLE, TOKEN_FILE, private_folder
from dask_async_run.frames import FrameStore
from dask_async_run.glimpse import Ending, ending
from dask_async_run.job import NOT_ON_RECORD, JobSpec, Message, State
from dask_async_run.memory import Memory
from dask_async_run.messages import unpack_output
from dask_async_run.scheduler.arrivals import NOTES, Arrivals
from dask_async_run.scheduler.bells import Bell
from dask_async_run.scheduler.collector import Collector
from dask_async_run.scheduler.events import (
    CrowdOut,
    Event,
    GivenBack,
    Granted,
    Instruction,
    Recovered,
    Refused,
    Store,
    Submit,
    TaskEnded,
    TaskVanished,
    TellWorker,
    Withdraw,
    WorkerGone,
)
from dask_async_run.scheduler.heartbeat import Heartbeat
from dask_async_run.scheduler.holders import Holders
from dask_async_run.scheduler.journal import Journal
from dask_async_run.scheduler.machine import Machine
from dask_async_run.scheduler.saver import Saver
from dask_async_run.scheduler.stores import Stores
from dask_async_run.scheduler.usage import Usage

logger = logging.getLogger(__name__)

RETRY_COMMIT = 1.0
"""Seconds after which a commit that failed is tried again."""

SAVE_DELAY = 0.05
"""Seconds in which more may come that is saved together.

Who waits for a job is told of its end in that time: neither the saver's thread nor a disk
that syncs is in the way.
"""

COLLECT_AGAIN = 60.0
"""Seconds until frames are considered again that somebody may have been about to name."""

_SWEEP_EVERY = 3600.0  # seconds

LOOK = 1.0
"""Seconds between two looks whether the state folder is still there."""

_LOST = "somebody deleted the server's state folder, and its result with it"
_CLOCKS_DIFFER = 1.0
"""Seconds after which a clock has been set, and has not only been brought up to date."""


class Cluster(Protocol):
    """What the registry needs of the Dask cluster it lives in."""

    def submit(self, spec: JobSpec) -> None:
        """Give a job a task, soon; a task that it had is withdrawn."""

    def crowd_out(self, spec: JobSpec) -> None:
        """Take a job's task back; it gets another one where there is a place for a cell."""

    def look_again(self) -> None:
        """Notice that a cell has ended: there may be a place."""

    def withdraw(self, job: str) -> None:
        """Cancel a job's task, soon."""

    def unpublish(self, job: str) -> None:
        """Take back a job's name in Dask."""

    async def keep(self, job: str, keys: Iterable[Any]) -> list[Any]:
        """Keep Dask's data for a job; answer the keys that the cluster does not have."""

    def release(self, job: str) -> None:
        """Let go of Dask's data that was kept for a job."""

    def kept(self) -> list[Any]:
        """Answer the keys of all that is kept."""

    async def tell(self, worker: str, job: str) -> str:
        """Tell a worker to stop a job's cell; return the problem, or ``""``."""

    async def warm(self, modules: Sequence[str]) -> None:
        """Have the workers import modules ahead, if they can."""

    def waits_for(self, job: str) -> str:
        """Say what a job waits for if no worker can take it; else empty."""

    def frame_places(self) -> list[str]:
        """Answer the workers that a job's large inputs may be brought to, the best first."""

    def places(self, worker: str) -> int:
        """How many cells a worker may run side by side; 0: it is not of the cluster now."""

    async def call_back(self, worker: str, task: str) -> bool:
        """Take back a worker's claim that came ahead; whether the task has not begun there."""

    def is_current(self, job: str, task: str) -> bool:
        """Whether a job's Dask task is this one, by its key."""

    def clients(self) -> int:
        """How many clients are connected, apart from the registry's own."""


@dataclass(slots=True)
class Live:
    """What is only known of a job that has not ended; lost with the process."""

    outputs: int = 0
    last_line: str = ""
    pid: int | None = None
    memory: float = 0.0
    cpu: float = 0.0
    tail: str = ""
    tail_stored: float = -math.inf  # of the clock that nobody sets
    batch: int = 0
    beats: int = 0
    parents: tuple[str, ...] = ()
    usage: Usage = field(default_factory=Usage)
    started: float | None = None  # the record's, for which it was noted:
    begun: float | None = None  # of the clock that nobody sets

    def ran(self, started: float | None) -> float | None:
        """Answer for how many seconds it has run; None: nobody has measured that.

        Parameters
        ----------
        started : float or None
            When it began, as its record has it: another moment is another beginning.
        """
        now = time.monotonic()
        if started != self.started:
            self.started, self.begun = started, now
        return None if started is None or self.begun is None else now - self.begun


class JobRegistry:
    """The jobs of one state folder.

    Parameters
    ----------
    folder : Path
        The state folder, private to this user; made if missing.
    cluster : Cluster
        Where cells run.

    Attributes
    ----------
    live : dict of str to Live
        By id, for the jobs that have not ended.
    overwritten : Overwritten
        Which outputs nothing is to be seen of any more.
    news, changes : Bell
        Ring with a job's id when it has something new, outputs or a change of state;
        `changes` only for a change of state. After the commit.
    watchers : list of callable
        Each is called with the ids of the jobs that `news` rings for, forgotten ones too.
    created : JobSpec or None
        The latest job's, which need not be read from the journal to be submitted.
    ended : Counter of State
        How many jobs have ended in each state since the start, members of sweeps left out.
    page : str
        The jobs' page among the pages of Dask's dashboard; empty: there is none.
    heard : dict of str to (str, float)
        By address, the workers that have told a cell's end: their host, and when (monotonic).
    holders : Holders
        The workers that have copies of large frames.
    arrivals : Arrivals
        The kernels' snapshots that large frames are copied from.
    problem : str
        Why the last commit failed; empty if it did not.
    disk_limit : int or None
        Bytes of frames that jobs may name until no more jobs are taken; results are.
    token : str
        Random, and also in the state folder's file ``host_token``: who finds it there sees
        this very folder.

    Raises
    ------
    ServerError
        Another server uses the folder, or its journal cannot be read.
    """

    def __init__(self, folder: Path, cluster: Cluster, memory: bool = False) -> None:
        self.folder = folder
        self.cluster = cluster
        self._loop = asyncio.get_running_loop()
        self._heartbeat = Heartbeat(folder / "journal.sqlite")  # opening it is a sign of life
        self.heard: dict[str, tuple[str, float]] = {}
        self.journal = Journal.open(folder / "journal.sqlite")
        self.store = FrameStore(folder / FRAMES)
        if memory:
            Memory.make(self.store.folder)
        self.disk_limit: int | None = None
        self.machine = Machine()
        self.live: dict[str, Live] = {}
        self.overwritten = Overwritten()
        self.changes, self.news = Bell(), Bell()
        self.watchers: list[Callable[[set[str]], None]] = []
        self._rung: set[str] = set()
        self._changed: set[str] = set()
        self._to_save: list[str] = []  # as soon as it is committed
        self._committed: list[str] = []  # to be saved
        self._to_bring: list[str] = []  # saved, as soon as that is committed
        self._awaited: list[str] = []  # to be saved when their frames have come
        self._saving: asyncio.TimerHandle | None = None
        self.closed = False
        self.created: JobSpec | None = None
        self.problem = ""
        self.page = ""
        self.ended: Counter[State] = Counter()
        self._commit: asyncio.Future[None] | None = None
        self._saver = Saver(self.journal.path, self.store, self._saved_in_thread)
        self.journal.keeps_it_itself = self._saver.is_checkpointing
        self.stores = Stores(self)
        self.collector = Collector(self.store)
        self.holders = Holders()
        self.arrivals = Arrivals(folder / NOTES, self.store, self.holders, self)
        self._telling: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._looker: asyncio.TimerHandle | None = None
        self._collecting: asyncio.TimerHandle | None = None
        self.token = secrets.token_hex(16)
        _write_private(folder / TOKEN_FILE, self.token)

    def start(self) -> None:
        """Take up what the last server left: lose what ran, submit what was pending."""
        records = tuple(self.journal.unfinished())
        rows = {row["id"]: row for row in self.journal.rows(jobs=[r.id for r in records])}
        for record in records:
            row = rows[record.id]
            parents = tuple(self._spec(record.id).parents)
            self.live[record.id] = Live(
                row["outputs"],
                row["last_line"],
                row["pid"],
                parents=parents,
                started=record.started,
            )
        named = {parent for record in records for parent in record.after}
        ended = self.journal.ended(named)
        self.arrivals.start()
        self.apply(Recovered(records, ended, time.time(), self._heartbeat.last))
        self._heartbeat.beat()
        for job in self.journal.unsaved():
            self._to_save.append(job)
        self.stores.start()
        self.touch()
        self._sweep()
        self._look()

    async def close(self) -> None:
        """Wake those who wait, write what there is to write, and let go of the folder."""
        self.closed = True
        self.changes.close()
        self.news.close()
        for telling in self._telling:
            telling.cancel()
        self._heartbeat.close()
        for timer in (self._sweeper, self._looker, self._collecting, self._saving):
            if timer is not None:
                timer.cancel()
        try:
            await self.arrivals.close()
            self._flush()
            self._save()
            try:
                await self._loop.run_in_executor(None, self._saver.close)
            except RuntimeError:  # the interpreter is ending
                self._saver.close()
            await asyncio.sleep(0)  # the saver's last word
            self._flush()
            await self.stores.close()
        finally:
            self.journal.close()

    # --- what the cluster tells ---

    def worker_gone(self, worker: str, reason: str) -> None:
        self.heard.pop(worker, None)
        self.holders.gone(worker)
        self.frames_came()
        self.apply(WorkerGone(worker, reason, time.time()))

    def near(self, spec: JobSpec) -> list[str]:
        """Answer the workers that have what a job's cell starts from, the best first."""
        if not self.holders:
            return []
        digests = list(spec.payload.digests)
        for parent in spec.parents:
            digests += self.journal.frames(parent)
        return self.holders.nearest(digests)

    def task_ended(self, job: str, problem: str) -> None:
        self._end_of_task(job, TaskEnded(job, problem, time.time()))

    def task_vanished(self, job: str) -> None:
        self._end_of_task(job, TaskVanished(job, time.time()))

    def _end_of_task(self, job: str, event: TaskEnded | TaskVanished) -> None:
        record = self.machine.records.get(job)
        if record is not None and record.ahead:
            self._keep(self._after_call_back(job, event))
        else:
            self.apply(event)

    async def _after_call_back(self, job: str, event: TaskEnded | TaskVanished) -> None:
        await self.call_back(job)
        self.apply(event)

    async def call_back(self, job: str, unless: str = "") -> None:
        """Take back a claim that came ahead, if its worker has not begun the job's task.

        Parameters
        ----------
        unless : str
            The address of the worker that may keep it.
        """
        record = self.machine.records.get(job)
        if record is None or not record.ahead or record.worker == unless:
            return
        token = record.token
        if await self.cluster.call_back(record.worker, record.ahead):
            self.apply(GivenBack(job, token, time.time()))

    # --- carrying out ---

    def apply(self, event: Event) -> list[Instruction]:
        instructions = self.machine.handle(event)
        for instruction in instructions:
            match instruction:
                case Store(record=record):
                    live = self.live.get(record.id)
                    ran = live.ran(record.started) if live is not None else None
                    took = ran if record.state.terminal else None
                    self.journal.store(record, time.time(), took)
                    self._changed.add(record.id)
                    self._tell_sweep(record.sweep)
                    if record.state.terminal:
                        self.ended[record.state] += not record.sweep
                        self.live.pop(record.id, None)
                        if live is not None and live.tail:
                            self.journal.store_tail(record.id, live.tail)
                        self._to_save.append(record.id)
                case Submit(job=job, delay=delay):
                    if delay:
                        self._loop.call_later(delay, self._submit_later, job)
                    else:
                        self.cluster.submit(self._spec(job))
                case CrowdOut(job=job):
                    self.cluster.crowd_out(self._spec(job))
                case Withdraw(job=job):
                    self.cluster.withdraw(job)
                case TellWorker(job=job, worker=worker):
                    self._keep(self._tell(job, worker))
                case Granted() | Refused():
                    pass
        if instructions:
            self.touch()
            # Whoever has left a worker, its end or its next attempt is on record.
            if any(isinstance(instruction, Store) for instruction in instructions):
                self.cluster.look_again()
        return instructions

    def taken_over(self, job: str) -> None:
        """See to a job that had a result when it was made."""
        self._changed.add(job)
        self._to_save.append(job)
        self.touch()

    def _tell_sweep(self, job: str) -> None:
        """Say that a sweep, if there is one, has a member of which there is something new."""
        live = self.live.get(job)
        if live is not None:
            live.beats += 1
            self._rung.add(job)

    def _submit_later(self, job: str) -> None:
        record = self.machine.records.get(job)
        if record is not None and record.state is State.PENDING and not self.closed:
            self.cluster.submit(self._spec(job))

    def _keep(self, call: Coroutine[Any, Any, None]) -> None:
        """Make a call beside others, until the registry is closed."""
        telling = asyncio.create_task(call)
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)

    async def _tell(self, job: str, worker: str) -> None:
        # The worker may not know the job yet, on its way from the claim to the cell.
        for attempt in range(60):
            problem = await self.cluster.tell(worker, job)
            record = self.machine.records.get(job)
            if not problem or record is None or record.worker != worker:
                return
            logger.info("job %s could not be stopped (%s): trying again", job, problem)
            await asyncio.sleep(min(0.05 * 2**attempt, 1.0))

    def touch(self) -> asyncio.Future[None]:
        """See to it that this turn's writes are committed."""
        if self._commit is None:
            self._commit = self._loop.create_future()
            if self.closed:
                self._commit.set_result(None)  # `close` commits
            else:
                self._loop.call_soon(self._flush)
        return self._commit

    def commit(self) -> None:
        """Commit this turn's writes now.

        Raises
        ------
        ServerError
            They cannot be written, and are kept.
        """
        self._flush()
        if self.problem:
            raise ServerError(self.problem)

    async def committed(self) -> None:
        # Shared by all operations of this turn: one that is cancelled must not take the
        # others with it.
        await asyncio.shield(self.touch())

    def _flush(self) -> None:
        commit, self._commit = self._commit, None
        try:
            self.journal.flush()
        except ServerError as error:
            if not self.problem:
                logger.error("%s", error)
            self.problem = str(error)
            self._loop.call_later(RETRY_COMMIT, self.touch)
            if commit is not None and not commit.done():
                commit.set_exception(error)
                commit.exception()  # nobody may be waiting for this one
            return  # who waits for a job hears of it when it is on record
        self.problem = ""
        changed, self._changed = self._changed, set()
        rung, self._rung = self._rung | changed, set()
        if commit is not None and not commit.done():
            commit.set_result(None)
        for job in rung:
            self.news.ring(job)
        if rung:
            for tell in self.watchers:
                tell(rung)
        for job in changed:
            self.changes.ring(job)
        self._committed += self._to_save
        self._to_save = []
        if (changed or self._committed) and self._saving is None and not self.closed:
            self._saving = self._loop.call_later(self._saver.pace(SAVE_DELAY), self._save)
        if self._to_bring:
            saved, self._to_bring = self._to_bring, []
            self.stores.bring(saved)

    def _save(self) -> None:
        """Have saved what has been committed."""
        self._saving = None
        jobs, self._committed = self._committed, []
        for job in jobs:
            digests = list(self.journal.frames(job))
            if any(map(self.holders.is_coming, digests)):
                self._awaited.append(job)
            else:
                self._saver.save(job, digests)
        self._saver.sync()

    def frame_came(self, name: str, names: Mapping[str, str]) -> None:
        """A large input that was coming has been read: the jobs that need it get its name."""
        self.journal.rename_frame(name, names)
        self.touch()

    def frames_came(self) -> None:
        """Save what was waiting for frames: one has arrived, or will not."""
        self._committed += self._awaited
        self._awaited = []
        if self._committed and self._saving is None and not self.closed:
            self._saving = self._loop.call_later(SAVE_DELAY, self._save)

    def _saved_in_thread(self, jobs: list[str], problems: dict[str, str]) -> None:
        self._loop.call_soon_threadsafe(self._saved, jobs, problems)

    def _saved(self, jobs: list[str], problems: dict[str, str]) -> None:
        for job in jobs:
            self.journal.mark(job, "saved")
        self._to_bring += jobs
        for job in self.journal.known(problems) if problems else ():  # others were forgotten
            logger.warning("job %s is not saved: %s", job, problems[job])
        self.touch()

    def _sweep(self) -> None:
        self.collector.consider_all()
        self.collect()
        self._saver.sync(sweep=True)
        self._sweeper = self._loop.call_later(_SWEEP_EVERY, self._sweep)

    def _look(self, deleted: bool = False) -> None:
        """Make the state folder anew if somebody has deleted it, and is done with that.

        What jobs are doing goes on, and what they make has to lie somewhere.
        """
        still = self.journal.is_deleted()
        if still and deleted:
            try:
                self._make_anew()
            except (ServerError, OSError, sqlite3.Error) as error:
                logger.warning("the state folder %s cannot be made anew: %s", self.folder, error)
        self._looker = self._loop.call_later(LOOK, self._look, still)

    def _make_anew(self) -> None:
        private_folder(self.folder, STATE_VARIABLE)
        self.journal.make_anew()
        self.store.make_anew()
        _write_private(self.folder / TOKEN_FILE, self.token)
        self._saver.made_anew()
        self.stores.made_anew()
        lost = self.journal.without_results(self.store.has)
        for job in lost:
            self.journal.note_loss(job, _LOST)
            self._changed.add(job)
        logger.warning(
            "the state folder %s was deleted. It is made anew, with all jobs; %d of them lost "
            "their results",
            self.folder,
            len(lost),
        )
        self.touch()

    def collect(self) -> None:
        running = [r.started for r in self.machine.records.values() if r.started is not None]
        named = [d for d in self.collector.considered if self.journal.is_named(d)]
        if self.collector.collect(named, min(running, default=None)):
            self._saver.sync()
        if self.collector.considered and self._collecting is None:
            self._collecting = self._loop.call_later(COLLECT_AGAIN, self._collect_again)

    def _collect_again(self) -> None:
        self._collecting = None
        self.collect()

    def ring(self, job: str) -> None:
        """Say that a job has new outputs, once they are committed."""
        self._rung.add(job)
        self.touch()

    # --- looking up ---

    def is_open(self, job: str) -> bool:
        """Whether more is to come of a job: it has not ended, or its end is not on record."""
        return job in self.machine.records or job in self._changed

    def row(self, job: str) -> Message:
        """Return a `JobView` as a message, with what is only known while the job runs.

        Raises
        ------
        NoSuchJobError
        """
        rows = self.rows(jobs=[job])
        if not rows:
            raise NoSuchJobError(job, self.journal.names())
        return rows[0]

    def tail(self, job: str) -> str:
        """The end of a flood of output, of which the journal has only the beginning."""
        live = self.live.get(job)
        return live.tail if live is not None else self.journal.tail(job)

    def ending(self, job: str, count: int = 100, limit: int = 4 * 2**20) -> Ending:
        """Put together the end of what a job has shown.

        Parameters
        ----------
        job : str
        count, limit : int
            Outputs, and bytes of them, that are read at most.
        """
        latest = self.journal.latest(job, count, limit, self.overwritten.ranges(job))
        numbered = ((number, unpack_output(packed)) for number, packed in latest)
        return ending(numbered, self.tail(job))

    def rows(
        self,
        notebook: str | None = None,
        states: Iterable[str] | None = None,
        jobs: Iterable[str] | None = None,
        after: int = 0,
        limit: int = -1,
        wanted: Iterable[str] | None = None,
        gathered: bool | None = None,
        latest: int | None = None,
        sweep: str | None = None,
        owner: str = "",
    ) -> list[Message]:
        """As `JournalReader.rows`, with what is only known while a job runs."""
        rows = self.journal.rows(
            notebook, states, jobs, after, limit, wanted, gathered, latest, sweep, owner
        )
        for row in rows:
            live = self.live.get(row["id"])
            if live is not None:
                row["memory"], row["cpu"] = live.memory, live.cpu
                if (ran := live.ran(live.started)) is not None:
                    row["started"] = _began(row["started"], ran)
                if row["state"] == State.PENDING:
                    awaited = row.get("after", ())  # jobs of a server that is gone have none
                    row["after"] = [job for job in awaited if job in self.machine.records]
                    if not row["reason"] and not row["after"]:
                        row["reason"] = self._waits_for(row["id"]) or self._coming(row["id"])
            if self.problem and row["id"] in self._changed:
                row["reason"] = f"{NOT_ON_RECORD}: {self.problem}"
        return rows

    def _waits_for(self, job: str) -> str:
        """Say what a job's task waits for; of a sweep, which has none, its first member's."""
        record = self.machine.records.get(job)
        members = record.members if record is not None else None
        return self.cluster.waits_for(next(iter(members.open), job) if members else job)

    def _coming(self, job: str) -> str:
        """Say that a job's inputs are being copied, if they are."""
        if self.arrivals and self.arrivals.among(self.journal.frames(job)):
            return "its inputs are being copied"
        return ""

    def _spec(self, job: str) -> JobSpec:
        spec, self.created = self.created, None
        if spec is None or spec.id != job:
            spec = self.journal.spec(job)
        assert spec is not None  # a job is in the journal before it is anywhere else
        return spec


def _began(started: float | None, ran: float) -> float | None:
    """Answer when it began that has run for so long, by the clock as it is set now."""
    began = time.time() - ran
    was_set = started is not None and abs(began - started) > _CLOCKS_DIFFER
    return began if was_set else started


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
