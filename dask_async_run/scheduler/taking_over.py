"""Taking over: a job that was just made gets the end, outputs and result of another one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_COLUMNS = (
    "state, attempt, started, ended, worker, host, pid, outputs, last_line, nbytes, ename, evalue"
)
_COPIED = {
    "outputs": "seq, time, output",
    "tails": "tail",
    "events": "time, state, reason, worker",
    "frames": "digest, named",
}
"""What a job leaves behind in tables of their own."""

_NUMBER = "(SELECT number FROM jobs WHERE id = ?)"


def writes(job: str, old: str) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield the statements, and their values, after which `job` needs `old` no more.

    Parameters
    ----------
    job, old : str
        Ids: of a job that has nothing yet but its inputs, and of one that has ended.
    """
    yield (
        f"UPDATE jobs SET ({_COLUMNS}) = (SELECT {_COLUMNS} FROM jobs WHERE id = ?) WHERE id = ?",
        (old, job),
    )
    brief = f"(SELECT result FROM briefs WHERE number = {_NUMBER})"
    yield f"UPDATE briefs SET result = {brief} WHERE number = {_NUMBER}", (old, job)
    result = f"SELECT {_NUMBER}, result FROM results WHERE number = {_NUMBER}"
    yield f"INSERT INTO results (number, result) {result}", (job, old)
    took = f"SELECT {_NUMBER}, seconds FROM spans WHERE number = {_NUMBER}"
    yield f"INSERT INTO spans (number, seconds) {took}", (job, old)
    for table, columns in _COPIED.items():
        rows = f"SELECT ?, {columns} FROM {table} WHERE job = ?"
        # Of frames the two may have the same inputs.
        yield f"INSERT OR REPLACE INTO {table} (job, {columns}) {rows}", (job, old)
