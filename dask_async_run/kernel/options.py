"""Options of the magics: parsed from their lines, explained in their help."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from typing import NoReturn

from IPython.core.error import UsageError
from IPython.utils.process import arg_split

from dask_async_run.quantities import duration, size

NAME = re.compile(r"[^\s/@*?\[\],'\"\x00-\x1f\x7f][^\s/@*?\[\],'\"\x00-\x1f\x7f]{0,99}")


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
            description=description,
            epilog="Examples:\n\n" + "\n".join("    " + line for line in examples.splitlines()),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            add_help=False,
            allow_abbrev=False,
        )
        self.add_argument("-h", "--help", action="store_true", help="show this help")

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}. {self.prog} -h shows what it takes.")

    def parse_line(self, line: str) -> argparse.Namespace:
        """Parse a magic's line; quoting as in a shell."""
        try:
            words = arg_split(line, posix=True)
        except ValueError as error:  # an unclosed quote
            self.error(str(error))
        return self.parse_args(words)


def job_name(text: str) -> str:
    """Check a job's name."""
    if not NAME.fullmatch(text):
        shown = text if len(text) < 60 else text[:57] + "..."
        raise argparse.ArgumentTypeError(
            f"{shown!r} cannot name a job: use up to 100 characters without spaces, quotes, "
            "commas or any of / @ * ? [ ]"
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
        return name, float(amount or 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no resource, like GPU=1") from None


RUN = Parser(
    "%%async_run",
    "Run a cell on the Dask cluster and give the prompt back at once. What it reads goes "
    "along, what it does comes back with %async_gather. %async_run does it for one line.",
    """\
%%async_run --name train
model = GridSearchCV(SVC(), grid).fit(X, y)
model.best_params_

%%async_run --plan              what would travel; runs nothing
%%async_run --timeout 2h --memory 4GiB
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
RUN.add_argument("--gather", action="store_true", help="wait for the job and gather it")
RUN.add_argument("--only", type=names, default=[], metavar="A,B", help="bring back only these")
RUN.add_argument(
    "--also", type=names, default=[], metavar="A,B", help="bring these back even if unchanged"
)
RUN.add_argument("--timeout", type=duration, metavar="TIME", help="stop the cell after this long")
RUN.add_argument(
    "--memory", type=size, metavar="SIZE", help="stop the cell when its processes use more"
)
RUN.add_argument(
    "--retries",
    type=int,
    default=0,
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
    "--workers", action="append", default=[], metavar="ADDRESS", help="Dask workers that may run it"
)
RUN.add_argument("--priority", type=int, default=0, metavar="N", help="more is sooner")

GATHER = Parser(
    "%async_gather",
    "Show the output of jobs and merge their results into the namespace, as if their cells had "
    "run here. Without names: all jobs of this notebook that were not gathered yet, in order. "
    "Waits for jobs that run; an interrupt leaves everything as it was.",
    """\
%async_gather train
%async_gather                   all that was not gathered
%async_gather train --only model --timeout 10min
%async_gather train --overwrite""",
)
GATHER.add_argument("jobs", nargs="*", metavar="JOB", help="names, ids or patterns")
GATHER.add_argument("--timeout", type=duration, metavar="TIME", help="wait no longer than this")
GATHER.add_argument("--only", type=names, default=[], metavar="A,B", help="merge only these names")
GATHER.add_argument(
    "--overwrite", action="store_true", help="also names that were changed here meanwhile"
)

SERVER = Parser(
    "%async_run_server",
    "Start a server (a Dask cluster in a process of its own, which outlives this kernel) or "
    "connect to the one that runs, or to a Dask cluster that somebody else started.",
    """\
%async_run_server
%async_run_server --workers 4 --memory-limit 4GiB
%async_run_server tls://scheduler.lab:8786 --tls-ca ca.pem --tls-cert me.pem --tls-key me.key
%async_run_server --scheduler-file /shared/sched.json""",
)
SERVER.add_argument("address", nargs="?", help="of a running Dask scheduler, or a scheduler file")
SERVER.add_argument("--name", default="default", help="of the server; several may run")
SERVER.add_argument("--workers", type=int, metavar="N", help="cells that run side by side")
SERVER.add_argument("--memory-limit", metavar="SIZE", help="of each worker")
SERVER.add_argument("--no-dashboard", action="store_true")
SERVER.add_argument(
    "--idle-timeout", type=duration, metavar="TIME", help="stop when nobody used it for this long"
)
SERVER.add_argument("--scheduler-file", metavar="FILE", help="of a running Dask scheduler")
SERVER.add_argument("--cluster", metavar="VARIABLE", help="that holds a Dask cluster or a Client")
SERVER.add_argument("--tls-ca", metavar="FILE")
SERVER.add_argument("--tls-cert", metavar="FILE")
SERVER.add_argument("--tls-key", metavar="FILE")

STOP = Parser(
    "%async_stop_server",
    "Stop the server that %async_run_server started. Results stay and can be gathered after the "
    "next start.",
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
    "%async_jobs\n%async_jobs train*\n%async_jobs --all",
    needed=False,
)
JOBS.add_argument("--all", action="store_true", help="of all notebooks")
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
    "Cancel jobs: interrupt the cell (KeyboardInterrupt), then terminate, then kill its process.",
    "%async_cancel train\n%async_cancel 'cell-*'",
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
    "%async_rerun train",
    needed=True,
)
FORGET = _with_jobs(
    "%async_forget",
    "Remove ended jobs, their outputs and results.",
    "%async_forget train@1\n%async_forget 'cell-*'",
    needed=True,
)
DASHBOARD = Parser("%async_dashboard", "Show the link to the Dask dashboard.", "%async_dashboard")


_FLAGS = {
    option for action in RUN._actions if action.nargs == 0 for option in action.option_strings
}
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


def documented(parser: Parser) -> str:
    """Answer a magic's docstring: what ``?`` shows."""
    return parser.format_help()


def all_options(parser: Parser) -> Iterable[str]:
    """Answer the option strings of a parser, for completion."""
    for action in parser._actions:
        yield from action.option_strings
