"""Submission: a cell becomes a job.

Analysed, captured, shipped and registered, in this order; until the one call to
the registry nothing has happened that anyone could see. What a job reads and an
earlier, ungathered job of this kernel will bind comes from that job on the
cluster; so do objects that it may change in place.

Small inputs are copied before the call returns, which makes them a snapshot; of large ones one is
taken (see `dask_async_run.kernel.snapshot`), and the registry copies it while the notebook goes on.
"""

from __future__ import annotations

import argparse
import builtins
import sys
import time
import types
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Any

from dask_async_run import surroundings
from dask_async_run.errors import FrameError, NotPickledError, OptionError, ServerError
from dask_async_run.frames import payload_of
from dask_async_run.job import JobSpec, JobView, Message, Payload, State
from dask_async_run.kernel.caching import cache_key
from dask_async_run.kernel.files import Outgoing
from dask_async_run.kernel.lineage import Followed, Lineage, Place, follow
from dask_async_run.kernel.local_code import LARGEST, LocalCode
from dask_async_run.kernel.preflight import in_use
from dask_async_run.kernel.record import Record
from dask_async_run.kernel.replay import Unders
from dask_async_run.kernel.session import Session
from dask_async_run.kernel.sweep_axes import sweep_axes
from dask_async_run.kernel.warming import imported
from dask_async_run.looks import bytes_text
from dask_async_run.namespace.analyse import Analysis, analyse, global_names
from dask_async_run.namespace.axes import Axis
from dask_async_run.namespace.beside import MODULE, PART
from dask_async_run.namespace.capture import Captured, Wanted, capture
from dask_async_run.namespace.classify import kind_of
from dask_async_run.namespace.containers import LEAF
from dask_async_run.namespace.effects import functions_behind, learn
from dask_async_run.namespace.inputs import is_hidden
from dask_async_run.namespace.iterators import moves_on
from dask_async_run.namespace.kinds import ATOMS
from dask_async_run.namespace.merge import Kept
from dask_async_run.namespace.remote import on_cluster
from dask_async_run.namespace.sharing import held_by_frames
from dask_async_run.quantities import NO_LIMIT
from dask_async_run.store_url import NO_STORE
from dask_async_run.sweeps import as_sweep

_MISSING = object()
_PROVIDED = frozenset({"get_ipython", "exit", "quit", "open", "display", "__name__"})


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
    """

    analysis: Analysis
    captured: Captured
    axes: list[Axis]
    parents: list[Record] = field(default_factory=list)
    pending: dict[str, str] = field(default_factory=dict)
    after: list[str] = field(default_factory=list)
    lineage: Lineage = field(default_factory=Lineage)


def analyse_cell(shell: Any, code: str) -> Analysis:
    """Analyse a cell as IPython would run it.

    Raises
    ------
    SyntaxError
        At the line that the user sees.
    """
    flags = surroundings.future_flags(shell)
    return analyse(_transform(shell, code), lambda body: _transform(shell, body), flags)


def _transform(shell: Any, code: str) -> str:
    text: str = shell.transform_cell(code) if shell is not None else code
    return text


def numbered(line: str, cell: str) -> str:
    """Answer a cell's code so that its lines have the numbers that the user sees.

    ``Cell In[7], line 3`` means the third line of ``In[7]``, the magic's included; a
    comment stands for it. (A blank line would be dropped by IPython.) Another cell
    magic has to come first, and counts lines its own way.
    """
    if cell.lstrip().startswith("%%"):
        return cell
    return f"{surroundings.STAND_IN} {line}".rstrip() + "\n" + cell


def as_typed(shell: Any, cell: str) -> str:
    """Answer a cell with what only this shell can make of it put in the place of the text.

    That is ``cd data`` without its ``%`` and a macro's name, which a shell takes for what they
    are in a cell of one line, by what it has names for; and what the user's own
    ``input_transformers_post`` do.
    """
    if shell is None or not (shell.input_transformers_post or _may_be_one_line(cell)):
        return cell
    static = shell.input_transformer_manager.transform_cell(cell)
    if len(static.splitlines()) != 1 and not shell.input_transformers_post:
        return cell
    dynamic: str = shell.transform_cell(cell)
    return cell if dynamic.strip() == static.strip() else dynamic


def _may_be_one_line(cell: str) -> bool:
    """Whether IPython may make one line of a cell: to find out takes long for a long one."""
    return "\\\n" in cell or cell.lstrip().startswith("%%") or len(cell.strip().splitlines()) < 2


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
        pending |= _perhaps_made(session, analysis.reads.keys() - pending.keys() - given)
        _refuse_handles(session, analysis)
    wanted = _wanted(session, analysis, code, pending)
    if axes:
        wanted = replace(wanted, axes=axes, not_here=wanted.not_here | given)
    makers = {name: made.makers for name, made in pending.items()}
    evaluated = analysis.weak if analysis.dynamic or analysis.opaque else analysis.effects.spelled
    asked = analysis.reads.keys() | (evaluated & pending.keys())
    followed = follow(asked, makers)
    while True:
        captured = _capture(session, _with(wanted, followed.names))
        further = follow({*followed.names, *captured.elsewhere}, makers)
        if further.names <= {*followed.names, *captured.values, *captured.elsewhere}:
            break
        followed = further
    followed = further
    elsewhere = sorted(captured.elsewhere & pending.keys())
    parents = {record.id: record for name in elsewhere for record in pending[name].makers}
    analysis, lineage = _with_what_it_calls(analysis, captured, followed, set(elsewhere), makers)
    if not options.independent:
        parents |= {record.id: record for record in _setting_up(session)}
        if analysis.opaque:  # an earlier one may make its magic
            parents |= {record.id: record for record in _to_build_on(session, session.waiting())}
        sharing = _sharing(session, captured, followed)
        parents |= {record.id: record for record in sharing}
        ordered = _ordered(session, parents)
        if seeds := _seeds(session, ordered, sharing, captured):
            moving = _may_be_new(captured, sharing)
            wanted = replace(
                wanted, not_here=wanted.not_here | moving, uncertain=wanted.uncertain | moving
            )
            captured = _capture(session, _with(wanted, followed.names), seeds)
    if session.drop_forgotten(parents.values()):
        return _prepare(session, code, options)
    ordered = _ordered(session, parents)
    names = {name: pending[name].makers[-1].spec.name for name in elsewhere}
    after = [record.id for record in ordered]
    for view in session.jobs(options.after) if options.after else ():
        if view.id not in after:
            after.append(view.id)
    analysis = _with_what_is_new(analysis, session.namespace, pending)
    return Prepared(analysis, captured, axes, ordered, names, after, lineage)


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


def pending_names(session: Session) -> dict[str, PendingName]:
    """Answer the names that ungathered jobs of this kernel bind or delete.

    A name that was bound or deleted here since a job was submitted is not that job's any more:
    gathering leaves it alone, too.
    """
    waiting = session.waiting()
    if not waiting:
        return {}
    endings = session.endings(waiting)
    found: dict[str, PendingName] = {}
    for record in waiting:
        end = endings.get(record.id)
        if record.id not in endings or (end is not None and end.state != State.FINISHED):
            continue
        if end is not None and end.result is not None:
            certain = names = {*end.result["bound"], *end.result["deleted"]}
        else:
            names, certain = {*record.spec.binds, *record.spec.deletes}, set(record.spec.certain)
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


def _perhaps_made(session: Session, names: Iterable[str]) -> dict[str, PendingName]:
    """Answer names that nobody has, and the jobs that may bind any name before they have ended."""
    missing = [name for name in names if name not in session.namespace and name not in _PROVIDED]
    candidates = [record for record in session.waiting() if record.lineage.binds_more]
    if not missing or not candidates:
        return {}
    jobs = [r for r in _to_build_on(session, candidates) if r.ended is None]
    stars = [record for record in jobs if record.lineage.star]
    makers = {name: stars if hasattr(builtins, name) else jobs for name in missing}
    return {name: PendingName(list(found), False) for name, found in makers.items() if found}


def _refuse_handles(session: Session, analysis: Analysis) -> None:
    """Refuse a cell that reads the last results (``_``), of which one is to be gathered yet."""
    handles = {id(r.handle): r for r in session.waiting() if r.handle is not None}
    for name, line in analysis.reads.items():
        record = handles.get(id(session.namespace.get(name))) if is_hidden(name) else None
        if record is not None:
            job = record.spec.name
            raise NotPickledError(
                name,
                "Job",
                (name,),
                line,
                f"it stands for the result of {job}, which has not been gathered",
                f"Gather it first (%async_gather {job}), or give that result a name in {job}.",
            )


def stale_names(
    session: Session, pending: Mapping[str, PendingName], reads: Iterable[str]
) -> dict[str, PendingName]:
    """Answer which of the names that a cell reads here are pending ones."""
    reads = frozenset(reads)
    stale = {name: made for name, made in pending.items() if name in reads}
    if session.drop_forgotten(record for made in stale.values() for record in made.makers):
        return stale_names(session, pending_names(session), reads)
    return stale


def _wanted(
    session: Session, analysis: Analysis, code: str, pending: Mapping[str, PendingName]
) -> Wanted:
    # Whether a name was deleted (`except ... as e` does) shows where it was before.
    deletes = (analysis.deletes & session.namespace.keys()) - pending.keys()
    mentions = analysis.weak | deletes | {"__annotations__"}
    if analysis.unpickles or "__subclasses__" in _words(code):
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
        attributes=_words(code),
        everything=analysis.dynamic or analysis.star or analysis.opaque,
        not_here=frozenset(pending) | (_PROVIDED - _rebound(session)),
        uncertain=frozenset(name for name, made in pending.items() if not made.certain),
        hidden=frozenset(name for name in list(session.namespace) if is_hidden(name)),
    )


def _with(wanted: Wanted, names: Collection[str]) -> Wanted:
    """Add names that functions of pending jobs may read when they are called."""
    further = set(names) - wanted.reads.keys() - _PROVIDED
    pending = further & wanted.not_here
    if not further:
        return wanted
    reads = {**dict.fromkeys(pending, 1), **wanted.reads}
    return replace(wanted, reads=reads, mentions=wanted.mentions | (further - pending))


def _with_what_it_calls(
    analysis: Analysis,
    captured: Captured,
    followed: Followed,
    elsewhere: set[str],
    makers: Mapping[str, Sequence[Record]],
) -> tuple[Analysis, Lineage]:
    """Add what a cell does through the functions that it calls; answer its lineage, too."""
    effects = analysis.effects
    called = {f for code in captured.codes for f in functions_behind(code)} | followed.functions
    learned = learn({*called, *effects.functions})
    known = elsewhere | captured.values.keys()
    changes: set[str] = set()
    binds: frozenset[str] = frozenset()
    if effects.runs:
        streams = {name for name, value in captured.values.items() if moves_on(value)}
        changes = effects.changes.names(learned.changing) | learned.names
        changes |= (followed.streams | streams | learned.moving) & analysis.reads.keys()
        changes &= known | analysis.binds
        binds = learned.binds
    analysis = replace(analysis, mutates=analysis.mutates | changes, binds=analysis.binds | binds)
    places = mutable_objects(captured, captured.values) | followed.places
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
        analysis.star,
    )


def _read_by_code(captured: Captured) -> frozenset[str]:
    return frozenset(name for code in captured.codes for name in global_names(code).reads)


def _words(code: str) -> frozenset[str]:
    return frozenset("".join(c if c.isalnum() or c == "_" else " " for c in code).split())


def _rebound(session: Session) -> set[str]:
    """Answer which of the shell's own names the user has given other values."""
    hidden = getattr(session.shell, "user_ns_hidden", {})
    missing = object()
    return {
        name
        for name in _PROVIDED
        if name in session.namespace and session.namespace[name] is not hidden.get(name, missing)
    } - {"__name__"}


def _capture(session: Session, wanted: Wanted, seeds: Mapping[int, Any] | None = None) -> Captured:
    shell = session.shell

    def late(files: set[str], words: set[str]) -> dict[str, Any]:
        found = surroundings.narrow(surroundings.read(shell, early=False), words)
        texts = surroundings.sources(files, shell)
        return found | ({"sources": texts} if texts else {})

    return capture(session.namespace, wanted, surroundings.read(shell, early=True), late, seeds)


# -- objects that an earlier job may change in place -----------------------------------


def mutable_objects(captured: Captured, names: Iterable[str]) -> frozenset[Place]:
    """Answer the ``id`` of every changeable object that is reachable from some inputs."""
    found: set[Place] = set()
    pending = [captured.values[name] for name in names if name in captured.values]
    while pending:
        obj = pending.pop()
        kind = None if type(obj) in ATOMS or id(obj) in found else kind_of(obj)
        if kind is None or kind is LEAF or kind is PART or kind is MODULE:  # `in` compares fields
            continue
        found.add(id(obj))
        children = kind.children(obj)
        if not ATOMS.issuperset(map(type, children)):
            pending.extend(children)
    return frozenset(found)


def _sharing(session: Session, captured: Captured, followed: Followed) -> list[Record]:
    """Answer the unfinished or ungathered jobs that may change an object which a cell sees."""
    candidates = [record for record in session.waiting() if record.lineage.changes]
    if not candidates:
        return []
    mine = mutable_objects(captured, captured.values) | followed.places
    for record, objects in _brought(session, candidates):
        if not mine.isdisjoint(map(id, objects)):
            mine |= {record.id, *((record.id, name) for name in record.lineage.effects.definitions)}
    return [
        record
        for record in _to_build_on(session, candidates)
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


def _setting_up(session: Session) -> list[Record]:
    """Answer the ungathered jobs that set what surrounds all later ones."""
    candidates = [record for record in session.waiting() if record.sets_up]
    return _to_build_on(session, candidates) if candidates else []


def _to_build_on(session: Session, candidates: Sequence[Record]) -> list[Record]:
    """Answer those jobs that have finished, or may."""
    endings = session.endings(candidates)
    ended = {job: end for job, end in endings.items() if end is not None}
    return [
        record
        for record in candidates
        if record.id in endings
        and (record.id not in ended or ended[record.id].state == State.FINISHED)
    ]


def _seeds(
    session: Session, ordered: list[Record], sharing: list[Record], captured: Captured
) -> dict[int, Any]:
    """Answer tokens for the objects of some inputs that earlier jobs have, too.

    That is those which they may change, and those that nothing here can have changed since.
    Of several jobs that may change an object the last one counts: it waits for
    the others and has the object from them.
    """
    mine = set(map(id, captured.objects.values()))
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


def _may_be_new(captured: Captured, sharing: Iterable[Record]) -> frozenset[str]:
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
    typed = session.shell.history_manager.input_hist_raw
    return all(text.startswith("%%async_run") for text in typed[begun:])


def _ordered(session: Session, parents: Mapping[str, Record]) -> list[Record]:
    """Answer jobs and all that they build on, in order of submission."""
    needed: set[str] = set()
    pending = list(parents)
    while pending:
        job = pending.pop()
        if job not in needed and job in session.records:
            needed.add(job)
            pending.extend(session.records[job].spec.parents)
    return [record for key, record in session.records.items() if key in needed]


# -- the job ------------------------------------------------------------------------------


def submit(
    session: Session,
    source: str,
    code: str,
    options: argparse.Namespace,
    unders: Unders | None = None,
    **facts: Any,
) -> tuple[Record, JobView]:
    """Submit a cell.

    Parameters
    ----------
    session : Session
    source : str
        The cell as written.
    code : str
        What is to run, lines numbered as in `source`.
    options : argparse.Namespace
        Of `dask_async_run.kernel.options.RUN`.
    unders : Unders or None
        The shell's last results.
    **facts
        Fields of the `JobSpec` that are otherwise than a cell's of this kernel.

    Returns
    -------
    record : Record
    view : JobView
        The job is in the journal; nothing depends on this kernel any more.

    Raises
    ------
    SyntaxError, NotPickledError, NoSuchJobError, OptionError, ServerError
        Nothing was submitted.
    """
    outgoing = Outgoing(session, options)
    prepared = prepare(session, code, options)
    local = local_code(session, prepared)
    for remark in _remarks(prepared, _words(code), local):
        print(remark, file=sys.stderr)
    if session.cluster is not None:  # an own server has this very environment
        session.compare(prepared.analysis.imports | in_use(prepared.captured.values.values()))
    with on_cluster(session.remote):
        kept = Kept(prepared.captured, session.namespace)
    spec = replace(_spec(session, source, code, options, prepared, outgoing, local), **facts)
    if prepared.axes:
        frame = find_spec("pandas") is not None
        spec = as_sweep(spec, prepared.axes, options.max_parallel or 0, frame)
    if options.cache:
        spec = replace(spec, cache=cache_key(spec))
    try:
        view = session.registry.create(spec)
    except FrameError:
        # Collected between being found there and being named: written again, they are new.
        again = _stored(session, prepared.captured, outgoing, local, unread=False)
        spec = replace(spec, inputs=again.to_message())
        view = session.registry.create(spec)
    record = Record(spec, session.store, session.namespace, kept, unders, session.registry.spec)
    if not prepared.axes:  # whose members change nothing here
        record.lineage = replace(prepared.lineage, places=prepared.lineage.places | {record.id})
        record.sets_up = prepared.analysis.sets_up
    session.records[spec.id] = record
    return record, view


def _remarks(prepared: Prepared, words: frozenset[str], local: LocalCode | None) -> Iterator[str]:
    """Yield what the user is to know of what goes along otherwise than it is here, or does not."""
    captured = prepared.captured
    if surroundings.working_folder() is None:
        yield (
            "The working folder of this notebook was removed: the cell runs in another one. "
            "Change to one that is there (%cd)."
        )
    for name, size in local.too_large.items() if local is not None else ():
        yield (
            f"The code of {name} does not go along: its folder holds {bytes_text(size)}, more than "
            f"{bytes_text(LARGEST)}. Have it installed on the cluster."
        )
    for thing, why in captured.unsent.items():
        if thing.rpartition(".")[2] in words:
            yield f"{thing} does not go along: {why}"
    if surroundings.shows(words):
        sent = set(map(id, captured.objects.values()))
        for figure, why in surroundings.left_open(surroundings.open_figures(), sent).items():
            yield f"{figure} does not go along: {why}."
    for name, file in captured.shared.items():
        yield (
            f"{name} goes along as the file {file} that it maps: the cell shares it with this "
            "notebook, what either writes to it the other sees."
        )
    for name, kind in captured.lost_keys.items():
        yield (
            f"{name} has a {kind} as a key that is not found in it here, for its hash was another "
            "one when it was put in; in the cell it is found."
        )
    for array, holder in held_by_frames(captured.values):
        if not prepared.analysis.mutates.isdisjoint({array, holder}):
            yield (
                f"{array} and {holder} have the same memory here, but not in the cell: there a "
                "change of one is not seen in the other."
            )


def _spec(
    session: Session,
    source: str,
    code: str,
    options: argparse.Namespace,
    prepared: Prepared,
    outgoing: Outgoing,
    local: LocalCode | None,
) -> JobSpec:
    shell, analysis, captured = session.shell, prepared.analysis, prepared.captured
    number = shell.displayhook.prompt_count if shell is not None else None
    # What its inputs are named by is what a cached result is found by.
    payload = _stored(session, captured, outgoing, local, unread=not options.cache)
    modules: Message = {}
    if local is not None and local.modules:
        modules = {
            "frame": payload.frames[len(captured.buffers)],
            "entries": local.entries,
            "names": [module.name for module in local.modules],
            "folder": str(surroundings.working_folder() or ""),
        }
    return JobSpec(
        id=uuid.uuid4().hex,
        notebook=session.notebook,
        name=options.name or f"cell-{number or 1}",
        source=source,
        code=code,
        filename=register_code(shell, code, number),
        execution_count=number,
        inputs=payload.to_message(),
        input_names=[[i.name, i.type_name, i.nbytes] for i in captured.inputs],
        input_parts=[
            [i.part.start, i.part.stop, i.buffers.start, i.buffers.stop] for i in captured.inputs
        ],
        left_out={name: f"it cannot be pickled ({why})" for name, why in captured.left_out.items()},
        reads=sorted(analysis.reads),
        binds=sorted(analysis.binds),
        certain=sorted(analysis.certain),
        deletes=sorted(analysis.deletes),
        mutates=sorted(analysis.mutates & captured.values.keys()),
        dynamic=analysis.dynamic or analysis.star or analysis.opaque,
        after=prepared.after,
        parents=[record.id for record in prepared.parents],
        only=options.only,
        also=options.also,
        timeout=None if options.timeout == NO_LIMIT else options.timeout,
        memory=None if options.memory == NO_LIMIT else options.memory,
        retries=options.retries or 0,
        resources=dict(options.resources),
        workers=options.workers,
        priority=options.priority,
        shell={
            "class": type(shell).__name__ if shell is not None else "",
            "kernel": hasattr(shell, "kernel"),
            "colors": getattr(shell, "colors", None),
        },
        # For a worker that came after `Warming` had told the others.
        warm=[name for name in imported() if "." not in name],
        futures=captured.futures,
        files=outgoing.message,
        modules=modules,
        submitted=time.time(),
        store="" if options.store in (None, NO_STORE) else options.store,
    )


def local_code(session: Session, prepared: Prepared) -> LocalCode | None:
    """Answer the local modules that go along; None where the cell has the very same files."""
    return None if session.cluster is None else LocalCode(prepared.analysis.imports)


def _stored(
    session: Session,
    captured: Captured,
    outgoing: Outgoing,
    local: LocalCode | None,
    unread: bool = True,
) -> Payload:
    """Store what a cell needs; `unread`: large inputs may get their names later."""
    try:
        store = session.store
        if unread:
            payload = store.put_payload(captured.stream, captured.buffers)
        else:
            payload = payload_of(store.put, captured.stream, captured.buffers)
        frames = list(payload.frames)
        if local is not None and local.modules:
            code = store.put(local.packed())
            frames.append([code.digest, code.size])
        return replace(payload, frames=[*frames, *outgoing.put()])
    except OSError as error:
        raise ServerError(
            f"the cell's inputs cannot be stored in {session.state_folder}: "
            f"{error.strerror or error}. Nothing was submitted. Is there space left?"
        ) from error


def register_code(shell: Any, code: str, number: int | None) -> str:
    """Make a cell's code known to this kernel's tracebacks; answer its file name."""
    if shell is None:
        return f"<cell {number or 1}>"
    name: str = shell.compile.cache(shell.transform_cell(code), number or 0, raw_code=code)
    surroundings.hide_stand_in(name)
    return name
