"""Cell processes that wait for the next member of their sweep, on one worker.

One that is not asked for anything for `PATIENCE` seconds is let go of, and ends. See `remains`
for what makes a process fit for another member.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from dask_async_run.worker.doors import Doors

PATIENCE = 1.0
"""Seconds for which a process waits."""


class IdleCells:
    """The waiting processes of one worker. Thread-safe.

    Parameters
    ----------
    later : callable
        Has a function called after some seconds; from any thread.
    """

    def __init__(self, later: Callable[[float, Callable[[], None]], object]) -> None:
        self._later = later
        self._lock = threading.Lock()
        self._waiting: list[_Waiting] = []
        self._unfit = ""
        self._looking = False
        self._closed = False

    def take(self, sweep: str) -> Doors | None:
        """Take a process that waits for this sweep's members, if there is one."""
        with self._lock:
            for waiting in self._waiting:
                if waiting.sweep == sweep:
                    self._waiting.remove(waiting)
                    return waiting.doors
        return None

    def put(self, sweep: str, doors: Doors) -> None:
        """Have a process wait; its doors are this object's until they are taken."""
        with self._lock:
            wanted = not self._closed and self._unfit != sweep
            if wanted:
                self._waiting.append(_Waiting(sweep, doors, time.monotonic() + PATIENCE))
            look = wanted and not self._looking
            self._looking |= look
        if not wanted:
            doors.close()
        if look:
            self._later(PATIENCE, self._look)

    def refuse(self, sweep: str) -> None:
        """Have no process wait for this sweep any more: its inputs do not allow it."""
        with self._lock:
            self._unfit = sweep
        self._let_go(lambda waiting: waiting.sweep == sweep)

    def is_open_to(self, sweep: str) -> bool:
        """Whether processes may wait for this sweep's members."""
        return self._unfit != sweep

    def close(self) -> None:
        """Let go of all, and of those that come."""
        with self._lock:
            self._closed = True
        self._let_go(lambda waiting: True)

    def _look(self) -> None:
        now = time.monotonic()
        self._let_go(lambda waiting: waiting.until <= now)
        with self._lock:
            self._looking = bool(self._waiting)
            again = self._looking
        if again:
            self._later(PATIENCE, self._look)

    def _let_go(self, which: Callable[[_Waiting], bool]) -> None:
        with self._lock:
            gone = [waiting for waiting in self._waiting if which(waiting)]
            self._waiting = [waiting for waiting in self._waiting if not which(waiting)]
        for waiting in gone:
            waiting.doors.close()


@dataclass(frozen=True, slots=True)
class _Waiting:
    sweep: str
    doors: Doors
    until: float
