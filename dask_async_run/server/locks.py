"""Advisory locks on files: who may start a server, and whether one lives.

``flock`` belongs to the open file: the kernel drops it with its holder's last
breath, be it by ``kill -9`` or by a power cut. So nothing here ever goes stale,
and no pid has to be believed. What is written into a locked file is a hint only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

from dask_async_run.errors import ServerError

try:
    import fcntl
except ImportError:  # Windows; `launch` and the command say so before a lock is needed
    fcntl = None  # type: ignore[assignment]

_POLL = 0.02


class Lock:
    """An exclusive lock on a file, held from `acquire` until `release` or death.

    Parameters
    ----------
    path : Path
        The file; made with mode 0600, never removed (a lock on an unlinked file
        excludes nobody).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def acquire(self, timeout: float = 0.0) -> bool:
        """Take the lock; False if somebody else still holds it after `timeout` s.

        Raises
        ------
        ServerError
            The file system refuses locks, or the file cannot be opened.
        """
        deadline = time.monotonic() + timeout
        while True:
            fd = _open(self.path, os.O_RDWR | os.O_CREAT)
            if _flock(fd, self.path, shared=False):
                # Somebody may have emptied the folder between open and flock: then
                # this is a lock on a file that nobody else will ever find.
                if _same_file(fd, self.path):
                    self._fd = fd
                    return True
                os.close(fd)
                continue
            os.close(fd)
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL)

    def write(self, text: str) -> None:
        """Replace the file's content: a hint for people and for `holder`."""
        assert self._fd is not None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, text.encode(), 0)

    def in_place(self) -> bool:
        """Whether the locked file is still the one that others find at its path."""
        return self._fd is not None and _same_file(self._fd, self.path)

    def release(self) -> None:
        """Give the lock back; harmless if it is not held."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


@contextlib.contextmanager
def locked(path: Path, timeout: float, waiting_for: str) -> Iterator[Lock]:
    """Hold the lock on `path` inside a with block.

    Raises
    ------
    ServerError
        It was not to be had within `timeout` seconds; the text says `waiting_for`.
    """
    lock = Lock(path)
    if not lock.acquire(timeout):
        raise ServerError(
            f"waited {timeout:.0f} s for {waiting_for} (lock {path}). Try again, or look for "
            "the process that hangs."
        )
    try:
        yield lock
    finally:
        lock.release()


def held(path: Path) -> bool:
    """Whether a living process holds the lock on `path`.

    A shared lock is taken for a moment: who acquires at that very moment has to
    try again, which `Lock.acquire` does until its deadline.
    """
    try:
        fd = _open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _flock(fd, path, shared=True)
    finally:
        os.close(fd)


def holder(path: Path) -> int | None:
    """Pid of the process that holds the lock on `path`, or None.

    The pid that the holder wrote into the file is only believed if that process has
    the file open: a pid that was reused since has not.
    """
    import psutil  # here: only who wants to end a process needs it

    if not held(path):
        return None
    with contextlib.suppress(OSError, ValueError, psutil.Error):
        pid = int(path.read_text().split()[0])
        if any(Path(f.path) == path.resolve() for f in psutil.Process(pid).open_files()):
            return pid
    return None


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ServerError(
            f"the lock file {path} cannot be opened: {error.strerror or error}."
        ) from error


def _flock(fd: int, path: Path, *, shared: bool) -> bool:
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        os.close(fd)
        raise ServerError(
            f"the file system of {path} refuses locks: {error.strerror}. Choose another one with "
            "DASK_ASYNC_RUN_RUNTIME and DASK_ASYNC_RUN_STATE."
        ) from error
    return True


def _same_file(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False
