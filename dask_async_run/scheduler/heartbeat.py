"""The heartbeat of a registry: when it was last alive, for the next one to read."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path

BEAT = 15.0
"""Seconds between two beats."""


class Heartbeat:
    """Touches the journal's lock file now and then, and with every commit the journal's own.

    What ran when a server died ended then, and not when somebody started the next one: that may
    be days later.

    Parameters
    ----------
    journal : Path

    Attributes
    ----------
    last : float or None
        When the registry before this one was alive for the last time, as far as is known, in
        seconds since the epoch; None: there was none.
    """

    def __init__(self, journal: Path) -> None:
        self._file = journal.with_suffix(".lock")
        seen = []
        for path in (self._file, journal, journal.with_name(f"{journal.name}-wal")):
            with suppress(OSError):
                seen.append(path.stat().st_mtime)
        self.last = max(seen, default=None)
        self._timer: asyncio.TimerHandle | None = None

    def beat(self) -> None:
        """Touch the file, now and from now on; in the event loop."""
        with suppress(OSError):  # the folder was removed, which others tell
            os.utime(self._file)
        self._timer = asyncio.get_running_loop().call_later(BEAT, self.beat)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
