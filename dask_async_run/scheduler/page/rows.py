"""Rows: what the page's table and timeline show of a job. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dask_async_run.job import JobView, State
from dask_async_run.looks import SIGNS, span
from dask_async_run.owners import short_name
from dask_async_run.progress import Progress
from dask_async_run.sweeps import ended_members, size, standing

Row = dict[str, Any]
"""A job's cells, by column."""

COLUMNS = (
    *("id", "sign", "state", "name", "notebook", "progress", "bar", "elapsed", "memory", "cpu"),
    *("where", "says", "submitted"),
)

NONE = -1
"""In a column of numbers: there is none."""

SAYS = 160
"""Characters of what a job says at most."""


@dataclass(frozen=True, slots=True)
class Span:
    """When and where a cell ran; `ended` is None while it does.

    Parameters
    ----------
    worker : str
        Its address.
    where : str
        The worker, for people.
    """

    id: str
    name: str
    notebook: str
    state: str
    worker: str
    where: str
    started: float
    ended: float | None


def row_of(
    view: JobView, progress: Progress | None, waits: Sequence[str], where: str, now: float
) -> Row:
    """Answer a job's row.

    Parameters
    ----------
    view : JobView
    progress : Progress or None
        What its text tells of.
    waits : sequence of str
        Labels of the jobs that it waits for.
    where : str
        The worker, for people; empty: none.
    now : float
        Seconds since the epoch.
    """
    running = view.state == State.RUNNING
    percent, said = _progress(view, progress)
    return {
        "id": view.id,
        "sign": SIGNS[State(view.state)],
        "state": str(view.state),
        "name": view.label,
        "notebook": short_name(view.notebook),
        "progress": percent,
        "bar": said,
        "elapsed": elapsed(view.ran(now)),
        "memory": _rounded(view.memory) if running and view.memory else NONE,
        "cpu": round(view.cpu) if running and view.memory else NONE,
        "where": where,
        "says": (_rest(progress) if running and progress else says(view, waits, now))[:SAYS],
        "submitted": view.submitted,
    }


def elapsed(ran: float | None) -> int:
    """Answer for how many whole seconds a cell has run; `NONE`: it has not begun."""
    return NONE if ran is None else max(0, int(ran))


def says(view: JobView, waits: Sequence[str], now: float) -> str:
    """Say what matters of a job: what it waits for, why it ended, the last line it printed."""
    if view.ename:
        return view.why
    if view.state == State.PENDING:
        if view.reason or not waits:
            return view.reason
        more = f" and {len(waits) - 3} more" if len(waits) > 3 else ""
        return f"waits for {', '.join(waits[:3])}{more}"
    if view.sweep:
        return view.reason or standing(view, now, span)
    return view.reason or view.last_line


def span_of(view: JobView, where: str) -> Span | None:
    """Answer a job's place in the timeline; None: it has not begun, or is only its members'."""
    if view.started is None or not view.worker or (view.sweep and not view.of):
        return None
    notebook = short_name(view.notebook)
    return Span(
        view.id, view.label, notebook, view.state, view.worker, where, view.started, view.ended
    )


def _progress(view: JobView, progress: Progress | None) -> tuple[float, str]:
    if view.state != State.RUNNING:
        return NONE, ""
    if progress is not None:
        return round(progress.percent, 1), _rest(progress)
    if view.sweep:
        done, whole = ended_members(view), size(view.sweep)
        return round(100 * done / whole, 1), f"{done}/{whole} members"
    return NONE, ""


def _rest(progress: Progress) -> str:
    left = f"{progress.left} left" if progress.left else ""
    return ", ".join(filter(None, (progress.what, progress.count, progress.rate, left)))


def _rounded(count: float) -> int:
    """Answer a number with two or three digits that count: a table need not tell more."""
    step = 10 ** max(0, len(str(int(count))) - 3)
    return int(count // step * step)
