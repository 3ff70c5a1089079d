"""Memory: where large frames lie until they are on the disk.

A disk may take seconds for a gigabyte, even where nothing waits for it to be synced and nothing
else is written; shared memory takes a fraction. Both survive the death of every process, and only
the disk survives a restart of the machine. So a server has a folder of its own in shared memory,
to which who puts a large frame writes it; its saver brings it to the frames' folder soon
(`dask_async_run.scheduler.saver`), and takes it away from here. A frame that is found in neither is
nowhere, since it is looked for here first. What it took is used again: see `recycling`.

The frames' folder has a note that says where this folder is, so that nobody needs to be told: a
kernel, a worker, a cell, the command without a server. This one says whose it is. What a
killed server left is taken up by the next one; what nobody can take up, since the frames'
folder was removed, is removed when some server starts. But containers may share this memory
and not the disk: what one of them has is not another's to miss.

The price: a frame takes memory that cannot be had back while it waits for the disk. So it only
goes here where it takes a small part of what there is.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from dask_async_run.disks import is_behind

VARIABLE = "DASK_ASYNC_RUN_MEMORY"
"""Environment variable: in which folder servers make theirs; empty: nowhere."""

DEFAULT = Path("/dev/shm")

LARGE = 1024 * 1024
"""Bytes from which on a frame is brought here: a disk takes what is smaller at once, too."""

PART = 4
"""A frame may take one such part of the memory that is left."""

NOTE, HOME = ".memory", "home"
_PREFIX = "dask-async-run-"
_YOUNG = 60.0  # seconds in which a server that makes a folder has noted it
_STALE = 7 * 86400.0  # seconds after which nobody misses what lies in another container's folder


class Memory:
    """A folder in shared memory, of one folder of frames.

    Parameters
    ----------
    folder : Path
        Of mode 0700, and this user's.
    home : Path
        The folder of frames.
    """

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self.home = home

    @classmethod
    def of(cls, home: Path) -> Memory | None:
        """Find the one that belongs to a folder of frames, from what is noted there.

        Returns
        -------
        Memory or None
            None: it has none, or one that this process does not see.
        """
        try:
            folder = Path((home / NOTE).read_text())
        except OSError:
            return None
        return cls(folder, home) if _belongs(folder, home) else None

    @classmethod
    def make(cls, home: Path) -> Memory | None:
        """Find or make the one of a folder of frames; for the only server that has that folder.

        Returns
        -------
        Memory or None
            None: there is no shared memory here, it is not wanted, or the frames are in memory
            as it is.
        """
        top = os.environ.get(VARIABLE, str(DEFAULT))
        if found := cls.of(home):
            return found
        with suppress(OSError):
            (home / NOTE).unlink(missing_ok=True)  # of one that is gone with the machine's memory
            if not sys.platform.startswith("linux"):
                return None  # nor is there a call that copies files
            if top and Path(top).stat().st_dev != home.stat().st_dev:
                _tidy(Path(top))
                folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=top))
                _tell(folder, home)
                memory = cls(folder, home)
                memory.note()
                return memory
        return None

    def note(self) -> None:
        """Note in the folder of frames where this one is."""
        (self.home / NOTE).write_text(str(self.folder))

    def is_for(self, size: int, taken: int = 0) -> bool:
        """Whether a frame of some bytes is to be written here.

        Parameters
        ----------
        size : int
        taken : int
            Bytes that others are about to take, who have not written them yet.
        """
        if size < LARGE or os.environ.get(VARIABLE) == "":
            return False
        try:
            status = os.statvfs(self.folder)
        except OSError:
            return False  # it has ended
        left = min(status.f_bavail * status.f_frsize, available()) - taken
        return size <= left // PART

    def end(self) -> bool:
        """Remove the folder, if nothing is in it; whether it is gone."""
        try:
            (self.folder / HOME).unlink()
            self.folder.rmdir()
        except OSError:  # somebody is writing a frame
            with suppress(OSError):
                _tell(self.folder, self.home)
            return False
        (self.home / NOTE).unlink(missing_ok=True)
        return True


def is_in_no_hurry() -> bool:
    """Whether what lies in memory had better wait for the disk, which has much to write."""
    return VARIABLE not in os.environ and is_behind()


def is_hidden(home: Path) -> bool:
    """Whether a folder of frames has one in memory that this process does not see."""
    return (home / NOTE).exists() and Memory.of(home) is None


def available() -> int:
    """Answer how many bytes of memory there are for this process, in a container too."""
    left = [limit - used for limit, used in _groups()]
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                left.append(int(line.split()[1]) * 1024)
    return max(0, min(left, default=0))


def _groups() -> list[tuple[int, int]]:
    """Answer limit and use of each control group that this process is in and that has a limit."""
    found = []
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds not in ("", "memory"):
            continue
        top = Path("/sys/fs/cgroup") / kinds
        names = ("limit_in_bytes", "usage_in_bytes") if kinds else ("max", "current")
        folder = top / path.lstrip("/")
        # A container sees its own group as the top one, whatever its path is said to be.
        for each in {top, *(p for p in (folder, *folder.parents) if p.is_relative_to(top))}:
            with suppress(OSError, ValueError):  # no limit: "max"
                limit, used = (int((each / f"memory.{name}").read_text()) for name in names)
                found.append((limit, used - _cached(each)))
    return found


def _cached(group: Path) -> int:
    """Bytes of files that a control group holds, and gives back when it needs them."""
    for line in (group / "memory.stat").read_text().splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file"):
            return int(value)
    return 0


def _belongs(folder: Path, home: Path) -> bool:
    try:
        status = folder.lstat()
        return (
            stat.S_ISDIR(status.st_mode)
            and status.st_uid == os.geteuid()
            and not status.st_mode & 0o077
            and _told(folder)[0] == str(home)
        )
    except OSError:
        return False


def _tell(folder: Path, home: Path) -> None:
    (folder / HOME).write_text(f"{home}\n{_view()}")


def _told(folder: Path) -> tuple[str, str]:
    """Whose a folder is, and who says so: the path of a folder of frames, and in which view."""
    home, _, view = (folder / HOME).read_text().rpartition("\n")
    return home, view


def _view() -> str:
    """What tells those who find the same files under the same paths from others."""
    try:
        return Path("/proc/self/ns/mnt").readlink().name
    except OSError:
        return ""


def _tidy(top: Path) -> None:
    """Remove this user's folders whose frames' folders were removed."""
    for folder in top.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            status = folder.lstat()
            if (
                stat.S_ISDIR(status.st_mode)
                and status.st_uid == os.geteuid()
                and not _is_noted(folder, time.time() - status.st_mtime)
            ):
                shutil.rmtree(folder, ignore_errors=True)


def _is_noted(folder: Path, age: float) -> bool:
    """Whether the frames' folder that a folder says it is of may say so, too."""
    try:
        home, view = _told(folder)
        if age < (_YOUNG if view == _view() else _STALE):
            return True
        return (Path(home) / NOTE).read_text() == str(folder)
    except FileNotFoundError:
        return age < _YOUNG
    except OSError:
        return True  # a file server that does not answer now
