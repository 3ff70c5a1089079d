"""The table of jobs: as text, and as HTML whose columns sort at a click.

The HTML needs no extension and no kernel. Where a page does not trust it, which takes the
handler and the buttons out, it is a table in the order that was asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from dask_async_run.job import JobView, State
from dask_async_run.kernel.tables import BORDER, listed, state_html
from dask_async_run.looks import SIGNS, bytes_text, one_line, span
from dask_async_run.owners import short_names
from dask_async_run.quantities import age
from dask_async_run.sweeps import standing

Key = float | str


def _spent(view: JobView, now: float) -> float:
    spent = view.ran(now)
    return -1.0 if spent is None else spent


def _since(view: JobView, now: float) -> float:
    return max(0.0, now - (view.ended or view.started or view.submitted))


SORTS: dict[str, Callable[[JobView, float], Key]] = {
    "submitted": lambda view, now: 0,  # as they come: clocks differ, and may be set back
    "name": lambda view, now: f"{view.name.casefold()}@{view.version:06}",
    "state": lambda view, now: list(State).index(State(view.state)),
    "took": _spent,
    "age": _since,
    "size": lambda view, now: view.nbytes,
}
"""What a table can be sorted by: smallest first."""

# One handler for all columns, on their row. The keys are numbers or text.
_SORT = """\
const b=event.target.closest('button');if(!b)return;
const h=b.parentNode,i=h.cellIndex,rows=h.closest('table').tBodies[0],
d=h.getAttribute('aria-sort')==='ascending'?-1:1;
for(const c of h.parentNode.cells){c.removeAttribute('aria-sort');
const a=c.querySelector('span');if(a)a.textContent='';}
h.setAttribute('aria-sort',d>0?'ascending':'descending');
b.querySelector('span').textContent=d>0?' ▲':' ▼';
const k=r=>r.cells[i].dataset.key;
[...rows.rows].sort((p,q)=>d*((k(p)-k(q))||(k(p)<k(q)?-1:k(p)>k(q)?1:0)))
.forEach(r=>rows.appendChild(r));"""

_BUTTON = (
    "all:unset;cursor:pointer;font-weight:600;white-space:nowrap;"
    "text-decoration:underline dotted 1px;text-underline-offset:3px"
)
_CELL = f"text-align:left;vertical-align:top;padding:3px 14px 3px 0;border-bottom:{BORDER}"
_FIRM = f"{_CELL};white-space:nowrap"
_COLUMNS = ("job", "state", "took", "since", "result", "", "last output or reason")
_TAGS = (('th scope="row"', "th"), *[("td", "td")] * 4)
_SORTED = {"submitted": None, "name": 0, "state": 1, "took": 2, "age": 3, "size": 4}

_WIDTH = 60
"""Characters of a last line that a text table shows."""

_REASON = 200
"""Characters of a reason: what is to be done about it stands at its end."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A job in words; `keys` are what its first cells are sorted by."""

    view: JobView
    took: str
    since: str
    size: str
    notes: tuple[str, ...]
    reason: str
    keys: tuple[Key, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        state = State(self.view.state)
        notes = ", ".join(self.notes)
        name = self.view.label
        last = one_line(self.reason, _REASON) or one_line(self.view.last_line, _WIDTH)
        return name, f"{SIGNS[state]} {state}", self.took, self.since, self.size, notes, last


class JobTable:
    """A list of jobs that shows as a table.

    Parameters
    ----------
    views : sequence of JobView
        In order of submission.
    now : float or None
        Seconds since the epoch; None: when it is made.
    title : str
        What is shown if there are none.
    sort : str
        One of `SORTS`.
    reverse : bool
        Largest first.
    dashboard : str
        A link to Dask's dashboard, empty for none.
    everybody : sequence of JobView
        Among which those are that these wait for; empty: these.
    more : int
        How many jobs there are that are not among these: it is said.
    notebook : str
        The one that looks: jobs of others are shown with theirs. Empty: only if these are of
        several.
    options : str
        What `more` of the same are listed with, besides ``--last``: ``"--all "``.
    """

    def __init__(
        self,
        views: Sequence[JobView],
        now: float | None = None,
        title: str = "",
        sort: str = "submitted",
        reverse: bool = False,
        dashboard: str = "",
        everybody: Sequence[JobView] = (),
        more: int = 0,
        notebook: str = "",
        options: str = "",
    ) -> None:
        self._now = time.time() if now is None else now
        key = SORTS[sort]
        self.views = sorted(
            reversed(views) if reverse else views,
            key=lambda view: key(view, self._now),
            reverse=reverse,
        )
        self._title = title
        self._sort, self._reverse = sort, reverse
        self._dashboard = dashboard
        self._more = f"and {more:,} more: %async_jobs {options}--last all" if more else ""
        several = len({notebook, *(view.notebook for view in views)} - {""}) > 1
        known = (*everybody, *views)
        notebooks = short_names(view.notebook for view in known)
        self._labels = {
            view.id: f"{notebooks[view.notebook]}/{view.label}" if several else view.label
            for view in known
        }
        self._waiting: dict[str, list[str]] = {}
        for view in everybody or views:
            if view.state == State.PENDING:
                for job in view.after:
                    self._waiting.setdefault(job, []).append(self._labels[view.id])

    def __len__(self) -> int:
        return len(self.views)

    def _row(self, view: JobView) -> _Row:
        reason = view.why
        if view.members and not State(view.state).terminal:
            reason = standing(view, self._now, age)
        if view.state == State.PENDING and view.after and not reason:
            reason = "waits for " + listed([self._labels.get(job, job[:8]) for job in view.after])
        notes = []
        if view.state == State.FINISHED and not view.saved:
            notes.append("not yet saved")
        if State(view.state).terminal and view.store and not view.stored:
            notes.append("not yet in its store")
            reason = reason or (view.store_problem and f"its store: {view.store_problem}")
        if State(view.state).terminal and not view.gathered:
            notes.append("not gathered")
        elif waiting := self._waiting.get(view.id):
            notes.append(f"{listed(waiting)} wait{'s' * (len(waiting) == 1)} for it")
        spent = _spent(view, self._now)
        return _Row(
            view,
            took="" if spent < 0 else span(spent),
            since=age(_since(view, self._now)),
            size=bytes_text(view.nbytes) if view.nbytes else "",
            notes=tuple(notes),
            reason=reason,
            keys=tuple(
                SORTS[by](view, self._now) for by, column in _SORTED.items() if column is not None
            ),
        )

    def _name(self, view: JobView) -> str:
        return self._labels[view.id]

    def __repr__(self) -> str:
        if not self.views:
            return f"{self._title or 'No jobs.'}"
        rows = [("JOB", "STATE", "TOOK", "SINCE", "RESULT", "", "LAST")]
        for view in self.views:
            rows.append((self._name(view), *self._row(view).texts[1:]))  # type: ignore[arg-type]
        widths = [min(32, max(len(row[i]) for row in rows)) for i in range(6)]
        lines = [
            "  ".join(
                [cell[:width].ljust(width) for cell, width in zip(row, widths, strict=False)]
                + [row[-1]]
            ).rstrip()
            for row in rows
        ]
        return "\n".join([*lines, self._more] if self._more else lines)

    def _repr_html_(self) -> str:
        if not self.views:
            return f"<i>{escape(self._title or 'No jobs.')}</i>"
        body = "".join(self._row_html(self._row(view)) for view in self.views)
        more = f'<div style="font-size:90%">{self._more}</div>' if self._more else ""
        link = ""
        if self._dashboard:
            link = (
                f'<a href="{escape(self._dashboard)}" target="_blank" rel="noopener" '
                'style="font-size:90%">Dask dashboard</a>'
            )
        return (
            '<table style="border-collapse:collapse;font-size:90%;margin:0" '
            'aria-label="jobs"><thead>'
            f'<tr style="background:none" onclick="{escape(_SORT)}">{self._head_html()}</tr>'
            f"</thead><tbody>{body}</tbody></table>{more}{link}"
        )

    def _head_html(self) -> str:
        cells = []
        for column, title in enumerate(_COLUMNS):
            if column > 4:
                label = "" if title else ' aria-label="notes"'
                cells.append(f'<th scope="col"{label} style="{_CELL}">{title}</th>')
                continue
            now, sign = "", ""
            if _SORTED[self._sort] == column:
                now = f' aria-sort="{"descending" if self._reverse else "ascending"}"'
                sign = " ▼" if self._reverse else " ▲"
            button = (
                f'<button type="button" title="sort by this" style="{_BUTTON}">{title}'
                f'<span aria-hidden="true">{sign}</span></button>'
            )
            cells.append(f'<th scope="col" style="{_CELL}"{now}>{button}</th>')
        return "".join(cells)

    def _row_html(self, row: _Row) -> str:
        view = row.view
        source = escape(view.source[:400], quote=True)
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(view.submitted))
        shown = (
            f'<b title="{source}">{escape(self._name(view))}</b>',
            state_html(view),
            escape(row.took),
            f'<span title="submitted {moment}">{escape(row.since)}</span>',
            escape(row.size),
        )
        cells = [
            f'<{tag} style="{_FIRM}" data-key="{escape(str(key))}">{cell}</{end}>'
            for (tag, end), key, cell in zip(_TAGS, row.keys, shown, strict=True)
        ]
        notes = (
            f'<span style="white-space:nowrap">{note}</span>' if len(note) < 16 else note
            for note in map(escape, row.notes)
        )
        cells.append(f'<td style="{_CELL}">{", ".join(notes)}</td>')
        last = escape(one_line(row.reason, _REASON) or one_line(view.last_line, 90))
        if last and not row.reason:
            last = f"<code>{last}</code>"
        cells.append(f'<td style="{_CELL};overflow-wrap:anywhere">{last}</td>')
        return f"<tr>{''.join(cells)}</tr>"
