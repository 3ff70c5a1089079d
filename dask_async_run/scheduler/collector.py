"""Which frames are nobody's any more.

A frame may be removed when no job names it, and nobody is about to name it. The second
half is what makes it difficult: a cell, or a kernel, that finds a frame already there
does not write it again, and names it only later.

    cell of D puts frame X (there already)      job A, which named X, is forgotten
    D ends, its result names X                  X is removed: D's result is broken

But whoever puts a frame that is there marks it as used now. So:

- A cell names what it put when its job ends: a frame used since the start of a job that
  still runs may be that job's.
- A kernel names what it put when it creates a job, seconds later; and the registry
  refuses a job whose frames are missing. A frame used after the forgotten jobs had named
  it is left alone for some minutes.

All of these are times of the machine's clock, which somebody may set. After that, which of
two came first cannot be told: nothing is removed before all that ran then has ended, and the
minutes are over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from dask_async_run.frames import FrameStore

IN_FLIGHT = 600.0
"""Seconds in which a kernel that has put a frame will have named it."""

_CLOCK = 1.0  # a file's time is that of the last tick, and clocks of file servers differ


def collectable(
    frames: Mapping[str, tuple[float, float]], running_since: float | None, now: float
) -> list[str]:
    """Of frames that no job names, those that nobody is about to name.

    Parameters
    ----------
    frames : dict of str to (float, float)
        For each: when it was last used (put), and when a job last named it (0 if unknown).
    running_since : float or None
        Start of the running job that started first.
    """
    return [
        digest
        for digest, (used, named) in frames.items()
        if (running_since is None or used < running_since - _CLOCK)
        # What was named in the future was so before the clock was set back.
        and (used <= named + _CLOCK <= now + 2 * _CLOCK or used < now - IN_FLIGHT)
    ]


class Collector:
    """Removes frames that are nobody's any more.

    Parameters
    ----------
    store : FrameStore
        Whose frames; `FrameStore.empty_trash` is left to the caller.
    clock, steady : callable
        Answer seconds: since the epoch, and of a clock that nobody sets.
    """

    def __init__(
        self,
        store: FrameStore,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._later: dict[str, float] = {}
        self._clock, self._steady = clock, steady
        self._offset = clock() - steady()
        self._set: tuple[float, float] | None = None  # both clocks, when it was noticed

    def consider(self, frames: Mapping[str, float]) -> None:
        """Consider frames that have lost a name: digest, and when it had been named."""
        for digest, named in frames.items():
            self._later[digest] = max(named, self._later.get(digest, 0.0))

    def consider_all(self) -> None:
        """Consider all there are: cells that were killed leave frames that nobody named."""
        self.consider(dict.fromkeys(self._store, 0.0))

    def collect(self, named: Iterable[str], running_since: float | None) -> int:
        """Take away what may be taken away, and keep the rest in mind.

        Parameters
        ----------
        named
            Those of `considered` that some job names.
        """
        for digest in named:
            self._later.pop(digest, None)
        frames = {}
        for digest, time_named in list(self._later.items()):
            used = self._store.used(digest)
            if used is None:
                del self._later[digest]
            else:
                frames[digest] = (used, time_named)
        if self._is_unsure(running_since):
            return 0
        gone = collectable(frames, running_since, self._clock())
        self._store.discard(gone)
        for digest in gone:
            del self._later[digest]
        return len(gone)

    def _is_unsure(self, running_since: float | None) -> bool:
        """Whether the clock was set while somebody may have put what he has not named yet."""
        now, steady = self._clock(), self._steady()
        if abs(now - steady - self._offset) > _CLOCK:
            self._offset, self._set = now - steady, (now, steady)
        if self._set is None:
            return False
        since, noticed = self._set
        # Jobs that started before the clock was set back seem to start in the future.
        ran_then = running_since is not None and not since <= running_since <= now
        if ran_then or steady < noticed + IN_FLIGHT:
            return True
        self._set = None
        return False

    @property
    def considered(self) -> list[str]:
        """Digests of the frames that may be nobody's."""
        return list(self._later)
