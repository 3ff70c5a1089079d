"""``cancel``, ``rerun``, ``forget`` and ``prune``: what a server has to do.

The journal has one writer, the registry: without a server these change nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable

from dask_async_run.commands import text
from dask_async_run.commands.exit_codes import ERROR, NO_SERVER, OK, REFUSED
from dask_async_run.commands.journals import checked_states, chosen, journal_of, views_of
from dask_async_run.commands.pruning import prunable
from dask_async_run.folders import DEFAULT_SERVER
from dask_async_run.job import JobView
from dask_async_run.selection import select_unambiguous
from dask_async_run.server import connection as connections
from dask_async_run.server.connection import Connection
from dask_async_run.sweeps import unfinished_ones


def run(given: argparse.Namespace) -> int:
    """Run the command that was given; returns its exit code."""
    connection = connections.find(given.server)
    if connection is None:
        named = "" if given.server == DEFAULT_SERVER else f" --name {given.server}"
        print(
            f"dask-async-run: no server {given.server!r} is running. "
            f"'dask-async-run server start{named}' starts one.",
            file=sys.stderr,
        )
        return NO_SERVER
    commands: dict[str, Callable[[argparse.Namespace, Connection], int]] = {
        "cancel": _cancel,
        "rerun": _rerun,
        "forget": _forget,
        "prune": _prune,
    }
    return commands[given.command](given, connection)


def _cancel(given: argparse.Namespace, connection: Connection) -> int:
    views = _named(given)
    from dask_async_run.server.control import cancel

    done = cancel(connection, [view.id for view in views])
    if given.json:
        print(json.dumps({text.label(view): done.get(view.id, "") for view in views}))
    else:
        for view in views:
            print(f"{text.label(view)}: {done.get(view.id, 'gone')}")
    return OK if views else ERROR


def _rerun(given: argparse.Namespace, connection: Connection) -> int:
    states = checked_states(given.state)
    views = _named(given)
    if states:
        views = [view for view in views if view.state in states]
    if given.failed:
        views = unfinished_ones(views)
    from dask_async_run.server.control import rerun

    again = rerun(connection, [view.id for view in views], given.failed)
    if given.json:
        print(json.dumps([text.job_facts(view) for view in again]))
        return OK
    for old, new in zip(views, again, strict=True):
        print(f"{old.notebook}/{old.name}@{old.version}: runs again, as {text.label(new)}")
    if not again:
        print("no jobs.")
    return OK


def _forget(given: argparse.Namespace, connection: Connection) -> int:
    views = _named(given)
    return _forgotten(given, views, _kept(connection, views))


def _prune(given: argparse.Namespace, connection: Connection) -> int:
    with journal_of(given.server) as journal:
        views = views_of(given.server, journal)
    named = {view.id for view in select_unambiguous(views, given.job)}
    found = prunable(views, named, given.older_than, given.keep_last, time.time())
    _forgotten(given, found, {} if given.dry_run else _kept(connection, found), given.dry_run)
    return OK


def _named(given: argparse.Namespace) -> list[JobView]:
    with journal_of(given.server) as journal:
        return chosen(given.server, journal, given.job)


def _kept(connection: Connection, views: list[JobView]) -> dict[str, str]:
    """Have jobs forgotten; answers the ids of those that stay, and why."""
    if not views:
        return {}
    from dask_async_run.server.control import forget

    return forget(connection, [view.id for view in views])


def _forgotten(
    given: argparse.Namespace, views: list[JobView], kept: dict[str, str], only_told: bool = False
) -> int:
    from dask.utils import format_bytes  # here: the other commands need no Dask

    gone = [view for view in views if view.id not in kept]
    if given.json:
        print(json.dumps([text.job_facts(view) for view in gone]))
    else:
        for view in gone:
            print(f"{text.label(view)}: {'would be ' if only_told else ''}forgotten")
    for view in views:
        if view.id in kept:
            why = f"{text.label(view)}: kept: {kept[view.id]}"
            print(why, file=sys.stderr if given.json else sys.stdout)
    if not given.json:
        freed = format_bytes(sum(view.nbytes for view in gone))
        print(f"{len(gone)} job{'' if len(gone) == 1 else 's'}, results of {freed}")
    return REFUSED if kept else OK
