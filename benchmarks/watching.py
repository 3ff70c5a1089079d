"""The most of something while a block runs, as a thread sees that looks again and again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self


class Watched:
    """How much more there is than there was before, at most.

    Parameters
    ----------
    measure : callable
        Answers how much there is; called in a thread.
    pause : float
        Seconds between two looks.

    Attributes
    ----------
    more : float
    """

    def __init__(self, measure: Callable[[], float], pause: float = 0.005) -> None:
        self._measure = measure
        self._pause = pause
        self._end = threading.Event()
        self._first = measure()
        self.more = 0.0
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(self._pause):
            self.more = max(self.more, self._measure() - self._first)
