"""A server's journal as a shell reads it: also while no server runs, or one hangs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from dask_async_run.advice import gone
from dask_async_run.errors import JobTimeoutError, NoSuchJobError, OptionError, ServerError
from dask_async_run.folders import state_folder
from dask_async_run.job import JobView, State
from dask_async_run.selection import select_one, select_unambiguous
from dask_async_run.server.connection import Files
from dask_async_run.server.locks import held

POLL = 0.2
"""Seconds between two looks at a journal that somebody waits for."""


@contextmanager
def journal_of(server: str) -> Iterator[Any]:
    """Yield the server's journal, open for reading; None if there is none.

    Raises
    ------
    ServerError
        It is damaged, a newer version wrote it, or it was removed under a server that runs.
    """
    path = state_folder(server) / "journal.sqlite"
    if not path.exists():
        if lives(server) and not path.parent.is_dir():
            raise ServerError(gone(path.parent))
        yield None
        return
    from dask_async_run.scheduler.reader import JournalReader  # here: sqlite3

    with JournalReader.open_readonly(path, locked=_tell) as journal:
        yield journal


def _tell(text: str) -> None:
    """Say what is waited for, to somebody at a terminal."""
    if sys.stderr.isatty():
        print(text, file=sys.stderr)


def lives(server: str) -> bool:
    """Whether a server of that name runs."""
    return held(Files.of(server).alive)


def views_of(server: str, journal: Any, **wanted: Any) -> list[JobView]:
    """Jobs, chosen as in `JournalReader.views`, told as they are: without a server, none runs."""
    if journal is None:
        return []
    # Life first: a job that ran when its server died is lost, one that ended meanwhile is not.
    alive = lives(server)
    views: list[JobView] = journal.views(**wanted)
    if alive:
        return views
    return [
        replace(view, state=State.LOST, reason="the server died")
        if view.state == State.RUNNING
        else view
        for view in views
    ]


def labels_of(journal: Any, wanted: Iterable[str] = ()) -> list[JobView]:
    """What all jobs are called, in order of submission, and nothing else of them.

    Members of sweeps only if they are `wanted`.
    """
    return [] if journal is None else [JobView(*label) for label in journal.labels(wanted)]


def chosen(server: str, journal: Any, wanted: Iterable[str]) -> list[JobView]:
    """Jobs that are named, in order of submission: several of a name only by a pattern.

    Raises
    ------
    NoSuchJobError, JobStateError
    """
    ids = [view.id for view in select_unambiguous(labels_of(journal, wanted), wanted)]
    return views_of(server, journal, jobs=ids)


def chosen_one(server: str, journal: Any, wanted: str) -> JobView:
    """The job that is named.

    Raises
    ------
    NoSuchJobError, JobStateError
    """
    label = select_one(labels_of(journal, [wanted]), wanted)
    found = views_of(server, journal, jobs=[label.id])
    if not found:  # forgotten in between
        raise NoSuchJobError(wanted)
    return found[0]


def checked_states(given: Collection[str] | None) -> Collection[str] | None:
    """The states that were asked for.

    Raises
    ------
    OptionError
        There is no such state.
    """
    if unknown := set(given or ()) - set(State):
        there = ", ".join(State)
        raise OptionError("state", f"there is no {', '.join(sorted(unknown))}. There are: {there}.")
    return given


def until_ended(
    server: str,
    views: Sequence[JobView],
    timeout: float | None = None,
    any: bool = False,  # noqa: A002  (as of `Registry.wait`)
    changed: Callable[[Sequence[JobView]], object] = lambda views: None,
) -> list[JobView]:
    """Wait until jobs have ended (one of them, if `any`); forgotten ones are not answered.

    By looking at the journal, so that a server that dies, or comes back, is nothing special.

    Parameters
    ----------
    changed : callable
        Called with the jobs each time that one's state has changed.

    Raises
    ------
    JobTimeoutError
        After `timeout` seconds.
    ServerError
        No server runs, so that those that wait will not begin.
    """
    ids = [view.id for view in views]
    deadline = None if timeout is None else time.monotonic() + timeout
    seen: list[str] | None = None
    with journal_of(server) as journal:
        while True:
            alive = lives(server)
            now = views_of(server, journal, jobs=ids)
            if (states := [view.state for view in now]) != seen:
                seen = states
                changed(now)
            open_ = [view for view in now if not State(view.state).terminal]
            if not open_ or (any and len(open_) < len(now)):
                return now
            if not alive:
                waiting = ", ".join(view.label for view in open_[:5])
                raise ServerError(
                    f"no server {server!r} is running, so that {waiting} will not begin. Start it "
                    "with 'dask-async-run server start'."
                )
            if deadline is not None and time.monotonic() >= deadline:
                raise JobTimeoutError(timeout or 0.0, [f"{v.label} ({v.state})" for v in open_])
            time.sleep(POLL)
