"""The template process: forks cell processes that have their imports behind them.

One per worker, started as a fresh Python process, single-threaded, so that forking
it is safe: a Dask worker has threads and locks that a fork would freeze in whatever
state they are. It holds IPython and a shell that has run a few statements, imports
what notebooks here use when it has nothing else to do, and never runs user code.

It ends when its worker does: the socket between them closes, whichever way the
worker died; then all cells are killed, and whatever they started.
"""

from __future__ import annotations

import gc
import importlib
import os
import select
import signal
import socket
import sys
from typing import Any

from dask_async_run.worker import cell, processes, rehearsal
from dask_async_run.worker.template_protocol import CellFds, receive_request

WARMABLE = frozenset(
    "numpy scipy pandas sklearn matplotlib matplotlib.pyplot sympy PIL statsmodels seaborn".split()
)
"""What may be imported ahead: known to start no thread and to survive a fork."""


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
        self._wanted: list[str] = []
        self._wake, self._waker = socket.socketpair()
        self._shell = rehearsal.rehearsed_shell()

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
            # With imports to do there is no waiting, but a request goes first.
            readable, _, _ = select.select(
                [self._sock, self._wake], [], [], 0 if self._wanted else None
            )
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
                request, fds = received
                self._serve(request, fds)
            elif self._wanted and not readable:
                self._import(self._wanted.pop(0))
        self._end()

    def _serve(self, request: dict[str, Any], fds: CellFds | None) -> None:
        os.environ.update(request.get("environ", {}))
        if fds is not None:
            self._fork(fds)
        for name in request.get("warm", ()):
            if name in WARMABLE and name not in sys.modules and name not in self._wanted:
                self._wanted.append(name)

    def _fork(self, fds: CellFds) -> None:
        # SIGINT may come as soon as the pid is known, before the child is ready for it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        pid = os.fork()
        if pid == 0:
            self._become_cell(fds)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        status = os.dup(fds.status)
        fds.close()
        self._status[pid] = status
        _tell(status, f"pid {pid}\n")

    def _become_cell(self, fds: CellFds) -> None:
        try:
            os.setsid()
            processes.die_with_parent(self._pid)
            processes.adopt_orphans()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for fd in self._status.values():
                os.close(fd)
            os.close(fds.status)
            self._sock.close()
            self._wake.close()
            self._waker.close()
            null = os.open(os.devnull, os.O_RDONLY)
            for fd, standard in ((null, 0), (fds.stdout, 1), (fds.stderr, 2)):
                os.dup2(fd, standard)
                os.close(fd)
            cell.main(self._shell, fds.task, fds.messages)
        except BaseException:  # noqa: BLE001 - nothing of this process may go on as a template
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
        finally:
            os._exit(70)  # EX_SOFTWARE: cell.main does not return

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            fd = self._status.pop(pid, None)
            if fd is None:
                continue  # a cell's orphan
            # The slot is free when everything is gone, so that is told last.
            processes.kill_orphans(self._status)
            _tell(fd, f"exit {status}\n")
            os.close(fd)

    def _import(self, name: str) -> None:
        try:
            importlib.import_module(name)
        except Exception:  # noqa: BLE001 - not installed, or broken: the cell will say so
            return
        gc.freeze()

    def _end(self) -> None:
        for pid in self._status:
            os.kill(pid, signal.SIGKILL)
        processes.kill_orphans(())
        # Parts of this process's imports may wait for threads or files at exit: nothing
        # of it is worth waiting for.
        os._exit(0)


def _tell(fd: int, text: str) -> None:
    try:
        os.write(fd, text.encode())
    except BrokenPipeError:
        pass  # the supervisor is gone


def main(fd: int) -> None:
    """Run the template process on the socket `fd`."""
    with socket.socket(fileno=fd) as sock:
        Template(sock).run()
