"""The command ``dask-async-run``: what the magics do, from a shell and without a kernel.

Starting it imports the standard library alone; each command imports what it needs.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence

from dask_async_run.commands.exit_codes import (
    ERROR,
    INTERRUPTED,
    NO_SERVER,
    NOT_FINISHED,
    NOT_YET,
    OK,
    REFUSED,
    USAGE,
)
from dask_async_run.commands.grammar import parse, parser
from dask_async_run.spelling import spelt_out

__all__ = [
    "ERROR",
    "INTERRUPTED",
    "NOT_FINISHED",
    "NOT_YET",
    "NO_SERVER",
    "OK",
    "REFUSED",
    "USAGE",
    "main",
    "parser",
]


_UNWRITTEN = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of a write to standard output."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code.

    Parameters
    ----------
    arguments : sequence of str or None
        None: those of this process.
    """
    from dask_async_run.errors import AsyncRunError

    grammar = parser()
    if "_ARGCOMPLETE" in os.environ:
        from dask_async_run.commands.completion import complete

        complete(grammar)  # ends the process
    if sys.stdout is None:  # ``>&-``: its number would be that of the next file that is opened
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
    given = parse(grammar, sys.argv[1:] if arguments is None else arguments)
    try:
        with spelt_out():
            code = _run(given)
        sys.stdout.flush()
        return code
    except AsyncRunError as error:
        print(f"dask-async-run: {_in_a_shells_words(str(error))}", file=sys.stderr)
        return _code(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        if error.errno not in _UNWRITTEN or error.filename is not None:
            raise
        # Python must not try to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno != errno.EPIPE:  # the reader (`| head`) has had enough
            print(
                f"dask-async-run: the answer cannot be written: {error.strerror}", file=sys.stderr
            )
        return ERROR


def _code(error: Exception) -> int:
    from dask_async_run.errors import (
        JobTimeoutError,
        NoServerError,
        OptionError,
        UnfinishedJobsError,
    )

    match error:
        case NoServerError():
            return NO_SERVER
        case UnfinishedJobsError():
            return REFUSED
        case JobTimeoutError():
            return NOT_YET
        case OptionError():
            return USAGE
        case _:
            return ERROR


def _in_a_shells_words(text: str) -> str:
    """Name a command where an error, made for notebooks too, names its magic."""
    for magic, command in (
        ("%async_run_server starts it or connects to it again", "'server start' starts it again"),
        ("%async_run_server", "'dask-async-run server start'"),
        ("%async_stop_server", "'dask-async-run stop'"),
        ("%async_jobs", "'dask-async-run jobs'"),
        ("%async_rerun", "'dask-async-run rerun'"),
    ):
        text = text.replace(magic, command)
    return text


def _run(given: argparse.Namespace) -> int:
    if sys.platform == "win32" and given.command not in ("enable", "disable", "completion"):
        from dask_async_run.server.launch import require_posix

        require_posix()
    # Each imports what it needs, and no more: an answer from the journal is quick.
    match given.command:
        case "demo":
            from dask_async_run import demo

            return demo.main()
        case "server" | "status" | "stop":
            from dask_async_run.commands import servers

            return servers.run(given)
        case "jobs" | "show" | "source" | "output" | "wait":
            from dask_async_run.commands import jobs

            return jobs.run(given)
        case "cancel" | "rerun" | "forget" | "prune":
            from dask_async_run.commands import changes

            return changes.run(given)
        case "gather":
            from dask_async_run.commands import gather

            return gather.run(given)
        case "export":
            from dask_async_run.commands import export

            return export.run(given)
        case "run":
            from dask_async_run.commands import run

            return run.run(given)
        case "completion":
            from dask_async_run.commands import completion

            return completion.run(given)
        case _:
            from dask_async_run.commands import profile

            return profile.run(given)
