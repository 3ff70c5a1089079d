"""A job's record: all that a journal knows of it, as bytes that another journal can take in.

With the frames that it names, that is the job: it can be gathered where it was taken in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from dask_async_run.errors import ServerError
from dask_async_run.job import Message, State
from dask_async_run.messages import pack, unpack
from dask_async_run.scheduler.reader import JournalReader
from dask_async_run.scheduler.schema import DAMAGE, SCHEMA_VERSION

_BY_NUMBER = {
    "briefs": "spec, result",
    "specs": "spec",
    "results": "result",
    "members": "sweep, member",
    "caches": "key",
    "spans": "seconds",
}
_BY_JOB = {
    "outputs": "seq, time, output",
    "tails": "tail",
    "events": "time, state, reason, worker",
    "frames": "digest, named",
}
_COLUMNS = (
    "id, notebook, name, version, state, reason, attempt, submitted, started, ended, worker, host,"
    " pid, outputs, last_line, nbytes, ename, evalue, gathered"
)
_FIELDS = tuple(_COLUMNS.replace(" ", "").split(","))
_VERSION = _FIELDS.index("version")


def record_of(journal: JournalReader, job: str) -> bytes | None:
    """Answer a job's record; None if there is no such job (any more)."""
    rows = journal.values(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", job)
    if not rows:
        return None
    record: Message = {"schema": SCHEMA_VERSION, "job": rows[0]}
    for table, columns in _BY_NUMBER.items():
        sql = f"SELECT {columns} FROM {table} JOIN jobs USING (number) WHERE id = ?"
        record[table] = journal.values(sql, job)
    for table, columns in _BY_JOB.items():
        record[table] = journal.values(f"SELECT {columns} FROM {table} WHERE job = ?", job)
    return pack(record)


def opened(job: str, packed: bytes) -> Message:
    """Decode the record of a job.

    Raises
    ------
    ServerError
        It is none, or a newer version wrote it.
    """
    try:
        record: Message = unpack(packed)
        if record["schema"] > SCHEMA_VERSION:
            raise ServerError(
                "a newer dask_async_run wrote the record of a job there "
                f"(its schema is {record['schema']}, this one knows {SCHEMA_VERSION})"
            )
        facts = dict(zip(_FIELDS, record["job"], strict=True))
        if facts["id"] != job:
            raise ValueError("it is another job's")
        chosen = ("id", "notebook", "name", "submitted")
        (record["sweep"], record["member"]), *_ = record["members"] or [("", -1)]
        return {**record, **{name: facts[name] for name in chosen}}
    except DAMAGE as error:
        raise ServerError(f"the record of job {job[:8]} there cannot be read: {error}") from error


def statements(
    record: Message, version: int, place: str, now: float
) -> Iterator[tuple[str, Sequence[Any]]]:
    """Yield the statements, and their values, that take a record into a journal.

    Parameters
    ----------
    record : dict
        As `opened` answers it.
    version : int
        Of the job's name, in that journal.
    place : str
        Where it lies.
    now : float
        Seconds since the epoch.
    """
    values = list(record["job"])
    values[_VERSION] = version
    marks = ", ".join("?" * len(values))
    # It is as safe as its store: there is nothing of it here that could be synced.
    yield f"INSERT INTO jobs ({_COLUMNS}, saved) VALUES ({marks}, 1)", values
    job = record["id"]
    number = "(SELECT number FROM jobs WHERE id = ?)"
    for table, columns in _BY_NUMBER.items():
        for row in record.get(table, ()):  # an older version wrote it
            marks = ", ".join("?" * len(row))
            sql = f"INSERT INTO {table} (number, {columns}) VALUES ({number}, {marks})"
            yield sql, [job, *row]
    for table, columns in _BY_JOB.items():
        for row in record[table]:
            marks = ", ".join("?" * len(row))
            yield f"INSERT INTO {table} (job, {columns}) VALUES (?, {marks})", [job, *row]
    yield (
        f"INSERT INTO stores (number, place, done) VALUES ({number}, ?, 1)",
        [job, place],
    )
    if values[_FIELDS.index("ended")] is None:
        yield (
            "UPDATE jobs SET state = ?, reason = ?, ended = ? WHERE id = ?",
            [State.LOST, "its server is gone", now, job],
        )
