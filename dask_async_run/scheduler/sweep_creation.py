"""How a sweep is made: itself, and its members."""

from __future__ import annotations

import re

from dask_async_run.errors import ServerError
from dask_async_run.job import JobSpec, State
from dask_async_run.scheduler.events import Members, Record, SweepCreated
from dask_async_run.scheduler.journal import Journal
from dask_async_run.sweeps import COLLECTING_RETRIES, MOST, member_id, member_name, size


def create_sweep(
    journal: Journal, spec: JobSpec, version: int, now: float, place: str = ""
) -> SweepCreated:
    """Write a sweep and its members to the journal; answers the event that tells of them.

    `place` is as of `Journal.create`.

    Raises
    ------
    ServerError
        It could not be written, or cannot be a sweep: there is nothing of it.
    """
    if not 0 < size(spec.sweep) <= MOST or re.search(r"[\[\]]", spec.name):
        raise ServerError(f"{spec.name!r} cannot be a sweep of {size(spec.sweep)} members")
    members = [
        Record(
            id=member_id(spec.id, number),
            notebook=spec.notebook,
            name=member_name(spec.name, number),
            version=version,
            after=frozenset(spec.after),
            retries=spec.retries,
            sweep=spec.id,
        )
        for number in range(size(spec.sweep))
    ]
    finished = _finished(journal, spec)
    taken_over = {member_id(spec.id, number): old for number, old in finished.items()}
    to_run = [member for member in members if member.id not in taken_over]
    record = Record(
        id=spec.id,
        notebook=spec.notebook,
        name=spec.name,
        version=version,
        retries=COLLECTING_RETRIES,
        members=Members(
            open=dict.fromkeys(member.id for member in to_run),
            at_once=spec.sweep["at_once"],
        ),
    )
    assert record.members is not None
    record.members.ended[State.FINISHED] = len(taken_over)
    journal.create(record, spec, now, members, list(taken_over.items()), place)
    return SweepCreated(record, to_run, journal.ended(spec.after), now)


def _finished(journal: Journal, spec: JobSpec) -> dict[int, str]:
    """Answer which members of the sweep that is run again have finished, by their numbers."""
    again = spec.sweep.get("again")
    if not again:
        return {}
    rows = journal.rows(states=[State.FINISHED], sweep=again)
    return {row["member"]: row["id"] for row in rows}
