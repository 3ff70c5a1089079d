"""Pending names: what ungathered jobs bind or delete."""

from __future__ import annotations

import builtins
import re
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dask_async_run.job import State
from dask_async_run.kernel.building_on import to_build_on
from dask_async_run.kernel.cell_text import shows
from dask_async_run.kernel.record import Record
from dask_async_run.kernel.session import Session
from dask_async_run.namespace.inputs import is_hidden

_NUMBERED = re.compile(r"\b(?:Out|_oh)\s*\[\s*(\d+)\s*\]")
PROVIDED = frozenset({"get_ipython", "exit", "quit", "open", "display", "__name__"})
"""Names that a shell has of its own."""


@dataclass(slots=True)
class PendingName:
    """A name that ungathered jobs bind or delete.

    Parameters
    ----------
    makers : list of Record
        The jobs that its value may be of, the latest last.
    certain : bool
        Whether one of them binds it in any case.
    """

    makers: list[Record]
    certain: bool


def pending_names(session: Session, ask: bool = True) -> dict[str, PendingName]:
    """Answer the names that ungathered jobs of this kernel bind or delete.

    A name that was bound or deleted here since a job was submitted is not that job's any more:
    gathering leaves it alone, too. Without `ask`, of what is known here of the jobs' ends.
    """
    waiting = session.waiting()
    if not waiting:
        return {}
    endings = session.endings(waiting) if ask else {record.id: record.ended for record in waiting}
    found: dict[str, PendingName] = {}
    for record in waiting:
        end = endings.get(record.id)
        if record.id not in endings or (end is not None and end.state != State.FINISHED):
            continue
        if end is not None and end.result is not None:
            certain = names = {*end.result["bound"], *end.result["deleted"]}
        else:
            spec = record.spec
            names, certain = {*spec.binds, *spec.deletes}, {*spec.certain, *spec.removes}
        if record.spec.only:
            names = names & {*record.spec.only}
        names = names - record.brought
        kept, namespace = record.kept, session.namespace
        for name in names:
            if kept is not None and not (is_hidden(name) or kept.stands(name, namespace)):
                continue
            if name in certain or name not in found:
                found[name] = PendingName([record], name in certain)
            else:
                found[name].makers.append(record)
    return found


def changed_names(session: Session, reads: Iterable[str], guess: bool) -> dict[str, PendingName]:
    """Answer which names that a cell reads lead to what ungathered jobs have changed in place.

    Not what is called: a cache that a job has filled is no other function.

    Parameters
    ----------
    session : Session
    reads : iterable of str
    guess : bool
        Take what jobs that have not ended may change for changed, too.
    """
    found: dict[str, PendingName] = {}
    waiting = to_build_on(session, session.waiting())
    overtaken = _changed_by_later_ones(session, waiting)
    for record in waiting:
        end = record.ended
        if record.spec.sweep:  # which brings a table
            continue
        if end is None:
            names = record.lineage.mutates if guess else frozenset()
        else:
            names = frozenset((end.result or {}).get("mutated") or ())
        if record.spec.only:
            names &= {*record.spec.only}
        for name in names.intersection(reads) - record.brought - overtaken[record.id]:
            value = session.namespace.get(name)
            stands = record.kept is None or record.kept.stands(name, session.namespace)
            if not stands or callable(value) or _is_lasting(value):
                continue
            made = found.setdefault(name, PendingName([], end is not None))
            made.makers.append(record)
    return found


def _changed_by_later_ones(
    session: Session, waiting: Iterable[Record]
) -> dict[str, frozenset[str]]:
    """Answer, for each job, names whose objects later ones have changed here: they stay so."""
    found: dict[str, frozenset[str]] = {}
    later: frozenset[str] = frozenset()
    missing = {record.id for record in waiting}
    for record in reversed(session.records.values()):
        if not missing:  # before these, there may be thousands
            break
        missing.discard(record.id)
        found[record.id] = later
        later |= record.changed_here
    return found


def perhaps_made(session: Session, names: Iterable[str]) -> dict[str, PendingName]:
    """Answer names that jobs may bind of which nobody knows what they bind before they have ended.

    Names that nobody has; those that are here, too, where a job runs code that is not known here.
    """
    candidates = [record for record in session.waiting() if record.lineage.binds_more]
    if not candidates:
        return {}
    jobs = [r for r in to_build_on(session, candidates) if r.ended is None]
    stars = [record for record in jobs if record.lineage.star]
    running = [record for record in jobs if record.lineage.rebinds]

    def makers(name: str) -> list[Record]:
        if name in session.namespace:
            return [] if _is_lasting(session.namespace[name]) else running
        return stars if hasattr(builtins, name) else jobs

    found = {name: makers(name) for name in names if name not in PROVIDED}
    return {name: PendingName(list(jobs), False) for name, jobs in found.items() if jobs}


def _is_lasting(value: Any) -> bool:
    """Whether a value is what a name is hardly given another one for: ``np``."""
    return issubclass(type(value), types.ModuleType)


def last_results(session: Session, names: Iterable[str]) -> dict[str, PendingName]:
    """Answer which of some names (``_``, ``_7``) stand for what pending jobs are to show.

    Of several jobs the last one counts that shows something, which only these know.
    """
    handles = {id(r.handle): r for r in session.waiting() if r.handle is not None}
    found: dict[str, PendingName] = {}
    for name in names:
        record = handles.get(id(session.namespace.get(name))) if is_hidden(name) else None
        if record is None:
            continue
        if name == "_":  # of which a loop may have made a variable: it stays one then
            makers = [
                each
                for each in handles.values()
                if name in each.spec.binds or shows(session.shell, each.spec.code)
            ]
        else:
            makers = [record] if name == f"_{record.spec.execution_count}" else []
        if makers := to_build_on(session, makers):
            found[name] = PendingName(makers, True)
    return found


def results_in(session: Session, code: str) -> list[Record]:
    """Answer the pending jobs whose results some code reads by their numbers: ``Out[7]``."""
    numbers = {int(number) for number in _NUMBERED.findall(code)}
    waiting = session.waiting() if numbers else []
    return to_build_on(session, [r for r in waiting if r.spec.execution_count in numbers])


def stale_names(
    session: Session, pending: Mapping[str, PendingName], reads: Iterable[str]
) -> dict[str, PendingName]:
    """Answer which of the names that a cell reads here are pending ones."""
    reads = frozenset(reads)
    stale = {name: made for name, made in pending.items() if name in reads}
    if session.drop_forgotten(record for made in stale.values() for record in made.makers):
        return stale_names(session, pending_names(session), reads)
    return stale
