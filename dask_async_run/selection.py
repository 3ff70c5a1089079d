"""Which jobs somebody means, all notebooks taken together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from dask_async_run.errors import JobStateError, NoSuchJobError
from dask_async_run.job import JobView

_SHORTEST_ID = 6


def select(views: Sequence[JobView], wanted: Iterable[str]) -> list[JobView]:
    """Jobs that any of `wanted` names, in order of submission, each once.

    Parameters
    ----------
    views : sequence of JobView
        All jobs, in order of submission.
    wanted : iterable of str
        A name (the latest of that name in its notebook), ``name@2``, either after
        ``notebook/``, an id or its beginning, or a shell-style pattern of a name.

    Raises
    ------
    NoSuchJobError
        One of them names nothing.
    """
    found: set[str] = set()
    for name in wanted:
        matching = {view.id for view in views if _means(name, view)}
        if not matching:
            raise NoSuchJobError(name, sorted({view.name for view in views}))
        found |= matching
    return [view for view in views if view.id in found]


def select_one(views: Sequence[JobView], name: str) -> JobView:
    """The job that `name` names.

    Raises
    ------
    NoSuchJobError
        It names nothing.
    JobStateError
        It names several, of different notebooks.
    """
    found = select(views, [name])
    if len(found) == 1:
        return found[0]
    full = ", ".join(f"{view.notebook}/{view.label}" for view in found[:5])
    raise JobStateError(name, "ambiguous", f"there are {full}. Say which one.")


def _means(name: str, view: JobView) -> bool:
    labels = [f"{view.name}@{view.version}"] + ([view.name] if view.latest else [])
    full = [f"{view.notebook}/{label}" for label in labels]
    if any(name == label for label in (*labels, *full)):
        return True
    if len(name) >= _SHORTEST_ID and view.id.startswith(name):
        return True
    # As a pattern it means the latest ones, unless it asks for versions.
    if any(sign in name for sign in "*?["):
        shown = labels[:1] if "@" in name else labels[1:]
        return any(
            fnmatchcase(label, name) or fnmatchcase(f"{view.notebook}/{label}", name)
            for label in shown
        )
    return False
