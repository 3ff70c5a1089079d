"""Signals to a cell process: an interrupt stops the cell's code, a last call its waiting.

While the result is made, both stop what an object does when it is asked how it is pickled: that
one is given up, and the others are handed over.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from dask_async_run.namespace.raised import GIVEN_UP, give_up, is_asked


class Interrupts:
    """SIGINT: interrupts the cell's code, and objects that take their time to be pickled.

    While inputs are restored, an interrupt is remembered and comes when the cell
    starts. When the cell has ended it is too late: the result is not thrown away.
    """

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGINT, self._remember)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.asked = True

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Raise KeyboardInterrupt on SIGINT, as a Python program does."""
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if self.asked:
                raise KeyboardInterrupt
            yield
        finally:
            signal.signal(signal.SIGINT, self._remember)

    @contextmanager
    def giving_up(self, heard: Callable[[], object]) -> Iterator[None]:
        """Raise KeyboardInterrupt on SIGINT in an object that is asked how it is pickled.

        Parameters
        ----------
        heard : callable
            Called when it goes on: with another object, or as before if it was at none.
        """

        def handle(number: int, frame: FrameType | None) -> None:
            asked = is_asked(frame)
            if asked is None or give_up(asked):
                heard()
            if asked is not None:
                raise KeyboardInterrupt(GIVEN_UP)

        before = signal.signal(signal.SIGINT, handle)
        try:
            if self.asked:
                heard()
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def _always(frame: FrameType | None) -> bool:
    return True


class LastCall:
    """SIGTERM: has a cell that goes on after an interrupt hand over what it has bound.

    It comes between two bytecodes of the cell's main thread, which never gets the control
    back. A cell that handles SIGTERM itself is left alone, and the cell's forks (a pool's
    workers) end on it at once, as they would elsewhere: also when it reaches them before
    they have forgotten this handler, since Python drops what came until then.
    """

    def __init__(self) -> None:
        self._hand_over: Callable[[FrameType | None], NoReturn] | None = None
        self._fits: Callable[[FrameType | None], object] = _always
        self._masks = threading.local()
        os.register_at_fork(
            before=self._hold, after_in_parent=self._let_go, after_in_child=self._in_child
        )

    @contextmanager
    def allowed(
        self,
        hand_over: Callable[[FrameType | None], NoReturn],
        fits: Callable[[FrameType | None], object] = _always,
    ) -> Iterator[None]:
        """Heed SIGTERM; outside of this it ends the process.

        Parameters
        ----------
        hand_over : callable
            Is given the frame in which the cell was; collects the result, sends it and ends
            the process.
        fits : callable
            Is given that frame; falsy if nothing is to be done there, and the signal is ignored.
        """
        self._hand_over, self._fits = hand_over, fits
        signal.signal(signal.SIGTERM, self._handle)
        try:
            yield
        finally:
            self._withdraw()
            self._hand_over = None

    def _hold(self) -> None:
        self._masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def _let_go(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._masks.before)

    def _in_child(self) -> None:
        self._withdraw()
        self._let_go()

    def _withdraw(self) -> None:
        if signal.getsignal(signal.SIGTERM) == self._handle:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        hand_over = self._hand_over
        if not self._fits(frame):
            return
        self._withdraw()
        try:
            if hand_over is not None:
                hand_over(frame)
        finally:  # the interrupted code held what handing over needs
            os.kill(os.getpid(), signal.SIGTERM)
