"""Attach: show what jobs have put out so far, and follow them until they end."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from dask_async_run.job import JobView
from dask_async_run.kernel.replay import Replay
from dask_async_run.kernel.session import Session
from dask_async_run.quantities import age
from dask_async_run.sweeps import standing

_SLICE = 1.0


def follow(session: Session, views: Sequence[JobView], wait: bool) -> None:
    """Show jobs' outputs; an interrupt ends the following, not the jobs.

    Of several jobs each says whose output it is when it takes its turn.

    Parameters
    ----------
    session : Session
    views : sequence of JobView
    wait : bool
        Go on until the jobs have ended.
    """
    followed = list({view.id: view for view in views}.values())
    try:
        _follow(session, followed, wait)
    except KeyboardInterrupt:
        names = ", ".join(view.label for view in followed)
        print(f"\nNot followed any more, but not stopped either: {names}", file=sys.stderr)


def _follow(session: Session, followed: list[JobView], wait: bool) -> None:
    """Follow jobs in turns; those that have ended leave the list."""
    replay = Replay(session.shell)
    seen = dict.fromkeys((view.id for view in followed), 0)
    several = len(followed) > 1
    told: dict[str, str] = {}
    speaker = ""
    while followed:
        for view in list(followed):
            news = session.registry.outputs(
                view.id, seen[view.id], _SLICE / len(followed) if wait else 0.0
            )
            if several and speaker != view.id and news.outputs:
                print(f"── {view.label} ──")
                speaker = view.id
            if wait and view.sweep and not news.done:
                now = session.registry.show(view.id)
                if (line := standing(now, time.time(), age)) != told.get(view.id):
                    told[view.id] = line
                    print(f"{now.label}: {line}", flush=True)
            for output in news.outputs:
                replay.show_one(output.output)
                seen[view.id] = output.seq
            replay.show(())
            if news.done or not (wait or news.outputs):
                followed.remove(view)
                last = session.registry.show(view.id)
                if last.reason:
                    print(f"{last.label} is {last.state}: {last.reason}")
