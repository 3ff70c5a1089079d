"""The digest of a buffer's content: what frames are named by, and changes are found by.

xxh3, of 128 bits. Of a large buffer it is the digest of the digests of its pieces, one after the
other, so that several threads can make it: a single one does not read at the speed of memory.
Frames that an earlier version has named by the digest of the whole are still known by it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from pickle import PickleBuffer
from typing import TYPE_CHECKING, TypeVar

import xxhash

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc has it from Python 3.12 on

WHOLE = 16 * 1024 * 1024
"""Bytes up to which a buffer is one piece."""

PIECE = 4 * 1024 * 1024
"""Bytes of a piece of a larger one: a processor's cache holds it."""

MOST = 8
"""Threads that work on one buffer: more do not make memory faster."""

Answer = TypeVar("Answer")


def digest_of(buffer: Buffer, known: Sequence[bytes] = ()) -> str:
    """Answer the digest of a contiguous buffer, 32 hexadecimal digits.

    Parameters
    ----------
    buffer
    known : sequence of bytes
        Those of its first pieces, as of `piecewise`.
    """
    view = PickleBuffer(buffer).raw()
    if view.nbytes <= WHOLE:
        return xxhash.xxh3_128_hexdigest(view)
    rest = range(len(known) * PIECE, view.nbytes, PIECE)
    return combined([*known, *piecewise(view, rest)])


def piecewise(view: memoryview, starts: range) -> list[bytes]:
    """Answer the digests of pieces of a buffer, made in threads."""
    return in_threads(lambda start: xxhash.xxh3_128_digest(view[start : start + PIECE]), starts)


def combined(pieces: list[bytes]) -> str:
    """Answer the digest of a buffer that is larger than `WHOLE`, from its pieces' digests."""
    return xxhash.xxh3_128_hexdigest(b"".join(pieces))


def is_named(view: memoryview, digest: str) -> bool:
    """Whether a buffer has that digest, or an earlier version gave it."""
    if digest_of(view) == digest:
        return True
    return view.nbytes > WHOLE and xxhash.xxh3_128_hexdigest(view) == digest


_alone: ContextVar[bool] = ContextVar("alone", default=False)


@contextmanager
def alone() -> Iterator[None]:
    """Have no threads work for this one while the block runs.

    For who has interrupted this thread, at any place: it may hold what starting a thread
    waits for.
    """
    before = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(before)


def in_threads(work: Callable[[int], Answer], starts: range) -> list[Answer]:
    """Have work done for each start of a piece, by as many threads as there are processors.

    Parameters
    ----------
    work : callable
        Does most of it without the interpreter's lock.
    starts : range

    Returns
    -------
    list
        Its answers, in order.
    """
    threads = 1 if _alone.get() else min(_processors(), MOST, len(starts))
    if threads > 1:
        try:
            pool = ThreadPoolExecutor(threads, "dask-async-run-content")
            with pool:
                return list(pool.map(work, starts))
        except RuntimeError:
            pass  # no thread can be started any more: the interpreter ends, or there is a limit
    return [work(start) for start in starts]


def _processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
