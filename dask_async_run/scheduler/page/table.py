"""The table of jobs, and what it is filtered by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bokeh.models import (
    CustomJS,
    DataTable,
    HTMLTemplateFormatter,
    InlineStyleSheet,
    Select,
    TableColumn,
    TextInput,
)

from dask_async_run.job import State
from dask_async_run.scheduler.page.feed import Feed
from dask_async_run.scheduler.page.rows import COLUMNS, Row
from dask_async_run.scheduler.page.style import TABLE, WIDGET

ALL = "all notebooks"

STATES: dict[str, frozenset[str]] = {
    "all states": frozenset(State),
    "not ended": frozenset({State.PENDING, State.RUNNING}),
    "running": frozenset({State.RUNNING}),
    "pending": frozenset({State.PENDING}),
    "finished": frozenset({State.FINISHED}),
    "failed": frozenset({State.FAILED, State.TIMED_OUT, State.LOST}),
    "cancelled": frozenset({State.CANCELLED}),
}

# ``<%- %>`` escapes what it shows, ``<%= %>`` would not.
_STATE = '<span class="s <%- value %>"><%- sign %> <%- value %></span>'
_TEXT = '<span title="<%- value %>"><%- value %></span>'
_STRONG = '<b title="<%- value %>"><%- value %></b>'
_PROGRESS = (
    "<% if (value >= 0) { %>"
    '<span class="bar" title="<%- bar %>"><i style="width:<%- value %>%"></i></span>'
    '<span class="n" title="<%- bar %>"><%- Math.floor(value) %> %</span><% } %>'
)
_SPAN = (
    "<% if (value >= 0) { const two = n => String(n).padStart(2, '0'); %>"
    "<%- value < 60 ? `${value} s` : value < 3600 ? `${Math.floor(value / 60)} min"
    " ${two(value % 60)} s` : `${Math.floor(value / 3600)} h"
    " ${two(Math.floor(value / 60) % 60)} min` %><% } %>"
)
_BYTES = (
    "<% if (value >= 0) { let n = value, i = 0; while (n >= 1000 && i < 4) { n /= 1000; i++ } %>"
    "<%- n.toFixed(i && n < 100 ? 1 : 0) %> <%- ['B', 'kB', 'MB', 'GB', 'TB'][i] %><% } %>"
)
_PERCENT = "<% if (value >= 0) { %><%- value %> %<% } %>"
_TIME = (
    "<% const then = new Date(value * 1000); const today = "
    "then.toDateString() === new Date().toDateString(); %>"
    '<span title="<%- then.toLocaleString() %>"><%- today ? then.toLocaleTimeString([], '
    "{hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23'}) "
    ": then.toLocaleDateString([], {month: 'short', day: 'numeric'}) %></span>"
)

_SHOWN = (
    ("state", "State", 104, _STATE),
    ("name", "Job", 130, _STRONG),
    ("notebook", "Notebook", 130, _TEXT),
    ("progress", "Progress", 130, _PROGRESS),
    ("elapsed", "Ran for", 92, _SPAN),
    ("memory", "Memory", 76, _BYTES),
    ("cpu", "CPU", 56, _PERCENT),
    ("where", "Where", 110, _TEXT),
    ("says", "Says", 230, _TEXT),
    ("submitted", "Submitted", 100, _TIME),
)

_BEGIN = """\
// The latest first. Tables sort again what they get, but nobody can tell them how at first.
const find = (views) => {
  for (const view of views) {
    if (view.model === table) { return view }
    const inner = find(view.child_views ?? [])
    if (inner) { return inner }
  }
}
// All of a row is below, when it is selected. What is not shown yet has no width.
const width = window.innerWidth || 1000
const wanting = [["notebook", "cpu", "where"], ["progress", "memory", "says"]]
const hidden = wanting.slice(0, width < 640 ? 2 : width < 1000 ? 1 : 0).flat()
for (const column of table.columns) {
  if (hidden.includes(column.field)) { column.visible = false }
}
const shown = table.columns.filter((column) => column.visible).length
const begin = (attempts) => {
  const view = find(Object.values(Bokeh.index.roots ?? Bokeh.index))
  const grid = view?.grid
  if (grid == null || grid.getColumns().length !== shown) {
    if (attempts > 0) { setTimeout(() => begin(attempts - 1), 100) }
    return
  }
  const column = grid.getColumns().find((each) => each.field === "submitted")
  // Rows are other elements when they were drawn again: a click in the midst of it would be none.
  const draw = view.updateGrid.bind(view)
  let pressed = null, waiting = false
  const release = () => {
    clearTimeout(pressed)
    pressed = null
    if (waiting) { again() }
  }
  // Keys go on from the selected row, wherever it is now; a click on the row that is where it
  // was before selects that one.
  const follow = () => {
    const active = grid.getActiveCell(), rows = grid.getSelectedRows(), shown = grid.getViewport()
    if (active == null || (rows.length === 1 && rows[0] === active.row)) { return }
    view._in_selection_update = true
    try {
      if (rows.length === 1 && shown.top <= rows[0] && rows[0] <= shown.bottom) {
        grid.setActiveCell(rows[0], active.cell)
      } else {
        grid.resetActiveCell()
      }
    } finally {
      view._in_selection_update = false
    }
  }
  const again = () => {
    waiting = pressed != null
    if (!waiting) {
      draw()
      follow()
    }
  }
  view.updateGrid = again
  view.el.addEventListener("pointerdown", () => {
    clearTimeout(pressed)
    pressed = setTimeout(release, 3000)
  })
  for (const end of ["pointerup", "pointercancel"]) {
    window.addEventListener(end, () => { if (pressed != null) { setTimeout(release) } })
  }
  // The first arrow key begins somewhere. Tab leads out of the table, and not through each of its
  // cells to the next one, which are thousands.
  view.el.addEventListener("keydown", (event) => {
    if (event.key === "Tab") {
      event.stopPropagation()
    } else if (/^Arrow(Up|Down)$/.test(event.key) && grid.getActiveCell() == null) {
      event.stopPropagation()
      event.preventDefault()
      const chosen = grid.getSelectedRows()[0]
      if (grid.getDataLength() > 0) { grid.setActiveCell(chosen ?? 0, 0) }
    }
  }, {capture: true})
  const parts = ".slick-pane, .slick-viewport, .grid-canvas"
  for (const part of view.shadow_el.querySelectorAll(parts)) { part.tabIndex = -1 }
  // A table draws again when there are rows more, but not when one has changed.
  let patched = false
  table.source.patching.connect(() => {
    if (!patched) {
      patched = true
      requestAnimationFrame(() => { patched = false; view.updateGrid() })
    }
  })
  grid.setSortColumns([{columnId: column.id, sortAsc: false}])
  view.updateGrid()
}
begin(100)
"""


class Table:
    """The table of one page.

    Attributes
    ----------
    root : DataTable
    notebook, state, word : Bokeh widgets
        What is shown is those rows that they choose.
    feed : Feed
        Of the rows.
    begin : CustomJS
        To be run in the browser when the page is there.
    """

    def __init__(self) -> None:
        self.feed = Feed(COLUMNS)
        sheet = InlineStyleSheet(css=WIDGET)
        self.notebook = Select(title="Notebook", options=[ALL], value=ALL, stylesheets=[sheet])
        self.state = Select(
            title="State", options=list(STATES), value="all states", stylesheets=[sheet]
        )
        self.word = TextInput(title="Job", placeholder="part of a name", stylesheets=[sheet])
        self._notebooks: dict[str, None] = {}
        columns = [
            TableColumn(
                field=field,
                title=title,
                width=width,
                formatter=HTMLTemplateFormatter(template=template),
            )
            for field, title, width, template in _SHOWN
        ]
        self.root = DataTable(
            source=self.feed.source,
            columns=columns,
            index_position=None,
            reorderable=False,
            editable=False,
            sortable=True,
            scroll_to_selection=False,
            row_height=30,
            height=330,
            margin=0,
            sizing_mode="stretch_width",
            stylesheets=[InlineStyleSheet(css=TABLE)],
        )
        self.begin = CustomJS(args={"table": self.root}, code=_BEGIN)

    @property
    def widgets(self) -> tuple[Any, ...]:
        return self.notebook, self.state, self.word

    def show(self, rows: Mapping[str, Row], changed: Iterable[str]) -> None:
        """Bring it up to date: what changed."""
        new: dict[str, Row] = {}
        gone = []
        for job in changed:
            row = rows.get(job)
            if row is not None:
                self._notebooks.setdefault(row["notebook"])
            if row is not None and self.chooses(row):
                new[job] = row
            else:
                gone.append(job)
        self.feed.update(new, gone)
        self._offer()

    def show_all(self, rows: Mapping[str, Row]) -> None:
        """Show what is chosen now."""
        self.feed.replace({job: row for job, row in rows.items() if self.chooses(row)})

    def chooses(self, row: Row) -> bool:
        """Whether a row is one that the filters let through."""
        return (
            self.notebook.value in (ALL, row["notebook"])
            and row["state"] in STATES[self.state.value]
            and self.word.value_input.casefold() in row["name"].casefold()
        )

    def _offer(self) -> None:
        options = [ALL, *sorted(self._notebooks)]
        if options != self.notebook.options:
            self.notebook.options = options
