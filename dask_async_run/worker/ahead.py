"""Claims that come ahead of their tasks.

A worker that has just said how a cell ended is sent the next one's claim by the scheduler along
with its Dask task, which then need not ask: small cells would wait for that longer than they
run. Until the task begins, the claim is only kept here. It is given back when the scheduler
asks, because Dask has moved the task to another worker, and when the task does not begin in
`PATIENCE` seconds. Whoever takes it out runs the cell, and nobody else does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from dask_async_run.registry import Claim

PATIENCE = 1.0
"""Seconds for which a claim is kept for a task that does not begin."""


@dataclass(slots=True)
class Advance:
    """A claim that came ahead.

    Attributes
    ----------
    claim : Claim
    token : str
        Asked for again with it, it is the same claim.
    cancelled : bool
        Whether the cell is to stop as soon as it begins.
    returned : Future of None or None
        If it has been given back: done when the registry knows, or cannot be told. The task
        then asks for itself, with this token.
    """

    claim: Claim
    token: str
    cancelled: bool = False
    returned: Future[None] | None = None


class Advances:
    """The claims of one worker whose tasks have not begun. Thread-safe.

    Parameters
    ----------
    later : callable
        Has a function called after some seconds; from any thread.
    give_back : callable
        ``give_back(job, token, done)`` tells the registry that a claim will not be used, and
        calls ``done(told)``.
    """

    def __init__(
        self,
        later: Callable[[float, Callable[[], None]], object],
        give_back: Callable[[str, str, Callable[[bool], None]], object],
    ) -> None:
        self._later = later
        self._give_back = give_back
        self._lock = threading.Lock()
        self._tasks: dict[str, Advance] = {}

    def put(self, task: str, token: str, claim: Claim) -> None:
        """Keep a claim until its task begins."""
        advance = Advance(claim, token)
        with self._lock:
            self._tasks[task] = advance
        self._later(PATIENCE, lambda: self._look(task, advance))

    def take(self, task: str) -> Advance | None:
        """Take the claim for a task, which begins."""
        with self._lock:
            return self._tasks.pop(task, None)

    def drop(self, task: str) -> bool:
        """Give up a task's claim, for the registry; whether no cell will run by it."""
        return self.take(task) is not None

    def cancel(self, job: str) -> bool:
        """Have a job's cell stop as soon as it begins; whether its claim is here."""
        with self._lock:
            for advance in self._tasks.values():
                if advance.claim.job == job:
                    advance.cancelled = True
                    return True
        return False

    def _look(self, task: str, advance: Advance) -> None:
        """Give a claim back whose task has not begun."""
        returned: Future[None] = Future()
        with self._lock:
            if self._tasks.get(task) is not advance:
                return
            # Should its task begin just now, it waits until the registry knows.
            advance.returned = returned

        def done(told: bool) -> None:
            if told:
                with self._lock:
                    if self._tasks.get(task) is advance:
                        del self._tasks[task]
            returned.set_result(None)

        self._give_back(advance.claim.job, advance.token, done)
