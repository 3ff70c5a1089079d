"""How a cell is stopped: SIGINT, then SIGTERM, then SIGKILL.

Pure: is told the time and what happened, says which signal is due.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field

from dask_async_run.job import State

COLLECTING_GRACE = 60.0
"""Seconds that a cell which has ended gets at least to hand over its result."""

_RUNGS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)


@dataclass(slots=True)
class Ladder:
    """The stopping of one cell.

    Parameters
    ----------
    grace : float
        Seconds between two signals.

    Attributes
    ----------
    state : State or None
        What the job will be; None while nobody wants the cell stopped.
    used : list of Signals
        What was sent so far.
    """

    grace: float
    state: State | None = None
    used: list[signal.Signals] = field(default_factory=list)
    _why: str = ""
    _rung: int = 0
    _next: float = 0.0
    _patient: bool = True
    _until: float = 0.0

    def start(self, now: float, state: State, why: str) -> None:
        """Begin, unless it has begun.

        Parameters
        ----------
        now : float
            Seconds on a monotonic clock.
        state : State
            What the job will be.
        why : str
            For people: "cancelled", "ran longer than 2 s".
        """
        if self.state is None:
            self.state, self._why, self._next = state, why, now

    def kill(self, now: float) -> None:
        """Make SIGKILL the next signal, due now; once begun."""
        if self._rung < len(_RUNGS):
            self._rung, self._next, self._patient = len(_RUNGS) - 1, now, False

    def heard(self, now: float) -> None:
        """Note that the result goes on being made, without what the last signal has met.

        Something else may need the same signal then.
        """
        if _RUNGS[self._rung - 1] is signal.SIGTERM:
            self._next = now + COLLECTING_GRACE
        elif now < self._until:
            self._rung, self._next = 0, now + self.grace

    @property
    def deadline(self) -> float | None:
        """When the next signal is due; None if none is."""
        return self._next if self.state and self._rung < len(_RUNGS) else None

    def due(self, now: float, collecting: bool) -> signal.Signals | None:
        """Return the signal to send now, if any; it counts as sent.

        Parameters
        ----------
        now : float
        collecting : bool
            Whether the cell's code has ended and its result is being made: that is not
            cut short, or a cancel would cost what was done before it. An interrupt only
            costs the value that is asked just then how it is pickled.
        """
        if self.deadline is None or now < self._next:
            return None
        if collecting and self.state is State.CANCELLED and not self.used:
            self._patient, self._until = False, now + COLLECTING_GRACE
        if collecting and self._patient:
            self._patient = False
            self._next = now + max(0.0, COLLECTING_GRACE - self.grace)
            return None
        rung = _RUNGS[self._rung]
        self.used.append(rung)
        self._rung += 1
        self._next = now + self.grace
        return rung

    @property
    def reason(self) -> str:
        """What was done, for people."""
        return f"{self._why}; stopped by {self.used[-1].name}" if self.used else self._why
