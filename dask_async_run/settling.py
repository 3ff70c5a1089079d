"""Settling: a frame that was written to memory comes to the disk.

At every moment it is found in one of the two places, by those who look in memory first:

    copied to a file aside, synced -> renamed to its place -> thrown away in memory

Who marks it as used (see `frames.FrameStore.use`) does so where he finds it, so the time of
last use goes along, and a use during the copying is told. Who has mapped it keeps what he has.
Of one that was discarded meanwhile a copy comes to the disk that nobody names; the collector
finds it some time.
"""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from dask_async_run.marks import Marks
from dask_async_run.memory import available
from dask_async_run.recycling import is_named, keep

PART = ".part"
"""How the names of files end that are not complete frames yet."""

TRASH = ".trash"
"""In a folder: files that were thrown away."""

_AT_ONCE = 64 * 1024 * 1024  # bytes
_READ = os.O_RDONLY | os.O_NOFOLLOW | getattr(os, "O_NOATIME", 0)


def bring(there: Path, path: Path, marks: Marks) -> bool:
    """Bring a complete file to another file system, synced but for its name; any thread.

    Parameters
    ----------
    there, path : Path
        Where it is, and where it belongs. If it is not there, nothing is done.
    marks : Marks
        Whether it is known to be whole goes along.

    Returns
    -------
    bool
        Whether somebody marked it as used meanwhile: it has to be marked again.

    Raises
    ------
    OSError
        There is no room, or a disk is out of order; it stays where it was.
    """
    try:
        source = os.open(there, _READ)
    except FileNotFoundError:
        return False
    try:
        before = os.fstat(source)
        if not is_named(source, there):
            return False  # it was discarded, and may be written to
        part = path.parent / f"{uuid.uuid4().hex}{PART}"
        try:
            _copy(source, part, before, marks)
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        with suppress(FileNotFoundError):
            let_go(there)
        return os.fstat(source).st_atime_ns != before.st_atime_ns
    finally:
        os.close(source)


def _copy(source: int, part: Path, like: os.stat_result, marks: Marks) -> None:
    target = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        left = like.st_size
        while left:
            done = os.sendfile(target, source, like.st_size - left, min(left, _AT_ONCE))
            if not done:
                raise OSError(errno.EIO, f"{part} cannot be written completely")
            left -= done
        os.utime(target, ns=(like.st_atime_ns, like.st_mtime_ns))
        if marks.has(source):
            marks.note(target, marks.word(target))
        os.fsync(target)
    finally:
        os.close(target)


def let_go(path: Path, available: Callable[[], int] = available) -> None:
    """Rename a file in memory so that nobody finds it: what it takes is recycled, or trash.

    `available` is as of `recycling.keep`.
    """
    if not keep(path, available):
        throw_away(path)


def throw_away(path: Path) -> None:
    """Rename a file so that nobody finds it; `empty_trash` unlinks it.

    Unlinking a file of several GB takes a while, renaming it does not.
    """
    trash = path.parent / TRASH
    trash.mkdir(mode=0o700, exist_ok=True)
    path.rename(trash / uuid.uuid4().hex)


def empty_trash(folder: Path) -> None:
    """Unlink what was thrown away in a folder."""
    with suppress(FileNotFoundError):
        for path in (folder / TRASH).iterdir():
            path.unlink(missing_ok=True)
