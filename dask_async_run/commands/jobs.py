"""``jobs``, ``output``, ``cancel`` and ``prune``.

The first two read the journal, which says all but what a running cell uses just now,
and is there while no server runs, or one hangs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from dask_async_run.cli import ERROR, NO_SERVER, OK, USAGE
from dask_async_run.commands import text
from dask_async_run.commands.pruning import prunable
from dask_async_run.folders import state_folder
from dask_async_run.job import JobView, State
from dask_async_run.selection import select, select_one
from dask_async_run.server import connection as connections
from dask_async_run.server.connection import Files
from dask_async_run.server.locks import held

_POLL = 0.2


def run(given: argparse.Namespace) -> int:
    """Run the command that was given; returns its exit code."""
    match given.command:
        case "jobs":
            return _jobs(given)
        case "output":
            return _output(given)
        case "prune":
            return _prune(given)
        case _:
            return _cancel(given)


@contextmanager
def _journal(server: str) -> Iterator[Any]:
    """The server's journal, open for reading; None if there is none."""
    path = state_folder(server) / "journal.sqlite"
    if not path.exists():
        yield None
        return
    from dask_async_run.scheduler.journal import Journal  # here: sqlite3

    with Journal.open_readonly(path) as journal:
        yield journal


def _views(server: str, journal: Any, notebook: str | None = None) -> list[JobView]:
    """All jobs, or a notebook's, told as they are: without a server, nothing runs."""
    if journal is None:
        return []
    # Life first: a job that ran when its server died is lost, one that ended meanwhile is not.
    alive = held(Files.of(server).alive)
    views: list[JobView] = journal.views(notebook=notebook)
    if alive:
        return views
    return [
        replace(view, state=State.LOST, reason="the server died")
        if view.state == State.RUNNING
        else view
        for view in views
    ]


def _jobs(given: argparse.Namespace) -> int:
    if unknown := set(given.state or ()) - set(State):
        print(
            f"dask-async-run: there is no state {', '.join(sorted(unknown))}. There are: "
            f"{', '.join(State)}.",
            file=sys.stderr,
        )
        return USAGE
    with _journal(given.name) as journal:
        views = _views(given.name, journal, given.notebook)
    if given.job:
        views = select(views, given.job)
    if given.state:
        views = [view for view in views if view.state in given.state]
    if given.json:
        print(json.dumps([text.job_facts(view) for view in views]))
    elif views:
        print(text.table(views, time.time()))
    else:
        print("no jobs.")
    return OK


def _output(given: argparse.Namespace) -> int:
    from dask_async_run.messages import unpack  # here: msgpack

    colours = sys.stdout.isatty()
    with _journal(given.name) as journal:
        job = select_one(_views(given.name, journal), given.job).id
        since, outputs = 0, list[dict[str, Any]]()
        while True:
            # The state first: what was put out before the end is in the journal at the end.
            (view,) = (v for v in _views(given.name, journal) if v.id == job)
            ended = State(view.state).terminal
            while found := journal.outputs(job, since):
                since = found[-1][0]
                outputs += [unpack(packed) for _, _, packed in found]
            if ended and (tail := journal.tail(job)):
                outputs.append({"output_type": "stream", "name": "stdout", "text": tail})
            if given.follow and not given.json:
                text.show(outputs, colours)
                outputs.clear()
            if ended or not given.follow:
                break
            time.sleep(_POLL)
    if given.json:
        print(json.dumps(outputs))
    else:
        text.show(text.folded(outputs), colours)
    return OK


def _prune(given: argparse.Namespace) -> int:
    from dask.utils import format_bytes  # here: the other commands need no Dask

    connection = connections.find(given.name)
    if connection is None:
        print(f"dask-async-run: no server {given.name!r} is running.", file=sys.stderr)
        return NO_SERVER
    with _journal(given.name) as journal:
        views = _views(given.name, journal)
    named = {view.id for view in select(views, given.job)}
    found = prunable(views, named, given.older_than, given.keep_last, time.time())
    kept: dict[str, str] = {}
    if found and not given.dry_run:
        from dask_async_run.server.control import forget

        kept = forget(connection, [view.id for view in found])
    gone = [view for view in found if view.id not in kept]
    if given.json:
        print(json.dumps([text.job_facts(view) for view in gone]))
        return OK
    for view in gone:
        print(f"{text.label(view)}: {'would be ' if given.dry_run else ''}forgotten")
    for view in found:
        if view.id in kept:
            print(f"{text.label(view)}: kept: {kept[view.id]}")
    freed = format_bytes(sum(view.nbytes for view in gone))
    print(f"{len(gone)} job{'' if len(gone) == 1 else 's'}, results of {freed}")
    return OK


def _cancel(given: argparse.Namespace) -> int:
    connection = connections.find(given.name)
    if connection is None:
        print(f"dask-async-run: no server {given.name!r} is running.", file=sys.stderr)
        return NO_SERVER
    with _journal(given.name) as journal:
        chosen = select(_views(given.name, journal), given.job)
    from dask_async_run.server.control import cancel

    done = cancel(connection, [view.id for view in chosen])
    if given.json:
        print(json.dumps({text.label(view): done.get(view.id, "") for view in chosen}))
    else:
        for view in chosen:
            print(f"{text.label(view)}: {done.get(view.id, 'gone')}")
    return OK if chosen else ERROR
