"""The board: rows of all jobs, kept true while somebody looks.

Lives in the scheduler's event loop, where cells are handed out: so it works in bites of some
milliseconds, reads only the jobs that something happened to, and does nothing at all
while no page is open.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator

from dask_async_run.job import JobView, State
from dask_async_run.progress import Progress, find_progress
from dask_async_run.scheduler.page.rows import Row, Span, elapsed, row_of, span_of
from dask_async_run.scheduler.registry import JobRegistry
from dask_async_run.screen import screen

logger = logging.getLogger(__name__)

MOST = 5000
"""Jobs that the board has at most when it begins: those submitted last, and all open ones."""

SPANS = 2000
"""Runs that the timeline can show at most."""

BITE = 0.01
"""Seconds of work after which others have a turn."""

AT_ONCE = 10
"""Jobs that are read in one go."""

TICK = 0.25

TEXT = 1500
"""Characters at the end of a job's text in which progress is looked for."""


class Board:
    """Rows of jobs for pages.

    Parameters
    ----------
    registry : JobRegistry
    where : callable
        Says a worker's name for people, by its address; empty: it is not known (any more).

    Attributes
    ----------
    rows : dict of str to Row
        By id.
    spans : dict of str to Span
        By id, members of sweeps too.
    version : int
        Grows with each change.
    """

    def __init__(self, registry: JobRegistry, where: Callable[[str], str]) -> None:
        self.registry = registry
        self._name_of = where
        self._readers: set[object] = set()
        self._working: asyncio.Task[None] | None = None
        self._reset()

    def _reset(self) -> None:
        self.rows: dict[str, Row] = {}
        self.spans: dict[str, Span] = {}
        self.version = 0
        self._changes: dict[str, int] = {}  # by id, the latest last
        self._noted: dict[str, None] = {}  # something happened to these
        self._backlog: list[str] = []  # these are there since before; the next one last
        self._running: dict[str, float] = {}  # when each began
        self._names: dict[str, str] = {}
        self._bars: dict[str, Progress] = {}
        self._versions: dict[tuple[str, str], tuple[int, str]] = {}  # the latest of each name

    @property
    def loading(self) -> bool:
        """Whether older jobs are still to come."""
        return bool(self._backlog)

    def open(self, reader: object) -> None:
        """Keep the board true from now on, for this reader."""
        if not self._readers:
            self._reset()
            journal = self.registry.journal
            latest = [*journal.latest_ids(MOST), *journal.latest_ids(SPANS, members=True)]
            unended = [r.id for r in self.registry.machine.records.values()]
            self._backlog = list(reversed(dict.fromkeys([*latest, *unended])))
            self.registry.watchers.append(self._note)
            self._working = asyncio.create_task(self._work())
        self._readers.add(reader)

    def close(self, reader: object) -> None:
        """Let go of the board; the last reader's end is its end."""
        self._readers.discard(reader)
        if not self._readers and self._working is not None:
            self._working.cancel()
            self._working = None
            self.registry.watchers.remove(self._note)
            self._reset()

    def since(self, version: int, most: int) -> tuple[list[str], int]:
        """Answer the next jobs that changed after a version, and which version these make."""
        found = []
        for job in reversed(self._changes):
            if self._changes[job] <= version:
                break
            found.append(job)
        found = found[-most:]  # the latest is first
        return found, self._changes[found[0]] if found else version

    def _note(self, jobs: set[str]) -> None:
        self._noted.update(dict.fromkeys(jobs))

    async def _work(self) -> None:
        while not self.registry.closed:
            try:
                self._bite()
            except Exception:  # a page must not end for one job's sake
                logger.exception("the jobs' page could not read some jobs")
            await asyncio.sleep(BITE if self._noted or self._backlog else TICK)

    def _bite(self) -> None:
        end = time.perf_counter() + BITE
        now = time.time()
        for job, started in self._running.items():
            row = self.rows.get(job)
            if row is not None and row["elapsed"] != (seconds := elapsed(now - started)):
                self._put(job, {**row, "elapsed": seconds})
        while (self._noted or self._backlog) and time.perf_counter() < end:
            self._read(list(self._next()), now)

    def _next(self) -> Iterator[str]:
        """Take the jobs that are to be read next: first those that something happened to."""
        for _ in range(AT_ONCE):
            if self._noted:
                job = next(iter(self._noted))
                del self._noted[job]
                yield job
            elif self._backlog:
                yield self._backlog.pop()

    def _read(self, jobs: list[str], now: float) -> None:
        views = [JobView.from_message(row) for row in self.registry.rows(wanted=jobs)]
        for view in views:
            self._show(view, now)
        for job in set(jobs) - {view.id for view in views}:  # forgotten
            self._running.pop(job, None)
            self.spans.pop(job, None)
            if self.rows.pop(job, None) is not None:
                self._changed(job)

    def _show(self, view: JobView, now: float) -> None:
        where = self._where(view)
        if view.state == State.RUNNING and view.started is not None:
            self._running[view.id] = view.started
        else:
            self._running.pop(view.id, None)
            self._bars.pop(view.id, None)
        if (span := span_of(view, where)) is not None and self.spans.get(view.id) != span:
            self.spans[view.id] = span
            self._changed(view.id)
            if len(self.spans) > SPANS:
                del self.spans[min(self.spans, key=lambda job: self.spans[job].started)]
        if view.of:
            return  # a sweep is one row
        self._see_version(view)
        record = self.registry.machine.records.get(view.id)
        waits = [self.label(job) for job in sorted(record.after)] if record else []
        self._put(view.id, row_of(view, self._progress(view), waits, where, now))

    def _see_version(self, view: JobView) -> None:
        """Have the job read again that was the latest one of this name until now."""
        name = (view.notebook, view.name)
        version, job = self._versions.get(name, (0, ""))
        if view.version > version:
            self._versions[name] = (view.version, view.id)
            if job:
                self._noted[job] = None

    def _put(self, job: str, row: Row) -> None:
        if self.rows.get(job) != row:
            self.rows[job] = row
            self._changed(job)

    def _changed(self, job: str) -> None:
        self.version += 1
        self._changes.pop(job, None)
        self._changes[job] = self.version

    def label(self, job: str) -> str:
        """What a job is called."""
        row = self.rows.get(job)
        if row is not None:
            return str(row["name"])
        record = self.registry.machine.records.get(job)
        return record.name if record is not None else job[:8]

    def _where(self, view: JobView) -> str:
        if not view.worker:
            return ""
        name = self._name_of(view.worker)
        if name:
            self._names[view.worker] = name
        return self._names.get(view.worker) or view.worker.rpartition("/")[2]

    def _progress(self, view: JobView) -> Progress | None:
        if view.state != State.RUNNING or not view.outputs or view.sweep:
            return None
        end = self.registry.ending(view.id, count=20, limit=16 * 1024)
        found = find_progress(screen(end.text[-TEXT:]))
        # A bar is away for a moment when something is printed.
        if found is not None:
            self._bars[view.id] = found
        return self._bars.get(view.id)
