"""The supervisor's side of a cell's pipes, message socket and status pipe."""

from __future__ import annotations

import codecs
import fcntl
import os
import selectors
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgpack

from dask_async_run.job import Message
from dask_async_run.worker.template_protocol import CellFds
from dask_async_run.worker.wire import ACK, NEXT, MessageReader

PIPE = 2**20
"""Bytes that a pipe holds, where the system lets it, and that are read from it at once."""
PAUSE = 0.01
"""Seconds after which text is read at the latest while more comes."""
_READ = 256 * 1024


class Doors:
    """All that connects a supervisor with one cell process; non-blocking on this side.

    Parameters
    ----------
    task : Message
        What the cell is to do, see `cell.main`.
    on_text : callable
        Gets stream name and text.
    on_message : callable
        Gets kind and body of each message but ``sync``, which is answered here.

    Attributes
    ----------
    pid : int or None
        The cell process, once the template has told it.
    status : int or None
        As from `os.waitpid`, once the process and all it started is gone.
    refused : int or None
        The system's reason (an ``errno``) for having no room for a process, if there was none.
    full : int or None
        The same, while or after there was none at first.
    deaf : bool
        Whether text is no longer passed on; the owner sets it.
    closed : bool
        Whether the template has closed the status pipe, with or without a status.
    is_shut : bool
        Whether `close` was called.
    """

    def __init__(
        self,
        task: Message,
        on_text: Callable[[str, str], None],
        on_message: Callable[[str, Any], None],
    ) -> None:
        self.pid: int | None = None
        self.status: int | None = None
        self.refused: int | None = None
        self.full: int | None = None
        self.closed = self.is_shut = False
        self.deaf = False
        self._on_text = on_text
        self._on_message = on_message
        self._messages = MessageReader()
        self._told = b""
        self._selector = selectors.DefaultSelector()
        self._urgent = selectors.DefaultSelector()
        self._text_came = False
        self._out, out = os.pipe()
        self._err, err = os.pipe()
        self._status, status = os.pipe()
        self._socket, theirs = socket.socketpair()
        self._woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._decoders = {
            fd: codecs.getincrementaldecoder("utf-8")("replace") for fd in (self._out, self._err)
        }
        for fd in (self._out, self._err):
            if sys.platform == "linux":
                try:
                    fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE)
                except OSError:
                    pass  # this user's pipes hold too much already
        self._open = {
            self._out,
            self._err,
            self._status,
            self._socket.fileno(),
            self._woken.fileno(),
        }
        for fd in self._open:
            os.set_blocking(fd, False)
            self._selector.register(fd, selectors.EVENT_READ)
            if fd not in self._decoders:
                self._urgent.register(fd, selectors.EVENT_READ)
        self._task = _task_file(task)
        self._ends: CellFds | None = CellFds(os.dup(self._task), out, err, theirs.detach(), status)

    def again(
        self,
        task: Message,
        on_text: Callable[[str, str], None],
        on_message: Callable[[str, Any], None],
    ) -> bool:
        """Give the process, which waits, another task; False if it is gone.

        It may go just then: one that has not said that it began has not.
        """
        self._on_text, self._on_message = on_text, on_message
        self.read()
        if self.closed or self._socket.fileno() not in self._open:
            return False
        _write_task(self._task, task)
        self.deaf = False
        try:
            self._socket.send(ACK.pack(NEXT))
        except OSError:
            return False
        return True

    @contextmanager
    def given_away(self) -> Iterator[CellFds]:
        """Give the cell its ends, once; here they are closed after the block."""
        ends, self._ends = self._ends, None
        assert ends is not None
        try:
            yield ends
        finally:
            ends.close()

    def wait(self, timeout: float) -> None:
        """Wait until there is something to read, `wake` is called or time is up."""
        if self._text_came:
            # More may come, many times in a millisecond: waking for each would slow the
            # cell down. What it waits for an answer to does not wait.
            self._urgent.select(max(0.0, min(timeout, PAUSE)))
        else:
            self._selector.select(max(0.0, timeout))

    def wake(self) -> None:
        """End a `wait`; from any thread."""
        try:
            self._waker.send(b"\0")
        except OSError:
            pass  # closed, or already full of wakes

    def read(self) -> None:
        """Read what there is, in order.

        Messages are read first and handled last: whatever the cell wrote into its pipes
        before a message is there when the message is. What it writes after a message it
        writes when the following ``sync`` is answered. So text is never on the wrong
        side of a message.
        """
        if self._woken.fileno() in self._open:
            self._receive(self._woken.fileno())
        told = self._receive(self._status)
        received = self._receive(self._socket.fileno())
        self._text_came = False
        for fd, name in ((self._out, "stdout"), (self._err, "stderr")):
            if data := self._receive(fd, PIPE):
                self._text_came = True
                if not self.deaf:
                    self._on_text(name, self._decoders[fd].decode(data))
        for kind, body in self._messages.feed(received):
            if kind == "sync":
                self._answer(body)
            else:
                self._on_message(kind, body)
        # Last: when the process is gone, all that it wrote has been there to be read.
        self._note(told)

    def drain(self) -> None:
        """Read the rest, after the process has ended. Ends of pipes may still be held by
        processes that escaped: what they write from now on is nobody's output.
        """
        before = -1
        while before != self._seen:
            before = self._seen
            self.read()
        for fd, name in ((self._out, "stdout"), (self._err, "stderr")):
            self._on_text(name, self._decoders[fd].decode(b"", final=True))

    def close(self) -> None:
        """Close everything on this side; the cell's ends too, if nobody got them."""
        self.is_shut = True
        if self._ends is not None:
            self._ends.close()
        self._selector.close()
        self._urgent.close()
        for fd in (self._out, self._err, self._status, self._task):
            os.close(fd)
        for sock in (self._socket, self._woken, self._waker):
            sock.close()

    def crash_report(self) -> str:
        """Return what `faulthandler` wrote when the process died of a fatal signal."""
        with os.fdopen(os.dup(self._task), "rb") as file:
            file.seek(0)
            return file.read().decode("utf-8", "replace")

    _seen = 0

    def _receive(self, fd: int, limit: int = _READ) -> bytes:
        """Read at most about `limit` bytes; a flood must not keep the caller here."""
        parts = []
        size = 0
        while size < limit and fd in self._open:
            try:
                part = os.read(fd, _READ)
            except BlockingIOError:
                break
            except ConnectionResetError:
                part = b""
            if not part:
                self._open.discard(fd)
                self._selector.unregister(fd)
                if fd not in self._decoders:
                    self._urgent.unregister(fd)
                break
            parts.append(part)
            size += len(part)
        self._seen += size
        return b"".join(parts)

    def _answer(self, number: int) -> None:
        try:
            self._socket.send(ACK.pack(number))
        except OSError:
            pass  # it died meanwhile

    def _note(self, told: bytes) -> None:
        *lines, self._told = (self._told + told).split(b"\n")
        for line in lines:
            word, _, number = line.partition(b" ")
            match word:
                case b"pid":
                    self.pid = int(number)
                case b"full":
                    self.full = int(number)
                case b"none":
                    self.refused = int(number)
                case _:
                    self.status = int(number)
        self.closed = self._status not in self._open or self.status is not None


def _task_file(task: Message) -> int:
    if sys.platform == "linux":
        fd = os.memfd_create("task")
    else:
        with tempfile.TemporaryFile(buffering=0) as file:
            fd = os.dup(file.fileno())
    _write_task(fd, task)
    return fd


def _write_task(fd: int, task: Message) -> None:
    packed = msgpack.packb(task, use_bin_type=True, unicode_errors="surrogatepass")
    with os.fdopen(os.dup(fd), "wb") as file:
        file.seek(0)
        file.write(packed)
