"""``completion``: what lets a shell complete this command, job names included."""

from __future__ import annotations

import argparse
from typing import Any

import argcomplete
from argcomplete.shell_integration import shellcode

from dask_async_run.commands.exit_codes import OK
from dask_async_run.commands.journals import chosen_one, journal_of, labels_of
from dask_async_run.errors import AsyncRunError
from dask_async_run.folders import DEFAULT_SERVER
from dask_async_run.job import JobView, State
from dask_async_run.server import connection as connections

_MOST = 200
"""Names of jobs that a shell is offered: the latest ones."""


def run(given: argparse.Namespace) -> int:
    """Run the command that was given; returns its exit code."""
    print(shellcode(["dask-async-run"], shell=given.shell))
    return OK


def complete(grammar: argparse.ArgumentParser) -> None:
    """Answer the shell that asks what can come next, and end the process."""
    _attach(grammar)
    argcomplete.autocomplete(grammar, always_complete_options="long")


def _attach(grammar: argparse.ArgumentParser) -> None:
    """Say what the values of options and arguments can be, wherever they are."""
    completers: dict[str, Any] = {
        "job": _jobs,
        "after": _jobs,
        "var": _variables,
        "state": lambda **_: list(State),
        "server": lambda **_: connections.names(),
        "notebook": lambda **asked: sorted({view.notebook for view in _labels(**asked)}),
    }
    for action in grammar._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                _attach(sub)
        elif completer := completers.get(action.dest):
            action.completer = completer  # type: ignore[attr-defined]


def _jobs(**asked: Any) -> list[str]:
    views = _labels(**asked)[-_MOST:]
    prefix = asked.get("prefix", "")
    # Older runs and full names when they are asked for: they would hide the others.
    found = [view.label for view in views if view.latest or "@" in prefix]
    if "/" in prefix:
        found += [f"{view.notebook}/{view.label}" for view in views]
    return list(dict.fromkeys(reversed(found)))


def _variables(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    server = _server(parsed_args)
    try:
        with journal_of(server) as journal:
            result = chosen_one(server, journal, parsed_args.job).result or {}
    except AsyncRunError:
        return []
    return sorted({*result.get("bound", ()), *result.get("mutated", ())})


def _labels(parsed_args: argparse.Namespace | None = None, **_: Any) -> list[JobView]:
    try:
        with journal_of(_server(parsed_args)) as journal:
            return labels_of(journal)
    except AsyncRunError:
        return []


def _server(parsed_args: argparse.Namespace | None) -> str:
    return getattr(parsed_args, "server", None) or DEFAULT_SERVER
