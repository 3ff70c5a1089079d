"""Options of the magics: parsed from their lines, explained in their help."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from difflib import get_close_matches
from textwrap import fill
from typing import Any, NoReturn

from IPython.core.error import UsageError
from IPython.utils.process import arg_split

from dask_async_run.errors import OptionError
from dask_async_run.kernel.job_table import SORTS
from dask_async_run.quantities import (
    LISTED,
    at_most,
    count,
    duration,
    positive,
    size_limit,
    time_limit,
    whole,
)
from dask_async_run.store_url import store_url

NAME = re.compile(r"(?!-)[^\s/@*?\[\],'\"\\${}]{1,100}")
"""A job's name: one word on a magic's line that means itself, as IPython reads that."""


class Parser(argparse.ArgumentParser):
    """An argument parser for one magic: raises `UsageError`, never exits.

    Parameters
    ----------
    magic : str
        With its percent signs.
    description : str
    examples : str
        Shown as they are.
    """

    def __init__(self, magic: str, description: str, examples: str) -> None:
        super().__init__(
            prog=magic,
            description=fill(description, 78),
            epilog="Examples:\n\n" + "\n".join("    " + line for line in examples.splitlines()),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            add_help=False,
            allow_abbrev=False,
        )
        self.add_argument("-h", "--help", action="store_true", help="show this help")

    def error(self, message: str) -> NoReturn:
        end = "" if message.endswith("?") else "."
        # `%%async_run -h` needs a cell below it; the line magic says the same without.
        line_magic = f"%{self.prog.lstrip('%')}"
        raise UsageError(f"{self.prog}: {message}{end} {line_magic} -h shows what it takes.")

    def parse_line(self, line: str) -> argparse.Namespace:
        """Parse a magic's line; quoting as in a shell."""
        try:
            words = arg_split(line, posix=True)
        except ValueError as error:  # an unclosed quote
            self.error(str(error))
        arguments, unknown = self.parse_known_args(words)
        if unknown:
            near = get_close_matches(unknown[0].partition("=")[0], all_options(self), n=1)
            hint = f". Did you mean {near[0]}?" if near else ""
            if not near and not unknown[0].startswith("-") and "--name" in all_options(self):
                hint = ". A name is one word after --name"
            self.error(f"it does not take {' '.join(unknown)}{hint}")
        return arguments


def job_name(text: str) -> str:
    """Check a job's name."""
    # What is not printable looks like another name, or turns the text around it.
    if not NAME.fullmatch(text) or not text.isprintable():
        shown = text if len(text) < 60 else text[:57] + "..."
        raise argparse.ArgumentTypeError(
            f"{shown!a} cannot name a job: use up to 100 visible characters without spaces, "
            "quotes, commas or any of / @ * ? [ ] { } $ \\, not beginning with -"
        )
    return text


def names(text: str) -> list[str]:
    """Parse "a,b" to variable names."""
    found = [part.strip() for part in text.split(",") if part.strip()]
    for name in found:
        if not name.isidentifier():
            raise argparse.ArgumentTypeError(f"{name!r} is no variable's name")
    return found


def resource(text: str) -> tuple[str, float]:
    """Parse "GPU=1"."""
    name, _, amount = text.partition("=")
    try:
        number = float(amount or 1)
    except ValueError:
        number = -1.0
    if not name or not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no resource, like GPU=1")
    return name, number


RUN = Parser(
    "%%async_run",
    "Run a cell on the Dask cluster and give the prompt back at once. What it reads goes "
    "along, what it does comes back with %async_gather. %async_run does it for one line. "
    "%config AsyncRun.timeout = '2h' (and .memory, .retries) is for all cells that do not say "
    "otherwise, as with --timeout none.",
    """\
%%async_run --name train
model = GridSearchCV(SVC(), grid).fit(X, y)
model.best_params_

%%async_run --plan              what would travel; runs nothing
%%async_run --timeout 2h --memory 4GiB
%%async_run --name lr --sweep "rate=[0.1, 0.01] depth=range(2, 6)"
%%async_run --gather            wait, and gather at once
%async_run L += 1""",
)
RUN.add_argument("--name", type=job_name, help="the job's name; without: cell-N")
RUN.add_argument(
    "--after",
    action="append",
    default=[],
    metavar="JOB",
    help="run only when this job has finished; may be repeated",
)
RUN.add_argument(
    "--independent",
    action="store_true",
    help="use the variables as they are here now, and wait for no other job",
)
RUN.add_argument(
    "--plan", action="store_true", help="show what would travel and be bound; submit nothing"
)
RUN.add_argument(
    "--cache",
    action="store_true",
    help="do not run the cell if a finished job has the same source, inputs, options and "
    "package versions: bring its stored result, and say so",
)
RUN.add_argument("--gather", action="store_true", help="wait for the job and gather it")
RUN.add_argument(
    "--notify",
    action=argparse.BooleanOptionalAction,
    help="have the browser notify when the job ends (or not, where the configuration says so)",
)
RUN.add_argument("--only", type=names, default=[], metavar="A,B", help="bring back only these")
RUN.add_argument(
    "--also", type=names, default=[], metavar="A,B", help="bring these back even if unchanged"
)
RUN.add_argument("--timeout", type=time_limit, metavar="TIME", help="stop the cell after this long")
RUN.add_argument(
    "--memory", type=size_limit, metavar="SIZE", help="stop the cell when its processes use more"
)
RUN.add_argument(
    "--retries",
    type=count,
    metavar="N",
    help="run the cell again, up to N times, when its worker or process dies",
)
RUN.add_argument(
    "--resources",
    type=resource,
    action="append",
    default=[],
    metavar="GPU=1",
    help="Dask resources that the cell needs",
)
RUN.add_argument(
    "--workers",
    action="append",
    default=[],
    metavar="PATTERN",
    help="Dask workers that may run it, by address, name or host, as 'tcp://10.0.0.7:*'; may be "
    "repeated",
)
RUN.add_argument(
    "--upload",
    action="append",
    default=[],
    metavar="FILES",
    help="files or folders of the working folder that the cell needs, as 'data/*.csv', where it "
    "does not see them; may be repeated",
)
RUN.add_argument(
    "--download",
    action="append",
    default=[],
    metavar="FILES",
    help="files that the cell writes and that come back, as 'out/*.png'; may be repeated",
)
RUN.add_argument(
    "--store",
    type=store_url,
    metavar="URL",
    help="keep the job, when it has ended, at a URL of fsspec's too, as s3://bucket/runs or "
    "/shared/runs; 'none': not, where it is the default (%%config AsyncRun.store)",
)
RUN.add_argument(
    "--sweep",
    action="append",
    default=[],
    metavar="NAME=VALUES",
    help="run the cell once for each combination: 'lr=[0.1, 0.01] depth=range(2, 6)' or "
    "'a, b in PAIRS'; may be repeated. Gathering brings one table, called as the job",
)
RUN.add_argument(
    "--max-parallel", type=positive, metavar="N", help="run at most N members side by side"
)
RUN.add_argument(
    "--max-members",
    type=positive,
    metavar="N",
    help="let a sweep have more members than 1000",
)
RUN.add_argument("--priority", type=whole, default=0, metavar="N", help="more is sooner")

GATHER = Parser(
    "%async_gather",
    "Show the output of jobs and merge their results into the namespace, as if their cells had "
    "run here. Without names: all jobs of this notebook that were not gathered yet, in order. "
    "Waits for jobs that run; an interrupt leaves everything as it was.",
    """\
%async_gather train
%async_gather                   all that was not gathered
%async_gather train --only model --timeout 10min
%async_gather train --overwrite
%async_gather lr --partial      of a sweep that runs: what there is by now""",
)
GATHER.add_argument("jobs", nargs="*", metavar="JOB", help="names, ids or patterns")
GATHER.add_argument("--timeout", type=duration, metavar="TIME", help="wait no longer than this")
GATHER.add_argument("--only", type=names, default=[], metavar="A,B", help="merge only these names")
GATHER.add_argument(
    "--partial",
    action="store_true",
    help="of a sweep that runs: a table of the members that have ended, now",
)
GATHER.add_argument(
    "--overwrite", action="store_true", help="also names that were changed here meanwhile"
)

SERVER = Parser(
    "%async_run_server",
    "Start a server (a Dask cluster in a process of its own, which outlives this kernel) or "
    "connect to the one that runs, or to a Dask cluster that somebody else started: by its "
    "address, its scheduler file, or a variable. Without options, DASK_SCHEDULER_ADDRESS (or "
    "scheduler-address in Dask's configuration) names one too.",
    """\
%async_run_server
%async_run_server --workers 4 --memory-limit 4GiB
%async_run_server tls://scheduler.lab:8786 --tls-ca ca.pem --tls-cert me.pem --tls-key me.key
%async_run_server --scheduler-file /shared/sched.json
%async_run_server --store s3://bucket/runs
%async_run_server --cluster slurm      a variable: an SSHCluster, a SLURMCluster, ..., a Client""",
)
SERVER.add_argument("address", nargs="?", help="of a running Dask scheduler, or a scheduler file")
SERVER.add_argument("--name", default="default", help="of the server; several may run")
SERVER.add_argument("--workers", type=int, metavar="N", help="cells that run side by side")
SERVER.add_argument("--memory-limit", metavar="SIZE", help="of each worker")
SERVER.add_argument(
    "--disk-limit", metavar="SIZE", help="of all jobs' inputs and results; then it takes no more"
)
SERVER.add_argument("--no-dashboard", action="store_true")
SERVER.add_argument(
    "--idle-timeout", type=duration, metavar="TIME", help="stop when nobody used it for this long"
)
SERVER.add_argument("--scheduler-file", metavar="FILE", help="of a running Dask scheduler")
SERVER.add_argument("--cluster", metavar="VARIABLE", help="that holds a Dask cluster or a Client")
SERVER.add_argument(
    "--store",
    type=store_url,
    metavar="URL",
    help="keep this notebook's jobs at a URL too, when they have ended: s3://bucket/runs",
)
SERVER.add_argument(
    "--restore",
    action="store_true",
    help="take in the jobs that lie in the --store and are not known to the server",
)
SERVER.add_argument("--tls-ca", metavar="FILE")
SERVER.add_argument("--tls-cert", metavar="FILE")
SERVER.add_argument("--tls-key", metavar="FILE")

STOP = Parser(
    "%async_stop_server",
    "Stop the server that %async_run_server started. Results stay and can be gathered after the "
    "next start. From a cluster that somebody else started, disconnect.",
    "%async_stop_server\n%async_stop_server --force      even though jobs run",
)
STOP.add_argument("--name", default="default")
STOP.add_argument("--force", action="store_true", help="cancel what runs")


def _with_jobs(magic: str, description: str, examples: str, needed: bool) -> Parser:
    parser = Parser(magic, description, examples)
    parser.add_argument(
        "jobs", nargs="+" if needed else "*", metavar="JOB", help="names, ids or patterns"
    )
    return parser


JOBS = _with_jobs(
    "%async_jobs",
    "List jobs: of this notebook, or those that are named.",
    "%async_jobs\n%async_jobs train*\n%async_jobs --all --sort took --reverse",
    needed=False,
)
JOBS.add_argument("--all", action="store_true", help="of all notebooks")
JOBS.add_argument(
    "--everyone",
    action="store_true",
    help="of all users of a cluster that somebody else runs, too",
)
JOBS.add_argument(
    "--last",
    type=at_most,
    default=LISTED,
    metavar="N",
    help=f"the N submitted last, and all that have not ended ({LISTED}; 'all': however many)",
)
JOBS.add_argument(
    "--sort",
    choices=list(SORTS),
    default="submitted",
    help=f"by what: {', '.join(SORTS)} (a page sorts at a click, too)",
    metavar="KEY",
)
JOBS.add_argument("--reverse", action="store_true", help="largest, or latest, first")
ATTACH = _with_jobs(
    "%async_attach",
    "Show the output of jobs so far and follow them until they end. An interrupt stops following, "
    "not the jobs.",
    "%async_attach train\n%async_attach train 'fit-*'\n%async_attach train --no-follow",
    needed=True,
)
ATTACH.add_argument("--no-follow", action="store_true", help="show what there is, then stop")
CANCEL = _with_jobs(
    "%async_cancel",
    "Cancel jobs: interrupt the cell (KeyboardInterrupt), then terminate, then kill its process. "
    "Of a sweep all members, or one that is named.",
    "%async_cancel train\n%async_cancel 'cell-*'\n%async_cancel lr[3]",
    needed=True,
)
WAIT = _with_jobs(
    "%async_wait",
    "Wait until jobs have ended; gathers nothing. Without names: all unfinished ones of this "
    "notebook.",
    "%async_wait train --timeout 10min",
    needed=False,
)
WAIT.add_argument("--timeout", type=duration, metavar="TIME", help="wait no longer than this")
RERUN = _with_jobs(
    "%async_rerun",
    "Run jobs again with the inputs they had: a lost one, for instance.",
    "%async_rerun train\n%async_rerun one two      two builds on one, which was lost\n"
    "%async_rerun lr --failed",
    needed=True,
)
RERUN.add_argument(
    "--failed",
    action="store_true",
    help="only what did not finish: jobs, and of a sweep its members",
)
FORGET = _with_jobs(
    "%async_forget",
    "Remove ended jobs, their outputs and results. One stays on which the result of another\n"
    "builds that was not gathered: gather that one first, or forget both together.",
    "%async_forget train@1\n%async_forget 'cell-*'",
    needed=True,
)
DASHBOARD = Parser(
    "%async_dashboard",
    "Show the link to the page of all jobs on Dask's dashboard.",
    "%async_dashboard",
)


_FLAGS = {
    option for action in RUN._actions if action.nargs == 0 for option in action.option_strings
}
_OPTION_BEHIND = re.compile(r"\s(--[a-z-]+)")
_OPTION = re.compile(r"\s*(-h\b|--[a-z-]+)(=|\s+|$)")
_VALUE = re.compile(r"""("[^"]*"|'[^']*'|\S)+""")


def split_statement(line: str) -> tuple[str, str]:
    """Split ``--name x L += 1`` into options and statement."""
    at = 0
    while (match := _OPTION.match(line, at)) is not None:
        at = match.end()
        if match[1] not in _FLAGS:
            value = _VALUE.match(line, at)
            if value is None:
                break
            at = value.end()
    return line[:at], line[at:].strip()


def misplaced(statement: str) -> str:
    """Answer the first option of `RUN` that stands behind code; empty if none does."""
    known = all_options(RUN)
    return next((m[1] for m in _OPTION_BEHIND.finditer(statement) if m[1] in known), "")


def run_options(**options: Any) -> argparse.Namespace:
    """Answer the options of a submission that are given as values, for the Python API.

    Raises
    ------
    TypeError
        There is no such option.
    OptionError
        It cannot have this value.
    """
    arguments = RUN.parse_line("")
    actions = {action.dest: action for action in RUN._actions}
    for key, value in options.items():
        if key not in actions:
            raise TypeError(f"run() has no option {key!r}")
        if value is None:
            continue
        try:
            setattr(arguments, key, _checked(actions[key], value))
        except argparse.ArgumentTypeError as error:
            raise OptionError(key, str(error)) from None
    return arguments


def _checked(action: argparse.Action, value: Any) -> Any:
    if action.dest == "sweep" and isinstance(value, Mapping):
        return value
    if action.nargs == 0:
        return bool(value)
    if isinstance(action.default, list):
        if isinstance(value, dict):
            value = [f"{key}={amount}" for key, amount in value.items()]
        texts = [value] if isinstance(value, str) else [str(part) for part in value]
        if action.type is names:
            return names(",".join(texts))
        return [action.type(text) for text in texts] if callable(action.type) else texts
    if isinstance(value, timedelta):
        value = value.total_seconds()
    return action.type(str(value)) if callable(action.type) else value


def documented(parser: Parser) -> str:
    """Answer a magic's docstring: what ``?`` shows."""
    return parser.format_help()


def all_options(parser: Parser) -> Iterable[str]:
    """Answer the option strings of a parser, for completion."""
    for action in parser._actions:
        yield from action.option_strings
