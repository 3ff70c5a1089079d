"""Preparation: what a cell reads, what of it is captured, and which jobs it waits for."""

from __future__ import annotations

import argparse
import sys
import types
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dask_async_run import surroundings
from dask_async_run.errors import JobStateError, NotPickledError, OptionError
from dask_async_run.job import State
from dask_async_run.kernel.building_on import (
    in_order,
    jobs_setting_up,
    jobs_sharing,
    may_be_new,
    mutable_objects,
    owners,
    reached,
    seeds_for,
    siblings,
    to_build_on,
)
from dask_async_run.kernel.cell_text import analyse_cell
from dask_async_run.kernel.lineage import Followed, Lineage, follow
from dask_async_run.kernel.pending import (
    PROVIDED,
    PendingName,
    last_results,
    pending_names,
    perhaps_made,
    results_in,
)
from dask_async_run.kernel.record import Record
from dask_async_run.kernel.session import Session
from dask_async_run.kernel.sweep_axes import sweep_axes
from dask_async_run.kernel.writing import files_of, jobs_on_files
from dask_async_run.namespace.analyse import Analysis, global_names
from dask_async_run.namespace.axes import Axis
from dask_async_run.namespace.capture import Captured, Wanted, capture
from dask_async_run.namespace.effects import Effects, learn
from dask_async_run.namespace.functions import Function, functions_behind
from dask_async_run.namespace.inputs import is_hidden
from dask_async_run.namespace.iterators import moves_on
from dask_async_run.namespace.remote import on_cluster

_MISSING = object()


@dataclass(slots=True)
class Prepared:
    """A cell that is ready to be submitted.

    Parameters
    ----------
    analysis : Analysis
    captured : Captured
    axes : list of Axis
        Of a sweep; else empty.
    parents : list of Record
        Jobs that its namespace builds on, in order of submission.
    pending : dict of str to str
        Names that come from other jobs, and from which.
    after : list of str
        Ids of jobs that must have finished first.
    lineage : Lineage
    makers : dict of str to list of int
        As of `JobSpec`.
    """

    analysis: Analysis
    captured: Captured
    axes: list[Axis]
    parents: list[Record] = field(default_factory=list)
    pending: dict[str, str] = field(default_factory=dict)
    after: list[str] = field(default_factory=list)
    lineage: Lineage = field(default_factory=Lineage)
    makers: dict[str, list[int]] = field(default_factory=dict)


def prepare(session: Session, code: str, options: argparse.Namespace) -> Prepared:
    """Find out what a cell needs and capture it.

    Raises
    ------
    SyntaxError, NotPickledError, OptionError
    """
    if options.max_parallel and not options.sweep:
        raise OptionError("--max-parallel", "it is for the members of a sweep: add --sweep")
    with on_cluster(session.remote):
        return _prepare(session, code, options)


def _prepare(session: Session, code: str, options: argparse.Namespace) -> Prepared:
    analysis = analyse_cell(session.shell, code)
    pending = {} if options.independent else pending_names(session)
    axes = sweep_axes(
        options.sweep,
        session.namespace,
        {name: made.makers[-1].spec.name for name, made in pending.items()},
        options.max_members,
    )
    given = {name for axis in axes for name in axis.names}
    pending = {name: made for name, made in pending.items() if name not in given}
    if not options.independent:
        asked_for = analysis.reads.keys() - pending.keys() - given
        pending |= perhaps_made(session, asked_for) | last_results(session, asked_for)
        _refuse_handles(session, analysis, pending)
    wanted = _wanted(session, analysis, code, pending)
    if axes:
        wanted = replace(wanted, axes=axes, not_here=wanted.not_here | given)
    makers = {name: made.makers for name, made in pending.items()}
    evaluated = analysis.weak if analysis.dynamic or analysis.opaque else analysis.effects.spelled
    asked = analysis.reads.keys() | (evaluated & pending.keys())
    if analysis.lists:
        asked |= pending.keys()
    followed = follow(asked, makers)
    while True:
        captured = _capture(session, _with(wanted, followed.names), counted=not options.cache)
        more = owners(captured, analysis.mutates, session.namespace)
        more |= siblings(captured, session.namespace)
        if more := more - wanted.mentions:
            wanted = replace(wanted, mentions=wanted.mentions | more)
            continue
        further = follow({*followed.names, *captured.elsewhere}, makers)
        if further.names <= {*followed.names, *captured.values, *captured.elsewhere}:
            break
        followed = further
    followed = further
    elsewhere = sorted(captured.elsewhere & pending.keys())
    parents = {record.id: record for name in elsewhere for record in pending[name].makers}
    analysis, lineage = _with_what_it_calls(
        analysis, code, captured, followed, set(elsewhere), makers
    )
    sharing: list[Record] = []
    if not options.independent:
        parents |= {record.id: record for record in jobs_setting_up(session)}
        if analysis.opaque:  # an earlier one may make its magic
            parents |= {record.id: record for record in to_build_on(session, session.waiting())}
        parents |= {record.id: record for record in results_in(session, code)}
        sharing = jobs_sharing(session, captured, followed)
        parents |= {record.id: record for record in sharing}
        ordered = in_order(session, parents)
        if seeds := seeds_for(session, ordered, sharing, captured):
            moving = may_be_new(captured, sharing)
            makers |= {name: [*makers.get(name, ()), *sharing] for name in moving}
            wanted = replace(
                wanted, not_here=wanted.not_here | moving, uncertain=wanted.uncertain | moving
            )
            seeded = [obj for key, obj in reached(captured).items() if key in seeds]
            inputs = _with(wanted, followed.names)
            captured = _capture(session, inputs, seeds, seeded, counted=not options.cache)
    ordered = in_order(session, parents)
    if session.drop_forgotten(ordered):
        return _prepare(session, code, options)
    _refuse_what_is_gone(session, captured, sharing)
    names = {name: pending[name].makers[-1].spec.name for name in elsewhere}
    after = [record.id for record in ordered]
    if not options.independent:
        after += [job.id for job in jobs_on_files(session, lineage.files) if job.id not in after]
    for view in session.jobs(options.after) if options.after else ():
        if view.id not in after:
            after.append(view.id)
    analysis = _with_what_is_new(analysis, session.namespace, pending)
    places = {record.id: place for place, record in enumerate(ordered)}
    perhaps = {
        name: [places[maker.id] for maker in makers.get(name, ()) if maker.id in places]
        for name in captured.fallbacks
    }
    return Prepared(analysis, captured, axes, ordered, names, after, lineage, perhaps)


def _refuse_what_is_gone(session: Session, captured: Captured, sharing: Iterable[Record]) -> None:
    """Refuse a cell that sees what a job changed which no cell can be given any more."""
    mine = mutable_objects(captured, captured.values) if sharing else frozenset()
    for record in sharing:
        parents = [session.records[job] for job in record.spec.parents if job in session.records]
        gone = [parent.loaded for parent in parents if parent.forgotten]
        theirs = {id(obj) for loaded in gone if loaded for obj in loaded.objects.values()}
        if gone and not mine.isdisjoint(theirs | record.lineage.changes):
            name = record.spec.name
            raise JobStateError(
                name,
                record.ended.state if record.ended is not None else State.PENDING,
                "the cell reads what it may have changed, and what it builds on was forgotten. "
                f"Gather it first (%async_gather {name})",
            )


def _with_what_is_new(
    analysis: Analysis, namespace: Mapping[str, Any], pending: Collection[str]
) -> Analysis:
    """Leave out what a cell imports and the notebook has already: no later cell waits for it."""
    known = {
        name
        for name, (module, attribute) in analysis.imported.items()
        if name not in pending
        and name in namespace
        and namespace[name] is _importable(module, attribute)
    }
    return replace(analysis, binds=analysis.binds - known, certain=analysis.certain - known)


def _importable(module: str, attribute: str) -> Any:
    """Answer what an import would bind, if its module is loaded here."""
    found: Any = sys.modules.get(module, _MISSING)
    if not attribute or found is _MISSING:
        return found
    return getattr(found, attribute, sys.modules.get(f"{module}.{attribute}", _MISSING))


def _refuse_handles(session: Session, analysis: Analysis, pending: Collection[str]) -> None:
    """Refuse a cell that reads a last result (``__``) which is to be gathered yet.

    Which one that is depends on what the jobs before it show.
    """
    handles = {id(r.handle): r for r in session.waiting() if r.handle is not None}
    for name, line in analysis.reads.items():
        record = handles.get(id(session.namespace.get(name))) if is_hidden(name) else None
        if record is not None and name not in pending:
            job = record.spec.name
            raise NotPickledError(
                name,
                "Job",
                (name,),
                line,
                f"it stands for the result of {job}, which has not been gathered",
                f"Gather it first (%async_gather {job}), or give that result a name in {job}.",
            )


def _wanted(
    session: Session, analysis: Analysis, code: str, pending: Mapping[str, PendingName]
) -> Wanted:
    # Whether a name was deleted (`except ... as e` does) shows where it was before.
    deletes = (analysis.deletes & session.namespace.keys()) - pending.keys()
    mentions = analysis.weak | deletes | {"__annotations__"}
    if analysis.unpickles or "__subclasses__" in words(code):
        # pickle looks classes and functions up by name, and a class does not know who
        # inherits from it.
        mentions |= {
            name
            for name, value in list(session.namespace.items())
            if issubclass(type(value), (type, types.FunctionType))
        }
    return Wanted(
        reads=analysis.reads,
        mentions=mentions,
        attributes=words(code),
        everything=analysis.dynamic or analysis.star or analysis.opaque,
        not_here=frozenset(pending) | (PROVIDED - _rebound(session)),
        uncertain=frozenset(name for name, made in pending.items() if not made.certain),
        hidden=frozenset(name for name in list(session.namespace) if is_hidden(name)),
    )


def _with(wanted: Wanted, names: Collection[str]) -> Wanted:
    """Add names that functions of pending jobs may read when they are called."""
    further = set(names) - wanted.reads.keys() - PROVIDED
    pending = further & wanted.not_here
    if not further:
        return wanted
    reads = {**dict.fromkeys(pending, 1), **wanted.reads}
    return replace(wanted, reads=reads, mentions=wanted.mentions | (further - pending))


def _with_what_it_calls(
    analysis: Analysis,
    code: str,
    captured: Captured,
    followed: Followed,
    elsewhere: set[str],
    makers: Mapping[str, Sequence[Record]],
) -> tuple[Analysis, Lineage]:
    """Add what a cell does through the functions that it calls; answer its lineage, too."""
    effects = analysis.effects
    called = functions_behind(captured.codes) | followed.functions
    learned = learn({*called, *effects.functions})
    known = elsewhere | captured.values.keys()
    changes: set[str] = set()
    binds: frozenset[str] = frozenset()
    random = _used_of_random(effects, {*called, *effects.functions})
    defaulting = _defaulting(captured, elsewhere, makers)
    if effects.runs:
        streams = {name for name, value in captured.values.items() if _moves(value)}
        plain = _plain(captured, makers)
        changes = effects.changes.names(learned.changing, plain)
        changes |= learned.names | (learned.operated - plain)
        used = analysis.reads.keys() | followed.needs | _read_by_code(captured)
        changes |= (followed.streams | streams | learned.moving) & used
        if defaulting:
            inserting = learn({*called, *effects.functions}, inserting=True)
            looked_up = effects.changes.names(inserting.changing, plain)
            changes |= (looked_up | inserting.names | inserting.operated) & defaulting
        changes &= known | analysis.binds
        binds = learned.binds
    analysis = replace(analysis, mutates=analysis.mutates | changes, binds=analysis.binds | binds)
    # More than what can change; nothing but that is looked for among them.
    places = frozenset(map(id, captured.objects.values())) | followed.places
    changed = follow(analysis.mutates & elsewhere, makers)
    needs = followed.needs.union(*effects.needs.values(), _read_by_code(captured))
    return analysis, Lineage(
        effects,
        frozenset(analysis.imported),
        places,
        mutable_objects(captured, analysis.mutates) | changed.places,
        frozenset({*called, *effects.functions}),
        frozenset(needs),
        effects.streams(learned.keepers),
        analysis.dynamic or analysis.star or analysis.opaque,
        analysis.rebinds,
        analysis.star,
        "draws" in random and "seeds" not in random,
        "seeds" in random,
        files_of(
            analysis,
            captured.values,
            {*called, *effects.functions},
            captured.objects.values(),
            {n for n in elsewhere if any(n in job.lineage.imported for job in makers[n])},
        ),
        bool(defaulting) or "defaultdict" in needs | words(code),
        frozenset(analysis.mutates),
    )


def _defaulting(
    captured: Captured, elsewhere: Iterable[str], makers: Mapping[str, Sequence[Record]]
) -> set[str]:
    """Answer the names that may lead to what gets an item when that is looked up."""
    found = {n for n in elsewhere if any(job.lineage.may_default(n) for job in makers[n])}
    objects = captured.objects.values()
    if any(issubclass(kind, defaultdict) for kind in set(map(type, objects))):
        ids = {id(obj) for obj in objects if issubclass(type(obj), defaultdict)}
        found |= {n for n in captured.values if not ids.isdisjoint(mutable_objects(captured, [n]))}
    return found


def _moves(value: Any) -> bool:
    """Whether a value is another one each time that it is used, closures that count included."""
    if type(value) is types.FunctionType and value.__closure__:  # a proxy's class may be gone
        return any(function.moves for function in functions_behind([value.__code__]))
    return moves_on(value)


def _plain(captured: Captured, makers: Mapping[str, Sequence[Record]]) -> set[str]:
    """Answer the names of functions, classes and modules, the pending ones included."""
    kinds = type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType
    found = {name for name, value in captured.values.items() if issubclass(type(value), kinds)}
    for name, jobs in makers.items():
        lineages = [job.lineage for job in jobs]
        if all(name in (each.imported | each.effects.definitions) for each in lineages):
            found.add(name)
    return found


def _used_of_random(effects: Effects, functions: Iterable[Function]) -> set[str]:
    """Answer what a cell does with the random numbers of this kernel, as of `used_of_random`."""
    used = effects.random.union(*(function.random for function in functions))
    return used if effects.runs else set()


def _read_by_code(captured: Captured) -> frozenset[str]:
    return frozenset(name for code in captured.codes for name in global_names(code).reads)


def words(code: str) -> frozenset[str]:
    return frozenset("".join(c if c.isalnum() or c == "_" else " " for c in code).split())


def _rebound(session: Session) -> set[str]:
    """Answer which of the shell's own names the user has given other values."""
    hidden = getattr(session.shell, "user_ns_hidden", {})
    missing = object()
    return {
        name
        for name in PROVIDED
        if name in session.namespace and session.namespace[name] is not hidden.get(name, missing)
    } - {"__name__"}


def _capture(
    session: Session,
    wanted: Wanted,
    seeds: Mapping[int, Any] | None = None,
    seeded: Iterable[Any] = (),
    counted: bool = True,
) -> Captured:
    """Capture what a cell needs, and its surroundings.

    Parameters
    ----------
    counted : bool
        Whether to tell where libraries have got to in counting what they make. It moves with each
        cell, and would have `--cache` find nothing.
    """
    shell = session.shell

    def late(files: set[str], words: set[str]) -> dict[str, Any]:
        found = surroundings.narrow(surroundings.read(shell, early=False), words)
        texts = surroundings.sources(files, shell)
        return found | ({"sources": texts} if texts else {})

    early = surroundings.read(shell, early=True)
    if not counted:
        early.pop(surroundings.COUNTERS.name, None)
    else:
        early = surroundings.apart(early, len(session.waiting()))
    return capture(session.namespace, wanted, early, late, seeds, seeded)
