"""From a fork of the template process to a cell process that begins at once.

A fresh fork shares its memory with the template, and copies each page at its first
write: the first statement takes 15 ms of that. So a process that nobody needs yet
rehearses: it does, on nothing, what a cell will do. What only the first time takes, of all
times, the template has done.
"""

from __future__ import annotations

import io
import os
import pickle
import select
import signal
import socket
import sys
from collections.abc import Callable
from typing import NoReturn

from dask_async_run import sacrifice, surroundings
from dask_async_run.job import JobSpec
from dask_async_run.messages import pack, unpack
from dask_async_run.namespace import Stream, collect, restore
from dask_async_run.worker import cell, processes, running
from dask_async_run.worker.channel import Channel
from dask_async_run.worker.shell import CellShell
from dask_async_run.worker.streams import Streams
from dask_async_run.worker.template_protocol import CellFds, receive_request

_NOTHING = Stream(pickle.dumps(("end",), protocol=5))
_SPEC = pack(JobSpec("", "", "", "", "", "").to_message())


def become_cell(shell: CellShell, sock: socket.socket, template: int) -> NoReturn:
    """Wait in a new fork for the request to be a cell, and be it; does not return.

    Parameters
    ----------
    shell : CellShell
        The template's.
    sock : socket
        Where the request comes from. If it closes first, the process ends.
    template : int
        Pid of the template process, with which this one ends.
    """
    try:
        os.setsid()
        processes.die_with_parent(template)
        processes.adopt_orphans()
        sacrifice.offer(os.getpid(), sacrifice.CELL)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        messages = os.open(os.devnull, os.O_RDWR)  # until the request brings the socket
        channel = Channel(messages)
        streams = Streams(channel)
        rehearse(shell, lambda: bool(select.select([sock], [], [], 0)[0]))
        streams.prepare()  # not before: copying pages takes longer where there are threads
        request, fds = receive_request(sock) or ({}, None)
        if fds is None:
            os._exit(0)
        sock.close()
        os.environ.update(request.get("environ", {}))
        _take_descriptors(fds, messages)
        cell.main(shell, streams, channel, fds.task)
    except BaseException:  # noqa: BLE001 - nothing of this process may go on as a template
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    finally:
        os._exit(processes.SPEECHLESS)  # cell.main does not return


def rehearse(shell: CellShell, enough: Callable[[], bool] = lambda: False) -> None:
    """Do what a cell does, and leave no trace but pages that are copied.

    Parameters
    ----------
    shell : CellShell
    enough : callable
        Whether to leave out what is left; asked between two parts.
    """
    streams = sys.stdout, sys.stderr
    sys.stdout = sys.stderr = io.StringIO()
    try:
        for part in (_run, _take, _surround, _collect):
            if enough():
                break
            part(shell)
    finally:
        sys.stdout, sys.stderr = streams


def _run(shell: CellShell) -> None:
    # Silent: no history, no count, no result.
    code = "import sys\nfor _rehearsed in range(2): print(1 + 1)"
    running.run_in_loop(shell, code, silent=True)[1].close()
    for name in ("sys", "_rehearsed"):
        shell.user_ns.pop(name, None)


def _take(shell: CellShell) -> None:
    JobSpec.from_message(unpack(_SPEC))
    surroundings.freshen()


def _surround(shell: CellShell) -> None:
    for early in (True, False):
        surroundings.write(surroundings.read(shell, early), shell)


def _collect(shell: CellShell) -> None:
    restored = restore(_NOTHING, {})
    surroundings.changes({}, shell)
    surroundings.environment()
    collect(restored)


def _take_descriptors(fds: CellFds, messages: int) -> None:
    """Put what came where it belongs; the task stays where it is."""
    null = os.open(os.devnull, os.O_RDONLY)
    for fd, standard in ((null, 0), (fds.stdout, 1), (fds.stderr, 2)):
        os.dup2(fd, standard)
        os.close(fd)
    os.dup2(fds.messages, messages, inheritable=False)
    os.close(fds.messages)
    os.close(fds.status)  # the template's
