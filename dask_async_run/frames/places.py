"""Places: where the frames of a store lie, in memory at first, and in its folder.

What is found out here holds for a moment only: other processes write and discard, and a
frame comes from one place to the other.
"""

from __future__ import annotations

import os
import re
import stat
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

from dask_async_run import recycling
from dask_async_run.errors import FrameError
from dask_async_run.frames.names import is_name
from dask_async_run.marks import Marks
from dask_async_run.memory import NOTE, Memory, available
from dask_async_run.settling import PART, TRASH, bring, empty_trash, let_go, throw_away

READ = os.O_RDONLY | os.O_NOFOLLOW | getattr(os, "O_NOATIME", 0)
"""Reading is no use: the time of a file's last access is when it was last put."""

_STALE = 3600.0  # seconds after which an unfinished file is nobody's any more
_NEW = 10.0  # seconds for which one may be about to be opened, or named
_ATTEMPTS = 3  # to open a file that somebody puts in the place of another one
_PART = re.compile(rf"[0-9a-f]{{32}}{re.escape(PART)}")


class Places:
    """The folders of one store; safe to use from several threads.

    Parameters
    ----------
    folder : Path
        The store's, as for `FrameStore`.
    marks : Marks
        Which files are known to be whole.

    Raises
    ------
    PermissionError
        As `FrameStore`.
    """

    def __init__(self, folder: Path, marks: Marks) -> None:
        self.folder = Path(folder)
        self._make()
        self._marks = marks
        self._memory: Memory | None = None
        self._noted: tuple[int, int] | None = None  # which note of it was read
        self.check()

    def _make(self) -> None:
        # mkdir's mode does not reach the parents that it makes.
        self.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.mkdir(mode=0o700, exist_ok=True)

    def make_anew(self) -> None:
        """As `FrameStore.make_anew`."""
        self._make()
        if self._memory is not None:
            self._memory.note()

    # -- where they are ---------------------------------------------------------------

    def memory(self) -> Memory | None:
        """Answer the memory that is noted now: the next server has another one."""
        try:
            status = (self.folder / NOTE).stat()
        except OSError:
            return None
        noted = status.st_ino, status.st_mtime_ns
        if noted != self._noted:
            self._memory, self._noted = Memory.of(self.folder), noted
        return self._memory

    def folders(self) -> list[Path]:
        """Answer where frames lie: in this order, so that one on its way is not missed."""
        memory = self.memory()
        return [*([memory.folder] if memory is not None else []), self.folder]

    def path(self, digest: str) -> Path:
        """As `FrameStore.path`."""
        if not is_name(digest):
            raise FrameError(digest, "has a name that no frame can have")
        return self.folder / digest

    def of(self, digest: str) -> list[Path]:
        """Answer where a frame may lie, in the order in which it is to be looked for."""
        name = self.path(digest).name
        return [folder / name for folder in self.folders()]

    def is_on_disk(self, path: Path) -> bool:
        """Whether it is the place of a frame that is not in memory."""
        return path.parent == self.folder

    def __iter__(self) -> Iterator[str]:
        """Digests of all frames, in no order."""
        found: set[str] = set()
        # In this order: what is brought from one to the other meanwhile is in one of them.
        for folder in self.folders():
            with suppress(FileNotFoundError):  # memory that has ended
                found.update(e.name for e in os.scandir(folder) if is_name(e.name))
        return iter(found)

    def opened(self, digest: str, size: int) -> int:
        """Open a frame's file for reading, as `raw`; one that this user owns, of that size.

        Raises
        ------
        FrameError
            It is missing, no file, or not as long.
        PermissionError
            It is not this user's.
        """
        self.check()
        path = self.path(digest)
        try:
            descriptor = self.raw(digest)
        except PermissionError as error:
            raise PermissionError(
                f"{path} is not read: it belongs to another user, or is closed to this one"
            ) from error
        except OSError as error:  # a link, for one
            raise FrameError(digest, f"cannot be opened: {error}") from error
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise FrameError(digest, f"is not a file: {path}")
            if status.st_uid != os.geteuid():
                raise PermissionError(f"{path} belongs to another user and is not read")
            if status.st_size != size:
                raise FrameError(
                    digest, f"is damaged: {path} has {status.st_size} bytes instead of {size}"
                )
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def raw(self, digest: str) -> int:
        """As `FrameStore.opened`."""
        for path in [path for path in self.of(digest) for _ in range(_ATTEMPTS)]:
            with suppress(FileNotFoundError):
                descriptor = os.open(path, READ)
                if self.is_on_disk(path) or recycling.is_named(descriptor, path):
                    return descriptor
                os.close(descriptor)  # it is not in memory any more
        raise FrameError(digest, f"is missing from {self.folder}")

    def check(self) -> None:
        """Check that the folders are this user's alone, as `FrameStore` says."""
        check_private(self.folder)
        if memory := self.memory():
            with suppress(FileNotFoundError):  # it has ended
                check_private(memory.folder)

    # -- unfinished files -------------------------------------------------------------

    def room(self, size: int, beside: int = 0) -> Path:
        """Answer the folder where a frame is written to: in memory, if it is to lie there.

        `beside` are bytes of others that are about to be written there.
        """
        memory = self.memory()
        if memory is None or not memory.is_for(size, beside):
            return self.folder
        check_private(memory.folder)
        return memory.folder

    def new(self, folder: Path, size: int) -> tuple[Path, int]:
        """Make an unfinished file in one of the folders; the caller closes the descriptor."""
        part = folder / f"{uuid.uuid4().hex}{PART}"
        descriptor = recycling.take(part, size) if folder != self.folder else None
        if descriptor is None:
            # O_EXCL: a name that exists, as a link that somebody planted, is not followed.
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        return part, descriptor

    def unfinished(self, name: str) -> list[Path]:
        """Answer where an unfinished file of `new` may be.

        Raises
        ------
        FrameError
            None can be called so.
        """
        if not _PART.fullmatch(name):  # it comes from another process
            raise FrameError(name, "has a name that no unfinished frame can have")
        return [folder / name for folder in self.folders()]

    def sweep(self) -> None:
        """Unlink what writers that were killed left behind, and the trash."""
        for folder in self.folders():
            _sweep(folder)
        self.empty_trash()

    # -- from memory to the folder ----------------------------------------------------

    def in_memory(self) -> list[tuple[str, float]]:
        """Answer the frames that lie in memory, and since when, the oldest first."""
        found = []
        if memory := self.memory():
            with suppress(FileNotFoundError):
                for entry in os.scandir(memory.folder):
                    if is_name(entry.name):
                        found.append((entry.name, entry.stat().st_mtime))
        return sorted(found, key=lambda each: each[1])

    def settle(self, digest: str) -> bool:
        """As `FrameStore.settle`; whether somebody has used it meanwhile."""
        memory = self.memory()
        if memory is None:
            return False
        path = self.path(digest)
        return bring(memory.folder / path.name, path, self._marks)

    def end_memory(self) -> bool:
        """End the memory, in which no frames lie any more; whether it has ended."""
        memory = self.memory()
        if memory is None:
            return True
        empty_trash(memory.folder)
        recycling.end(memory.folder)
        _sweep(memory.folder)
        with suppress(OSError):
            (memory.folder / TRASH).rmdir()
        return memory.end()

    def trim(self) -> float | None:
        """Give back memory that is kept for the next frames; as `recycling.trim`."""
        memory = self.memory()
        return recycling.trim(memory.folder) if memory is not None else None

    # -- away -------------------------------------------------------------------------

    def discard(self, digests: Iterable[str]) -> None:
        """As `FrameStore.discard`."""
        left = cache(available)  # of many it is not asked each time
        for digest in digests:
            for path in self.of(digest):
                with suppress(FileNotFoundError):
                    throw_away(path) if self.is_on_disk(path) else let_go(path, left)

    def empty_trash(self) -> None:
        """Unlink what `discard` took away."""
        for folder in self.folders():
            empty_trash(folder)


def check_private(folder: Path) -> None:
    """Check that a folder is one, this user's, and that nobody else writes to it.

    Raises
    ------
    PermissionError
    """
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise PermissionError(f"{folder} is not a folder: nothing is loaded from it")
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise PermissionError(
            f"others can write to {folder} (owner {status.st_uid}, mode "
            f"{stat.S_IMODE(status.st_mode):04o}): nothing is loaded from it. Give it mode "
            "0700, or choose another folder."
        )


def _sweep(folder: Path) -> None:
    """Unlink unfinished files that nobody writes any more.

    Who wanted what a snapshot has written finds it missing, and reads it there.
    """
    for path in folder.glob(f"*{PART}"):
        with suppress(OSError):
            age = time.time() - path.stat().st_mtime
            if age > _STALE or (age > _NEW and recycling.is_unused(path)):
                path.unlink()
