"""Marks of whole files: their content was compared with their name, and nobody wrote since.

Reading a file of a gigabyte takes a hundred times as long as mapping it. So what was found
out once by reading is noted with the file itself (an extended attribute; where there are
none, in this process), in a word that another writing, another file, or a restart of the
machine makes untrue.

What this finds: all that happens to a file by way of the system's calls, and all that the
disk gives back changed after a restart. What it cannot find: bits that change in memory or
on the disk, without anybody writing, between the comparison and the next restart.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from pathlib import Path

_ATTRIBUTE = "user.dask_async_run.whole"


class Marks:
    """What this process knows of whole files; safe to use from several threads."""

    def __init__(self) -> None:
        self._here: dict[tuple[int, int], str] = {}

    def word(self, descriptor: int) -> str:
        """Answer what to `note` of an open file, before it is read or after it was written."""
        status = os.fstat(descriptor)
        return f"{_boot()} {status.st_ino} {status.st_mtime_ns}"

    def note(self, descriptor: int, word: str) -> None:
        """Note that a file is whole, as it was when `word` was asked for."""
        if _boot() and hasattr(os, "setxattr"):
            with suppress(OSError):
                os.setxattr(descriptor, _ATTRIBUTE, word.encode())
                return
        self._here[_identity(descriptor)] = word

    def has(self, descriptor: int) -> bool:
        """Whether an open file is noted as whole, and still as it was then."""
        word = self.word(descriptor)
        if self._here.get(_identity(descriptor)) == word:
            return True
        if _boot() and hasattr(os, "getxattr"):
            with suppress(OSError):
                return os.getxattr(descriptor, _ATTRIBUTE) == word.encode()
        return False


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


@cache
def _boot() -> str:
    """What tells this run of the machine from others; empty where nothing does."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
