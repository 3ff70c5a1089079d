"""The template process: forks cell processes that have their imports behind them.

One per worker, started as a fresh Python process, single-threaded, so that forking
it is safe: a Dask worker has threads and locks that a fork would freeze in whatever
state they are. It holds IPython and a shell that has run a few statements, and never
runs user code. While it has nothing else to do it imports what notebooks here use, and
keeps processes that wait to be the next cells.

Where the system allows no more processes, or has no memory for one, those that there are go
on; a cell waits for a while, and is given up then.

It ends when its worker does: the socket between them closes, whichever way the
worker died; then all cells are killed, and whatever they started.
"""

from __future__ import annotations

import gc
import importlib
import linecache
import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass
from typing import Any

from dask_async_run import surroundings
from dask_async_run.warmable import WARMABLE
from dask_async_run.worker import processes, rehearsal
from dask_async_run.worker.birth import become_cell, rehearse
from dask_async_run.worker.template_protocol import CellFds, receive_request, send_request

SPARES = 2
"""Processes that wait: while one cell ends and the next begins, a third is made ready."""

SPARE_DELAY = 0.03
"""Seconds after a cell's begin, or its end, before its successor is made.

While the cell begins, and while its end goes to whoever waits for it, the machine is theirs.
"""

AGAIN = 0.2
"""Seconds after which a fork is tried again that the system refused."""

_DASKS_SEED = "6640"  # what a nanny sets for its workers


class Template:
    """The main loop.

    Parameters
    ----------
    sock : socket
        To the worker.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._pid = os.getpid()
        self._status: dict[int, int] = {}
        self._spares: list[_Spare] = []
        self._late: list[_Late] = []
        self._wanted: list[str] = []
        self._prepare_at = 0.0
        self._wake, self._waker = socket.socketpair()
        if os.environ.get("PYTHONHASHSEED") == _DASKS_SEED:
            del os.environ["PYTHONHASHSEED"]  # not the user's: what a cell starts has none either
        # Since 3.13 Python remembers what `-c` has run by the name that all code without a file
        # has: tracebacks of a cell's `exec` would show lines of that.
        linecache.cache.pop("<string>", None)
        self._shell = rehearsal.rehearsed_shell()
        self._rehearse()

    def run(self) -> None:
        """Serve until the worker is gone."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the server's
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._wake.setblocking(False)
        self._waker.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        processes.adopt_orphans()
        gc.collect()
        gc.freeze()  # a collection in a cell would copy every page of ours
        while True:
            # With something to prepare there is no waiting, but a request goes first.
            idle = not self._wanted and not self._late and len(self._spares) >= SPARES
            pause = None if idle else max(0.0, self._prepare_at - time.monotonic())
            readable, _, _ = select.select([self._sock, self._wake], [], [], pause)
            if self._wake in readable:
                try:
                    self._wake.recv(4096)
                except BlockingIOError:
                    pass
                self._reap()
            if self._sock in readable:
                try:
                    received = receive_request(self._sock)
                except ConnectionError:
                    received = None
                if received is None:
                    break
                self._serve(*received)
            elif not readable and self._late:
                self._start_late()
            elif not readable:
                self._prepare()
        self._end()

    def _serve(self, request: dict[str, Any], fds: CellFds | None) -> None:
        os.environ.update(request.get("environ", {}))
        if fds is not None:
            self._start_cell(request, fds)
        for name in request.get("warm", ()):
            if (
                name.partition(".")[0] in WARMABLE
                and name not in sys.modules
                and name not in self._wanted
            ):
                self._wanted.append(name)

    def _start_cell(self, request: dict[str, Any], fds: CellFds) -> None:
        self._late.append(_Late(request, fds, time.monotonic() + request["patience"]))
        self._start_late()

    def _start_late(self) -> None:
        """Start the cells that were asked for, while there is room; give up who waited too long."""
        while self._late:
            late = self._late[0]
            try:
                self._give(late.request, late.fds)
            except OSError as error:  # no process more, or no memory for it
                if time.monotonic() < late.until:
                    for each in self._late:
                        _tell(each.fds.status, f"full {error.errno}\n")
                    break
                _tell(late.fds.status, f"none {error.errno}\n")
                late.fds.close()
            del self._late[0]
        self._prepare_at = time.monotonic() + (AGAIN if self._late else SPARE_DELAY)

    def _give(self, request: dict[str, Any], fds: CellFds) -> None:
        """Give a request to a process, a spare one or a new one, that becomes its cell.

        Raises
        ------
        OSError
            There is none, and the system refuses a new one; nothing has happened.
        """
        spare = self._spares.pop(0) if self._spares else self._fork(fds)
        try:
            send_request(spare.sock, request, fds)
        except OSError:
            spare.end()  # it was killed; a new one is fine
            spare = self._fork(fds)
            send_request(spare.sock, request, fds)
        spare.sock.close()
        status = os.dup(fds.status)
        fds.close()
        self._status[spare.pid] = status
        _tell(status, f"pid {spare.pid}\n")

    def _prepare(self) -> None:
        """Do one thing that makes a later cell begin sooner."""
        if self._wanted:
            name = self._wanted.pop(0)
            try:
                with self._shell.builtin_trap:  # pandas asks whether it is in a notebook
                    importlib.import_module(name)
                self._rehearse()  # what takes long the first time with this module
            except Exception:  # noqa: BLE001 - not installed, or broken: the cell will say so
                return
            gc.freeze()
            # One without the module would have to import it itself.
            while self._spares:
                self._spares.pop().end()
        elif len(self._spares) < SPARES:
            try:
                self._spares.append(self._fork())
            except OSError:  # no room; those that run have theirs
                self._prepare_at = time.monotonic() + AGAIN

    def _rehearse(self) -> None:
        """Do here what takes long the first time, so that it takes no fork any time."""
        rehearse(self._shell)
        surroundings.note()

    def _fork(self, received: CellFds | None = None) -> _Spare:
        """Make a spare; it gets descriptors later, and keeps none of what was `received` here.

        Raises
        ------
        OSError
            The system has no room for it.
        """
        ours, theirs = socket.socketpair()
        # SIGINT may come as soon as the pid is known, before the child is ready for it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            pid = os.fork()
        except OSError:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            ours.close()
            theirs.close()
            raise
        if pid == 0:
            for sock in (ours, self._sock, self._wake, self._waker):
                sock.close()
            for fd in self._status.values():
                os.close(fd)
            for spare in self._spares:
                spare.sock.close()
            for fds in {late.fds for late in self._late} | ({received} if received else set()):
                fds.close()
            become_cell(self._shell, theirs, self._pid)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        theirs.close()
        return _Spare(pid, ours)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for spare in [spare for spare in self._spares if spare.pid == pid]:
                self._spares.remove(spare)  # somebody killed it
                spare.sock.close()
            fd = self._status.pop(pid, None)
            if fd is None:
                continue  # the spare one, or a cell's orphan
            # The slot is free when everything is gone, so that is told last.
            processes.kill_orphans([*self._status, *(spare.pid for spare in self._spares)])
            _tell(fd, f"exit {status}\n")
            os.close(fd)
            self._prepare_at = time.monotonic() + SPARE_DELAY if self._spares else 0.0

    def _end(self) -> None:
        for pid in self._status:
            processes.Family(pid).kill(timeout=0)
        processes.kill_orphans(())
        # Parts of this process's imports may wait for threads or files at exit: nothing
        # of it is worth waiting for.
        os._exit(0)


@dataclass(frozen=True, slots=True)
class _Late:
    """A request for a cell, and when it is given up if there is no room for one."""

    request: dict[str, Any]
    fds: CellFds
    until: float


@dataclass(frozen=True, slots=True)
class _Spare:
    """A process that waits to be a cell."""

    pid: int
    sock: socket.socket

    def end(self) -> None:
        """Kill it; `Template._reap` takes note."""
        self.sock.close()
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def _tell(fd: int, text: str) -> None:
    try:
        os.write(fd, text.encode())
    except BrokenPipeError:
        pass  # the supervisor is gone


def main(fd: int) -> None:
    """Run the template process on the socket `fd`."""
    with socket.socket(fileno=fd) as sock:
        Template(sock).run()
