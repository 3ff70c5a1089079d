"""What handing over a cell's result needs of what the cell can use up."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path

_SPARE_FILES = 8


class Reserve:
    """What handing over the result needs, of what a cell can use up.

    So that one which opened files up to its limit, or gave itself one of memory, keeps what
    it has made.
    """

    def __init__(self) -> None:
        self._limits: dict[int, tuple[int, int]] = {}
        self._files = [os.open(os.devnull, os.O_RDONLY) for _ in range(_SPARE_FILES)]

    def release(self) -> None:
        device = Path(os.devnull).stat().st_rdev
        while self._files:
            fd = self._files.pop()
            with suppress(OSError):  # the cell has closed it
                if os.fstat(fd).st_rdev == device:
                    os.close(fd)
        for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_AS, resource.RLIMIT_DATA):
            self._limits[kind] = _, hard = resource.getrlimit(kind)
            resource.setrlimit(kind, (hard, hard))

    def put_back(self) -> None:
        """Have the limits be as the cell left them."""
        for kind, limits in self._limits.items():
            resource.setrlimit(kind, limits)
