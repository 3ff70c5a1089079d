"""Which jobs a user of a notebook means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from dask_async_run.errors import NoSuchJobError
from dask_async_run.job import JobView
from dask_async_run.owners import owner_of
from dask_async_run.selection import is_id, select_one, select_unambiguous


def resolve(views: Sequence[JobView], wanted: Iterable[str], notebook: str) -> list[JobView]:
    """Answer the jobs that are named, in order of submission, each once.

    A name means this notebook's job; only where it has none, another notebook's
    (``notebook/name``, an id, or a name that is unique among them). A pattern means this
    notebook's jobs, and those of others only if it says which notebooks (``notebook/*``): who
    forgets ``*`` has no job in mind that is seen nowhere here. Jobs of other users
    are meant only by an id, or where it is said whose they are.

    Parameters
    ----------
    views : sequence of JobView
        All jobs, in order of submission.
    wanted : iterable of str
        Names, ``name@2``, ids, shell-style patterns.
    notebook : str

    Raises
    ------
    NoSuchJobError
        A name means nothing.
    JobStateError
        A name means jobs of several other notebooks.
    """
    own = [view for view in views if view.notebook == notebook]
    # On a server of one's own all are one's own, also those that came with a store.
    owner = owner_of(notebook)
    ours = [view for view in views if owner in ("", owner_of(view.notebook))]
    found: set[str] = set()
    for name in wanted:
        matching = [view.id for view in own if _is_label(name, view)]
        if not matching:  # "lr[3]" is a member of lr before it is a pattern that means lr3
            matching = [view.id for view in own if _fits(name, view)]
        if not matching:
            try:
                others = [view for view in views if owner_of(name) or is_id(name, view)]
                reachable = {view.id: view for view in (*ours, *others)}
                matching = [view.id for view in _others(list(reachable.values()), name)]
            except NoSuchJobError:
                labels = sorted({view.name for view in ours})
                raise NoSuchJobError(name, labels) from None
        found.update(matching)
    return [view for view in views if view.id in found]


def _others(views: Sequence[JobView], name: str) -> list[JobView]:
    """Answer the jobs that a name means which is none of this notebook's."""
    if not _is_pattern(name) or any(_is_label(name, view) for view in views):
        return [select_one(views, name)]
    if "/" not in name:
        raise NoSuchJobError(name)
    return select_unambiguous(views, [name])


def _is_pattern(name: str) -> bool:
    return any(sign in name for sign in "*?[")


def _is_label(name: str, view: JobView) -> bool:
    """Whether `name` is what a job is called in its notebook."""
    return name == f"{view.name}@{view.version}" or (view.latest and name == view.name)


def _fits(name: str, view: JobView) -> bool:
    """Whether `name` is a pattern that means a job of its notebook."""
    if _is_pattern(name):
        exact = f"{view.name}@{view.version}"
        return fnmatchcase(exact if "@" in name else view.label, name)
    return False
