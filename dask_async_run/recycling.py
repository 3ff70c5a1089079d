"""Recycling: the memory of files that are not needed any more is written to again.

Where a machine is virtual, the dearest thing is memory that nobody has had yet: the system has to
get each page from its host, or at least to clear it. A file in shared memory that would be unlinked
has such pages already. It is kept aside for a while, for the next who writes a large one there::

    unlinked by name: kept aside -> taken, by renaming -> nobody has it open, or mapped? -> written
                      or -> unlinked, when its time is over or memory runs short

A mapped file must not be written to, since those who have mapped it would see that. The system
knows whether anybody has a file open or mapped, and tells who asks for a lease to write to it; it
counts all processes, also of other containers. Where it has no leases nothing is recycled.

Who opens a file by its name may be held up between finding and having it, and have another file
then than he had found, or the same one with another content. So he looks whether the file still
has its name when he has it open (`is_named`): from then on it has no lease for anybody else.
"""

from __future__ import annotations

import os
import signal
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from dask_async_run.memory import available

FOLDER = ".spare"
"""In a folder of files: those that are kept aside."""

ENOUGH = 16 * 1024 * 1024
"""Bytes from which on a file is kept."""

KEEP = 120.0
"""Seconds for which it is."""

PART = 8
"""Together they take one such part of the memory that is left at most."""

_CLOCK = 1.0  # seconds by which times may differ without a clock having been set

LOOK_AGAIN = 1.0
"""Seconds after which it is looked whether there is still so much memory."""

_OPEN = os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0)


def keep(path: Path, available: Callable[[], int] = available) -> bool:
    """Keep a file aside that is to be unlinked; whether that was done.

    Parameters
    ----------
    path : Path
        In shared memory. Who has it open or mapped keeps what he has.
    available : callable
        Answers how many bytes of memory are left for this process.

    Raises
    ------
    FileNotFoundError
    """
    size = path.stat().st_size
    if size < ENOUGH or not _has_leases():
        return False
    aside = path.parent / FOLDER
    kept = sum(status.st_size for _, status in _files(aside))
    left = available()
    if kept + size > (left + kept) // PART:
        return False
    aside.mkdir(mode=0o700, exist_ok=True)
    path.rename(aside / f"{time.time():.3f} {uuid.uuid4().hex}")
    return True


def take(part: Path, size: int) -> int | None:
    """Take a file that was kept aside in the folder of `part`, to be written to from its beginning.

    Parameters
    ----------
    part : Path
        Which name it gets.
    size : int
        Bytes that will be written.

    Returns
    -------
    int or None
        A descriptor, open for writing, of a file of any content that is at most `size` bytes
        long; None: there is none of about that size, or somebody uses them.
    """
    if size < ENOUGH:
        return None
    files = _files(part.parent / FOLDER)
    # One that is long enough, but no longer than need be; else the longest one.
    for path, status in sorted(files, key=lambda each: _order(each[1].st_size, size)):
        if status.st_size < size // 2:
            return None
        with suppress(OSError):
            path.rename(part)  # nobody else has it now
            if (descriptor := _unused(part)) is not None:
                os.ftruncate(descriptor, min(size, status.st_size))
                return descriptor
            part.rename(path)
    return None


def trim(folder: Path, available: Callable[[], int] = available) -> float | None:
    """Unlink what was kept aside for long enough in a folder, or is too much; see `keep`.

    Returns
    -------
    float or None
        Seconds after which to look again; None: nothing is kept.
    """
    files = sorted(_files(folder / FOLDER), key=lambda each: _since(each[0]))
    if not files:
        return None
    kept, left = sum(status.st_size for _, status in files), available()
    pause = None
    for path, status in files:
        over = _since(path) + KEEP - time.time()
        if not 0 < over <= KEEP + _CLOCK or kept > (left + kept) // PART:
            path.unlink(missing_ok=True)
            kept, left = kept - status.st_size, left + status.st_size
        else:
            pause = min(over, LOOK_AGAIN)
    return pause


def end(folder: Path) -> None:
    """Unlink all that is kept aside in a folder."""
    for path, _ in _files(folder / FOLDER):
        path.unlink(missing_ok=True)
    with suppress(OSError):
        (folder / FOLDER).rmdir()


def is_unused(path: Path) -> bool:
    """Whether nobody has a file open or mapped; false where the system does not tell.

    Raises
    ------
    OSError
    """
    descriptor = _unused(path) if _has_leases() else None
    if descriptor is None:
        return False
    os.close(descriptor)
    return True


def is_named(descriptor: int, path: Path) -> bool:
    """Whether an open file has that name: if not, it is recycled, or may be."""
    mine = os.fstat(descriptor)
    try:
        named = path.lstat()
    except FileNotFoundError:
        return False
    return os.path.samestat(mine, named)


def _files(aside: Path) -> Iterator[tuple[Path, os.stat_result]]:
    with suppress(FileNotFoundError):
        for entry in os.scandir(aside):
            with suppress(FileNotFoundError):  # taken meanwhile
                yield Path(entry.path), entry.stat(follow_symlinks=False)


def _since(path: Path) -> float:
    try:
        return float(path.name.partition(" ")[0])
    except ValueError:
        return 0.0


def _order(has: int, size: int) -> tuple[bool, int]:
    return has < size, abs(has - size)


def _has_leases() -> bool:
    try:
        import fcntl
    except ImportError:
        return False
    return hasattr(fcntl, "F_SETLEASE") and hasattr(fcntl, "F_SETSIG")


def _unused(path: Path) -> int | None:
    """Open a file for writing, if this user's and nobody else has it open or mapped."""
    import fcntl

    descriptor = os.open(path, _OPEN)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
            # Somebody who opens it just now makes the system send this process a signal, which
            # would end it; this one does not.
            fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            return descriptor
    except OSError:  # it is used, or this file system has no leases
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None
