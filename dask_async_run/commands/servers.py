"""``server``, ``status`` and ``stop``."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from typing import Any

from dask_async_run.cli import NO_SERVER, OK
from dask_async_run.server import connection as connections
from dask_async_run.server.connection import Connection


def run(given: argparse.Namespace) -> int:
    """Run the command that was given; returns its exit code."""
    match given.command:
        case "server":
            return _server(given)
        case "status":
            return _status(given)
        case _:
            return _stop(given)


def _server(given: argparse.Namespace) -> int:
    from dask_async_run.server import main
    from dask_async_run.server.options import Options

    options = Options(
        name=given.name,
        workers=given.workers,
        memory_limit=given.memory_limit,
        dashboard=not given.no_dashboard,
        idle_timeout=given.idle_timeout,
    )
    if given.detached is not None:
        return main.detached(options, given.detached)
    main.foreground(options)
    return OK


def _status(given: argparse.Namespace) -> int:
    connection = connections.find(given.name)
    if connection is None:
        if given.json:
            print(json.dumps({"name": given.name, "running": False}))
        else:
            print(_none(given.name))
        return NO_SERVER
    from dask_async_run.server.control import ping

    answer = ping(connection)
    if given.json:
        facts: dict[str, Any] = asdict(connection)
        del facts["tls"], facts["door"]
        facts["dashboard"] = connection.dashboard_link
        facts |= {
            "running": True,
            "log": connection.log,
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

    if stop_server(given.name, force=given.force):
        print(f"server {given.name!r} stopped; finished jobs are kept.")
    else:
        print(_none(given.name))
    return OK


def _none(name: str) -> str:
    others = [other for other in connections.names() if other != name]
    also = f" There is: {', '.join(others)}." if others else ""
    return f"no server {name!r} is running.{also}"


def _when(connection: Connection) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(connection.started))
