"""Advice: what may help where the system refuses a file, by the error that it gives."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

_NO_FILES = (errno.EMFILE, errno.ENFILE)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)


def advice(error: OSError, folder: Path | str) -> str:
    """Say what may help, in a sentence or two; in the process that met the error.

    Parameters
    ----------
    error : OSError
    folder : Path or str
        Where files were to be written, or read.
    """
    match error.errno:
        case errno.EMFILE:
            return too_many_files()
        case errno.ENFILE:
            return "The machine has as many files open as it may: end something that holds many."
        case errno.EFBIG:
            return "The limit on the size of files is too low (ulimit -f)."
        case number if number in _GONE and not Path(folder).is_dir():
            return gone(folder)
        case number if number in _REFUSED:
            return f"Can {folder} be written to?"
        case number if number in _NO_ROOM:
            return "Make room on its disk."
    return "Is there space left on its disk, and can it be written to?"


def out_of_files(wanted: int = 1) -> str:
    """Say that this process cannot open so many more files, and what to do; empty if it can."""
    opened: list[int] = []
    try:
        opened.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(wanted - 1):
            opened.append(os.dup(opened[0]))
    except OSError as error:
        if error.errno in _NO_FILES:
            return advice(error, os.devnull)
    finally:
        for fd in opened:
            os.close(fd)
    return ""


def too_many_files() -> str:
    """Say so of this process, and what to do."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = "without limit" if hard == resource.RLIM_INFINITY else f"up to {hard}"
    return (
        f"Process {os.getpid()} has as many files open as it may ({soft}): close some, or start "
        f"it where the limit is higher (ulimit -n, {most} here)."
    )


def gone(folder: Path | str) -> str:
    """Say what to do about a folder that somebody moved or removed while it was in use."""
    return (
        f"The folder {folder} was moved or removed meanwhile: put it back, or stop the server "
        "and start it again."
    )
