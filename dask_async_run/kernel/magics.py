"""The magics: thin, they parse a line, call the session and show what comes of it."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from difflib import get_close_matches
from html import escape
from typing import Any

import dask
from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand
from traitlets import Bool, Enum

from dask_async_run.errors import AsyncRunError, ServerError, ServerGoneError, shown_as
from dask_async_run.job import JobView, State
from dask_async_run.kernel import options
from dask_async_run.kernel.attaching import follow
from dask_async_run.kernel.audience import Audience, audience
from dask_async_run.kernel.cell_error import CellSyntaxError
from dask_async_run.kernel.cell_text import analyse_cell, as_typed, numbered
from dask_async_run.kernel.completion import candidates
from dask_async_run.kernel.files import Outgoing
from dask_async_run.kernel.foreign import foreign_client
from dask_async_run.kernel.gathering import Gatherer
from dask_async_run.kernel.handle import Job, Jobs
from dask_async_run.kernel.job_table import JobTable
from dask_async_run.kernel.live import MOST, Live
from dask_async_run.kernel.live_place import widgets_there
from dask_async_run.kernel.notices import Notices
from dask_async_run.kernel.options import Parser
from dask_async_run.kernel.outdated import lines_without_a_server, outdated
from dask_async_run.kernel.passing import PassingLine
from dask_async_run.kernel.plan import PlanView
from dask_async_run.kernel.preflight import in_use
from dask_async_run.kernel.preparation import prepare
from dask_async_run.kernel.record import Record
from dask_async_run.kernel.rejection import Rejection
from dask_async_run.kernel.replay import Unders
from dask_async_run.kernel.session import Session, gone, open_again, open_session
from dask_async_run.kernel.settings import Quantity
from dask_async_run.kernel.submission import submit
from dask_async_run.kernel.waiting import Waiting
from dask_async_run.kernel.warming import Warming
from dask_async_run.namespace.analyse import Analysis
from dask_async_run.quantities import LISTED, count, duration, size, size_limit, time_limit, workers
from dask_async_run.selection import select
from dask_async_run.server.connection import Connection, find, wait_for_the_end
from dask_async_run.server.control import stop_server
from dask_async_run.server.launch import ensure_server
from dask_async_run.server.options import IDLE_TIMEOUT
from dask_async_run.spelling import spelt_out
from dask_async_run.store_url import NO_STORE, store_url
from dask_async_run.sweeps import unfinished_ones

_AGAIN = re.compile(r"(\s|#.*\n)*%%async_run\b")
# A cell that gathers, or submits, knows what it reads.
_OURS = re.compile(r"\basync_(run|gather)\b|^\s*%%?async_\w+|(?<!asyncio)\.gather\(", re.MULTILINE)


def _magic(parser: Parser) -> Callable[[Callable[..., Any]], Any]:
    """Give a magic its parser's help as docstring; parse its line; ``-h`` shows the help."""

    def decorate(function: Callable[..., Any]) -> Any:
        def magic(self: AsyncRun, line: str) -> Any:
            arguments = parser.parse_line(line)
            if arguments.help:
                print(parser.format_help())
                return None
            try:
                with spelt_out():
                    return function(self, arguments)
            except KeyboardInterrupt as error:
                shown_as(error, f"{parser.prog} was interrupted.")
                raise

        magic.__name__ = function.__name__
        magic.__qualname__ = function.__qualname__
        magic.__doc__ = options.documented(parser)
        return magic

    return decorate


@magics_class
class AsyncRun(Magics):
    """The magics of one shell; owns the session.

    ``%config AsyncRun`` lists what can be set.
    """

    pending = Enum(
        ["warn", "wait", "ignore"],
        "warn",
        help="What a cell run here does that reads what a job has still to bring, or has changed: "
        "say so, gather first, or nothing.",
    ).tag(config=True)
    live = Bool(
        True, help="Show a job under the cell that submitted it while it runs, in notebooks."
    ).tag(config=True)
    notice = Bool(
        True, help="Say once that a job has ended, before the next cell's output or the prompt."
    ).tag(config=True)
    notify = Bool(
        False, help="Have the browser notify when a job ends, as --notify does for one job."
    ).tag(config=True)
    auto_gather = Bool(
        False, help="Gather finished jobs before the next cell runs, and say so."
    ).tag(config=True)
    timeout = Quantity(
        time_limit, help="Stop a cell after this long, as '2h', if its --timeout says nothing."
    )
    memory = Quantity(
        size_limit, help="Stop a cell that uses more, as '4GiB', if its --memory says nothing."
    )
    retries = Quantity(
        count, 0, help="Run a cell again, so often, when its worker or process dies."
    )
    store = Quantity(
        store_url,
        help="Keep a job at this URL too, as 's3://bucket/runs', if its --store says nothing.",
        shown=False,
    )
    workers = Quantity(workers, help="Cells that run side by side on a server that is started.")
    memory_limit = Quantity(size, help="Of each worker of a server that is started.")
    disk_limit = Quantity(
        size, help="Of all jobs' inputs and results, on a server that is started."
    )
    idle_timeout = Quantity(
        duration,
        IDLE_TIMEOUT,
        help="A server that is started stops when nobody used it for this long; 0: never.",
    )

    shell: Any

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        self._session: Session | None = None
        self._warming: Warming | None = None
        self._live = Live(shell)
        self._notices = Notices()
        self._notify_of: dict[str, bool] = {}
        self._analysis: tuple[str, Analysis] | None = None
        self._rejection: Rejection | None = None
        self._submitted: set[str] = set()  # and not gathered, when the current cell began

    # -- the session -----------------------------------------------------------

    @property
    def session(self) -> Session:
        """The session; connects to the default server's if one lives."""
        if self._session is not None and not self._session.alive:
            self._reconnect()
        if self._session is None:
            self._use(open_session(self.shell, self.shell.user_ns))
        assert self._session is not None
        return self._session

    @property
    def connected(self) -> bool:
        """Whether there is a session; asking does not make one."""
        return self._session is not None

    def _reconnect(self) -> None:
        """The server went away, perhaps for another one: what we remember of jobs stays."""
        old = self._session
        assert old is not None
        name = old.connection.name if old.connection is not None else None
        if name is None:
            self._use(open_again(old))
            return
        there = find(name)
        if there is None:
            raise gone(name)
        old.close()
        self._use(open_session(self.shell, self.shell.user_ns, there))

    def _use(self, session: Session) -> None:
        old, self._session = self._session, session
        if old is not None and old.state_folder == session.state_folder:
            session.take_over(old)
        self._live.use(session)
        if self.live and audience(self.shell) is Audience.PAGE:
            self._live.revive(session.registry.jobs(session.notebook, latest=MOST), self.notify)
        if old is not None and old is not session:
            old.close()
        self._warming = Warming(session)
        self._warming.tell()

    @spelt_out()
    def after_cell(self, result: Any) -> None:
        """Have the workers import what a cell here has imported; note what it has bound."""
        if self._rejection is not None:
            self._rejection.withdraw()
            self._rejection = None
        if self._warming is not None:
            self._warming.tell()
        self._note_bound(result)
        if audience(self.shell) is Audience.TERMINAL and self._has_news():
            self._notify("")

    def _note_bound(self, result: Any) -> None:
        """Note the names that a cell here has bound after jobs were submitted that bind them, too,
        and those that it has bound and deleted again.

        That a name has the same small number as before does not tell that it was bound.
        """
        waiting = [record for record in self._waiting() if record.id in self._submitted]
        code = getattr(result.info, "raw_cell", "") or ""
        if not waiting or not result.success or _OURS.search(code):
            return
        try:
            analysis = self._analysed(code)
        except SyntaxError:  # a magic that is no Python
            return
        for record in waiting:
            if record.kept is not None:
                theirs = {*record.spec.binds, *record.spec.deletes}
                record.kept.bound_here(analysis.certain & theirs)
        if self._session is not None:
            self._session.note_removed(analysis.removes, time.time())

    def _analysed(self, code: str) -> Analysis:
        """Analyse the cell that is run here: once, before it and after it."""
        if self._analysis is None or self._analysis[0] != code:
            self._analysis = code, analyse_cell(self.shell, code)
        return self._analysis[1]

    def _bound_later(self) -> set[str]:
        """Answer the names that may come from jobs."""
        return {name for record in self._waiting() for name in record.spec.binds}

    def _waiting(self) -> list[Record]:
        return [] if self._session is None else self._session.waiting()

    def close(self) -> None:
        """Disconnect; jobs go on."""
        self._live.close("not followed any more: this kernel has disconnected")
        if self._session is not None:
            self._session.close()
            self._session = None

    # -- server ------------------------------------------------------------------

    @line_magic
    @_magic(options.SERVER)
    def async_run_server(self, arguments: argparse.Namespace) -> None:
        nothing = options.SERVER.parse_line("")
        nothing.store, nothing.restore = arguments.store, arguments.restore
        if arguments == nothing:
            # Whoever says more about the server wants one of ours.
            arguments.address = dask.config.get("scheduler-address", None)
        if arguments.cluster or arguments.address or arguments.scheduler_file:
            client = foreign_client(arguments, self.shell.user_ns)
            theirs = client is self.shell.user_ns.get(arguments.cluster)
            self._use(open_session(self.shell, self.shell.user_ns, client=client, owns=not theirs))
            self._introduce()
            self._use_store(arguments)
            return
        asked = arguments.workers
        for default in ("workers", "memory_limit", "disk_limit", "idle_timeout"):
            if getattr(arguments, default) is None:
                setattr(arguments, default, getattr(self, default))
        idle = arguments.idle_timeout or 0.0
        try:
            connection, started = self._ensure(arguments, idle)
        except ServerGoneError:
            # It was killed this moment, and may hold its lock until the system has cleared it away.
            if self._session is not None and self._session.connection is not None:
                wait_for_the_end(self._session.connection)
            connection, started = self._ensure(arguments, idle)
        what = "Started" if started else "Already running: connected to"
        slots = f"{connection.workers} cell{'' if connection.workers == 1 else 's'} side by side"
        link = connection.dashboard_link
        board = f" Dashboard: {link}" if link else ""
        print(f"{what} server {connection.name!r} (process {connection.pid}, {slots}).{board}")
        if not started and asked not in (None, connection.workers):
            stop = f"%async_stop_server --name {connection.name}".removesuffix(" --name default")
            print(f"--workers {asked} is for a server that is started: {stop} stops this one.")
        self._use_store(arguments)

    def _use_store(self, arguments: argparse.Namespace) -> None:
        """Make a store the default of this notebook's jobs, once it is sure that it works."""
        url = arguments.store or self.store
        if arguments.restore and url in (None, NO_STORE):
            raise UsageError("%async_run_server: --restore needs a --store to take jobs from.")
        if arguments.store is None and not arguments.restore:
            return
        self.store = url
        if url == NO_STORE:
            return
        found = self.session.registry.check_store(url)
        print(f"Jobs are kept at {found['place']} too, when they have ended.")
        if arguments.restore:
            answer = self.session.registry.restore(url)
            for problem in answer["problems"]:
                print(f"Not taken in: {problem}", file=sys.stderr)
            print(f"Jobs taken in from there: {answer['jobs']} (%async_jobs --all).")
        elif found["unknown"]:
            print(
                f"Jobs there that are not known here: {found['unknown']}; --restore takes them in."
            )

    def _introduce(self) -> None:
        """Say which cluster of somebody else's this is, and what is not the same there."""
        session = self.session
        assert session.cluster is not None
        sent = session.cluster.sent
        along = f" Sent there, since it had none: {', '.join(sent)}." if sent else ""
        board = f" Dashboard: {session.dashboard}" if session.dashboard else ""
        useless = session.cluster.useless
        other = f" Workers with another Python get no cells: {useless}." if useless else ""
        print(f"Connected to {session.address}.{along}{other}{board}")
        session.compare(in_use(session.namespace.values()))

    def _ensure(self, arguments: argparse.Namespace, idle: float) -> tuple[Connection, bool]:
        """Start a server or find it, and be connected to it; whether it was started."""
        connection, started = ensure_server(
            arguments.name,
            workers=arguments.workers,
            memory_limit=None if arguments.memory_limit is None else str(arguments.memory_limit),
            dashboard=not arguments.no_dashboard,
            idle_timeout=idle,
            disk_limit=None if arguments.disk_limit is None else str(arguments.disk_limit),
        )
        session = self._session
        if session is None or not session.alive or session.connection != connection:
            self._use(open_session(self.shell, self.shell.user_ns, connection))
            return connection, started
        try:
            session.registry.idle()
        except ServerGoneError:
            raise
        except ServerError as error:
            # Killed this moment: its process is still there, and answers nobody any more.
            raise ServerGoneError(str(error)) from error
        return connection, started

    @line_magic
    def async_start_server(self, line: str) -> None:
        """Alias of %async_run_server."""
        magic: Any = self.async_run_server
        magic(line)

    @line_magic
    @_magic(options.STOP)
    def async_stop_server(self, arguments: argparse.Namespace) -> None:
        session = self._session
        ours = session is not None and (
            session.connection is None or session.connection.name == arguments.name
        )
        if ours and session is not None and session.connection is None:
            self.close()
            print(
                f"Disconnected from {session.address}, which goes on with its jobs: somebody else "
                "started it."
            )
            return
        # A client that sees its scheduler end tries to connect again, and logs that it cannot.
        disconnect = self.close if ours else lambda: None
        line = PassingLine(self.shell)
        try:
            stopped = stop_server(
                arguments.name, force=arguments.force, agreed=disconnect, silent=line.show
            )
        finally:
            line.clear()
        disconnect()
        print(
            f"Stopped server {arguments.name!r}. Finished results are kept."
            if stopped
            else f"No server {arguments.name!r} is running."
        )

    @line_magic
    @_magic(options.DASHBOARD)
    def async_dashboard(self, arguments: argparse.Namespace) -> Any:
        link = self.session.page() or self.session.dashboard
        if link is None:
            print("This server has no dashboard.")
            return None
        from IPython.display import display

        shown = escape(link)
        anchor = f'<a href="{shown}" target="_blank" rel="noopener">{shown}</a>'
        display({"text/html": anchor, "text/plain": link}, raw=True)
        return None

    # -- run -----------------------------------------------------------------------

    @no_var_expand
    @line_cell_magic
    @spelt_out()
    def async_run(self, line: str, cell: str | None = None) -> Any:
        words, statement = (line, "") if cell is not None else options.split_statement(line)
        arguments = options.RUN.parse_line(words)
        for default in ("timeout", "memory", "retries", "store"):
            if getattr(arguments, default) is None:
                setattr(arguments, default, getattr(self, default))
        if arguments.help:
            print(options.RUN.format_help())
            return None
        if not (cell or statement).strip():
            raise UsageError("%%async_run: there is no code to run. %async_run -h shows examples.")
        if cell is not None and _AGAIN.match(cell):
            raise UsageError(
                "%%async_run: there is another %%async_run in the cell. One is enough: its options "
                "go into one line."
            )
        code = cell or statement
        try:
            code = as_typed(self.shell, code, self._bound_later)
            if cell is not None:
                code = numbered(line, code)
            if arguments.plan:
                outgoing = Outgoing(self.session, arguments)
                return PlanView(self.session, prepare(self.session, code, arguments), outgoing)
            unders = Unders(self.shell)
            source = self._source(line, cell)
            record, view = submit(self.session, source, code, arguments, unders)
        except SyntaxError as error:
            if option := options.misplaced(statement):
                raise UsageError(
                    f"%async_run: {option} comes before the code: %async_run --name job x = 1"
                ) from None
            raise self._syntax_error(error, code) from None
        except KeyboardInterrupt as error:
            shown_as(error, "%%async_run was interrupted. %async_jobs says whether there is a job.")
            raise
        job = Job(self.session, view)
        record.handle = job
        if not view.dynamic:
            self._tell_strange_names(arguments, {*view.binds, *view.mutates})
        if arguments.notify is not None:
            self._notify_of[job.id] = arguments.notify
            if arguments.notify and (why := self._why_no_bell()):
                print(f"No notification by the browser: {why}.", file=sys.stderr)
        if arguments.gather:
            job.gather()
            return None
        return job

    async_run.__doc__ = options.documented(options.RUN)

    def _tell_strange_names(self, arguments: argparse.Namespace, made: set[str]) -> None:
        """Tell names that are to come back and that nobody has, as misspelt ones."""
        pending = {name for record in self.session.waiting() for name in record.spec.binds}
        known = made | pending | self.shell.user_ns.keys()
        for option in ("only", "also"):
            for name in getattr(arguments, option) or ():
                if name not in known:
                    near = get_close_matches(name, known, n=1)
                    hint = f" Did you mean {near[0]}?" if near else ""
                    print(
                        f"--{option} {name}: neither the cell nor the notebook has it.{hint}",
                        file=sys.stderr,
                    )

    def _source(self, line: str, cell: str | None) -> str:
        if cell is None:
            return f"%async_run {line}"
        head = f"%%async_run {line}".rstrip()
        return f"{head}\n{cell}"

    def _syntax_error(self, error: SyntaxError, code: str) -> CellSyntaxError:
        """Answer a syntax error that shows as the cell's own, at its line."""
        number = self.shell.displayhook.prompt_count
        error.filename = self.shell.compile.cache(code, number, raw_code=code)
        lines = code.splitlines()
        if error.lineno is not None and 0 < error.lineno <= len(lines):
            error.text = error.text or lines[error.lineno - 1]
        kind: Any = type(type(error).__name__, (CellSyntaxError,), {})
        shown: CellSyntaxError = kind(
            str(error), self.shell.SyntaxTB.structured_traceback(type(error), error, [])
        )
        return shown

    # -- gather --------------------------------------------------------------------

    @line_magic
    @_magic(options.GATHER)
    def async_gather(self, arguments: argparse.Namespace) -> None:
        session = self.session
        if arguments.jobs:
            views = session.jobs(arguments.jobs)
        else:
            views = session.registry.jobs(session.notebook, gathered=False)
            if not views:
                print("There is nothing to gather: %async_jobs lists this notebook's jobs.")
        Gatherer(session).gather(
            views, arguments.only, arguments.overwrite, arguments.timeout, arguments.partial
        )

    @line_magic
    @_magic(options.WAIT)
    def async_wait(self, arguments: argparse.Namespace) -> None:
        session = self.session
        if arguments.jobs:
            views = session.jobs(arguments.jobs)
        else:
            views = session.registry.jobs(session.notebook, _UNENDED)
        Waiting(self.session).until_ended(views, arguments.timeout)

    # -- see and steer ---------------------------------------------------------------

    @line_magic
    @_magic(options.JOBS)
    def async_jobs(self, arguments: argparse.Namespace) -> JobTable:
        session, more = self.session, 0
        everywhere = arguments.all or arguments.everyone
        if arguments.jobs and not everywhere:
            views = session.jobs(arguments.jobs)
        else:
            notebook = None if everywhere else session.notebook
            owner = "" if arguments.everyone else session.owner
            # Of some names all that are called so: each in its notebook.
            latest = None if arguments.jobs else arguments.last
            views = session.registry.jobs(notebook, latest=latest, owner=owner)
            more = session.registry.count(notebook, owner) - len(views)
            if arguments.jobs:
                views = select(views, arguments.jobs)
        unended = session.registry.jobs(states=_UNENDED)
        parents = {job for view in unended for job in view.after}
        everybody = {view.id: view for view in unended}
        everybody |= {view.id: view for view in session.registry.jobs(wanted=parents)}
        looking = audience(self.shell) is Audience.PAGE
        return JobTable(
            views,
            title="" if everywhere else "This notebook has no jobs.",
            sort=arguments.sort,
            reverse=arguments.reverse,
            dashboard=(self.session.page() or self.session.dashboard or "") if looking else "",
            everybody=list(everybody.values()),
            more=max(0, more),
            notebook=session.notebook,
            options="--everyone " if arguments.everyone else "--all " * arguments.all,
        )

    @line_magic
    def async_status(self, line: str) -> JobTable:
        """Alias of %async_jobs."""
        magic: Any = self.async_jobs
        table: JobTable = magic(line)
        return table

    @line_magic
    @_magic(options.ATTACH)
    def async_attach(self, arguments: argparse.Namespace) -> None:
        follow(self.session, self.session.jobs(arguments.jobs), wait=not arguments.no_follow)

    @line_magic
    @_magic(options.CANCEL)
    def async_cancel(self, arguments: argparse.Namespace) -> None:
        views = self.session.jobs(arguments.jobs)
        said = self.session.registry.cancel([view.id for view in views])
        self._notices.know(said)
        for view in views:
            print(f"{self.session.called(view)}: {said[view.id]}")

    @line_magic
    @_magic(options.RERUN)
    def async_rerun(self, arguments: argparse.Namespace) -> Any:
        from dask_async_run.kernel.rerun import rerun

        views = self.session.jobs(arguments.jobs)
        if arguments.failed:
            views = unfinished_ones(views)
            if not views:
                print("There is nothing to run again: all that has ended has finished.")
                return None
        again = Jobs(rerun(self.session, view, arguments.failed) for view in views)
        return again[0] if len(again) == 1 else again

    @line_magic
    @_magic(options.FORGET)
    def async_forget(self, arguments: argparse.Namespace) -> None:
        views = self.session.jobs(arguments.jobs)
        self.session.registry.forget([view.id for view in views])
        self.session.forget([view.id for view in views])
        print("Forgotten: " + ", ".join(self.session.called(view) for view in views))

    # -- between cells -----------------------------------------------------------------

    @spelt_out()
    def before_cell(self, info: Any) -> None:
        """Do what is to be done before a cell runs here; an interrupt of that stops the cell."""
        try:
            self._look_ahead(info)
        except KeyboardInterrupt as error:
            shown_as(error, "interrupted.")
            interrupt: Any = error
            told = " ".join([*interrupt._render_traceback_(), "The cell was not run."])
            self._rejection = Rejection(self.shell, told)

    def _look_ahead(self, info: Any) -> None:
        """Tell, before a cell runs here, which names it reads are still to come."""
        self._submitted = {record.id for record in self._waiting()}
        code = getattr(info, "raw_cell", None) or ""  # others trigger the event, too
        if self._session is not None and not self._session.alive:
            self._tell_without_a_server(self._session, code)
        if not self._has_news() or self._session is None:
            return
        self._gather_finished()
        if audience(self.shell) is Audience.PAGE:
            self._notify(code)
        if self.pending == "ignore" or _OURS.search(code):
            return
        try:
            wait = self.pending == "wait"
            found = outdated(self._session, lambda: self._analysed(code), wait)
            lines = [] if wait else list(found.lines(self._session))
        except (SyntaxError, AsyncRunError):
            return
        if wait and (jobs := found.jobs()):
            Gatherer(self._session).gather(self._session.registry.jobs(wanted=jobs))
        _say(lines)

    def _tell_without_a_server(self, session: Session, code: str) -> None:
        """Tell which names that a cell reads jobs on a server would make that has gone."""
        if self.pending == "ignore" or _OURS.search(code):
            return
        with suppress(SyntaxError, AsyncRunError):
            _say(list(lines_without_a_server(session, lambda: self._analysed(code))))

    def show_job(self, job: Job) -> None:
        """Show a job that is a cell's value, or displayed: live, if somebody looks.

        Raises
        ------
        NotImplementedError
            It is to be shown as other values are.
        """
        if not self.live or audience(self.shell) is not Audience.PAGE or not self.connected:
            raise NotImplementedError
        try:
            self._live.show(job.view, self._notify_of.pop(job.id, self.notify))
        except KeyboardInterrupt as error:
            called = self.session.called(job.view)
            shown_as(error, f"the job is not shown here, but goes on: %async_gather {called}")
            raise

    def _why_no_bell(self) -> str:
        """Say why the browser cannot tell the end of a job; empty if it can, or nobody looks."""
        match audience(self.shell):
            case Audience.TERMINAL:
                return "there is none. The end is told before the next prompt"
            case Audience.PAGE if not self.live:
                return "%config AsyncRun.live = False has switched the cards off, which do it"
            case Audience.PAGE if not widgets_there():
                return "it takes ipywidgets (pip install ipywidgets, then restart the kernel)"
        return ""

    def _has_news(self) -> bool:
        """Whether there may be something to say of jobs, and the scheduler answers."""
        session = self._session
        if session is None or not session.alive or not (session.waiting() or self._live.wanted):
            return False
        return self.pending == "wait" or session.answers()

    def _notify(self, code: str) -> None:
        """Say which jobs have ended."""
        if self.notice and self._session is not None:
            for line in self._notices.about(self._session, code):
                print(line)

    def _gather_finished(self) -> None:
        """Gather what has finished: all of it, or what somebody asked for by a button."""
        assert self._session is not None
        if not self.auto_gather and not self._live.wanted:
            return
        waiting = [record.id for record in self._session.waiting()] if self.auto_gather else []
        for view in self._session.endings_of([*waiting, *self._live.wanted]).ended:
            self._live.wanted.pop(view.id, None)
            here = view.id in self._session.records and view.id not in self._session.gathered
            if view.state == State.FINISHED and here:
                print(f"gathering {view.label}:")
                Gatherer(self._session).gather([view])

    def complete(self, event: Any) -> list[str]:
        """Complete options, their values and job names on the line of a magic."""
        parser = _PARSERS.get(event.command.lstrip("%"))
        if parser is None:
            return []

        def jobs() -> list[JobView]:
            try:
                session = self.session
                return session.registry.jobs(session.notebook, latest=LISTED)
            except AsyncRunError:
                return []

        return candidates(parser, event.text_until_cursor, event.symbol, jobs, self.shell.user_ns)


_UNENDED = (State.PENDING, State.RUNNING)

_PARSERS: dict[str, Parser] = {
    parser.prog.lstrip("%"): parser
    for parser in (
        options.RUN,
        options.GATHER,
        options.SERVER,
        options.STOP,
        options.JOBS,
        options.ATTACH,
        options.CANCEL,
        options.WAIT,
        options.RERUN,
        options.FORGET,
        options.DASHBOARD,
    )
} | {"async_start_server": options.SERVER, "async_status": options.JOBS}

MAGICS = tuple(_PARSERS)
"""Names of all magics, without percent signs."""


def _say(lines: Sequence[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr)
