"""The order of what a cell process emits.

A cell speaks through three doors: a pipe for file descriptor 1, one for 2, and
the message socket (displays, results). The supervisor reads them side by side,
so the order between two doors would be lost; `Channel` keeps it. Whoever is
about to speak takes the *turn*: what others have buffered is flushed, and
before a pipe speaks, the supervisor has answered that everything before was
read. A message needs no answer: the supervisor drains both pipes before it
handles a message.

What children, threads and C code write to the descriptors by themselves has no
turn and comes in the order in which it arrives; `foreign` says that such writers
may be about, so that the next turn is taken anew.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from dask_async_run.worker.wire import NEXT, MessageWriter, read_ack


class Channel:
    """The three doors of one cell process.

    Parameters
    ----------
    fd : int
        The cell's end of the message socket, or what keeps its place until it is there.

    Attributes
    ----------
    text_door, flush_text
        The one door that buffers text (stdout), and what flushes it; set by who makes it.
    in_child : bool
        Whether this is a fork of the cell process. There, nobody takes turns:
        the socket's answers belong to the parent.
    """

    def __init__(self, fd: int) -> None:
        self.lock = threading.RLock()
        self.in_child = False
        self.text_door: object = None
        self.flush_text: Callable[[], None] = lambda: None
        self._fd = fd
        self._writer = MessageWriter(fd)
        self._speaker: object = None
        self._asked = 0
        self._answered = 0
        self._pending = bytearray()
        self._gone = False

    def take_turn(self, speaker: object) -> None:
        """Make `speaker` the one that writes next to its pipe; hold `lock`."""
        if self.in_child:
            return
        if speaker is not self.text_door:
            # Text that waits to be sent is older than what `speaker` is about to say.
            self.flush_text()
        if self._speaker is not speaker:
            self._sync()
            self._speaker = speaker

    def foreign(self) -> None:
        """Let what was written so far be read; somebody else may write now."""
        if self.in_child:
            return
        with self.lock:
            self.flush_text()
            self._speaker = None

    def send(self, kind: str, body: Any) -> None:
        """Send a message in its turn. Does nothing in a fork of the cell process."""
        if self.in_child:
            return
        with self.lock:
            self.flush_text()
            self._speaker = self
            self._writer.send(kind, body)

    def flush(self) -> None:
        """Send what an interrupt left behind; any thread."""
        if self.in_child:
            return
        with self.lock:
            self._writer.flush()

    def await_next(self) -> bool:
        """Wait until there is another task for this process; False when there will be none."""
        with self.lock:
            self._speaker = None
            while True:
                answer = read_ack(self._fd, self._pending)
                if answer is None or answer == NEXT:
                    return answer is not None

    def _sync(self) -> None:
        """Wait until the supervisor has read everything that was written."""
        if self._gone:
            return
        self._asked = asked = self._asked + 1
        self._writer.send("sync", asked)
        # An interrupt may have left earlier answers unread: only ours counts.
        while self._answered < asked:
            answer = read_ack(self._fd, self._pending)
            if answer is None:
                self._gone = True  # the worker died; the template will end this process
                return
            self._answered = answer
