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
    """

    grace: float
    state: State | None = None
    why: str = ""
    used: list[signal.Signals] = field(default_factory=list)
    _next: float = 0.0

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
            self.state, self.why, self._next = state, why, now

    @property
    def deadline(self) -> float | None:
        """When the next signal is due; None if none is."""
        return self._next if self.state and len(self.used) < len(_RUNGS) else None

    def due(self, now: float, collecting: bool) -> signal.Signals | None:
        """Return the signal to send now, if any; it counts as sent.

        Parameters
        ----------
        now : float
        collecting : bool
            Whether the cell's code has ended and its result is being made: an
            interrupt that came too late must not cost the result.
        """
        if self.deadline is None or now < self._next:
            return None
        if collecting and self.used:
            started = self._next - self.grace
            if now < started + COLLECTING_GRACE:
                self._next = started + COLLECTING_GRACE
                return None
        rung = _RUNGS[len(self.used)]
        self.used.append(rung)
        self._next = now + self.grace
        return rung

    def kill(self, now: float) -> None:
        """Make SIGKILL due at once."""
        if len(self.used) < len(_RUNGS):
            self.used = list(_RUNGS[:-1])
            self._next = now

    @property
    def reason(self) -> str:
        """What was done, for people."""
        if not self.used:
            return self.why
        return f"{self.why}; stopped by {self.used[-1].name}"
