"""The command ``dask-async-run``: what the magics do, from a shell and without a kernel.

Starting it imports the standard library alone; each command imports what it needs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from dask_async_run.folders import DEFAULT_SERVER
from dask_async_run.quantities import duration

OK, ERROR, USAGE, NO_SERVER, REFUSED, INTERRUPTED = 0, 1, 2, 3, 4, 130
"""Exit codes. `REFUSED`: the server was not stopped, because jobs are unfinished."""

_EPILOG = """\
exit codes:
  0  done, or the answer is yes
  1  an error, which the text on standard error explains
  2  wrong usage
  3  no server of that name is running
  4  refused: jobs are unfinished (stop)

examples:
  dask-async-run demo                  see what it is about, in a minute
  dask-async-run server --workers 4    run a server here, with its log on the terminal
  dask-async-run jobs                  what runs, what is finished, what failed
  dask-async-run output train          what the job 'train' has printed
  dask-async-run stop                  end the server; results stay
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code.

    Parameters
    ----------
    arguments : sequence of str or None
        None: those of this process.
    """
    from dask_async_run.errors import AsyncRunError

    given = parser().parse_args(arguments)
    try:
        code = _run(given)
        sys.stdout.flush()
        return code
    except AsyncRunError as error:
        from dask_async_run.errors import UnfinishedJobsError

        print(f"dask-async-run: {error}", file=sys.stderr)
        return REFUSED if isinstance(error, UnfinishedJobsError) else ERROR
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has had enough; Python must not try to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ERROR


def _run(given: argparse.Namespace) -> int:
    if sys.platform == "win32" and given.command not in ("enable", "disable"):
        from dask_async_run.server.launch import require_posix

        require_posix()
    match given.command:
        case "demo":
            from dask_async_run import demo

            return demo.main()
        case "server" | "status" | "stop":
            from dask_async_run.commands import servers

            return servers.run(given)
        case "jobs" | "output" | "cancel" | "prune":
            from dask_async_run.commands import jobs

            return jobs.run(given)
        case _:
            from dask_async_run.commands import profile

            return profile.run(given)


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    root = argparse.ArgumentParser(
        prog="dask-async-run",
        description="Run notebook cells on a Dask cluster: servers and jobs, from a shell.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, summary: str, *examples: str) -> argparse.ArgumentParser:
        epilog = "examples:\n" + "\n".join(f"  dask-async-run {example}" for example in examples)
        return commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    command(
        "demo",
        "show, with a real kernel and a real data set, how a cell outlives its kernel",
        "demo",
    )
    _server(
        command(
            "server",
            "run a server in the foreground, with its log on the terminal",
            "server",
            "server --workers 4 --memory-limit 4GiB",
            "server --name big --idle-timeout 0",
        )
    )
    for name, summary, examples in (
        ("status", "ask a server how it is (exit code 3: none is running)", ["status --json"]),
        ("jobs", "list jobs, also while no server is running", ["jobs 'train*'", "jobs --json"]),
        ("output", "show what a job has put out so far", ["output train", "output -f train@2"]),
        ("cancel", "cancel jobs, running ones included", ["cancel train", "cancel 'cell-*'"]),
        (
            "prune",
            "forget jobs that have ended and were gathered, with their results",
            ["prune --older-than 30d --keep-last 3", "prune 'trial-*'"],
        ),
        ("stop", "stop a server; finished jobs stay", ["stop", "stop --force --name big"]),
    ):
        sub = command(name, summary, name, *examples)
        _name(sub)
        if name != "stop":
            sub.add_argument("--json", action="store_true", help="print JSON, for programs")
        if name == "stop":
            sub.add_argument(
                "--force",
                action="store_true",
                help="also if jobs are unfinished (running ones are cancelled), or if it hangs",
            )
        if name == "jobs":
            sub.add_argument("job", nargs="*", help="name, name@2, notebook/name, id or pattern")
            sub.add_argument("--notebook", help="only the jobs of this notebook")
            sub.add_argument(
                "--state", action="append", help="only jobs in this state; may be repeated"
            )
        if name == "output":
            sub.add_argument("job", help="name, name@2, notebook/name or id")
            sub.add_argument(
                "-f", "--follow", action="store_true", help="wait for more until the job has ended"
            )
        if name == "prune":
            sub.add_argument(
                "job",
                nargs="*",
                help="these, gathered or not: name, name@2, notebook/name, id or pattern",
            )
            sub.add_argument(
                "--older-than", type=duration, metavar="TIME", help="only what ended so long ago"
            )
            sub.add_argument(
                "--keep-last",
                type=count,
                default=0,
                metavar="N",
                help="keep the latest N of each name",
            )
            sub.add_argument("--dry-run", action="store_true", help="only tell which ones")
        if name == "cancel":
            sub.add_argument("job", nargs="+", help="name, name@2, notebook/name, id or pattern")
    for name, summary in (
        ("enable", "load the extension in every IPython session"),
        ("disable", "undo 'enable'"),
    ):
        sub = command(name, summary, name, f"{name} --profile work")
        sub.add_argument("--profile", default="default", help="IPython's profile")
    return root


def count(text: str) -> int:
    """Parse a number that is not negative."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of jobs")
    return int(text)


def _name(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--name", default=DEFAULT_SERVER, help=f"the server's name (default: {DEFAULT_SERVER})"
    )


def _server(sub: argparse.ArgumentParser) -> None:
    _name(sub)
    sub.add_argument("--workers", type=int, help="cells that run side by side (default: cores)")
    sub.add_argument("--memory-limit", help="of each worker, like 4GiB (default: none)")
    sub.add_argument("--no-dashboard", action="store_true", help="do not serve Dask's dashboard")
    sub.add_argument(
        "--idle-timeout",
        type=float,
        default=86400.0,
        help="seconds without client and unfinished job until it stops (default: a day; 0: never)",
    )
    # From `server.launch`: the pipe to tell when all is ready.
    sub.add_argument("--detached", type=int, help=argparse.SUPPRESS)
