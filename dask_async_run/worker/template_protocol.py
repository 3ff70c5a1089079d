"""What a worker and its template process say to each other."""

from __future__ import annotations

import array
import errno
import json
import os
import socket
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from dask_async_run.advice import too_many_files

_FDS = 5


@dataclass(frozen=True, slots=True)
class CellFds:
    """The file descriptors that a cell process gets.

    `task` is a file that holds the cell's task, `stdout` and `stderr` the writing ends
    of its pipes, `messages` its end of the message socket. Into `status` the template
    writes the lines ``pid N`` and, when the process and all that it started is gone,
    ``exit STATUS``; before, ``full ERRNO`` if the system has no room for a process, and instead
    of both ``none ERRNO`` if it had none until the end. If it is closed without an end, the
    template died.
    """

    task: int
    stdout: int
    stderr: int
    messages: int
    status: int

    def close(self) -> None:
        for fd in astuple(self):
            os.close(fd)


def send_request(sock: socket.socket, request: dict[str, Any], fds: CellFds | None = None) -> None:
    """Send a request for a cell; it holds what `TemplateHandle.fork` says."""
    body = json.dumps(request).encode()
    packed = len(body).to_bytes(4, "big") + body
    sent = socket.send_fds(sock, [packed], list(astuple(fds))) if fds else sock.send(packed)
    if sent < len(packed):
        sock.sendall(packed[sent:])


def receive_request(sock: socket.socket) -> tuple[dict[str, Any], CellFds | None] | None:
    """Wait for a request; None when the worker is gone.

    Raises
    ------
    OSError
        This process has as many files open as it may: those of the request are lost.
    """
    fds = array.array("i")
    # Descriptors come with the first byte of the request that they were sent with.
    head, ancillary, flags, _ = sock.recvmsg(4, socket.CMSG_LEN(_FDS * fds.itemsize))
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    rest = _receive(sock, 4 - len(head)) if head else None
    if rest is None:
        return None
    body = _receive(sock, int.from_bytes(head + rest, "big"))
    if flags & socket.MSG_CTRUNC:  # descriptors for which there is no room are left out
        raise OSError(errno.EMFILE, f"{os.strerror(errno.EMFILE)}. {too_many_files()}")
    return None if body is None else (json.loads(body), CellFds(*fds) if fds else None)


def _receive(sock: socket.socket, size: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < size:
        part = sock.recv(size - len(parts))
        if not part:
            return None
        parts += part
    return bytes(parts)


def bootstrap(paths: list[str], fd: int) -> str:
    """Return the program that is a template: this process's import path, then `fd`."""
    here = str(Path(__file__).parent.parent.parent)
    return (
        "import sys\n"
        f"sys.path.extend(p for p in {[p for p in paths if p] + [here]!r} if p not in sys.path)\n"
        "from dask_async_run.worker.template import main\n"
        f"main({fd})\n"
    )
