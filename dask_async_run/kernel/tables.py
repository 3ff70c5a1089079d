"""How jobs look: their states, their facts, a card for one.

Plain HTML with inline styles and the front end's own colour variables: it needs no
extension, stays in a saved notebook, and follows a dark theme. States are told by
word and sign, colour only adds to them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from html import escape
from pathlib import PurePath

from dask_async_run.job import JobView, State
from dask_async_run.looks import COLOURS, SIGNS, bytes_text
from dask_async_run.quantities import age
from dask_async_run.sweeps import described

_LINK = "color:var(--jp-content-link-color, #1976d2);text-decoration:underline"
"""JupyterLab shows a link in a widget as any other text."""

BORDER = "1px solid var(--jp-border-color2, rgba(128,128,128,.4))"


def listed(names: Sequence[str], most: int = 4) -> str:
    """Name some: "a, b, c, d and 4 more"."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def describe(view: JobView, now: float | None = None) -> str:
    """Say a job's state in a few words: "finished, 3 min ago"."""
    now = time.time() if now is None else now
    if view.ended is not None:
        return f"{view.state}, {age(now - view.ended)} ago"
    if view.started is not None:
        return f"{view.state}, {age(now - view.started)}"
    return f"{view.state}, for {age(now - view.submitted)}"


def state_html(view: JobView) -> str:
    """Say a job's state by sign, word and colour."""
    state = State(view.state)
    return (
        f'<span style="color:{COLOURS[state]};font-weight:600;white-space:nowrap">'
        f"{SIGNS[state]} {state}</span>"
    )


def job_facts(view: JobView, page: str = "", awaited: Sequence[str] = ()) -> str:
    """Answer the HTML of what a job takes along and brings back, and of where it is seen.

    Parameters
    ----------
    view : JobView
    page : str
        Its web address; empty: it has none.
    awaited : sequence of str
        What the jobs are called that it waits for; empty: nobody knows here.
    """
    rows = []
    if view.input_names:
        went = ", ".join(
            f"<code>{escape(name)}</code> <small>{escape(_what(kind, size))}</small>"
            for name, kind, size in view.input_names[:12]
        )
        if len(view.input_names) > 12:
            went += f" and {len(view.input_names) - 12} more"
        rows.append(("went along", went))
    if view.sweep:
        rows.append(("runs", escape(described(view.sweep))))
    brought = State(view.state) in (State.PENDING, State.RUNNING, State.FINISHED) or view.nbytes
    if view.binds and brought:
        label = "binds" if State(view.state).terminal else "will bind"
        rows.append((label, ", ".join(f"<code>{escape(n)}</code>" for n in view.binds[:12])))
    if view.after and State(view.state) is State.PENDING:
        count = f"{len(view.after)} job{'s' * (len(view.after) > 1)}"
        rows.append(("waits for", escape(listed(awaited)) if awaited else count))
    rows.append(("gather with", f"<code>%async_gather {escape(view.label)}</code>"))
    if page:
        seen = (
            f'<a href="{escape(page)}" target="_blank" rel="noopener" style="{_LINK}">'
            "on the dashboard</a>"
        )
        rows.append(("see it", seen))
    style = 'style="text-align:left;vertical-align:top;padding:1px 12px 1px 0'
    label_style = f"{style};opacity:.7;white-space:nowrap;vertical-align:top"
    table = "".join(
        f'<tr style="background:none"><td {label_style}">{label}</td><td {style}">{value}</td></tr>'
        for label, value in rows
    )
    return f'<table style="border:none;margin:2px 0 0 0;font-size:90%">{table}</table>'


def _what(kind: str, size: int) -> str:
    """Say what a value is; its size, if one would ask for it."""
    said = "class" if kind == "type" or kind.endswith("Meta") else kind
    return f"{said}, {bytes_text(size)}" if size >= 1000 else said


def job_card(view: JobView, awaited: Sequence[str] = ()) -> str:
    """Answer the HTML shown under a cell that was submitted; `awaited` as of `job_facts`."""
    return (
        f'<div style="border-left:3px solid {COLOURS[State(view.state)]};padding:2px 10px">'
        f"<div><b>{escape(view.label)}</b> &nbsp;{state_html(view)}</div>"
        f"{job_facts(view, awaited=awaited)}</div>"
    )


def waiting_line(views: Sequence[JobView]) -> str:
    """Say which jobs wait to be gathered, for ``%load_ext``."""
    jobs = listed([f"{view.label} ({describe(view)})" for view in views], 6)
    one = len(views) == 1
    return (
        f"{len(views)} job{'' if one else 's'} of this notebook {'is' if one else 'are'} waiting: "
        f"{jobs}. %async_gather brings {'it' if one else 'them'} here."
    )


def renamed_line(views: Sequence[JobView]) -> str:
    """Say which jobs wait that were submitted under names that notebooks had before."""
    jobs = listed([f"{PurePath(v.notebook).name}/{v.label} ({v.state})" for v in views], 6)
    return (
        f"Under a name that a notebook of this folder had before, waiting: {jobs}. "
        f"%async_gather {views[0].id[:8]} brings the first one here; %async_jobs --all lists them."
    )
