"""A thread that makes durable what has been written.

What the registry has committed and what cells have stored as frames survives the death
of every process at once, and a loss of power when it has been synced. Syncing takes
milliseconds to seconds, which neither a cell nor the scheduler's event loop waits for.

Large frames may lie in memory at first. A result's are brought to the disk when its job is saved;
the others, which are inputs, when there is nothing to save, and the disk is not behind.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from dask_async_run.errors import FrameError
from dask_async_run.frames import FrameStore
from dask_async_run.memory import is_in_no_hurry
from dask_async_run.scheduler.schema import connect

logger = logging.getLogger(__name__)

RETRY = 5.0
"""Seconds after which saving is tried again when the disk refused."""

SETTLE = 5.0
"""Seconds for which a frame is left in memory if no job is to be saved with it."""

_CLOCK = 1.0  # a file's time is that of the last tick, and clocks of file servers differ

_PART = 5
"""Times as long as saving takes it is waited for more to save, but no longer than ..."""

_LONGEST = 0.5
"""... these seconds."""

_CHECKPOINT_FROM = 4 * 1024 * 1024
_TRUNCATE_FROM = 64 * 1024 * 1024


class Saver:
    """Syncs the journal and the frames of jobs that have ended.

    Parameters
    ----------
    journal : Path
        The journal's file.
    store : FrameStore
        Where frames are.
    saved : callable
        Called in the saver's thread with the ids of jobs that survive a loss of power
        from now on, and the others' ids with what is wrong.
    """

    def __init__(
        self,
        journal: Path,
        store: FrameStore,
        saved: Callable[[list[str], dict[str, str]], None],
    ) -> None:
        self._journal = journal
        self._log = journal.with_name(f"{journal.name}-wal")
        self._store = store
        self._saved = saved
        self._changed = threading.Condition()
        self._jobs: list[tuple[str, Sequence[str]]] = []
        self._sync = self._sweep = False
        self._closing = False
        self._took = 0.0
        self._checkpointing = self._anew = False
        self._connection: sqlite3.Connection | None = None
        self._thread = threading.Thread(target=self._run, name="dask-async-run-saver", daemon=True)
        self._thread.start()

    def save(self, job: str, digests: Sequence[str]) -> None:
        """Save a job, soon; its result must be committed."""
        with self._changed:
            self._jobs.append((job, digests))
            self._changed.notify()

    def sync(self, sweep: bool = False) -> None:
        """Make what has been committed durable, soon; also empties the frames' trash.

        Parameters
        ----------
        sweep : bool
            Whether to unlink as well what writers that were killed have left.
        """
        with self._changed:
            self._sync = True
            self._sweep |= sweep
            self._changed.notify()

    def close(self) -> None:
        """Do what is left to do, and return; nothing is left in memory then, if the disk allows."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def pace(self, delay: float) -> float:
        """Answer how many seconds to wait for more to save: longer where saving takes long.

        Many jobs that end one after another are saved together, then, and most of the time
        is the scheduler's.
        """
        return max(delay, min(_PART * self._took, _LONGEST))

    def made_anew(self) -> None:
        """Know that the journal is another file now."""
        self._anew = True

    def is_checkpointing(self) -> bool:
        """Whether the journal may be locked now, until the disk has what was in its log."""
        return self._checkpointing

    def _run(self) -> None:
        patience: float | None = 0.0
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._jobs or self._sync or self._closing, timeout=patience
                )
                jobs, self._jobs = self._jobs, []
                sync, self._sync = self._sync, False
                sweep, self._sweep = self._sweep, False
                closing = self._closing
            again: list[tuple[str, Sequence[str]]] = []
            try:
                if jobs or sync:
                    begun = time.monotonic()
                    again = self._save(jobs)
                    self._took = time.monotonic() - begun
                if sweep:
                    self._store.sweep()
            except Exception:
                logger.exception("jobs could not be saved, and will be tried again")
                again = jobs
            pauses = self._settle(0.0 if closing else SETTLE), self._trim()
            patience = min((pause for pause in pauses if pause is not None), default=None)
            if again:
                with self._changed:
                    self._jobs[:0] = again
                    self._changed.wait_for(lambda: self._closing, RETRY)
            if closing:
                self._end_memory()
                if self._connection is not None:
                    self._connection.close()
                return

    def _settle(self, age: float) -> float | None:
        """Bring to the disk what has lain in memory for some seconds.

        Returns
        -------
        float or None
            Seconds after which to look again; None: nothing lies there.
        """
        try:
            frames = self._store.in_memory()
            if frames and age and is_in_no_hurry():
                return 1.0
            for digest, since in frames:
                # One of the future was written before the clock was set back.
                if -_CLOCK < time.time() - since < age:
                    return 1.0
                if self._jobs or (self._closing and age):
                    return 0.0  # they come first
                self._store.settle(digest)
        except OSError as error:
            logger.warning("frames stay in memory for now: %s", error)
            return RETRY
        except Exception:
            logger.exception("frames stay in memory for now")
            return RETRY
        return 1.0 if frames else None

    def _trim(self) -> float | None:
        """Give back memory that nobody has used again; as `_settle`."""
        try:
            return self._store.trim()
        except Exception:
            logger.exception("memory that is not needed is not given back for now")
            return RETRY

    def _end_memory(self) -> None:
        try:
            self._store.leave_memory()
        except Exception:
            logger.warning("frames stay in memory, until the next start", exc_info=True)

    def _save(self, jobs: list[tuple[str, Sequence[str]]]) -> list[tuple[str, Sequence[str]]]:
        """Save jobs; answer those for which the disk has no room or is out of order now."""
        again: list[tuple[str, Sequence[str]]] = []
        durable: list[str] = []
        problems: dict[str, str] = {}
        for job, digests in jobs:
            try:
                self._store.sync(digests)
                durable.append(job)
            except FrameError as error:
                problems[job] = str(error)
            except OSError as error:
                logger.warning("job %s is not saved yet: %s", job, error)
                again.append((job, digests))
        # The log alone makes commits durable: after a loss of power SQLite reads it up to
        # the last complete commit. What is no longer in it was synced by the checkpoint.
        with suppress(FileNotFoundError):
            descriptor = os.open(self._log, os.O_RDONLY)
            try:
                os.fsync(descriptor)
                size = os.fstat(descriptor).st_size
            finally:
                os.close(descriptor)
            if size > _CHECKPOINT_FROM:
                self._checkpoint("TRUNCATE" if size > _TRUNCATE_FROM else "PASSIVE")
        if durable or problems:
            self._saved(durable, problems)
        self._store.empty_trash()
        return again

    def _checkpoint(self, mode: str) -> None:
        # PASSIVE keeps nobody waiting, and never ends while somebody writes all the time;
        # TRUNCATE makes the writer wait once, so that the log does not grow for ever.
        if self._anew and self._connection is not None:
            self._connection.close()
            self._connection = None
        self._anew = False
        if self._connection is None:
            self._connection = connect(self._journal, "rw")
        self._checkpointing = True
        try:
            self._connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
        except sqlite3.OperationalError as error:
            logger.info("no checkpoint now: %s", error)
        finally:
            self._checkpointing = False
