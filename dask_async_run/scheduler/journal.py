"""The journal: every job, its outputs and its result, in one SQLite file.

Written by the registry alone, in the scheduler's event loop; read by anybody, also
while no server runs (`JournalReader.open_readonly`). Write-ahead logging: what is committed
survives the death of every process. That it survives a loss of power too is the
business of `saver`.

Writes are collected and committed together by `Journal.flush`: all operations of one
turn of the event loop share a commit. When a commit fails (the disk is full), nothing
is dropped: the next one writes it too.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from dask_async_run.errors import ServerError
from dask_async_run.job import JobResult, JobSpec, Message, Payload, State
from dask_async_run.messages import pack, plain
from dask_async_run.scheduler import taking_over
from dask_async_run.scheduler.events import Members, Record
from dask_async_run.scheduler.reader import JournalReader
from dask_async_run.scheduler.schema import (
    LOCK_PATIENCE,
    advice,
    is_locked,
    open_to_write,
    unreadable,
)
from dask_async_run.sweeps import COLLECTING_RETRIES

BRIEF_PATIENCE = 1.0
"""Seconds that a write waits for another process that has the journal locked."""

_BRIEF = (
    "source",
    "execution_count",
    "input_names",
    "binds",
    "deletes",
    "mutates",
    "dynamic",
    "after",
    "sweep",
)

_BY_NUMBER = ("briefs", "specs", "results", "members", "caches", "stores", "spans")
_BY_JOB = ("outputs", "tails", "events", "frames")


class Journal(JournalReader):
    """The registry's journal; `Journal.open` gives one.

    Every question is answered as if `flush` had been called before.

    Attributes
    ----------
    keeps_it_itself : callable
        Tells whether this very server has the journal locked, for a checkpoint.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: int) -> None:
        super().__init__(path, connection)
        self._lock: int | None = lock
        self._file = _file(path)
        # Closed with the last connection to the file, since that lets go of all locks on it.
        self._own = os.open(path, os.O_RDONLY)
        self._writes: list[tuple[str, Sequence[Any]]] = []
        self._patient = False
        self._be_patient(True)
        self.keeps_it_itself: Callable[[], bool] = lambda: False

    @classmethod
    def open(cls, path: Path) -> Journal:
        """Open the journal for writing; make it if it is not there.

        Raises
        ------
        ServerError
            Another server has it open, it is damaged, a newer version wrote it, or it
            is open to other users.
        """
        lock = _locked(path)
        try:
            connection = open_to_write(path)
        except OSError as error:
            os.close(lock)
            raise unreadable(path, error) from error
        except BaseException:
            os.close(lock)
            raise
        return cls(path, connection, lock)

    def close(self) -> None:
        """Write what is left to write, and let go; once is enough."""
        if self._lock is None:
            return
        lock, self._lock = self._lock, None
        try:
            self.flush()
        finally:
            super().close()
            os.close(self._own)
            os.close(lock)

    def is_deleted(self) -> bool:
        """Whether somebody deleted the file: nobody can put it back, as one that was moved away."""
        return os.fstat(self._own).st_nlink == 0 and _file(self.path) is None

    def make_anew(self) -> None:
        """Write the journal, which was deleted, anew: all of it, since its file is still open.

        Raises
        ------
        OSError, ServerError, sqlite3.Error
            It could not be written, or somebody else has put another one there; it is as before.
        """
        lock, aside = _locked(self.path), self.path.with_name(f"{self.path.name}-anew")
        try:
            os.close(os.open(aside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600))
            with closing(sqlite3.connect(aside)) as copy:
                self._connection.backup(copy)
            if _file(self.path) is not None:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(self.path))
            # Before there is another one: closing takes the log away that has its name.
            self._connection.close()
            aside.rename(self.path)
            self._connection = open_to_write(self.path)
        except BaseException:
            os.close(lock)
            raise
        os.close(self._own)
        assert self._lock is not None
        os.close(self._lock)
        self._lock, self._own = lock, os.open(self.path, os.O_RDONLY)
        self._file = _file(self.path)
        self._connection.row_factory = sqlite3.Row
        self._be_patient(False)
        self._be_patient(True)

    # --- writing ---

    def flush(self) -> None:
        """Commit everything written since the last time.

        Raises
        ------
        ServerError
            It could not be written; it is kept, and written with what comes next.
        """
        if not self._writes:
            return
        # SQLite goes on writing to a file that somebody removed, which nobody ever reads again.
        if _file(self.path) != self._file:
            raise ServerError(
                f"the journal {self.path} was removed or replaced under the server: nothing can be "
                "recorded. Put it back, or stop the server and start it again."
            )
        try:
            self._begin()
            for sql, values in self._writes:
                self._connection.execute(sql, values)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if is_locked(error):
                self._be_patient(False)
            raise ServerError(
                f"the journal {self.path} cannot be written: {error}. {advice(error, self.path)}"
            ) from error
        self._writes.clear()
        self._be_patient(True)

    def _begin(self) -> None:
        until = time.monotonic() + LOCK_PATIENCE
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if not (is_locked(error) and self.keeps_it_itself() and time.monotonic() < until):
                    raise
                time.sleep(0.01)  # a checkpoint on a slow disk
            else:
                return

    def _be_patient(self, patient: bool) -> None:
        """Wait, or not, for another process that has the journal locked.

        A look at it is over soon. Who has had it for longer than that is asked after and not waited
        for, until a write succeeds: every question tries to write first, and nobody else hears
        of the scheduler meanwhile.
        """
        if patient is not self._patient:
            milliseconds = round(BRIEF_PATIENCE * 1000) if patient else 0
            self._connection.execute(f"PRAGMA busy_timeout = {milliseconds}")
            self._patient = patient

    def next_version(self, notebook: str, name: str) -> int:
        """Version that the next job of this name gets."""
        row = self._one(
            "SELECT max(version) AS version FROM jobs WHERE notebook = ? AND name = ?",
            plain(notebook),
            plain(name),
        )
        return ((row["version"] if row else None) or 0) + 1

    def create(
        self,
        record: Record,
        spec: JobSpec,
        now: float,
        members: Sequence[Record] = (),
        finished: Sequence[tuple[str, str]] = (),
        place: str = "",
    ) -> None:
        """Write a new job, and commit.

        Parameters
        ----------
        members : sequence of Record
            Of a sweep: all of them, in their order.
        finished : sequence of (str, str)
            Ids of those of the members, or of the job itself, that need not run, and of the
            jobs that they take over: their end, outputs and result.
        place : str
            Where they are to lie when they have ended, apart from here; or empty.

        Raises
        ------
        ServerError
            It could not be written; nothing of it is kept.
        """
        before = len(self._writes)
        message = spec.to_message()
        self._write_job(record, spec, {key: message[key] for key in _BRIEF})
        self._write(
            "INSERT INTO specs (number, spec) SELECT number, ? FROM jobs WHERE id = ?",
            pack(message),
            record.id,
        )
        self._name_frames(record.id, spec.payload.digests, now)
        if spec.cache:
            self._write(
                "INSERT INTO caches (number, key) SELECT number, ? FROM jobs WHERE id = ?",
                spec.cache,
                record.id,
            )
        for number, member in enumerate(members):
            self._write_job(member, spec, {})
            self._write(
                "INSERT INTO members (number, sweep, member) SELECT number, ?, ? FROM jobs"
                " WHERE id = ?",
                record.id,
                number,
                member.id,
            )
        for job, old in finished:
            self._writes += taking_over.writes(job, old)
        for each in [record, *members] if place else ():
            self.note_store(each.id, place, done=False)
        try:
            self.flush()
        except ServerError:
            del self._writes[before:]
            raise

    def _write_job(self, record: Record, spec: JobSpec, brief: Message) -> None:
        self._write(
            "INSERT INTO jobs (id, notebook, name, version, state, reason, submitted)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            record.id,
            plain(record.notebook),
            plain(record.name),
            record.version,
            record.state,
            plain(record.reason),
            spec.submitted,
        )
        self._write(
            "INSERT INTO briefs (number, spec) SELECT number, ? FROM jobs WHERE id = ?",
            pack(brief),
            record.id,
        )

    def store(self, record: Record, now: float, took: float | None = None) -> None:
        """Write where a job stands now; of one that has ended, for how many seconds it ran."""
        self._write(
            "UPDATE jobs SET state = ?, reason = ?, attempt = ?, started = ?, ended = ?,"
            " worker = ?, host = ? WHERE id = ?",
            record.state,
            plain(record.reason),
            record.attempt,
            record.started,
            record.ended,
            record.worker,
            record.host,
            record.id,
        )
        self._write(
            "INSERT INTO events (job, time, state, reason, worker) VALUES (?, ?, ?, ?, ?)",
            record.id,
            now,
            record.state,
            plain(record.reason),
            record.worker,
        )
        if took is not None:
            self._write(
                "INSERT OR REPLACE INTO spans (number, seconds)"
                " SELECT number, ? FROM jobs WHERE id = ?",
                took,
                record.id,
            )

    def store_result(self, job: str, result: JobResult, now: float) -> None:
        """Write what a cell left behind."""
        message = result.to_message()
        brief = {**message, "payload": {**message["payload"], "stream": b""}, "environment": {}}
        self._write(
            "INSERT OR REPLACE INTO results (number, result)"
            " SELECT number, ? FROM jobs WHERE id = ?",
            pack(message),
            job,
        )
        self._write(
            "UPDATE briefs SET result = ? WHERE number = (SELECT number FROM jobs WHERE id = ?)",
            pack(brief),
            job,
        )
        self._write(
            "UPDATE jobs SET nbytes = ?, ename = ?, evalue = ? WHERE id = ?",
            result.nbytes,
            plain(result.ename),
            plain(result.evalue),
            job,
        )
        self._name_frames(job, _digests(result), now)

    def append(self, job: str, first: int, outputs: Sequence[bytes], now: float) -> None:
        """Write outputs, packed, numbered from `first`."""
        for seq, output in enumerate(outputs, first):
            self._write(
                "INSERT INTO outputs (job, seq, time, output) VALUES (?, ?, ?, ?)",
                job,
                seq,
                now,
                output,
            )

    def progress(self, job: str, outputs: int, last_line: str, pid: int | None) -> None:
        """Write how far a running cell is."""
        self._write(
            "UPDATE jobs SET outputs = ?, last_line = ?, pid = ? WHERE id = ?",
            outputs,
            plain(last_line),
            pid,
            job,
        )

    def store_tail(self, job: str, tail: str) -> None:
        """Write the end of a flood of output, instead of the last one written."""
        if not tail:
            self._write("DELETE FROM tails WHERE job = ?", job)
            return
        self._write("INSERT OR REPLACE INTO tails (job, tail) VALUES (?, ?)", job, plain(tail))

    def mark(self, job: str, mark: str) -> None:
        """Mark a job as ``saved`` or ``gathered``."""
        assert mark in ("saved", "gathered")
        self._write(f"UPDATE jobs SET {mark} = 1 WHERE id = ?", job)

    def note_store(self, job: str, place: str, done: bool, problem: str = "") -> None:
        """Write whether a job lies at a place apart from here, and why not."""
        self._write(
            "INSERT OR REPLACE INTO stores (number, place, done, problem)"
            " SELECT number, ?, ?, ? FROM jobs WHERE id = ?",
            place,
            done,
            plain(problem),
            job,
        )

    def removed(self, place: str, names: Iterable[str]) -> None:
        """Write that leavings are gone from a place."""
        for name in names:
            self._write("DELETE FROM leavings WHERE place = ? AND name = ?", place, name)

    def restore(self, statements: Iterable[tuple[str, Sequence[Any]]]) -> None:
        """Write what `records.statements` made of a job's record, and commit: all or nothing.

        Raises
        ------
        ServerError
            It does not fit in, or could not be written.
        """
        self.flush()
        before, self._writes = self._writes, list(statements)
        try:
            self.flush()
        finally:
            self._writes = before

    def without_results(self, has: Callable[[str], bool]) -> list[str]:
        """Ids of the jobs that have ended and lack a frame of what they left behind.

        Parameters
        ----------
        has : callable
            Whether a frame is there, by its digest.
        """
        rows = self._all("SELECT DISTINCT digest FROM frames")
        missing = {row["digest"] for row in rows if not has(row["digest"])}
        named = self._all(
            "SELECT DISTINCT job FROM frames WHERE digest IN (SELECT value FROM json_each(?))",
            json.dumps(list(missing)),
        )
        results = {row["job"]: self.result(row["job"]) for row in named}
        return [j for j, result in results.items() if result and missing & {*_digests(result)}]

    def note_loss(self, job: str, reason: str) -> None:
        """Write what became of the result of a job that has ended."""
        self._write("UPDATE jobs SET reason = ? WHERE id = ?", plain(reason), job)

    def forget(self, jobs: Iterable[str]) -> None:
        """Forget jobs, sweeps with their members, and commit: all or none.

        What is elsewhere becomes leavings.

        Raises
        ------
        ServerError
            It could not be written; they are not forgotten later, either.
        """
        named = [*jobs]
        named += [row["id"] for job in named for row in self.rows(sweep=job)]
        self.flush()
        for job in named:  # without a question between them, which would write the first ones
            self._delete(job)
        try:
            self.flush()
        except ServerError:
            self._writes.clear()
            raise

    def _delete(self, job: str) -> None:
        placed = "FROM stores JOIN jobs USING (number)"
        self._write(
            "INSERT OR IGNORE INTO leavings (place, name)"
            f" SELECT place, 'jobs/' || id {placed} WHERE id = ?",
            job,
        )
        self._write(
            "INSERT OR IGNORE INTO leavings (place, name) SELECT place, 'frames/' || digest"
            f" {placed} JOIN frames ON job = id WHERE id = ?",
            job,
        )
        for table in _BY_NUMBER:
            number = "(SELECT number FROM jobs WHERE id = ?)"
            self._write(f"DELETE FROM {table} WHERE number = {number}", job)
        for table in _BY_JOB:
            self._write(f"DELETE FROM {table} WHERE job = ?", job)
        self._write("DELETE FROM jobs WHERE id = ?", job)

    def unfinished(self) -> list[Record]:
        """The jobs that have not ended, in order of submission."""
        rows = self._all("SELECT * FROM jobs WHERE ended IS NULL ORDER BY number")
        return [self._record(row) for row in rows]

    def _record(self, row: sqlite3.Row) -> Record:
        spec = self.spec(row["id"])
        if spec is None:
            with self._reading():
                raise ValueError(f"the cell of job {row['id']} is not there")
        return Record(
            id=row["id"],
            notebook=row["notebook"],
            name=row["name"],
            version=row["version"],
            after=frozenset(() if spec.has_members else spec.after),
            retries=COLLECTING_RETRIES if spec.has_members else spec.retries,
            state=State(row["state"]),
            reason=row["reason"],
            attempt=row["attempt"],
            worker=row["worker"],
            host=row["host"],
            started=row["started"],
            sweep=spec.of,
            members=self._members(spec) if spec.has_members else None,
        )

    def _members(self, spec: JobSpec) -> Members:
        rows = self._all(
            "SELECT j.id, j.state, j.ended FROM members m JOIN jobs j USING (number)"
            " WHERE m.sweep = ? ORDER BY m.member",
            spec.id,
        )
        return Members(
            open=dict.fromkeys(row["id"] for row in rows if row["ended"] is None),
            at_once=spec.sweep["at_once"],
            ended=Counter(State(row["state"]) for row in rows if row["ended"] is not None),
        )

    def ended(self, jobs: Iterable[str]) -> dict[str, tuple[str, State]]:
        """Name and state of those of `jobs` that have ended; all that exist count if so."""
        found = {}
        for job in jobs:
            row = self._one("SELECT name, state FROM jobs WHERE id = ? AND ended IS NOT NULL", job)
            if row:
                found[job] = (row["name"], State(row["state"]))
        return found

    def rename_frame(self, name: str, names: Mapping[str, str]) -> None:
        """Write the name of a frame that had another one when jobs were made that need it.

        Parameters
        ----------
        name : str
            The one that it had.
        names : mapping of str to str
            What frames are called now, by the names that they had: those of earlier ones too,
            which may not be written yet.
        """
        for row in self._all("SELECT job FROM frames WHERE digest = ?", name):
            spec = self.spec(row["job"])
            assert spec is not None  # it is there with its frames
            self._write(
                "UPDATE specs SET spec = ? WHERE number = (SELECT number FROM jobs WHERE id = ?)",
                pack(spec.renamed(names).to_message()),
                spec.id,
            )
        self._write("UPDATE OR REPLACE frames SET digest = ? WHERE digest = ?", names[name], name)
        self._sweep = None

    def _name_frames(self, job: str, digests: Iterable[str], now: float) -> None:
        for digest in digests:
            self._write(
                "INSERT OR REPLACE INTO frames (digest, job, named) VALUES (?, ?, ?)",
                digest,
                job,
                now,
            )

    def _write(self, sql: str, *values: Any) -> None:
        self._writes.append((sql, values))

    def _execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        with suppress(ServerError):  # who needs the write to succeed calls `flush`
            self.flush()
        return super()._execute(sql, *values)


def _locked(path: Path) -> int:
    """Lock a journal for its only writer; a descriptor that holds the lock.

    Raises
    ------
    ServerError
        Another server has it, or it cannot be locked.
    """
    try:
        lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        if not isinstance(error, BlockingIOError):
            raise unreadable(path, error) from error
        raise ServerError(
            f"{path} is in use: another server runs on this state folder. Stop it first, "
            "or choose another name for this one."
        ) from None
    return lock


def _file(path: Path) -> tuple[int, int] | None:
    """Which file is there; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _digests(result: JobResult) -> list[str]:
    return Payload.from_message(result.payload).digests
