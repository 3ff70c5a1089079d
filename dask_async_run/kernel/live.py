"""Live views: jobs are followed, and shown under the cells that submitted them.

One follower for all views of a session: a task on the Dask client's event loop, which
asks the registry how the watched jobs stand and puts what it hears into their places. It
ends when nothing is watched any more. The kernel's main thread is never waited for, so
views go on while a cell runs here.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from dask_async_run.errors import AsyncRunError, ServerError
from dask_async_run.glimpse import Glimpse, Picture
from dask_async_run.job import JobView, State
from dask_async_run.kernel.live_card import (
    Shown,
    lines_of,
    live_card,
    submitted,
    summary,
    summary_text,
)
from dask_async_run.kernel.live_place import Place, find_place, make_place
from dask_async_run.kernel.session import Session
from dask_async_run.registry import Registry
from dask_async_run.screen import Line

MOST = 20
"""Views that are live at once; the oldest one makes place for the next."""

SLICE = 0.5
"""Seconds that one look waits at most: how long a new view waits for its first news."""

_RETRY = 2.0
_LAST = 1.0
_UNREACHABLE = "no connection to the server"


def pace(age: float) -> float:
    """Answer how many seconds pass between two updates of a view that is `age` seconds old.

    Four times a second at first. A Jupyter server keeps what a kernel sends while nobody
    is connected: at that rate a night would leave 100,000 messages to whoever opens the
    laptop in the morning, at this one it is 6,000.
    """
    return min(5.0, max(0.25, age / 240))


@dataclass(slots=True, eq=False)
class Watched:
    """A job, as it is shown in one place; used by the follower's thread alone."""

    place: Place
    view: JobView
    since: float
    mark: str = ""
    lines: tuple[Line, ...] = ()
    picture: Picture | None = None
    height: int = 0
    due: float = 0.0
    note: str = ""
    page: str = ""
    awaited: Sequence[str] = ()

    def see(self, glimpse: Glimpse) -> None:
        self.mark = glimpse.mark
        if glimpse.view is None:
            return
        # A glimpse leaves out what does not change.
        self.view = replace(glimpse.view, source=self.view.source)
        self.lines = tuple(lines_of(glimpse.text))
        if glimpse.picture is None or glimpse.picture.data:
            self.picture = glimpse.picture

    @property
    def shown(self) -> Shown:
        return Shown(
            self.view,
            self.lines,
            self.picture,
            time.time(),
            self.height,
            self.note,
            self.page,
            self.awaited,
        )

    def show(self) -> None:
        card = live_card(self.shown)
        self.height = card.height
        self.place.show(card)

    def end(self) -> None:
        over = State(self.view.state).terminal
        self.place.end(summary(self.shown), summary_text(self.shown), over)


class Follower:
    """Follows jobs of one session.

    Parameters
    ----------
    session : Session
    watched : iterable of Watched
        What another follower has followed.
    """

    def __init__(self, session: Session, watched: Iterable[Watched] = ()) -> None:
        self._session = session
        self._registry = Registry.of_client(session.client)
        loop: Any = session.client.loop
        self._loop = loop
        self._watched = list(watched)
        self._task: asyncio.Task[None] | None = None
        self._changed: asyncio.Event | None = None
        if self._watched:
            self._loop.add_callback(self._start)

    def awaited(self, view: JobView) -> list[str]:
        """As `Session.awaited`."""
        return self._session.awaited(view)

    def watch(self, watched: Watched) -> None:
        """Follow one more job."""

        def add() -> None:
            self._watched.append(watched)
            for old in self._watched[:-MOST]:
                old.note = "not followed any more: there are newer ones"
                old.end()
            del self._watched[:-MOST]
            self._start()

        self._loop.add_callback(add)

    def cancel(self, job: str) -> None:
        """Cancel a job; returns at once."""

        async def ask() -> None:
            try:
                said = (await self._registry.cancel([job]))[job]
            except AsyncRunError as error:
                said = str(error)
            for watched in self._watched:
                if watched.view.id == job:
                    watched.note, watched.due = said, 0.0
            self._start()

        self._loop.add_callback(ask)

    def stop(self, note: str = "") -> list[Watched]:
        """Stop following; from another thread.

        Parameters
        ----------
        note : str
            What the views end with; empty: they are left as they are, for another follower.

        Returns
        -------
        list of Watched
            What was still followed.
        """
        stopped = threading.Event()
        # The list itself: a loop that has no time for this now still ends them, later.
        followed = self._watched

        async def stop() -> None:
            if self._task is not None:
                self._task.cancel()
                with suppress(asyncio.CancelledError):
                    await self._task
            if note:
                await self._look_once_more(followed)
            for watched in followed if note else ():
                watched.note = "" if State(watched.view.state).terminal else note
                watched.end()
            stopped.set()

        self._loop.add_callback(stop)
        # The loop of a client that is closed ends with it, and runs nothing any more.
        stopped.wait(2.0 if self._session.alive else 0.2)
        self._watched = []
        return followed

    async def _look_once_more(self, followed: Iterable[Watched]) -> None:
        """See what has ended since the last look: views would say for ever that it runs.

        A notebook that is run as a whole may stop its server right after it has gathered.
        """
        watched = {w.view.id: w for w in followed}
        with suppress(AsyncRunError, TimeoutError):
            look = self._registry.look({job: w.mark for job, w in watched.items()}, {})
            for glimpse in await asyncio.wait_for(look, _LAST):
                watched[glimpse.job].see(glimpse)

    def _start(self) -> None:
        if self._changed is None:
            self._changed = asyncio.Event()
        self._changed.set()
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._follow())

    async def _follow(self) -> None:
        assert self._changed is not None
        while self._watched:
            now = time.monotonic()
            due = [watched for watched in self._watched if watched.due <= now]
            if not due:
                # Somebody who comes meanwhile is not kept waiting.
                self._changed.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(
                        self._changed.wait(), min(w.due for w in self._watched) - now
                    )
                continue
            try:
                glimpses = await self._registry.look(
                    {w.view.id: w.mark for w in due},
                    {w.view.id: w.picture.number for w in due if w.picture},
                    SLICE,
                )
            except ServerError:
                alive = self._session.alive
                # Else they would say that it runs until somebody connects again, or closes them.
                for watched in due if alive else self._watched:
                    watched.note = _UNREACHABLE
                    watched.due = time.monotonic() + (_RETRY if alive else 0.0)
                    watched.show()
                if not alive:
                    return
                continue
            self._show(due, {glimpse.job: glimpse for glimpse in glimpses})

    def _show(self, due: list[Watched], glimpses: dict[str, Glimpse]) -> None:
        now = time.monotonic()
        for watched in due:
            if watched not in self._watched:
                continue  # it made place for a newer one meanwhile
            glimpse = glimpses.get(watched.view.id)
            if watched.note == _UNREACHABLE:
                watched.note = ""
            if glimpse is not None:
                watched.see(glimpse)
                watched.awaited = self.awaited(watched.view)
            forgotten = glimpse is not None and glimpse.view is None
            if forgotten or State(watched.view.state).terminal:
                watched.note = "forgotten" if forgotten else ""
                self._watched.remove(watched)
                watched.end()
            else:
                watched.due = now + pace(now - watched.since)
                watched.show()


class Live:
    """The live views of a kernel; in its main thread.

    Parameters
    ----------
    shell : InteractiveShell

    Attributes
    ----------
    wanted : dict of str to None
        Ids of the jobs that are to be gathered as soon as they have finished, in order.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._follower: Follower | None = None
        self._page: Callable[[str], str] = lambda _: ""
        self.wanted: dict[str, None] = {}

    def use(self, session: Session) -> None:
        """Follow what is watched by a new session."""
        watched = self._follower.stop() if self._follower is not None else []
        self._follower = Follower(session, watched)
        self._page = session.page

    def show(self, view: JobView, notify: bool) -> None:
        """Show a job under the cell that runs now, and follow it.

        Parameters
        ----------
        view : JobView
        notify : bool
            Whether the browser is to tell its end.
        """
        follower = self._follower
        assert follower is not None  # a job comes from a session
        place = make_place(self._shell, view.id, **self._buttons(view.id), notify=notify)
        watched = Watched(
            place,
            view,
            since=time.monotonic(),
            page=self._page(view.id),
            awaited=follower.awaited(view),
        )
        place.begin(live_card(watched.shown), *submitted(view))
        follower.watch(watched)

    def revive(self, views: Sequence[JobView], notify: bool) -> None:
        """Show jobs where an earlier kernel of this notebook has, once the page is loaded again.

        Parameters
        ----------
        views : sequence of JobView
            The notebook's, in order of submission; of many, the last ones are shown.
        notify : bool
            Whether the browser is to tell the ends that are still to come.
        """
        follower = self._follower
        assert follower is not None
        for view in views[-MOST:]:
            ring = notify and not State(view.state).terminal
            place = find_place(self._shell, view.id, **self._buttons(view.id), notify=ring)
            if place is not None:
                watched = Watched(place, view, since=time.monotonic(), page=self._page(view.id))
                place.show(live_card(watched.shown))
                follower.watch(watched)

    def _buttons(self, job: str) -> dict[str, Callable[[], None]]:
        def cancel() -> None:
            if self._follower is not None:  # the one at that time
                self._follower.cancel(job)

        return {"cancel": cancel, "gather": lambda: self.wanted.setdefault(job)}

    def close(self, note: str) -> None:
        """End all views where they stand.

        Parameters
        ----------
        note : str
            Why, for whoever sees them.
        """
        if self._follower is not None:
            self._follower.stop(note)
            self._follower = None
