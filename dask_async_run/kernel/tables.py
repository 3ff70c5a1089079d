"""How jobs look: a card for one, a table for many, as HTML and as text.

Plain HTML with inline styles and the front end's own colour variables: it needs no
extension, stays in a saved notebook, and follows a dark theme. States are told by
word and sign, colour only adds to them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from html import escape

from dask_async_run.job import JobView, State
from dask_async_run.kernel.gathering import age, describe

SIGNS: dict[State, str] = {
    State.PENDING: "○",
    State.RUNNING: "▶",
    State.FINISHED: "✔",
    State.FAILED: "✘",
    State.CANCELLED: "■",
    State.TIMED_OUT: "⏱",
    State.LOST: "?",
}

COLOURS: dict[State, str] = {
    State.PENDING: "#8a8a8a",
    State.RUNNING: "#1976d2",
    State.FINISHED: "#2e7d32",
    State.FAILED: "#c62828",
    State.CANCELLED: "#8a6d00",
    State.TIMED_OUT: "#8a6d00",
    State.LOST: "#c62828",
}

_BORDER = "1px solid var(--jp-border-color2, rgba(128,128,128,.4))"


def bytes_text(count: float) -> str:
    """Say a number of bytes: "1.2 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def state_html(view: JobView) -> str:
    """Say a job's state by sign, word and colour."""
    state = State(view.state)
    return (
        f'<span style="color:{COLOURS[state]};font-weight:600;white-space:nowrap">'
        f"{SIGNS[state]} {state}</span>"
    )


def job_facts(view: JobView) -> str:
    """Answer the HTML of what a job takes along and brings back."""
    rows = []
    if view.input_names:
        went = ", ".join(
            f"<code>{escape(n)}</code> <small>{escape(t)}, {bytes_text(size)}</small>"
            for n, t, size in view.input_names[:12]
        )
        if len(view.input_names) > 12:
            went += f" and {len(view.input_names) - 12} more"
        rows.append(("went along", went))
    if view.binds:
        rows.append(("will bind", ", ".join(f"<code>{escape(n)}</code>" for n in view.binds[:12])))
    if view.after:
        rows.append(("waits for", f"{len(view.after)} job{'s' * (len(view.after) > 1)}"))
    rows.append(("gather with", f"<code>%async_gather {escape(view.label)}</code>"))
    style = 'style="text-align:left;vertical-align:top;padding:1px 12px 1px 0'
    label_style = f"{style};opacity:.7;white-space:nowrap;vertical-align:top"
    listed = "".join(
        f'<tr style="background:none"><td {label_style}">{label}</td><td {style}">{value}</td></tr>'
        for label, value in rows
    )
    return f'<table style="border:none;margin:2px 0 0 0;font-size:90%">{listed}</table>'


def job_card(view: JobView) -> str:
    """Answer the HTML shown under a cell that was submitted."""
    return (
        f'<div style="border-left:3px solid {COLOURS[State(view.state)]};padding:2px 10px">'
        f"<div><b>{escape(view.label)}</b> &nbsp;{state_html(view)}</div>"
        f"{job_facts(view)}</div>"
    )


class JobTable:
    """A list of jobs that shows as a table.

    Parameters
    ----------
    views : sequence of JobView
    now : float or None
        Seconds since the epoch; None: when it is made.
    title : str
    """

    def __init__(self, views: Sequence[JobView], now: float | None = None, title: str = "") -> None:
        self.views = list(views)
        self._now = time.time() if now is None else now
        self._title = title
        self._labels = {view.id: view.label for view in views}

    def __len__(self) -> int:
        return len(self.views)

    def _cells(self, view: JobView) -> tuple[str, ...]:
        took = ""
        if view.started is not None:
            took = age((view.ended or self._now) - view.started)
        ago = age(self._now - (view.ended or view.submitted))
        size = bytes_text(view.nbytes) if view.nbytes else ""
        last = f"{view.ename}: {view.evalue}" if view.ename else view.reason or view.last_line
        if view.state == State.PENDING and view.after:
            last = "waits for " + ", ".join(self._labels.get(job, job[:8]) for job in view.after)
        kept = []
        if view.state == State.FINISHED and not view.saved:
            kept.append("not yet saved")
        if State(view.state).terminal and not view.gathered:
            kept.append("not gathered")
        return view.label, took, ago, size, ", ".join(kept), last

    def __repr__(self) -> str:
        if not self.views:
            return f"{self._title or 'No jobs.'}"
        rows = [("JOB", "STATE", "TOOK", "AGO", "RESULT", "", "LAST")]
        for view in self.views:
            label, *rest = self._cells(view)
            state = State(view.state)
            rows.append((label, f"{SIGNS[state]} {state}", *rest))  # type: ignore[arg-type]
        widths = [min(32, max(len(row[i]) for row in rows)) for i in range(6)]
        lines = [
            "  ".join(
                [cell[:width].ljust(width) for cell, width in zip(row, widths, strict=False)]
                + [row[-1][:60]]
            ).rstrip()
            for row in rows
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        if not self.views:
            return f"<i>{escape(self._title or 'No jobs.')}</i>"
        style = f'style="text-align:left;padding:2px 10px;border-bottom:{_BORDER}"'
        head = "".join(
            f"<th {style}>{title}</th>"
            for title in ("job", "state", "took", "ago", "result", "", "last output or reason")
        )
        body = []
        for view in self.views:
            label, *rest = self._cells(view)
            source = escape(view.source[:400], quote=True)
            cells = [f'<b title="{source}">{escape(label)}</b>', state_html(view)]
            cells += [escape(cell) for cell in rest[:-1]]
            last = rest[-1] if len(rest[-1]) <= 90 else rest[-1][:89] + "…"
            cells.append(f"<code>{escape(last)}</code>" if last else "")
            body.append("<tr>" + "".join(f"<td {style}>{cell}</td>" for cell in cells) + "</tr>")
        return (
            '<table style="border-collapse:collapse;font-size:90%"><thead><tr>'
            f"{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
        )


def waiting_line(views: Sequence[JobView]) -> str:
    """Say which jobs wait to be gathered, for ``%load_ext``."""
    listed = ", ".join(f"{view.label} ({describe(view)})" for view in views[:6])
    more = f" and {len(views) - 6} more" if len(views) > 6 else ""
    one = len(views) == 1
    return (
        f"{len(views)} job{'' if one else 's'} of this notebook {'is' if one else 'are'} waiting: "
        f"{listed}{more}. %async_gather brings {'it' if one else 'them'} here."
    )
