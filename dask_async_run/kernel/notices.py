"""Notices: that a job of this notebook has ended, said once, where its user looks next."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from dask_async_run.errors import AsyncRunError
from dask_async_run.job import JobView, State
from dask_async_run.kernel.session import Session
from dask_async_run.kernel.tables import listed
from dask_async_run.looks import one_line, span

_GATHERS = re.compile(r"\basync_gather\b|(?<!asyncio)\.gather\(")

EACH = 4
"""Jobs that get a line of their own; more share one."""

WHY = 100
"""Characters of the reason that are said."""


class Notices:
    """What was said to the user of one kernel."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def know(self, jobs: Iterable[str]) -> None:
        """Say nothing of these, by their ids: the user knows."""
        self._told.update(jobs)

    def about(self, session: Session, code: str = "") -> list[str]:
        """Answer the lines that are to be said now; they will not be said again.

        Parameters
        ----------
        session : Session
        code : str
            The cell that is about to run. If it gathers, which jobs is not known before it
            has run: what is to be said is said by the next one.
        """
        waiting = [r for r in session.waiting() if r.kept is not None]  # of this kernel
        untold = [record for record in waiting if record.id not in self._told]
        if not untold or _GATHERS.search(code):
            return []
        try:
            new = [job for job, end in session.endings(untold).items() if end is not None]
            # It may be a while since that was asked: they may have been gathered, or forgotten.
            ended = [view for view in session.endings_of(new).ended if not view.gathered]
        except AsyncRunError:
            return []
        self._told.update(view.id for view in ended)
        return lines(ended)


def lines(ended: Sequence[JobView]) -> list[str]:
    """Say which jobs have ended."""
    said = [_line(view) for view in ended]
    if len(ended) > EACH:
        by_state: dict[str, list[str]] = {}
        for view in ended[EACH - 1 :]:
            by_state.setdefault(view.state, []).append(view.label)
        rest = ", ".join(f"{listed(jobs)} ({state})" for state, jobs in by_state.items())
        said = [*said[: EACH - 1], f"ended too: {rest}. %async_gather brings all of them."]
    return said


def _line(view: JobView) -> str:
    after = ""
    if view.ended is not None and (ran := view.ran(view.ended)) is not None:
        after = f" after {span(ran)}"
    label = view.label
    match view.state:
        case State.FINISHED:
            return f"{label} finished{after}: %async_gather {label}"
        case State.FAILED:
            why = f" ({one_line(view.why, WHY)})" if view.why else ""
            return f"{label} failed{after}{why}: %async_gather {label}"
        case State.LOST:
            return f"{label} is lost ({view.reason}): %async_rerun {label} runs it again"
        case _:
            return f"{label} is {view.state}{after}: %async_gather {label}"
