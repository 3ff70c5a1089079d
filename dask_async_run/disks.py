"""Disks: whether the file system of a folder takes many bytes at once, at the speed of memory.

A local one does: the system keeps what is written in its cache and brings it to the disk later.
Until too much waits there: then who writes waits too, and a gigabyte takes as long as the
disk needs for it. A network's file system may make its writer wait when a file is closed.
"""

from __future__ import annotations

import mmap
import os
from functools import cache
from pathlib import Path

_NETWORK = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3"}
)


def takes_at_once(folder: Path, size: int) -> bool:
    """Whether so many bytes can be written to a folder without waiting for a disk.

    True also where the system tells nothing of it.
    """
    return _is_local(os.fspath(folder)) and not is_behind(size)


def is_behind(more: int = 0) -> bool:
    """Whether so much waits to be written to disks that those who write are slowed down, soon."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
        facts = dict(line.split() for line in lines if line.startswith(("nr_dirty", "nr_writeb")))
        waiting = int(facts["nr_dirty"]) + int(facts["nr_writeback"])
        # From there on the system writes, and beyond a multiple of it everybody waits for it.
        limit = int(facts["nr_dirty_background_threshold"])
    except (OSError, KeyError, ValueError):
        return False
    return waiting * mmap.PAGESIZE + more > limit * mmap.PAGESIZE


@cache
def _is_local(folder: str) -> bool:
    """Whether a folder's file system is on this machine; true if nobody tells."""
    try:
        device = Path(folder).stat().st_dev
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return True
    here = f"{os.major(device)}:{os.minor(device)}"
    for line in lines:
        mount, _, kind = line.partition(" - ")
        if mount.split()[2] == here:
            name = kind.split()[0]
            return name not in _NETWORK and not name.startswith("fuse.")
    return True
