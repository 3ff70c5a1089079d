"""A chain that is run again builds on the first new runs that have not come to nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dask_async_run.errors import JobStateError
from dask_async_run.job import JobSpec, State
from dask_async_run.scheduler.chains import mended
from dask_async_run.scheduler.events import Record
from dask_async_run.scheduler.journal import Journal
from scripted import job_spec


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal.open(tmp_path / "journal.sqlite")
    yield journal
    journal.close()


def add(journal: Journal, spec: JobSpec, state: State) -> JobSpec:
    version = journal.next_version(spec.notebook, spec.name)
    record = Record(spec.id, spec.notebook, spec.name, version, frozenset(spec.after))
    journal.create(record, spec, time.time())
    record.state, record.ended = state, time.time() if state.terminal else None
    journal.store(record, time.time())
    return spec


def chained(name: str, *before: JobSpec) -> JobSpec:
    ids = [spec.id for spec in before]
    return job_spec(name, after=ids, parents=ids)


def again(journal: Journal, spec: JobSpec) -> JobSpec:
    return mended(spec.again(spec.notebook), journal.ended(spec.after), journal)


def test_new_runs_take_the_place_of_what_came_to_nothing(journal: Journal) -> None:
    """What had finished stays what it was, also where it was run again."""
    first = add(journal, job_spec("first"), State.FINISHED)
    add(journal, first.again("nb"), State.FINISHED)
    lost = add(journal, job_spec("lost"), State.LOST)
    last = add(journal, chained("last", first, lost), State.CANCELLED)
    with pytest.raises(JobStateError, match="it comes after 'lost', which was lost"):
        again(journal, last)
    add(journal, lost.again("nb"), State.FAILED)
    add(journal, job_spec("lost"), State.FINISHED)  # another cell of that name
    with pytest.raises(JobStateError, match="Run 'lost@1' again first"):
        again(journal, last)
    new = add(journal, lost.again("nb").again("nb"), State.PENDING)
    add(journal, lost.again("nb"), State.FINISHED)
    found = again(journal, last)
    assert found.after == found.parents == [first.id, new.id]


def test_all_of_a_chain_builds_on_the_same_runs(journal: Journal) -> None:
    """A job in the middle that was run again counts only with what it built on itself."""
    lost = add(journal, job_spec("lost"), State.LOST)
    middle = add(journal, chained("middle", lost), State.CANCELLED)
    last = add(journal, chained("last", lost, middle), State.CANCELLED)
    lost_2 = add(journal, lost.again("nb"), State.FINISHED)
    middle_2 = add(journal, again(journal, middle), State.FINISHED)
    add(journal, lost.again("nb"), State.FINISHED)
    assert again(journal, last).parents == [lost_2.id, middle_2.id]
    journal.forget([lost_2.id])  # the next run is another object: middle_2 did not build on it
    with pytest.raises(JobStateError, match="'middle@1', which was cancelled"):
        again(journal, last)


def test_a_mere_order_asks_for_nothing_else(journal: Journal) -> None:
    """What it only comes after (``--after``) may have built on anything."""
    other = add(journal, job_spec("other"), State.FINISHED)
    lost = add(journal, chained("lost", other), State.LOST)
    last = add(journal, job_spec("last", after=[lost.id]), State.CANCELLED)
    new = add(journal, again(journal, lost), State.RUNNING)
    found = again(journal, last)
    assert (found.after, found.parents) == ([new.id], [])
