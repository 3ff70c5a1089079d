"""A thread that brings jobs to stores at URLs, and removes there what was forgotten.

A job goes there when it has ended and is saved here, with all that gathering it needs: the
frames of its inputs and its result, then its record; before it the jobs that it builds on,
and the sweep that it is a member of. Whatever goes wrong is said of the job, and tried again
for as long as the scheduler lives, and after its next start; the job is as it was.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from dask_async_run.errors import AsyncRunError, FrameError, StoreError
from dask_async_run.frames import FrameStore, size_of
from dask_async_run.scheduler.journal import Journal
from dask_async_run.scheduler.reader import JournalReader
from dask_async_run.scheduler.recalling import recall
from dask_async_run.scheduler.records import record_of
from dask_async_run.stores import UrlStore

logger = logging.getLogger(__name__)

RETRY = (5.0, 300.0)
"""Seconds after which what went wrong is tried again: at first, and at last."""

LAST = 20.0
"""Seconds at most in which a scheduler that ends brings away what is left."""

Done = Callable[[str, str, str], None]


class Storer:
    """Brings jobs to their stores.

    Parameters
    ----------
    journal : Path
        The journal's file; what has to be stored is committed.
    store : FrameStore
    done : callable
        Called in the storer's thread with a job's id, its place, and what is wrong; or ``""``:
        it lies there.
    removed : callable
        Called there with a place and the names of what was removed.
    """

    def __init__(
        self,
        journal: Path,
        store: FrameStore,
        done: Done,
        removed: Callable[[str, list[str]], None],
    ) -> None:
        self._journal = journal
        self._store = store
        self._done, self._removed = done, removed
        self._changed = threading.Condition()
        self._jobs: dict[str, None] = {}
        self._tidy = False
        self._until: float | None = None  # of the clock that nobody sets: when to be over
        self._thread: threading.Thread | None = None
        self._there: dict[str, UrlStore] = {}
        self._begun: set[tuple[str, str]] = set()  # sweeps that have members to come
        self._reader: JournalReader | None = None
        self._anew = False

    def store(self, job: str) -> None:
        """Bring a job to where it is to lie, soon."""
        with self._changed:
            self._jobs[job] = None
            self._begin()

    def tidy(self) -> None:
        """Remove what was forgotten, soon."""
        with self._changed:
            self._tidy = True
            self._begin()

    def close(self) -> None:
        """Do what can still be done in `LAST` seconds, and return; the rest waits for a start."""
        with self._changed:
            self._until = time.monotonic() + LAST
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join(LAST + 5.0)  # a daemon: what hangs in a network keeps nobody

    def _begin(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name="dask-async-run-storer", daemon=True
            )
            self._thread.start()
        self._changed.notify()

    def _run(self) -> None:
        pause = RETRY[0]
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(
                        lambda: self._jobs or self._tidy or self._until is not None
                    )
                    jobs, self._jobs = list(self._jobs), {}
                    tidy, self._tidy = self._tidy, False
                if not jobs and not tidy:
                    return
                again = [job for job in jobs if not self._bring(job)]
                tidy = tidy and not self._remove()
                if not (again or tidy):
                    pause = RETRY[0]
                    continue
                with self._changed:
                    self._changed.wait_for(lambda: self._until is not None, pause)
                    if self._until is not None:
                        return
                    self._jobs |= dict.fromkeys(again)
                    self._tidy = self._tidy or tidy
                pause = min(2 * pause, RETRY[1])
        finally:
            if self._reader is not None:
                self._reader.close()

    @property
    def _over(self) -> bool:
        return self._until is not None and time.monotonic() > self._until

    def _bring(self, job: str) -> bool:
        """Bring a job to its places; whether nothing is left to do."""
        there = True
        try:
            journal = self._open()
            for _, place in journal.unstored([job]):
                there = self._bring_to(journal, job, place) and there
        except Exception:
            logger.exception("job %s is not in its store", job)
            return False
        return there

    def _bring_to(self, journal: JournalReader, job: str, place: str) -> bool:
        try:
            for each in self._needed(journal, job):
                begun = (each, place) in self._begun or journal.is_stored(each, place)
                if each == job or not begun:
                    self._put(journal, each, place)
        except AsyncRunError as error:
            self._there.pop(place, None)
            logger.warning("job %s is not in its store: %s", job, error)
            problem = error.problem if isinstance(error, StoreError) else str(error)
            self._done(job, place, problem)
            return isinstance(error, FrameError)  # which is gone, and will be the next time
        return True

    def _needed(self, journal: JournalReader, job: str) -> Iterator[str]:
        """Yield a job and those that it cannot be gathered without, itself last."""
        listed: dict[str, None] = {}

        def add(job: str) -> None:
            spec = journal.spec(job)
            if spec is None or job in listed:
                return
            for other in (*spec.parents, spec.of):
                if other:
                    add(other)
            listed[job] = None

        add(job)
        yield from listed

    def _put(self, journal: JournalReader, job: str, place: str) -> None:
        store = self._at(place)
        self._put_frames(journal, job, store)
        record = record_of(journal, job)
        if record is None:
            return  # forgotten meanwhile: what it has left is removed as all that is
        store.put_record(job, record)
        # Who has taken in other jobs from there may have removed one that was there already,
        # before there was a record that needs it.
        self._put_frames(journal, job, store)
        if not journal.known([job]):
            store.remove([f"jobs/{job}"])
            return
        if any(view.ended is None for view in journal.views(jobs=[job])):
            self._begun.add((job, place))  # it is written again at its end
        else:
            self._done(job, place, "")

    def _put_frames(self, journal: JournalReader, job: str, store: UrlStore) -> None:
        for digest in journal.frames(job):
            if self._over:
                raise StoreError(store.place, "the scheduler ended before all was there")
            if store.has_frame(digest):
                continue
            recall(journal, self._store, [digest])
            self._store.verify(digest, size_of(digest))
            self._store.settle(digest)
            store.put_frame(digest, self._store.path(digest))

    def _remove(self) -> bool:
        """Remove what nobody needs any more; whether nothing is left to do."""
        leavings: dict[str, list[str]] = {}
        try:
            journal = self._open()
            for place, name in journal.leavings():
                leavings.setdefault(place, []).append(name)
        except Exception:
            logger.exception("what was forgotten is not removed from its store")
            return False
        done = True
        for place, names in leavings.items():
            records = [name for name in names if not name.startswith("frames/")]
            try:
                store = self._at(place)
                # The records first: who finds one finds its frames.
                store.remove(records)
                # Jobs of another journal may need any frame: of one that was taken in from there.
                theirs = {*(jobs := store.jobs())} - journal.known(jobs)
                removed = records if theirs else names
                store.remove(name for name in removed if name not in records)
            except AsyncRunError as error:
                self._there.pop(place, None)
                logger.warning("what was forgotten is not removed yet: %s", error)
                done = False
            else:
                self._removed(place, removed)
        return done

    def _at(self, place: str) -> UrlStore:
        if place not in self._there:
            self._there[place] = UrlStore(place)
        return self._there[place]

    def made_anew(self) -> None:
        """Know that the journal is another file now."""
        self._anew = True

    def _open(self) -> JournalReader:
        if self._anew and self._reader is not None:
            self._reader.close()
            self._reader = None
        self._anew = False
        if self._reader is None:
            self._reader = Journal.open_readonly(self._journal)
        return self._reader
