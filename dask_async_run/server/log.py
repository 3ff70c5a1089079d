"""The log file of a detached server: opened, kept from growing, quoted in errors."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from pathlib import Path

from dask_async_run.errors import ServerError

LARGEST = 8 << 20
"""Bytes after which the log becomes ``server.log.1`` and starts again."""


def path(state_folder: Path) -> Path:
    return state_folder / "server.log"


def open_log(state_folder: Path) -> int:
    """Open the log for appending; returns a file descriptor.

    Appending is what lets the server and its workers share the file, and
    `trim` empty it under them.

    Raises
    ------
    ServerError
        It cannot be opened: it is a folder, or a link.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path(state_folder), flags, 0o600)
    except OSError as error:
        raise ServerError(
            f"the log {path(state_folder)} cannot be opened: {error.strerror or error}. Make room, "
            "or move it away, and try again."
        ) from error


def make_anew(state_folder: Path) -> None:
    """Write to a log again where the one that this process writes to was deleted.

    Its workers have that one for as long as they live.
    """
    now = os.fstat(2)
    if stat.S_ISREG(now.st_mode) and not now.st_nlink:
        fd = open_log(state_folder)
        for stream in (1, 2):
            os.dup2(fd, stream)
        os.close(fd)


def trim(state_folder: Path) -> None:
    """Move what the log holds to ``server.log.1`` once it is larger than `LARGEST`."""
    log = path(state_folder)
    with contextlib.suppress(OSError):
        if log.stat().st_size > LARGEST:
            older = log.with_name(log.name + ".1")
            shutil.copy(log, older)  # the mode too
            os.truncate(log, 0)


def size(state_folder: Path) -> int:
    try:
        return path(state_folder).stat().st_size
    except FileNotFoundError:
        return 0


def last_lines(state_folder: Path, since: int, count: int = 12) -> str:
    """The last `count` lines that were written after the file had `since` bytes."""
    try:
        with path(state_folder).open("rb") as stream:
            end = stream.seek(0, os.SEEK_END)
            stream.seek(max(since, end - 65536) if since <= end else 0)
            text = stream.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.rstrip().splitlines()[-count:])
