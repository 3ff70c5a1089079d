"""The page of one browser window: a Bokeh document that a board keeps up to date."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

from bokeh.core.properties import without_property_validation
from bokeh.document import Document
from bokeh.models import Button, Column, CustomJS, Div, InlineStyleSheet, Row, Select

from dask_async_run.errors import AsyncRunError
from dask_async_run.job import JobSpec, JobView, State
from dask_async_run.scheduler.client_ops import ClientOps
from dask_async_run.scheduler.page import detail
from dask_async_run.scheduler.page.board import Board
from dask_async_run.scheduler.page.chart import Chart
from dask_async_run.scheduler.page.style import HTML, WIDGET
from dask_async_run.scheduler.page.table import Table
from dask_async_run.scheduler.page.ticks import plain, sizes
from dask_async_run.scheduler.page.timeline import Timeline

TICK = 400
"""Milliseconds between two looks at the board."""

AT_ONCE = 200
"""Rows that are sent in one go at most: the page is there at once, and the rest follows."""

READ = 1024 * 1024
"""Bytes of a selected job's latest outputs that are read at most."""

WINDOWS = {"10 minutes": 600.0, "1 hour": 3600.0, "12 hours": 43200.0, "3 days": 259200.0}

NOT_YOURS = (
    '<span class="muted">Only to be looked at: whoever reaches this cluster sees this page.</span>'
)
NOTHING = '<p class="muted">Select a job: a click, or the arrow keys in the table.</p>'


class Page:
    """One window's page.

    Parameters
    ----------
    board : Board
        Held open until the window is closed.
    ops : ClientOps or None
        What the buttons do; None: there are none.
    document : Document
    wanted : str
        Id, or the beginning of one, of the job that is selected at first; empty: none.
    """

    def __init__(
        self, board: Board, ops: ClientOps | None, document: Document, wanted: str
    ) -> None:
        self._board = board
        self._ops = ops
        self._document = document
        self._wanted = wanted
        self._version = 0
        self._chosen: list[str] = []
        self._view: JobView | None = None
        self._stale = True
        self._picture = 0
        self._verb = ""
        self.table = Table()
        self.timeline = Timeline()
        self._build()
        board.open(self)
        document.on_session_destroyed(lambda _: board.close(self))
        self._ticking = document.add_periodic_callback(self.tick, TICK)

    def end(self, reason: str) -> None:
        """Say that nothing more is to come."""
        self._board.close(self)

        def stop() -> None:
            self._document.remove_periodic_callback(self._ticking)
            self._summary.text = f'<span class="bad">{reason}</span>'

        self._document.add_next_tick_callback(stop)

    # --- up to date ---

    @without_property_validation
    def tick(self) -> None:
        now = time.time()
        changed, self._version = self._board.since(self._version, AT_ONCE)
        if changed:
            self.table.show(self._board.rows, changed)
            self._sum_up()
            self._look_for_wanted(changed)
        self.timeline.show(self._board.spans, changed, now)
        if self._stale or not set(self._chosen).isdisjoint(changed):
            self._read(now)
        elif self._view is not None and self._view.state == State.RUNNING:
            self._show_facts(self._view, now)

    def _sum_up(self) -> None:
        rows = self._board.rows.values()
        states = [row["state"] for row in rows]
        parts = [
            f'<span class="s {state}">{count} {state}</span>'
            for state in (State.RUNNING, State.PENDING)
            if (count := states.count(state))
        ]
        shown = len(self.table.feed)
        jobs = f"{len(rows):,} job{'' if len(rows) == 1 else 's'}"
        parts.append(jobs if shown == len(rows) else f"{shown:,} of {jobs}")
        if self._board.loading:
            parts.append("older ones are on their way")
        self._summary.text = f'<span class="muted">{" · ".join(parts)}</span>'

    def _look_for_wanted(self, changed: Collection[str]) -> None:
        if not self._wanted:
            return
        found = next((job for job in changed if job.startswith(self._wanted)), None)
        if found is not None and found in self.table.feed:
            self._wanted = ""
            self.table.feed.select([found])

    def _filtered(self, attr: str, old: object, new: object) -> None:
        self.table.show_all(self._board.rows)
        self._sum_up()

    # --- the selected job ---

    def _choose(self, attr: str, old: object, new: object) -> None:
        if self.table.feed.settling:
            return
        self._chosen = self.table.feed.selected()
        self._stale = True
        self._ask("")
        self.tick()

    def _choose_run(self, attr: str, old: object, new: object) -> None:
        if not self.timeline.feed.settling and (runs := self.timeline.feed.selected()):
            # A member is seen as a part of its sweep, which has the row.
            self.table.feed.select([job for job in runs if job in self.table.feed])

    def _read(self, now: float) -> None:
        """Read the selected job again, a bounded part of it."""
        self._stale = False
        registry = self._board.registry
        rows = registry.rows(jobs=self._chosen[:1]) if self._chosen else []
        self._view = JobView.from_message(rows[0]) if rows else None
        self._enable()
        if self._view is None:
            gone = "It was forgotten." if self._chosen else ""
            self._facts.text = f'<p class="muted">{gone}</p>' if gone else NOTHING
            self._output.text = self._source.text = self._pictures.text = ""
            self._usage.visible = False
            return
        view = self._view
        live = registry.live.get(view.id)
        end = registry.ending(view.id, limit=READ)
        self._show_facts(view, now)
        ended, pictured = State(view.state).terminal, end.picture is not None
        shown = detail.output(end.text, ended=ended, pictured=pictured)
        self._output.text = _titled("Output", shown)
        self._source.text = _titled("Source", detail.source(view.source))
        self._pictures.text = detail.picture(end.picture)
        samples = list(live.usage.samples) if live is not None else []
        self._usage.visible = len(samples) > 1
        if samples:
            times = [1000 * at for at, _, _ in samples]
            self._memory.show(times, [memory for _, memory, _ in samples])
            self._cpu.show(times, [cpu for _, _, cpu in samples])

    def _show_facts(self, view: JobView, now: float) -> None:
        row = self._board.rows.get(view.id)
        record = self._board.registry.machine.records.get(view.id)
        waits = [self._board.label(job) for job in sorted(record.after)] if record else []
        self._facts.text = detail.facts(view, waits, row["where"] if row else "", now)

    # --- acting ---

    def _enable(self) -> None:
        states = [self._board.rows[job]["state"] for job in self._chosen if job in self._board.rows]
        self._cancel.disabled = all(State(state).terminal for state in states)
        self._rerun.disabled = not any(State(state).terminal for state in states)

    def _subjects(self, verb: str) -> list[str]:
        """Answer which of the selected jobs it can be done to."""
        rows = self._board.rows
        ended = verb == "rerun"
        return [
            job
            for job in self._chosen
            if job in rows and State(rows[job]["state"]).terminal is ended
        ]

    def _ask(self, verb: str) -> None:
        """Ask before something is done; an empty verb: nothing is asked."""
        self._verb = verb
        names = [self._board.label(job) for job in self._subjects(verb)] if verb else []
        self._yes.visible = self._no.visible = bool(names)
        which = "it" if len(names) < 2 else "them"
        self._yes.label = {"cancel": f"Cancel {which}", "rerun": f"Run {which} again", "": ""}[verb]
        self._question.text = detail.question(verb, names) if names else ""

    def _do(self) -> None:
        verb, jobs = self._verb, self._subjects(self._verb)
        self._ask("")
        if self._ops is None or not jobs:
            return
        ops = self._ops

        async def act() -> None:
            try:
                said = await (
                    _cancel(ops, jobs) if verb == "cancel" else self._run_again(ops, jobs)
                )
                self._question.text = detail.answer(said)
            except AsyncRunError as error:
                self._question.text = detail.answer(str(error), good=False)

        self._document.add_next_tick_callback(act)

    async def _run_again(self, ops: ClientOps, jobs: Sequence[str]) -> str:
        names = []
        # In order of submission, however they were chosen: one may build on another.
        for job in [row["id"] for row in await ops.jobs(wanted=jobs)]:
            spec = JobSpec.from_message(await ops.spec(job))
            row = await ops.create(spec.again(spec.notebook).to_message())
            names.append(row["name"])
            self._wanted = row["id"]
        return f"submitted again: {', '.join(names)}"

    # --- models ---

    def _build(self) -> None:
        html, widget = InlineStyleSheet(css=HTML), InlineStyleSheet(css=WIDGET)

        def div(name: str) -> Div:
            return Div(
                name=name, text="", sizing_mode="stretch_width", stylesheets=[html], margin=0
            )

        def button(label: str, kind: str = "default") -> Button:
            return Button(
                label=label, button_type=kind, stylesheets=[widget], margin=(0, 0, 0, 8), width=110
            )

        self._summary, self._facts, self._output = div("summary"), div("facts"), div("output")
        self._source, self._pictures, self._question = div("source"), div("picture"), div("")
        self._facts.text = NOTHING
        self._cancel, self._rerun = button("Cancel…"), button("Run again…")
        self._cancel.disabled = self._rerun.disabled = True
        self._yes, self._no = button("", "danger"), button("No")
        self._yes.visible = self._no.visible = False
        if self._ops is not None:
            actions = Row(self._cancel, self._rerun, name="actions")
        else:
            actions = Row(Div(text=NOT_YOURS, stylesheets=[html]), name="actions")
        self._memory = Chart("Memory", "#2f7fd6", sizes())
        self._cpu = Chart("CPU, %", "#9a7200", plain())
        self._usage = Column(
            self._memory.root,
            self._cpu.root,
            name="usage",
            sizing_mode="stretch_width",
            visible=False,
        )
        window = Select(
            options=list(WINDOWS), value="10 minutes", name="window", stylesheets=[widget], margin=0
        )
        for model, name in (
            (self.table.root, "table"),
            (self.table.notebook, "notebook"),
            (self.table.state, "state"),
            (self.table.word, "word"),
            (self.timeline.root, "timeline"),
        ):
            model.name = name
        asking = Row(
            self._question, self._yes, self._no, name="question", sizing_mode="stretch_width"
        )
        # Before they belong to a document: Bokeh does not hear of it afterwards.
        self._cancel.on_click(lambda: self._ask("cancel"))
        self._rerun.on_click(lambda: self._ask("rerun"))
        self._yes.on_click(self._do)
        self._no.on_click(lambda: self._ask(""))
        for root in (
            *(self._summary, self._facts, self._output, self._source, self._pictures, self._usage),
            *(actions, asking, window, self.table.root, *self.table.widgets, self.timeline.root),
        ):
            self._document.add_root(root)
        self.table.feed.source.selected.on_change("indices", self._choose)
        self.timeline.feed.source.selected.on_change("indices", self._choose_run)
        self.table.notebook.on_change("value", self._filtered)
        self.table.state.on_change("value", self._filtered)
        self.table.word.on_change("value_input", self._filtered)
        window.on_change(
            "value",
            lambda attr, old, new: self.timeline.look_back(
                WINDOWS[new], self._board.spans, time.time()
            ),
        )
        self._document.js_on_event(
            "document_ready", CustomJS(args=self.table.begin.args, code=self.table.begin.code)
        )


def _titled(title: str, html: str) -> str:
    return f"<h2>{title}</h2>{html}"


async def _cancel(ops: ClientOps, jobs: Sequence[str]) -> str:
    said = await ops.cancel(jobs)
    return "; ".join(sorted(set(said.values())))
