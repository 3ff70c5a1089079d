"""The grammar of ``dask-async-run``: its commands, their options and their help.

Imports the standard library and what parses quantities, so that ``--help`` is quick.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dask_async_run import __version__
from dask_async_run.commands.exit_codes import MEANINGS
from dask_async_run.commands.line_parser import LineParser
from dask_async_run.folders import DEFAULT_SERVER
from dask_async_run.quantities import LISTED, at_most, count, duration, size, time_limit
from dask_async_run.store_url import store_url

_JOB = "name, name@2, notebook/name or id"
_JOBS = "name, name@2, notebook/name, id or pattern"

_EXAMPLES = """\
examples:
  dask-async-run demo                       see what it is about, in a minute
  dask-async-run server start               start a server, which goes on by itself
  dask-async-run run fit.py --name fit      run a script, or an .ipynb, as a job
  dask-async-run jobs                       what runs, what is finished, what failed
  dask-async-run output -f train            what the job 'train' prints, as it comes
  dask-async-run gather train -o train.pkl  what it bound, into a file
  dask-async-run stop                       end the server; results stay

--json prints one JSON document on standard output, and nothing there if there is an error.
"""


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    codes = "\n".join(f"  {code:<5}{meaning}" for code, meaning in MEANINGS.items())
    root = LineParser(
        prog="dask-async-run",
        description="Run notebook cells on a Dask cluster: servers and jobs, from a shell.",
        epilog=f"exit codes:\n{codes}\n\n{_EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action="version", version=f"dask-async-run {__version__}")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _demo(commands)
    _servers(commands)
    _reading(commands)
    _changing(commands)
    _run(commands)
    _setup(commands)
    return root


def parse(grammar: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """Parse a command's line; what stands behind ``--`` is a script's own (``arguments``).

    That is cut off here, since argparse gives a script nothing that comes after an option.
    """
    ours, own = list(arguments), list[str]()
    if ours[:1] == ["run"] and "--" in ours:
        cut = ours.index("--")
        ours, own = ours[:cut], ours[cut + 1 :]
    given = grammar.parse_args(ours)
    given.arguments = own
    return given


def _command(commands: Any, name: str, summary: str, *examples: str) -> argparse.ArgumentParser:
    epilog = "examples:\n" + "\n".join(f"  dask-async-run {example}" for example in examples)
    made: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return made


def _demo(commands: Any) -> None:
    summary = "show, with a real kernel and a real data set, how a cell outlives its kernel"
    _command(commands, "demo", summary, "demo")


# -- servers --------------------------------------------------------------------------------


def _servers(commands: Any) -> None:
    server = _command(
        commands,
        "server",
        "run a server in the foreground; or start, stop, ask one, read its log",
        "server --workers 4",
        "server start --memory-limit 4GiB",
        "server stop --force",
        "server log -f",
    )
    _server_options(server, nested=False)
    # From `server.launch`: the pipe to tell when all is ready.
    server.add_argument("--detached", type=int, help=argparse.SUPPRESS)
    actions = server.add_subparsers(dest="action", metavar="ACTION")
    start = _command(
        actions, "start", "start a server that goes on by itself", "server start --workers 4"
    )
    _server_options(start, nested=True)
    _json(start)
    for parent, prefix, nested in ((commands, "", False), (actions, "server ", True)):
        status = _command(
            parent,
            "status",
            "ask a server how it is (exit code 3: none is running)",
            f"{prefix}status --json",
        )
        stop = _command(
            parent,
            "stop",
            "stop a server; finished jobs stay",
            f"{prefix}stop",
            f"{prefix}stop --force --name big",
        )
        stop.add_argument(
            "--force",
            action="store_true",
            help="also if jobs are unfinished (running ones are cancelled), or if it hangs",
        )
        for sub in (status, stop):
            _server(sub, nested)
            _json(sub)
    log = _command(
        actions,
        "log",
        "show the log of a server that was started",
        "server log -n 50",
        "server log -f",
    )
    _server(log, nested=True)
    log.add_argument(
        "-n", "--lines", type=count, default=20, metavar="N", help="the last N (default: 20)"
    )
    log.add_argument("-f", "--follow", action="store_true", help="show what comes, until Ctrl-C")
    _json(log)


def _server(sub: argparse.ArgumentParser, nested: bool = False) -> None:
    """Which server. A nested command's default must not undo what was said before its name."""
    sub.add_argument(
        "--server",
        "--name",
        default=argparse.SUPPRESS if nested else DEFAULT_SERVER,
        metavar="NAME",
        help=f"the server's name (default: {DEFAULT_SERVER})",
    )


def _server_options(sub: argparse.ArgumentParser, nested: bool) -> None:
    def default(value: Any) -> Any:
        return argparse.SUPPRESS if nested else value

    _server(sub, nested)
    sub.add_argument(
        "--workers",
        type=int,
        default=default(None),
        help="cells that run side by side (default: cores)",
    )
    sub.add_argument(
        "--memory-limit",
        default=default(None),
        help="of each worker, like 4GiB (default: none)",
    )
    sub.add_argument(
        "--disk-limit",
        default=default(None),
        help="of all jobs' inputs and results, like 200GiB; then it takes no more (default: none)",
    )
    sub.add_argument(
        "--no-dashboard",
        action="store_true",
        default=default(False),
        help="do not serve Dask's dashboard",
    )
    sub.add_argument(
        "--idle-timeout",
        type=float,
        default=default(86400.0),
        help="seconds without client and unfinished job until it stops (default: a day; 0: never)",
    )


# -- jobs -----------------------------------------------------------------------------------


def _reading(commands: Any) -> None:
    """What the journal answers: also while no server is running."""
    jobs = _command(
        commands,
        "jobs",
        "list jobs, also while no server is running",
        "jobs 'train*'",
        "jobs --state failed --json",
    )
    jobs.add_argument("job", nargs="*", help=_JOBS)
    jobs.add_argument("--notebook", help="only the jobs of this notebook")
    jobs.add_argument(
        "--last",
        type=at_most,
        default=LISTED,
        metavar="N",
        help="the N submitted last, and all that have not ended "
        f"({LISTED}; 'all': however many; with --json and with names: all of them)",
    )
    jobs.add_argument("--state", action="append", help="only jobs in this state; may be repeated")

    show = _command(
        commands,
        "show",
        "show all about one job: states, times, names",
        "show train",
        "show train@2",
    )
    show.add_argument("job", help=_JOB)

    source = _command(
        commands, "source", "print a job's cell as it was written", "source train > train.py"
    )
    source.add_argument("job", help=_JOB)

    output = _command(
        commands,
        "output",
        "show what a job has put out so far",
        "output train",
        "output -f train@2",
    )
    output.add_argument("job", help=_JOB)
    output.add_argument(
        "-f", "--follow", action="store_true", help="wait for more until the job has ended"
    )

    wait = _command(
        commands,
        "wait",
        "wait until jobs have ended (exit code 5: not all have finished)",
        "wait train && echo done",
        "wait 'trial-*' --any --timeout 1h",
    )
    wait.add_argument("job", nargs="+", help=_JOBS)
    wait.add_argument("--any", action="store_true", help="until one of them has ended")
    _timeout(wait)

    gather = _command(
        commands,
        "gather",
        "show or write to a file what a job has bound, also while no server is running",
        "gather train                            what there is",
        "gather train -o train.pkl               all of it: a dict",
        "gather train --var df -o df.parquet",
        "gather train --var best --json",
    )
    gather.add_argument("job", help=_JOB)
    gather.add_argument(
        "--var",
        action="append",
        default=[],
        metavar="NAME",
        help="only this variable; may be repeated",
    )
    gather.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="write there, in the form that its suffix says: .pkl, .json, .npy, .csv or .parquet",
    )
    gather.add_argument("--wait", action="store_true", help="until it has ended")
    _timeout(gather)

    export = _command(
        commands,
        "export",
        "write a job as a small notebook (source, output, environment) that runs elsewhere",
        "export train                            as train.ipynb",
        "export train@2 -o for-ann.ipynb",
    )
    export.add_argument("job", help=_JOB)
    export.add_argument("-o", "--output", type=Path, metavar="FILE", help="write there")

    for sub in (jobs, show, source, output, wait, gather, export):
        _server(sub)
        _json(sub)


def _changing(commands: Any) -> None:
    """What the server has to do."""
    cancel = _command(
        commands, "cancel", "cancel jobs, running ones included", "cancel train", "cancel 'cell-*'"
    )
    rerun = _command(
        commands,
        "rerun",
        "run jobs again with the inputs that they had",
        "rerun train",
        "rerun 'trial-*' --state failed --state lost",
        "rerun lr --failed                       of a sweep what did not finish",
    )
    rerun.add_argument(
        "--failed",
        action="store_true",
        help="only what did not finish: jobs, and of a sweep its members",
    )
    rerun.add_argument("--state", action="append", help="only those in this state; may be repeated")
    forget = _command(
        commands,
        "forget",
        "drop jobs that have ended, with their results",
        "forget train@1",
        "forget 'trial-*'",
        "forget one two                          two builds on one, and was not gathered",
    )
    for sub in (cancel, rerun, forget):
        sub.add_argument("job", nargs="+", help=_JOBS)
    prune = _command(
        commands,
        "prune",
        "forget jobs that have ended and were gathered, with their results",
        "prune --older-than 30d --keep-last 3",
        "prune 'trial-*'",
    )
    prune.add_argument("job", nargs="*", help=f"these, gathered or not: {_JOBS}")
    prune.add_argument(
        "--older-than", type=duration, metavar="TIME", help="only what ended so long ago"
    )
    prune.add_argument(
        "--keep-last", type=count, default=0, metavar="N", help="keep the latest N of each name"
    )
    prune.add_argument("--dry-run", action="store_true", help="only tell which ones")
    for sub in (cancel, rerun, forget, prune):
        _server(sub)
        _json(sub)


def _run(commands: Any) -> None:
    run = _command(
        commands,
        "run",
        "run a script or an .ipynb as a job; starts a server if there is none",
        "run fit.py --name fit",
        "run fit.py --follow --timeout 2h -- --epochs 3    after -- the script's own arguments",
        "run report.ipynb --wait && dask-async-run gather report -o report.pkl",
    )
    run.add_argument("file", type=Path, help="a Python or IPython script, or a notebook")
    run.add_argument("--name", help="the job's name (default: the file's, without its suffix)")
    run.add_argument(
        "--server",
        default=DEFAULT_SERVER,
        metavar="NAME",
        help=f"the server's name (default: {DEFAULT_SERVER})",
    )
    run.add_argument(
        "--after", action="append", default=[], metavar="JOB", help=f"only then: {_JOB}"
    )
    run.add_argument("--timeout", type=time_limit, metavar="TIME", help="stop it after this long")
    run.add_argument("--memory", type=size, metavar="SIZE", help="stop it when it uses more")
    run.add_argument(
        "--retries", type=count, default=0, metavar="N", help="run it again if its worker dies"
    )
    run.add_argument(
        "--store", type=store_url, metavar="URL", help="keep it there too, as s3://bucket/runs"
    )
    run.add_argument("--wait", action="store_true", help="until it has ended")
    run.add_argument("-f", "--follow", action="store_true", help="show what it puts out, and wait")
    _json(run)


def _setup(commands: Any) -> None:
    for name, summary in (
        ("enable", "load the extension in every IPython session"),
        ("disable", "undo 'enable'"),
    ):
        sub = _command(commands, name, summary, name, f"{name} --profile work")
        sub.add_argument("--profile", default="default", help="IPython's profile")
        _json(sub)
    completion = _command(
        commands,
        "completion",
        "print what lets a shell complete commands, options and job names",
        'completion bash    in ~/.bashrc:  eval "$(dask-async-run completion bash)"',
        'completion zsh     in ~/.zshrc:   eval "$(dask-async-run completion zsh)"',
        "completion fish    in config.fish: dask-async-run completion fish | source",
    )
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))


def _json(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--json", action="store_true", help="print JSON, for programs")


def _timeout(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--timeout", type=duration, metavar="TIME", help="wait no longer, like 90 or 2h"
    )
