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
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from dask_async_run import surroundings
from dask_async_run.advice import advice
from dask_async_run.errors import FrameError, ServerError
from dask_async_run.frames import payload_of
from dask_async_run.job import JobSpec, JobView, Message, Payload
from dask_async_run.kernel.building_on import to_build_on
from dask_async_run.kernel.caching import cache_key
from dask_async_run.kernel.cell_text import register_code
from dask_async_run.kernel.drawing import states_here
from dask_async_run.kernel.files import Outgoing
from dask_async_run.kernel.lineage import Lineage
from dask_async_run.kernel.local_code import LARGEST, LocalCode
from dask_async_run.kernel.preflight import in_use
from dask_async_run.kernel.preparation import Prepared, prepare, words
from dask_async_run.kernel.record import Record
from dask_async_run.kernel.replay import Unders
from dask_async_run.kernel.session import Session
from dask_async_run.kernel.warming import imported
from dask_async_run.looks import bytes_text
from dask_async_run.namespace.capture import Captured
from dask_async_run.namespace.merge import Kept
from dask_async_run.namespace.remote import on_cluster
from dask_async_run.quantities import NO_LIMIT
from dask_async_run.store_url import NO_STORE
from dask_async_run.sweeps import as_sweep


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
    SyntaxError, NotPickledError, NoSuchJobError, JobStateError, OptionError, ServerError
        Nothing was submitted.
    """
    outgoing = Outgoing(session, options)
    prepared = prepare(session, code, options)
    local = local_code(session, prepared)
    remarks = _remarks(prepared, words(code), local)
    for remark in (*remarks, *_same_numbers(session, prepared)):
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
    record = Record(spec, session.store, session.namespace, kept, unders, session.registry)
    if prepared.axes:  # whose members change nothing here, but may write files
        record.lineage = Lineage(files=prepared.lineage.files)
    else:
        record.lineage = replace(prepared.lineage, places=prepared.lineage.places | {record.id})
        record.sets_up = prepared.analysis.sets_up
    record.gathered_before = len(session.gathered)
    record.independent = options.independent
    record.rows = states_here()
    session.add(record)
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


def _same_numbers(session: Session, prepared: Prepared) -> Iterator[str]:
    """Say that an ungathered job begins with the same random numbers as a cell, if one does."""
    known = {record.id for record in prepared.parents}
    if not prepared.lineage.draws:
        return
    others = [r for r in session.waiting() if r.lineage.draws and r.id not in known]
    if names := [record.spec.name for record in to_build_on(session, others)]:
        yield (
            f"It draws the same random numbers as {names[-1]}, which was not gathered before. For "
            "others, seed them in the cell, have a generator for each "
            "(numpy.random.default_rng()), or gather first."
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
        removes=sorted(analysis.removes),
        mutates=sorted(analysis.mutates & captured.values.keys()),
        dynamic=analysis.dynamic or analysis.star or analysis.opaque,
        after=prepared.after,
        parents=[record.id for record in prepared.parents],
        makers=prepared.makers,
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
            f"{error.strerror or error}. Nothing was submitted. "
            f"{advice(error, session.state_folder)}"
        ) from error
