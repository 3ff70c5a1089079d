"""``server`` with its actions, ``status`` and ``stop``."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dask_async_run.commands.exit_codes import ERROR, NO_SERVER, OK
from dask_async_run.folders import check_private_folder, state_folder
from dask_async_run.server import connection as connections
from dask_async_run.server.connection import Connection

_POLL = 0.2


def run(given: argparse.Namespace) -> int:
    """Run the command that was given; returns its exit code."""
    # ``server stop`` and ``stop`` are the same.
    match getattr(given, "action", None) or given.command:
        case "server":
            return _server(given)
        case "start":
            return _start(given)
        case "status":
            return _status(given)
        case "log":
            return _log(given)
        case _:
            return _stop(given)


def _server(given: argparse.Namespace) -> int:
    from dask_async_run.server import main
    from dask_async_run.server.options import Options

    options = Options(
        name=given.server,
        workers=given.workers,
        memory_limit=given.memory_limit,
        dashboard=not given.no_dashboard,
        idle_timeout=given.idle_timeout,
        disk_limit=given.disk_limit,
    )
    if given.detached is not None:
        return main.detached(options, given.detached)
    main.foreground(options)
    return OK


def _start(given: argparse.Namespace) -> int:
    from dask_async_run.server.launch import ensure_server

    connection, started = ensure_server(
        given.server,
        given.workers,
        given.memory_limit,
        not given.no_dashboard,
        given.idle_timeout,
        disk_limit=given.disk_limit,
    )
    if given.json:
        facts = {**_facts(connection), "running": True, "started_now": started}
        print(json.dumps(facts))
    else:
        how = "started" if started else "is running already"
        print(
            f"server {connection.name!r} {how} (process {connection.pid}), "
            f"{connection.workers} workers, dashboard: {connection.dashboard_link or 'none'}"
        )
    return OK


def _facts(connection: Connection) -> dict[str, Any]:
    """What everybody may see of a connection, for ``--json``."""
    facts: dict[str, Any] = asdict(connection)
    del facts["tls"], facts["door"]
    facts["dashboard"] = connection.dashboard_link
    return {**facts, "log": connection.log}


def _log(given: argparse.Namespace) -> int:
    from dask_async_run.server import log

    folder = state_folder(given.server)
    path = log.path(folder)
    if not path.exists():
        print(f"dask-async-run: there is no log {path}.", file=sys.stderr)
        return ERROR
    check_private_folder(folder)
    if given.json:
        lines = log.last_lines(folder, 0, given.lines).splitlines()
        print(json.dumps({"name": given.server, "log": str(path), "lines": lines}))
        return OK
    since = log.size(folder)
    if shown := log.last_lines(folder, 0, given.lines):
        print(shown, flush=True)
    while given.follow:
        time.sleep(_POLL)
        since = _more(path, since)
    return OK


def _more(path: Path, since: int) -> int:
    """Print what a log has gained; answers its size. Begins anew if it was emptied."""
    with path.open("rb") as stream:
        stream.seek(since if stream.seek(0, os.SEEK_END) >= since else 0)
        sys.stdout.write(stream.read().decode(errors="replace"))
        sys.stdout.flush()
        return stream.tell()


def _status(given: argparse.Namespace) -> int:
    connection = connections.find(given.server)
    if connection is None:
        if given.json:
            print(json.dumps({"name": given.server, "running": False}))
        else:
            print(_none(given.server))
        return NO_SERVER
    from dask_async_run.server.control import ping

    answer = ping(connection)
    if given.json:
        facts = _facts(connection) | {
            "running": True,
            "workers": answer.workers,
            "clients": answer.clients,
            "unfinished": [{"job": job.label, "state": job.state} for job in answer.unfinished],
            "answered_after": round(answer.seconds, 3),
        }
        print(json.dumps(facts))
        return OK
    running = sum(job.state == "running" for job in answer.unfinished)
    rows = {
        "server": f"{connection.name} (process {connection.pid} on {connection.host}), running "
        f"since {_when(connection)}",
        "address": connection.address,
        "dashboard": connection.dashboard_link or "none",
        "workers": f"{answer.workers} of {connection.workers}",
        "clients": answer.clients,
        "jobs": f"{running} running, {len(answer.unfinished) - running} waiting",
        "python": f"{connection.python}, {connection.prefix}",
        "state": connection.state_folder,
        "answered": f"in {1000 * answer.seconds:.0f} ms",
    }
    for title, value in rows.items():
        print(f"{title:<10}{value}")
    return OK


def _stop(given: argparse.Namespace) -> int:
    from dask_async_run.server.control import stop_server

    stopped = stop_server(given.server, force=given.force)
    if given.json:
        print(json.dumps({"name": given.server, "stopped": stopped}))
    elif stopped:
        print(f"server {given.server!r} stopped; finished jobs are kept.")
    else:
        print(_none(given.server))
    return OK


def _none(name: str) -> str:
    others = [other for other in connections.names() if other != name]
    also = f" There is: {', '.join(others)}." if others else ""
    return f"no server {name!r} is running.{also}"


def _when(connection: Connection) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(connection.started))
