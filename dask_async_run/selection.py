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
        ``notebook/`` (or the end of its path, as lists have it), an id or its beginning, or a
        shell-style pattern of a name.

    Raises
    ------
    NoSuchJobError
        One of them names nothing.
    """
    found: set[str] = set()
    for name in wanted:
        matching = {view.id for view in views if _is_label(name, view)}
        if not matching:
            matching = {view.id for view in views if _is_ending(name, view)}
        if not matching:  # "lr[3]" is a member of lr before it is a pattern that means lr3
            matching = {view.id for view in views if _fits(name, view)}
        if not matching:
            raise NoSuchJobError(name, sorted({view.name for view in views}))
        found |= matching
    return [view for view in views if view.id in found]


def select_unambiguous(views: Sequence[JobView], wanted: Iterable[str]) -> list[JobView]:
    """As `select`; but what is no pattern must mean one job, not one in each of several notebooks.

    For what cannot be undone: whoever forgets ``train`` has one of them in mind.

    Raises
    ------
    NoSuchJobError
        One of them names nothing.
    JobStateError
        One of them names several, of different notebooks.
    """
    found: set[str] = set()
    for name in wanted:
        # A member's name reads like a pattern: "lr[3]".
        some = select(views, [name])
        pattern = any(sign in name for sign in "*?[") and not any(_is_label(name, v) for v in some)
        found |= {view.id for view in (some if pattern else [select_one(views, name)])}
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


def _is_label(name: str, view: JobView) -> bool:
    labels = _labels(view)
    return name in labels or name in (f"{view.notebook}/{label}" for label in labels)


def _is_ending(name: str, view: JobView) -> bool:
    """Whether `name` is a job's after the end of its notebook's path: ``story.ipynb/train``."""
    return "/" in name.strip("/") and any(
        f"/{view.notebook}/{label}".endswith(f"/{name.lstrip('/')}") for label in _labels(view)
    )


def is_id(name: str, view: JobView) -> bool:
    """Whether `name` is a job's id, or its beginning."""
    return len(name) >= _SHORTEST_ID and view.id.startswith(name)


def _fits(name: str, view: JobView) -> bool:
    if is_id(name, view):
        return True
    # As a pattern it means the latest ones, unless it asks for versions.
    if any(sign in name for sign in "*?["):
        labels = _labels(view)
        shown = labels[:1] if "@" in name else labels[1:]
        patterns = [name, f"*/{name.lstrip('/')}"] if "/" in name else [name]
        return any(
            fnmatchcase(label, name)
            or any(fnmatchcase(f"{view.notebook}/{label}", pattern) for pattern in patterns)
            for label in shown
        )
    return False


def _labels(view: JobView) -> list[str]:
    return [f"{view.name}@{view.version}"] + ([view.name] if view.latest else [])
