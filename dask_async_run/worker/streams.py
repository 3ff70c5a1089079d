"""``sys.stdout`` and ``sys.stderr`` of a cell process.

Both are C text layers over the pipe that file descriptor 1 or 2 leads to, so
that Python's, C's and children's text meet in one place. stderr writes through.
stdout sends each line by itself, so that its order relative to what C code
writes to descriptor 1 is exact, until a burst of lines shows that a system call
a line is too dear: then it sends blocks, and a thread sends the rest every
`INTERVAL` seconds; when the burst is over, it sends lines again.
"""

from __future__ import annotations

import ctypes
import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from dask_async_run.worker.channel import Channel

INTERVAL = 0.05
"""Seconds after which text is sent at the latest."""
BURST = 200
"""Lines in one interval after which stdout stops sending each by itself."""
BLOCK = 64 * 1024

_SPAWNING = frozenset(
    {"subprocess.Popen", "os.system", "os.posix_spawn", "os.spawn", "os.exec", "pty.spawn"}
)


class _Door(io.BufferedWriter):
    """The byte layer: takes the turn before it lets anything through."""

    def __init__(self, fd: int, channel: Channel, through: bool) -> None:
        super().__init__(io.FileIO(fd, "wb"), buffer_size=BLOCK)
        self._channel = channel
        self._through = through
        self.flushes = 0
        self.lines = 0
        self.on_burst: Callable[[], None] | None = None

    def write(self, data: Any, /) -> int:
        with self._channel.lock:
            self._channel.take_turn(self)
            count = super().write(data)
            if self._through:
                super().flush()
            elif not self.on_burst:
                self.lines += bytes(data).count(b"\n")
            return count

    def flush(self) -> None:
        with self._channel.lock:
            super().flush()
            self.flushes += 1
            if self.on_burst and self.flushes > BURST:
                burst, self.on_burst = self.on_burst, None
                burst()


class Streams:
    """The standard streams of this process.

    Parameters
    ----------
    channel : Channel
        Keeps the order across stdout, stderr and messages.

    Notes
    -----
    Made and prepared before it is known where descriptors 1 and 2 will lead: starting a
    thread alone takes longer than all else that a small cell does.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._installed = threading.Event()
        self._out = _Door(os.dup(1), channel, through=False)
        self._err = _Door(os.dup(2), channel, through=True)
        self.stdout = io.TextIOWrapper(
            self._out, "UTF-8", errors="backslashreplace", line_buffering=True
        )
        self.stderr = io.TextIOWrapper(
            self._err, "UTF-8", errors="backslashreplace", write_through=True
        )
        for stream, name in ((self.stdout, "stdout"), (self.stderr, "stderr")):
            settable: Any = stream
            settable.mode = "w"
            settable.buffer.raw.name = name
        self.stdout._CHUNK_SIZE = BLOCK  # type: ignore[attr-defined]
        self._out.on_burst = self._send_blocks
        channel.text_door = self._out
        channel.flush_text = self._flush_text

    def prepare(self) -> None:
        """Do what can be done before they are installed; call once."""
        _line_buffer_c_stdout()
        os.register_at_fork(
            before=self._before_fork,
            after_in_parent=self._channel.lock.release,
            after_in_child=self._after_fork_in_child,
        )
        sys.addaudithook(self._audit)
        threading.Thread(target=self._send_regularly, name="cell-output", daemon=True).start()

    def install(self) -> None:
        """Make them this process's streams, for good; call once, in the main thread."""
        for fd, door in ((1, self._out), (2, self._err)):
            os.dup2(fd, door.fileno(), inheritable=False)
        sys.stdout = self.stdout
        sys.stderr = self.stderr
        self._installed.set()

    def close(self) -> None:
        """Send everything that Python has buffered."""
        self.stdout.flush()
        self.stderr.flush()
        self._channel.flush()

    def flush_c(self) -> None:
        """Send what C code has buffered; may block if another thread reads through C."""
        ctypes.CDLL(None).fflush(None)

    def _flush_text(self) -> None:
        try:
            self.stdout.flush()
        except ValueError:
            pass  # the cell closed its stdout; what it shows otherwise still counts

    def _send_blocks(self) -> None:
        self.stdout.reconfigure(line_buffering=False)

    def _send_lines(self) -> None:
        self._out.flushes = 0
        self._out.on_burst = self._send_blocks
        self.stdout.reconfigure(line_buffering=True)

    def _send_regularly(self) -> None:
        # Signals are the main thread's: one that this thread takes would interrupt the main
        # thread even where that has blocked it.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        self._installed.wait()
        pause = threading.Event()
        while not pause.wait(INTERVAL):
            try:
                self._channel.flush()
                # Under the lock: flush() takes the text first and asks for the turn then, and
                # a line for stderr must not get in between.
                with self._channel.lock:
                    if not self.stdout.closed:
                        self.stdout.flush()
                self._out.flushes = 0
                if self._out.on_burst is None and self._out.lines < BURST:
                    self._send_lines()
                self._out.lines = 0
            except (OSError, ValueError):
                return  # the worker is gone, or the cell closed its stdout

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event in _SPAWNING:
            self._channel.foreign()

    def _before_fork(self) -> None:
        self._channel.lock.acquire()
        self._channel.foreign()

    def _after_fork_in_child(self) -> None:
        # No thread sends the rest here, and the parent gets the answers: each line
        # goes by itself, without a turn.
        self._channel.in_child = True
        self._out.on_burst = None
        self._channel.lock.release()
        self.stdout.reconfigure(line_buffering=True)


def _line_buffer_c_stdout() -> None:
    """Let C's stdout send each line: a pipe would make it wait for a block."""
    try:
        libc = ctypes.CDLL(None)
        name = "__stdoutp" if sys.platform == "darwin" else "stdout"
        libc.setvbuf(ctypes.c_void_p.in_dll(libc, name), None, 1, 0)
    except (OSError, ValueError, AttributeError):
        pass  # another C library: its output comes in blocks
