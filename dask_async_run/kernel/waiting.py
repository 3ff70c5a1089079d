"""Waiting for jobs, with what is being waited for shown.

What is shown disappears when the waiting is over: what a gather leaves in the
notebook is the cells' own output.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from dask_async_run.errors import JobTimeoutError, ServerError, shown_as
from dask_async_run.job import NOT_ON_RECORD, JobView, State
from dask_async_run.kernel.audience import Audience, audience
from dask_async_run.kernel.passing import PassingLine
from dask_async_run.kernel.session import Session
from dask_async_run.quantities import age
from dask_async_run.sweeps import standing

SHOW_AFTER = 1.0
"""Seconds of waiting before something is shown."""

UNRECORDED = 120.0
"""Seconds that jobs are waited for whose end cannot be recorded, where nobody looks."""

_SLICE = 0.5


class Waiting:
    """Waits for jobs of a session; an interrupt (``KeyboardInterrupt``) ends it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._line = PassingLine(session.shell)

    def until_ended(self, views: Sequence[JobView], timeout: float | None = None) -> list[JobView]:
        """Wait until all of the jobs have ended.

        Returns
        -------
        list of JobView
            As they are now, in the order that was given.

        Raises
        ------
        JobTimeoutError
            After `timeout` seconds; says which ones have not. It is a `TimeoutError`.
        ServerError
            All that is still waited for has an end that cannot be recorded (the journal was
            removed, its disk is full), for `UNRECORDED` seconds, and nobody sees that said.
        KeyboardInterrupt
            The user's; what it shows says that the jobs go on.
        """
        ids = [view.id for view in views]
        if all(State(view.state).terminal for view in views):
            return list(views)
        begun = heard = time.monotonic()
        try:
            while True:
                waited = time.monotonic() - begun
                left = _SLICE if timeout is None else min(_SLICE, timeout - waited)
                now = {view.id: view for view in self._wait(ids, max(0.0, left))}
                open_ = [now[i] for i in ids if not State(now[i].state).terminal]
                if not open_:
                    return [now[i] for i in ids]
                if timeout is not None and time.monotonic() - begun >= timeout:
                    told = [f"{view.label} ({self._standing(view)})" for view in open_]
                    raise JobTimeoutError(timeout, told)
                if not all(view.reason.startswith(NOT_ON_RECORD) for view in open_):
                    heard = time.monotonic()
                elif time.monotonic() - heard > UNRECORDED and self._unseen():
                    ends = ", ".join(f"{view.label} ({self._standing(view)})" for view in open_)
                    raise ServerError(f"not waited for any more: {ends}. Gather again then.")
                if waited > SHOW_AFTER:
                    self._show(open_, waited)
        except KeyboardInterrupt as error:
            names = ", ".join(view.label for view in views if not State(view.state).terminal)
            said = f"not waited for any more, but not stopped either: {names}"
            shown_as(error, f"{said}. Nothing was gathered.")
            raise
        finally:
            self._line.clear()

    def _wait(self, ids: Sequence[str], seconds: float) -> list[JobView]:
        registry = self._session.registry
        if len(ids) > 1:
            return registry.wait(ids, seconds)
        outcome = registry.outcome(ids[0], seconds)
        if outcome.remains is not None:
            self._session.remains[ids[0]] = outcome.remains
        return [outcome.view]

    def _show(self, views: list[JobView], waited: float) -> None:
        listed = ", ".join(f"{view.label} ({self._standing(view)})" for view in views[:5])
        more = f" and {len(views) - 5} more" if len(views) > 5 else ""
        self._line.show(f"waiting for {listed}{more}: {waited:.0f} s")

    def _standing(self, view: JobView) -> str:
        """Say how far a job is, and what it waits for, or why its end is not on record."""
        if view.sweep and view.started is not None:
            return standing(view, time.time(), age)
        reason = view.reason.rstrip(".")
        if not reason and (awaited := self._session.awaited(view)):
            reason = f"waits for {', '.join(awaited)}"
        return f"{view.state}: {reason}" if reason else view.state

    def _unseen(self) -> bool:
        return audience(self._session.shell) is Audience.NOBODY
