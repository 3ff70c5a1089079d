"""Attach: show what a job has put out so far, and follow it until it ends."""

from __future__ import annotations

from dask_async_run.job import JobView
from dask_async_run.kernel.replay import Replay
from dask_async_run.kernel.session import Session

_SLICE = 1.0


def follow(session: Session, view: JobView, wait: bool) -> None:
    """Show a job's outputs; an interrupt ends the following, not the job.

    Parameters
    ----------
    session : Session
    view : JobView
    wait : bool
        Go on until the job has ended.
    """
    replay = Replay(session.shell)
    seen = 0
    while True:
        news = session.registry.outputs(view.id, seen, _SLICE if wait else 0.0)
        for output in news.outputs:
            replay.show_one(output.output)
            seen = output.seq
        replay.show(())
        if news.done or not (wait or news.outputs):
            break
    last = session.registry.show(view.id)
    if last.reason:
        print(f"{last.label} is {last.state}: {last.reason}")
