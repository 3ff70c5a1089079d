"""Frames for those who do not see the store: one method each, called by name from outside.

A kernel or a worker on another machine sends what is missing and fetches what it needs
in pieces. So inputs and results are as durable as on one machine: files beside the
journal. The work is done in threads; the scheduler's memory holds a few pieces.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

from dask_async_run.errors import FrameError
from dask_async_run.incoming import PIECE, Incoming
from dask_async_run.scheduler.registry import JobRegistry


class FrameOps:
    """Operations on the registry's frame store."""

    NAMES = ("missing_frames", "write_frame", "complete_frame", "read_frame")

    def __init__(self, registry: JobRegistry) -> None:
        self._registry = registry
        self._store = registry.store

    async def missing_frames(self, digests: Sequence[str]) -> list[str]:
        return [digest for digest in digests if not self._store.use(digest)]

    async def write_frame(self, transfer: str, offset: int, piece: bytes) -> None:
        await asyncio.to_thread(Incoming(self._store, transfer).write, offset, piece)

    async def complete_frame(self, transfer: str, digest: str) -> None:
        await asyncio.to_thread(Incoming(self._store, transfer).complete, digest)

    async def read_frame(self, digest: str, offset: int) -> bytes:
        await self._registry.stores.at_hand([digest])
        return await asyncio.to_thread(self._read, digest, offset)

    def _read(self, digest: str, offset: int) -> bytes:
        try:
            descriptor = os.open(self._store.path(digest), os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise FrameError(digest, f"is missing from {self._store.folder}") from None
        try:
            return os.pread(descriptor, PIECE, offset)
        finally:
            os.close(descriptor)
