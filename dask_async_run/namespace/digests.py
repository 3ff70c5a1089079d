"""Digests of buffers and fingerprints of values: did this change?

A fingerprint is the digest of a value's pickle plus the digests of its large
buffers, which are hashed where they lie. Equal fingerprints mean equal values;
different ones may still be equal ("changed" costs a transfer, a missed change
would cost a user's work).
"""

from __future__ import annotations

import ctypes
import io
import pickle
from typing import Any

import xxhash

from dask_async_run.namespace.pickling import Buffer, NamespacePickler, deeply

Fingerprint = tuple[Any, ...]


def digest(buffer: Buffer) -> str:
    """Answer the 128-bit xxh3 digest of a contiguous buffer, 32 hex digits."""
    return xxhash.xxh3_128_hexdigest(buffer)


def address(buffer: memoryview) -> int | None:
    """Answer where a writable buffer lies in memory; None for a read-only or empty one."""
    if buffer.readonly or not buffer.nbytes:
        return None
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


class KnownBuffers:
    """Digests of buffers that were just mapped, so that nobody needs to hash them."""

    def __init__(self) -> None:
        self._digests: dict[tuple[int, int], str] = {}

    def add(self, buffer: memoryview, known: str) -> None:
        start = address(buffer)
        if start is not None:
            self._digests[start, buffer.nbytes] = known

    def digest(self, buffer: memoryview) -> str:
        """Answer a buffer's digest, from what is known if it is."""
        start = address(buffer)
        known = self._digests.get((start, buffer.nbytes)) if start is not None else None
        return known or digest(buffer)

    def forget(self) -> None:
        """From now on buffers may have been written to."""
        self._digests.clear()


def fingerprint(value: Any, namespace: dict[str, Any], known: KnownBuffers) -> Fingerprint:
    """Answer a value's fingerprint.

    Parameters
    ----------
    value : object
    namespace : dict
        As for `NamespacePickler`.
    known : KnownBuffers

    Raises
    ------
    Exception
        Whatever pickling the value raises.
    """

    def write() -> tuple[io.BytesIO, list[pickle.PickleBuffer]]:
        found: list[pickle.PickleBuffer] = []
        file = io.BytesIO()
        NamespacePickler(file, namespace, buffer_callback=found.append).dump(value)
        return file, found

    file, found = deeply(write)
    return (digest(file.getbuffer()), *(known.digest(buffer.raw()) for buffer in found))
