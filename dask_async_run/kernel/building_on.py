"""Which earlier jobs a cell builds on: those that may change an object which it sees, too."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from dask_async_run.job import State
from dask_async_run.kernel.cell_text import submits
from dask_async_run.kernel.lineage import Followed, Place
from dask_async_run.kernel.record import Record
from dask_async_run.kernel.session import Session
from dask_async_run.namespace.beside import MODULE, PART
from dask_async_run.namespace.capture import Captured
from dask_async_run.namespace.classify import kind_of
from dask_async_run.namespace.containers import COMMONEST, LEAF
from dask_async_run.namespace.inputs import is_hidden
from dask_async_run.namespace.kinds import ATOMS
from dask_async_run.namespace.sharing import owners_of


def mutable_objects(captured: Captured, names: Iterable[str]) -> frozenset[Place]:
    """Answer the ``id`` of every changeable object that is reachable from some inputs.

    Where that is a view of an array, of the array, too.
    """
    found = _changeable(captured, names)
    return frozenset(found.keys() | owners_of(found.values()).keys())


def owners(
    captured: Captured, names: Iterable[str], namespace: Mapping[str, Any]
) -> frozenset[str]:
    """Answer names of arrays that have not been captured, on the memory of others that are views.

    The array that owns the memory, or, where it has no name (``np.arange(6).reshape(2, 3)``), all
    that show it: what shows it later is then made a view of the one that was changed.

    Parameters
    ----------
    captured : Captured
    names : iterable of str
        From which the others are reached: who changes these, changes those.
    namespace : mapping
    """
    found = owners_of(_changeable(captured, names).values())
    if not found:
        return frozenset()
    values = [(name, value) for name, value in list(namespace.items()) if not is_hidden(name)]
    named = {id(value) for _, value in values}
    return frozenset(
        name
        for name, value in values
        if name not in captured.values and (id(value) in found or _shows(value, found, named))
    )


_TEE: type = type(itertools.tee(())[0])


def siblings(captured: Captured, namespace: Mapping[str, Any]) -> frozenset[str]:
    """Answer names that go on with what others of `itertools.tee` take, where one is captured."""
    if not any(type(value) is _TEE for value in captured.values.values()):
        return frozenset()
    return frozenset(
        name
        for name, value in list(namespace.items())
        if type(value) is _TEE and name not in captured.values and not is_hidden(name)
    )


def _shows(value: Any, owners: Mapping[int, Any], named: Collection[int]) -> bool:
    """Whether an array shows the memory of one of those owners that has no name."""
    return any(key in owners and key not in named for key in owners_of([value]))


def _changeable(captured: Captured, names: Iterable[str]) -> dict[int, Any]:
    found: dict[int, Any] = {}
    pending = [captured.values[name] for name in names if name in captured.values]
    while pending:
        obj = pending.pop()
        if id(obj) in found:
            continue
        kind = COMMONEST.get(type(obj)) or kind_of(obj)
        if kind is None or kind is LEAF or kind is PART or kind is MODULE:  # `in` compares fields
            continue
        found[id(obj)] = obj
        pending += [child for child in kind.children(obj) if type(child) not in ATOMS]
    return found


def jobs_sharing(session: Session, captured: Captured, followed: Followed) -> list[Record]:
    """Answer the unfinished or ungathered jobs that may change an object which a cell sees."""
    candidates = [record for record in session.waiting() if record.lineage.changes]
    if not candidates:
        return []
    mine = mutable_objects(captured, captured.values) | followed.places
    for record, objects in _brought(session, candidates):
        here = set(map(id, objects))
        if not mine.isdisjoint(here):
            mine |= {record.id, *((record.id, name) for name in record.lineage.effects.definitions)}
        if record.id in mine:  # who came to it before it was gathered may hold all of these
            mine |= here
    return [
        record
        for record in to_build_on(session, candidates)
        if not mine.isdisjoint(record.lineage.changes)
    ]


def _brought(
    session: Session, candidates: Iterable[Record]
) -> Iterator[tuple[Record, Collection[Any]]]:
    """Yield the gathered jobs that some build on, and their objects, which are here now."""
    for job in {job for record in candidates for job in record.spec.parents} & session.gathered:
        record = session.records.get(job)
        if record is not None and record.loaded is not None:
            yield record, record.loaded.objects.values()


def jobs_setting_up(session: Session) -> list[Record]:
    """Answer the ungathered jobs that set what surrounds all later ones."""
    candidates = [record for record in session.waiting() if record.sets_up]
    return to_build_on(session, candidates) if candidates else []


def to_build_on(session: Session, candidates: Sequence[Record]) -> list[Record]:
    """Answer those jobs that have finished, or may."""
    endings = session.endings(candidates)
    ended = {job: end for job, end in endings.items() if end is not None}
    return [
        record
        for record in candidates
        if record.id in endings
        and (record.id not in ended or ended[record.id].state == State.FINISHED)
    ]


def seeds_for(
    session: Session, ordered: list[Record], sharing: list[Record], captured: Captured
) -> dict[int, Any]:
    """Answer tokens for the objects of some inputs that earlier jobs have, too.

    That is those which they may change, and those that nothing here can have changed since.
    Of several jobs that may change an object the last one counts: it waits for
    the others and has the object from them.
    """
    mine = reached(captured).keys()
    changed = {place for record in sharing for place in record.lineage.changes}
    first: dict[int, Any] = {}
    last: dict[int, Any] = {}
    for number, record in enumerate(ordered):
        if record.id in session.gathered and record.loaded is not None and sharing:
            brought = ((id(obj), index) for index, obj in record.loaded.objects.items())
            first |= {key: (2 * number + 2, index) for key, index in brought if key in mine}
        if record.kept is None:
            continue
        still = _is_nothing_run_since(session, record)
        for key, index in record.kept.indices().items():
            if key in mine and (still or key in changed):
                first[key] = (2 * number + 1, index)
                if record in sharing and key in record.lineage.changes:
                    last[key] = first[key]
    return first | last


def reached(captured: Captured) -> dict[int, Any]:
    """Answer the objects of some inputs, and those whose memory they have, by their ``id``."""
    found = {id(obj): obj for obj in captured.objects.values()}
    return found | owners_of(found.values())


def may_be_new(captured: Captured, sharing: Iterable[Record]) -> frozenset[str]:
    """Answer names whose objects those jobs may replace: iterators are not moved on in place."""
    changed = {place for record in sharing for place in record.lineage.changes}
    return frozenset(
        name
        for name, value in captured.values.items()
        if id(value) in changed and issubclass(type(value), Iterator)
    )


def _is_nothing_run_since(session: Session, record: Record) -> bool:
    """Whether all cells since a job was submitted, its own included, only submitted others."""
    begun = record.spec.execution_count
    if session.shell is None or begun is None or record.spec.of:
        return False
    if len(session.gathered) != record.gathered_before:
        return False  # `--gather`, or by itself: what came is here, and not there
    typed = session.shell.history_manager.input_hist_raw
    return all(map(submits, typed[begun:]))


def in_order(session: Session, parents: Mapping[str, Record]) -> list[Record]:
    """Answer jobs and all that they build on, in order of submission; not what was forgotten."""
    needed: set[str] = set()
    pending = list(parents)
    while pending:
        job = pending.pop()
        record = session.records.get(job)
        if job not in needed and record is not None and not record.forgotten:
            needed.add(job)
            pending.extend(record.spec.parents)
    return [record for key, record in session.records.items() if key in needed]
