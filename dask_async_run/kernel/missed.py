"""Who missed a change: jobs that had an object as it was before an earlier job changed it.

Which jobs wait for one another is guessed from their code (`namespace._mutations`), since it has
to be known when they are submitted. What a job has changed in place is known when it is gathered.
Whoever was submitted in between, does not build on that job and sees one of those objects would,
run here, have seen the change: this is told, by name.
"""

from __future__ import annotations

from collections.abc import Iterator

from dask_async_run.kernel.record import Record
from dask_async_run.kernel.session import Session
from dask_async_run.namespace.merge import reached


def who_missed(
    session: Session, record: Record, changed: set[int]
) -> Iterator[tuple[str, list[str]]]:
    """Yield the jobs that did not see what a job has changed, and through which names they would.

    Parameters
    ----------
    session : Session
    record : Record
        Of a job that is being gathered for the first time: what was submitted before that was
        sent what there was here.
    changed : set of int
        ``id`` of the objects here that it has changed.
    """
    if not changed:
        return
    later = False
    for other in session.records.values():
        if later and _would_have_seen(other, record) and (names := _names(session, other, changed)):
            yield other.spec.name, names
        later = later or other is record


def _would_have_seen(other: Record, record: Record) -> bool:
    """Whether a job was to see what an earlier one does, as far as that was known."""
    asked_for = other.independent or other.spec.rerun_of  # what it gets is what it was to get
    return not (other.forgotten or asked_for or record.id in other.spec.parents)


def _names(session: Session, other: Record, changed: set[int]) -> list[str]:
    """Answer the names through which a job sees one of some objects, be it by an earlier job's."""
    names = other.kept.names_of(changed) if other.kept is not None else []
    if other.spec.parents:
        here = session.namespace
        theirs = [n for n in other.spec.reads if n in here and n not in names]
        brought = (job for job in other.spec.parents if job in session.records)
        made = {name for job in brought for name in session.records[job].brought}
        names += [n for n in theirs if n in made and not changed.isdisjoint(reached([here[n]]))]
    return names


def told(label: str, missed: Iterator[tuple[str, list[str]]]) -> Iterator[str]:
    """Yield what is to be said of each of those jobs.

    Parameters
    ----------
    label : str
        Of the job that is gathered.
    missed : iterator of (str, list of str)
        As from `who_missed`.
    """
    for name, names in missed:
        yield (
            f"{label}: it has changed {', '.join(names)}, which its code did not tell: {name} got "
            "that as it was before. Submit that cell again to have it run with the change."
        )
