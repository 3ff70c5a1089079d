"""Signals to a cell process: an interrupt stops the cell's code, a last call its waiting."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


class Interrupts:
    """SIGINT: interrupts the cell's code, and nothing else.

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


class LastCall:
    """SIGTERM: has a cell that goes on after an interrupt hand over what it has bound.

    It comes between two bytecodes of the cell's main thread, which never gets the control
    back. A cell that handles SIGTERM itself is left alone, and the cell's forks (a pool's
    workers) end on it at once, as they would elsewhere: also when it reaches them before
    they have forgotten this handler, since Python drops what came until then.
    """

    def __init__(self) -> None:
        self._hand_over: Callable[[FrameType | None], NoReturn] | None = None
        self._masks = threading.local()
        os.register_at_fork(
            before=self._hold, after_in_parent=self._let_go, after_in_child=self._in_child
        )

    @contextmanager
    def allowed(self, hand_over: Callable[[FrameType | None], NoReturn]) -> Iterator[None]:
        """Heed SIGTERM; outside of this it ends the process.

        Parameters
        ----------
        hand_over : callable
            Is given the frame in which the cell was; collects the result, sends it and ends
            the process.
        """
        self._hand_over = hand_over
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
        self._withdraw()
        try:
            if hand_over is not None:
                hand_over(frame)
        finally:  # the interrupted code held what handing over needs
            os.kill(os.getpid(), signal.SIGTERM)
