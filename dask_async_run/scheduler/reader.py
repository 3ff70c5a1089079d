"""What a journal answers; also while no server runs."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

from dask_async_run.job import JobResult, JobSpec, JobView, Message
from dask_async_run.messages import plain, unpack

_VIEWS = """
SELECT j.number, j.id, j.notebook, j.name, j.version, j.state, j.reason, j.submitted,
    j.started, j.ended, j.worker, j.host, j.pid, j.outputs, j.last_line, j.nbytes, j.ename,
    j.evalue, j.saved, j.gathered, b.spec, b.result,
    NOT EXISTS (
        SELECT 1 FROM jobs k
        WHERE k.notebook = j.notebook AND k.name = j.name AND k.version > j.version
    ) AS latest
FROM jobs j JOIN briefs b ON b.number = j.number
"""


class JournalReader:
    """The questions that a journal answers; `journal.open_readonly` gives one.

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
    ) -> list[Message]:
        """Jobs as `JobView` messages, with their ``number`` too, in order of submission.

        Parameters
        ----------
        notebook, states, jobs
            Only those of this notebook, in one of these states, with one of these ids.
        after, limit : int
            Only those with higher numbers, and not more than so many.

        Notes
        -----
        What a running cell uses (`memory`, `cpu`) is not in the journal.
        """
        conditions, values = ["j.number > ?"], list[Any]([after])
        if notebook is not None:
            conditions.append("j.notebook = ?")
            values.append(plain(notebook))
        for column, chosen in (("j.state", states), ("j.id", jobs)):
            if chosen is not None:
                conditions.append(f"{column} IN (SELECT value FROM json_each(?))")
                values.append(json.dumps(list(chosen)))
        where = " AND ".join(conditions)
        sql = f"{_VIEWS} WHERE {where} ORDER BY j.number LIMIT ?"
        rows = self._all(sql, *values, limit)
        return [_view_message(row) for row in rows]

    def views(
        self, notebook: str | None = None, states: Iterable[str] | None = None
    ) -> list[JobView]:
        """Jobs in order of submission: all, those of a notebook, those in some states."""
        return [JobView.from_message(row) for row in self.rows(notebook, states)]

    def known(self, jobs: Iterable[str]) -> set[str]:
        """Those of these ids that exist."""
        rows = self._all(
            "SELECT id FROM jobs WHERE id IN (SELECT value FROM json_each(?))",
            json.dumps(list(jobs)),
        )
        return {row["id"] for row in rows}

    def names(self) -> list[str]:
        """Names of jobs, the latest first, not too many: to say what there is instead."""
        rows = self._all("SELECT name FROM jobs ORDER BY number DESC LIMIT 200")
        return list(dict.fromkeys(row["name"] for row in rows))

    def spec(self, job: str) -> JobSpec | None:
        """The whole spec; None if there is no such job."""
        row = self._one("SELECT spec FROM specs JOIN jobs USING (number) WHERE id = ?", job)
        return JobSpec.from_message(unpack(row["spec"])) if row else None

    def result(self, job: str) -> JobResult | None:
        """The whole result; None if there is none."""
        row = self._one("SELECT result FROM results JOIN jobs USING (number) WHERE id = ?", job)
        return JobResult.from_message(unpack(row["result"])) if row else None

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
        for row in cursor:
            found.append((row["seq"], row["time"], row["output"]))
            limit -= len(row["output"])
            if limit <= 0:
                break
        cursor.close()
        return found

    def latest(
        self, job: str, count: int = 100, limit: int = 4 * 1024 * 1024
    ) -> Iterator[tuple[int, bytes]]:
        """Yield the last outputs, the last one first, until there were `count` or `limit` bytes.

        Yields
        ------
        (int, bytes)
            Number, and the output in nbformat's terms, packed.
        """
        cursor = self._execute(
            "SELECT seq, output FROM outputs WHERE job = ? ORDER BY seq DESC LIMIT ?", job, count
        )
        try:
            for row in cursor:
                yield row["seq"], row["output"]
                limit -= len(row["output"])
                if limit <= 0:
                    break
        finally:
            cursor.close()

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

    def frames(self, job: str) -> dict[str, float]:
        """Digests of the frames that a job names, and when it did."""
        rows = self._all("SELECT digest, named FROM frames WHERE job = ?", job)
        return {row["digest"]: row["named"] for row in rows}

    def is_named(self, digest: str) -> bool:
        """Whether any job names the frame."""
        return self._one("SELECT 1 FROM frames WHERE digest = ? LIMIT 1", digest) is not None

    def _all(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        return self._execute(sql, *values).fetchall()

    def _one(self, sql: str, *values: Any) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self._execute(sql, *values).fetchone()
        return row

    def _execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        return self._connection.execute(sql, values)


def _view_message(row: sqlite3.Row) -> Message:
    columns = dict(row)
    result = columns.pop("result")
    for flag in ("latest", "saved", "gathered"):
        columns[flag] = bool(columns[flag])
    brief = unpack(columns.pop("spec"))
    return {**columns, **brief, "result": unpack(result) if result else None}
