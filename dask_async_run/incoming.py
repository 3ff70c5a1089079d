"""A frame that arrives in pieces, from another machine.

The pieces go into a file aside, which becomes the frame when all of them are there and
hold what its name says: as with `FrameStore.put`, whoever finds a frame finds all of it.
What was begun and never completed is swept with the store's other unfinished files.
"""

from __future__ import annotations

import os
import re
import uuid

from dask_async_run.errors import FrameError
from dask_async_run.frames import FrameStore, name_of_file
from dask_async_run.settling import PART

PIECE = 8 * 1024 * 1024
"""Bytes of one piece: what a message between machines carries at most."""

_NAME = re.compile(r"[0-9a-f]{32}")


class Incoming:
    """One frame on its way into a store; runs in any thread.

    Parameters
    ----------
    store : FrameStore
    name : str or None
        32 hexadecimal digits that tell this transfer from others; None makes one up.

    Raises
    ------
    ValueError
        Nothing can be called `name` (it comes from another process, and becomes a path).
    """

    def __init__(self, store: FrameStore, name: str | None = None) -> None:
        self.name = self.new_name() if name is None else name
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name[:40]!r} cannot be the name of a transfer")
        self._store = store
        self._part = store.folder / f"{self.name}{PART}"

    @staticmethod
    def new_name() -> str:
        """Make up a name for a transfer."""
        return uuid.uuid4().hex

    def write(self, offset: int, piece: bytes | memoryview) -> None:
        """Write a piece where it belongs; the same piece again does no harm."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW
        descriptor = os.open(self._part, flags, 0o600)
        try:
            view = memoryview(piece)
            while view:
                written = os.pwrite(descriptor, view, offset)
                view, offset = view[written:], offset + written
        finally:
            os.close(descriptor)

    def complete(self, digest: str) -> None:
        """Make it the frame of that name.

        Raises
        ------
        FrameError
            It holds something else, or is not complete; it is gone then.
        """
        path = self._store.path(digest)
        try:
            found = name_of_file(self._part)
        except FileNotFoundError:
            if self._store.has(digest):
                return  # the answer to an earlier call was lost
            raise FrameError(digest, "has not arrived") from None
        if found != digest:
            self.abandon()
            raise FrameError(digest, "was damaged on its way")
        self._part.replace(path)

    def abandon(self) -> None:
        """Remove what has come so far."""
        self._part.unlink(missing_ok=True)


def read_piece(store: FrameStore, digest: str, offset: int) -> bytes:
    """Read the piece of a frame that begins at `offset`, to be sent to another machine.

    Raises
    ------
    FrameError
        There is no such frame.
    """
    descriptor = store.opened(digest)
    try:
        return os.pread(descriptor, PIECE, offset)
    finally:
        os.close(descriptor)
