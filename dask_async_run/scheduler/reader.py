"""What a journal answers; also while no server runs."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

from dask_async_run.job import JobResult, JobSpec, JobView, Message, State
from dask_async_run.messages import pack, plain, unpack
from dask_async_run.owners import owned
from dask_async_run.scheduler.schema import DAMAGE, LOCK_PATIENCE, open_to_read, unreadable
from dask_async_run.sweeps import member_spec

_VIEWS = """
SELECT j.number, j.id, j.notebook, j.name, j.version, j.state, j.reason, j.submitted,
    j.started, j.ended, j.worker, j.host, j.pid, j.outputs, j.last_line, j.nbytes, j.ename,
    j.evalue, j.saved, j.gathered, b.spec, b.result, t.seconds AS took,
    NOT EXISTS (
        SELECT 1 FROM jobs k
        WHERE k.notebook = j.notebook AND k.name = j.name AND k.version > j.version
    ) AS latest, m.sweep AS "of", m.member, (
        SELECT json_group_object(state, n) FROM (
            SELECT k.state, COUNT(*) AS n FROM members o JOIN jobs k ON k.number = o.number
            WHERE o.sweep = j.id GROUP BY k.state
        )
    ) AS members, (
        SELECT json_array(place, done, problem) FROM stores s WHERE s.number = j.number
        ORDER BY done DESC, place LIMIT 1
    ) AS store
FROM jobs j JOIN briefs b ON b.number = j.number LEFT JOIN members m ON m.number = j.number
    LEFT JOIN spans t ON t.number = j.number
"""

_AFTER_ALL = 2**63 - 1

_AFTER_NONE = pack("after") + pack([])
"""What stands in the brief of a job that comes after no other, and in no text of UTF-8."""

_NO_MEMBER = "NOT EXISTS (SELECT 1 FROM members m WHERE m.number = j.number)"

_OF_OWNER = "instr(j.notebook, ?) = 1"


class JournalReader:
    """The questions that a journal answers; `JournalReader.open_readonly` gives one.

    Parameters
    ----------
    path : Path
        The file.
    connection : sqlite3.Connection
        Closed by `close`.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._connection.row_factory = sqlite3.Row
        self._sweep: JobSpec | None = None  # the last one that was asked for: a member's spec

    @staticmethod
    def open_readonly(
        path: Path,
        patience: float = LOCK_PATIENCE,
        locked: Callable[[str], object] = lambda why: None,
    ) -> JournalReader:
        """Open the journal to read it, whether a server runs or not; as `open_to_read`.

        Raises
        ------
        ServerError
            It does not exist, is damaged, or a newer version wrote it.
        """
        return JournalReader(path, open_to_read(path, patience, locked))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

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
        """Jobs as `JobView` messages, with their ``number`` too, in order of submission.

        Members of sweeps are among them only where it says so.

        Parameters
        ----------
        notebook, states, jobs
            Only those of this notebook, in one of these states, with one of these ids (members
            too).
        after, limit : int
            Only those with higher numbers, and not more than so many.
        wanted
            Only those that have one of these names in `notebook`, or one of these ids (members
            too).
        gathered : bool or None
            Only those that were gathered, or were not.
        latest : int or None
            Only so many, those submitted last, and all that have not ended. Costs the same
            however many others there are.
        sweep : str or None
            Only the members of the sweep with this id.
        owner : str
            Only those of this user; empty: of all.

        Notes
        -----
        What a running cell uses (`memory`, `cpu`) is not in the journal.
        """
        conditions, values = ["j.number > ?"], list[Any]([after])
        if wanted is not None:
            words = json.dumps([plain(word) for word in wanted])
            conditions.append(
                "j.number IN (SELECT number FROM jobs WHERE notebook = ?"
                " AND name IN (SELECT value FROM json_each(?)) UNION ALL"
                " SELECT number FROM jobs WHERE id IN (SELECT value FROM json_each(?)))"
            )
            values += [plain(notebook or ""), words, words]
        elif notebook is not None:
            conditions.append("j.notebook = ?")
            values.append(plain(notebook))
        for column, chosen in (("j.state", states), ("j.id", jobs)):
            if chosen is not None:
                conditions.append(f"{column} IN (SELECT value FROM json_each(?))")
                values.append(json.dumps(list(chosen)))
        if owner:
            conditions.append(_OF_OWNER)
            values.append(plain(owned("", owner)))
        if gathered is not None:
            conditions.append("j.gathered = ?")
            values.append(gathered)
        if sweep is not None:
            conditions.append("j.number IN (SELECT number FROM members WHERE sweep = ?)")
            values.append(sweep)
        elif wanted is None and jobs is None:
            conditions.append(_NO_MEMBER)
        where = " AND ".join(conditions)
        if latest is None:
            sql = f"{_VIEWS} WHERE {where} ORDER BY j.number LIMIT ?"
            rows = self._all(sql, *values, limit)
        else:
            last = f"SELECT j.number FROM jobs j WHERE {where} ORDER BY j.number DESC LIMIT ?"
            unended = (
                "SELECT j.number FROM jobs j INDEXED BY jobs_open"
                f" WHERE j.ended IS NULL AND {where}"
            )
            sql = (
                f"{_VIEWS} WHERE j.number IN (SELECT * FROM ({last}) UNION {unended})"
                " ORDER BY j.number LIMIT ?"
            )
            rows = self._all(sql, *values, latest, *values, limit)
        with self._reading():
            return [_view_message(row) for row in rows]

    def views(
        self,
        notebook: str | None = None,
        states: Iterable[str] | None = None,
        jobs: Iterable[str] | None = None,
        gathered: bool | None = None,
        latest: int | None = None,
        sweep: str | None = None,
    ) -> list[JobView]:
        """Jobs in order of submission; which ones, as for `rows`."""
        rows = self.rows(notebook, states, jobs, gathered=gathered, latest=latest, sweep=sweep)
        return [JobView.from_message(row) for row in rows]

    def labels(self, wanted: Iterable[str] = ()) -> list[list[Any]]:
        """What jobs are called, in order of submission: the first fields of `JobView`.

        All jobs, and of the members of sweeps those that `wanted` names.
        """
        names = [plain(word).rpartition("/")[2].partition("@")[0] for word in wanted]
        rows = self._all(
            "SELECT j.id, j.notebook, j.name, j.version, NOT EXISTS (SELECT 1 FROM jobs k"
            " WHERE k.notebook = j.notebook AND k.name = j.name AND k.version > j.version)"
            f" FROM jobs j WHERE {_NO_MEMBER} OR j.name IN (SELECT value FROM json_each(?))"
            " ORDER BY j.number",
            json.dumps([name for name in names if "[" in name]),
        )
        return [[*row[:4], bool(row[4])] for row in rows]

    def latest_ids(self, most: int, members: bool = False) -> list[str]:
        """Ids of the jobs that were submitted last, the latest first: members, too, or none."""
        which = "" if members else f"WHERE {_NO_MEMBER}"
        rows = self._all(f"SELECT id FROM jobs j {which} ORDER BY number DESC LIMIT ?", most)
        return [row["id"] for row in rows]

    def count(self, notebook: str | None = None, owner: str = "") -> int:
        """How many jobs there are: all, a notebook's, or a user's; a sweep is one."""
        sql = f"SELECT COUNT(*) FROM jobs j WHERE {_NO_MEMBER}"
        if notebook is not None:
            row = self._one(f"{sql} AND j.notebook = ?", plain(notebook))
        elif owner:
            row = self._one(f"{sql} AND {_OF_OWNER}", plain(owned("", owner)))
        else:
            row = self._one(sql)
        return int(row[0]) if row else 0

    def known(self, jobs: Iterable[str]) -> set[str]:
        """Those of these ids that exist."""
        rows = self._all(
            "SELECT id FROM jobs WHERE id IN (SELECT value FROM json_each(?))",
            json.dumps(list(jobs)),
        )
        return {row["id"] for row in rows}

    def notebooks(self) -> list[str]:
        """Notebooks that have jobs."""
        return [row["notebook"] for row in self._all("SELECT DISTINCT notebook FROM jobs")]

    def names(self) -> list[str]:
        """Names of jobs, the latest first, not too many: to say what there is instead."""
        rows = self._all(
            f"SELECT name FROM jobs j WHERE {_NO_MEMBER} ORDER BY number DESC LIMIT 200"
        )
        return list(dict.fromkeys(row["name"] for row in rows))

    def spec(self, job: str) -> JobSpec | None:
        """The whole spec; None if there is no such job."""
        row = self._one("SELECT spec FROM specs JOIN jobs USING (number) WHERE id = ?", job)
        if row is None:
            member = self._one(
                "SELECT sweep, member FROM members JOIN jobs USING (number) WHERE id = ?", job
            )
            if member is None:
                return None
            if self._sweep is None or self._sweep.id != member["sweep"]:
                self._sweep = self.spec(member["sweep"])
            return member_spec(self._sweep, member["member"]) if self._sweep else None
        with self._reading():
            return JobSpec.from_message(unpack(row["spec"]))

    def result(self, job: str) -> JobResult | None:
        """The whole result; None if there is none."""
        row = self._one("SELECT result FROM results JOIN jobs USING (number) WHERE id = ?", job)
        with self._reading():
            return JobResult.from_message(unpack(row["result"])) if row else None

    def parents(self, jobs: Sequence[str]) -> list[Message]:
        """What a job starts from that builds on some: of each ``spec`` and ``result``."""
        if not jobs:
            return []
        rows = self._all(
            "SELECT id, spec, result FROM jobs LEFT JOIN specs USING (number) "
            "LEFT JOIN results USING (number) WHERE id IN (SELECT value FROM json_each(?))",
            json.dumps(list(jobs)),
        )
        found: dict[str, Message] = {}
        with self._reading():
            for row in rows:
                spec = unpack(row["spec"]) if row["spec"] else None
                result = unpack(row["result"]) if row["result"] else JobResult().to_message()
                found[row["id"]] = {"spec": spec, "result": result}
        for job, message in found.items():
            if message["spec"] is None and (spec := self.spec(job)) is not None:  # of a sweep
                message["spec"] = spec.to_message()
        return [found[job] for job in jobs]

    def ungathered_on(self, jobs: Collection[str]) -> tuple[str, JobView] | None:
        """A job that has left something behind and was not gathered, and builds on one of these.

        Returns
        -------
        (str, JobView) or None
            The one of `jobs`, and the job that builds on it, which is none of them.
        """
        rows = self._all(
            "SELECT j.id FROM jobs j JOIN briefs b USING (number)"
            " WHERE j.ended IS NOT NULL AND NOT j.gathered AND instr(b.spec, ?) = 0"
            " AND EXISTS (SELECT 1 FROM results r WHERE r.number = j.number)"
            " AND j.id NOT IN (SELECT value FROM json_each(?)) ORDER BY j.number",
            _AFTER_NONE,
            json.dumps(list(jobs)),
        )
        for row in rows:
            spec = self.spec(row["id"])
            for parent in spec.parents if spec is not None else ():
                if parent in jobs:
                    return parent, self.views(jobs=[row["id"]])[0]
        return None

    def collected(self, sweep: str) -> list[Message]:
        """What the members of a sweep have left behind that have ended, in their order.

        Returns
        -------
        list of dict
            ``member``, ``state``, ``reason``, ``ename``, ``evalue``, and ``result``: a
            `JobResult` as a message, or None.
        """
        rows = self._all(
            "SELECT m.member, j.state, j.reason, j.ename, j.evalue, r.result FROM members m"
            " JOIN jobs j USING (number) LEFT JOIN results r USING (number)"
            " WHERE m.sweep = ? AND j.ended IS NOT NULL ORDER BY m.member",
            sweep,
        )
        with self._reading():
            return [{**dict(row), "result": _collected(row["result"])} for row in rows]

    def finished_with(self, cache: str) -> list[str]:
        """Ids of the jobs that have finished whose `JobSpec.cache` is this, the latest first."""
        rows = self._all(
            "SELECT j.id FROM caches c JOIN jobs j USING (number)"
            " WHERE c.key = ? AND j.state = ? ORDER BY j.number DESC",
            cache,
            State.FINISHED,
        )
        return [row["id"] for row in rows]

    def outputs(
        self, job: str, since: int = 0, limit: int = 8 * 1024 * 1024
    ) -> list[tuple[int, float, bytes]]:
        """Outputs with numbers above `since`, in order, up to about `limit` bytes of them.

        Returns
        -------
        list of (int, float, bytes)
            Number (the first is 1), time, and the output in nbformat's terms, packed: a
            scheduler only passes it on.
        """
        cursor = self._execute(
            "SELECT seq, time, output FROM outputs WHERE job = ? AND seq > ? ORDER BY seq",
            job,
            since,
        )
        found = []
        with self._reading(), closing(cursor):
            for row in cursor:
                found.append((row["seq"], row["time"], row["output"]))
                limit -= len(row["output"])
                if limit <= 0:
                    break
        return found

    def latest(
        self,
        job: str,
        count: int = 100,
        limit: int = 4 * 2**20,
        without: Sequence[tuple[int, int]] = (),
    ) -> Iterator[tuple[int, bytes]]:
        """Yield the last outputs, the last one first, until there were `count` or `limit` bytes.

        Parameters
        ----------
        without : sequence of (int, int)
            First and last numbers of outputs that are left out, in order.

        Yields
        ------
        (int, bytes)
            Number, and the output in nbformat's terms, packed.
        """
        above = _AFTER_ALL
        for first, last in (*reversed(without), (0, 0)):
            cursor = self._execute(
                "SELECT seq, output FROM outputs WHERE job = ? AND seq > ? AND seq < ?"
                " ORDER BY seq DESC LIMIT ?",
                *(job, last, above, count),
            )
            above = first
            with self._reading(), closing(cursor):
                for row in cursor:
                    yield row["seq"], row["output"]
                    count -= 1
                    limit -= len(row["output"])
                    if limit <= 0:
                        return
            if count <= 0:
                return

    def tail(self, job: str) -> str:
        """The end of a flood of output, of which `outputs` have only the beginning."""
        row = self._one("SELECT tail FROM tails WHERE job = ?", job)
        return row["tail"] if row else ""

    def events(self, job: str) -> list[Message]:
        """A job's changes of state: time, state, reason, worker."""
        return [
            dict(row)
            for row in self._all(
                "SELECT time, state, reason, worker FROM events WHERE job = ? ORDER BY rowid", job
            )
        ]

    def unsaved(self) -> list[str]:
        """Ids of the jobs that have ended and may not survive a loss of power."""
        rows = self._all(
            "SELECT id FROM jobs WHERE ended IS NOT NULL AND NOT saved ORDER BY number"
        )
        return [row["id"] for row in rows]

    def unstored(self, jobs: Collection[str] | None = None) -> list[tuple[str, str]]:
        """Ids of jobs that have ended, or of these, and each place where one is not yet."""
        sql = "SELECT j.id, s.place FROM stores s JOIN jobs j USING (number) WHERE NOT s.done"
        sql += " AND j.ended IS NOT NULL"
        if jobs is not None:
            sql += " AND j.id IN (SELECT value FROM json_each(?))"
        listed = [] if jobs is None else [json.dumps(list(jobs))]
        return [tuple(row) for row in self._all(sql + " ORDER BY number", *listed)]

    def is_stored(self, job: str, place: str) -> bool:
        """Whether a job lies at a place."""
        row = self._one(
            "SELECT 1 FROM stores JOIN jobs USING (number) WHERE id = ? AND place = ? AND done",
            job,
            place,
        )
        return row is not None

    def stores_of(self, digest: str) -> list[str]:
        """Places where a frame lies, since a job does that names it."""
        rows = self._all(
            "SELECT DISTINCT s.place FROM frames f JOIN jobs j ON j.id = f.job"
            " JOIN stores s ON s.number = j.number WHERE f.digest = ? AND s.done",
            digest,
        )
        return [row["place"] for row in rows]

    def leavings(self) -> list[tuple[str, str]]:
        """Places, and names in them, of what is to be removed there: nobody needs it any more."""
        rows = self._all(
            "SELECT place, name FROM leavings WHERE substr(name, 1, 7) != 'frames/'"
            " OR NOT EXISTS (SELECT 1 FROM frames WHERE digest = substr(name, 8))"
        )
        return [tuple(row) for row in rows]

    def frames(self, job: str) -> dict[str, float]:
        """Digests of the frames that a job names, and when it did."""
        rows = self._all("SELECT digest, named FROM frames WHERE job = ?", job)
        return {row["digest"]: row["named"] for row in rows}

    def frame_bytes(self) -> int:
        """Bytes of all frames that jobs name, each counted once."""
        size = "CAST(substr(digest, instr(digest, '-') + 1) AS INTEGER)"
        row = self._one(f"SELECT sum({size}) AS total FROM (SELECT DISTINCT digest FROM frames)")
        return int(row["total"] or 0) if row is not None else 0

    def is_named(self, digest: str) -> bool:
        """Whether any job names the frame."""
        return self._one("SELECT 1 FROM frames WHERE digest = ? LIMIT 1", digest) is not None

    def values(self, sql: str, *values: Any) -> list[list[Any]]:
        """Answer the rows of a query, each as a list of its values."""
        return [list(row) for row in self._all(sql, *values)]

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Make one error of all that damage can raise."""
        try:
            yield
        except DAMAGE as error:
            raise unreadable(self.path, error) from error

    def _all(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        with self._reading():
            return self._execute(sql, *values).fetchall()

    def _one(self, sql: str, *values: Any) -> sqlite3.Row | None:
        with self._reading():
            row: sqlite3.Row | None = self._execute(sql, *values).fetchone()
            return row

    def _execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        with self._reading():
            return self._connection.execute(sql, values)


def _view_message(row: sqlite3.Row) -> Message:
    columns = dict(row)
    packed, result = columns.pop("spec"), columns.pop("result")
    columns["of"] = columns["of"] or ""
    columns["members"] = json.loads(columns["members"])
    if columns["store"]:
        columns["store"], columns["stored"], columns["store_problem"] = json.loads(columns["store"])
        columns["stored"] = bool(columns["stored"])
    else:
        columns["store"] = ""
    for flag in ("latest", "saved", "gathered"):
        columns[flag] = bool(columns[flag])
    if State(columns["state"]) is State.PENDING and columns["members"] and columns["started"]:
        columns["state"] = State.RUNNING  # its members do: its own cell has to wait for them
    try:
        brief = unpack(packed)
        return {**columns, **brief, "result": unpack(result) if result else None}
    except DAMAGE as error:
        # One damaged row does not hide the other jobs.
        reason = f"its record is damaged: {error}"
        return {**columns, "reason": reason, "result": None}


def _collected(packed: bytes | None) -> Message | None:
    """Unpack a member's result, without what a table of a thousand does not tell."""
    return {**unpack(packed), "environment": {}} if packed else None
