"""Copying what becomes a frame: piece by piece, in threads, named on the way."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator

from xxhash import xxh3_128, xxh3_128_digest

from dask_async_run.content import PIECE, WHOLE, combined, in_threads, piecewise

LOOK = 0.002
"""Seconds after which it is looked again how far somebody has written."""

Fill = Callable[[memoryview, int], None]
"""Is given some bytes of a frame, or room for them, and where in the frame they begin."""


def from_view(view: memoryview) -> Fill:
    """Answer what fills room with what lies in memory here."""

    def fill(room: memoryview, start: int) -> None:
        room[:] = view[start : start + len(room)]

    return fill


def copied(size: int, fill: Fill, descriptor: int) -> str:
    """Write a buffer to an empty file; answer the digest of what was written.

    That is of the copies which are written, not of the buffer, which another thread may be
    changing.
    """

    def write(piece: memoryview, start: int) -> None:
        done = 0
        while done < len(piece):
            done += os.pwrite(descriptor, piece[done:], start + done)

    return read(size, fill, write)


def followed(view: memoryview, written: Callable[[], int | None]) -> Iterator[bytes]:
    """Yield the digests of a buffer's pieces while somebody writes it, from its beginning on.

    Parameters
    ----------
    view : memoryview
        Read no further than it has been written.
    written : callable
        Answers how many bytes that are; None: nothing more comes, and the iterator ends.
    """
    done = 0
    while (there := written()) is not None:
        end = there if there == view.nbytes else there // PIECE * PIECE
        if end > done:
            yield from piecewise(view, range(done, end, PIECE))
            done = end
        else:
            time.sleep(LOOK)


def read(size: int, fill: Fill, see: Fill | None = None) -> str:
    """Read a buffer piece by piece, in threads; answer its digest.

    Parameters
    ----------
    size : int
    fill : callable
    see : callable or None
        Is given each piece, and where it begins.
    """
    staged = threading.local()
    starts = range(0, size, PIECE)

    def read_piece(start: int) -> memoryview:
        if not hasattr(staged, "room"):
            staged.room = memoryview(bytearray(min(PIECE, size)))
        piece: memoryview = staged.room[: min(PIECE, size - start)]
        fill(piece, start)
        if see is not None:
            see(piece, start)
        return piece

    if size > WHOLE:
        return combined(in_threads(lambda start: xxh3_128_digest(read_piece(start)), starts))
    content = xxh3_128()
    for start in starts:
        content.update(read_piece(start))
    return content.hexdigest()
