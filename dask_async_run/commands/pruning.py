"""Which jobs a ``prune`` may forget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from dask_async_run.job import JobView, State


def prunable(
    views: Sequence[JobView],
    named: Collection[str],
    older_than: float | None,
    keep_last: int,
    now: float,
) -> list[JobView]:
    """Answer the jobs that may go, in order of submission.

    Nothing that runs or waits, nothing that was not gathered, unless it was asked for by
    name. Needs no store: whether another job still needs one, the registry knows.

    Parameters
    ----------
    views : sequence of JobView
        All jobs, in order of submission.
    named : collection of str
        Ids of the jobs that were asked for by name; empty: all that were gathered.
    older_than : float or None
        Only jobs that ended this many seconds ago, or earlier.
    keep_last : int
        How many jobs of each name, in each notebook, stay in any case: the latest ones.
    now : float
        Seconds since the epoch.
    """
    rank: Counter[tuple[str, str]] = Counter()
    kept: set[str] = set()
    for view in reversed(views):
        rank[view.notebook, view.name] += 1
        if rank[view.notebook, view.name] <= keep_last:
            kept.add(view.id)
    return [
        view
        for view in views
        if view.id not in kept
        and State(view.state).terminal
        and (view.id in named if named else view.gathered)
        and (older_than is None or (view.ended is not None and view.ended <= now - older_than))
    ]
