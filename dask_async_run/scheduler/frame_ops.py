"""Frames for those who do not see the store: one method each, called by name from outside.

A kernel or a worker on another machine sends what is missing and fetches what it needs
in pieces. So inputs and results are as durable as on one machine: files beside the
journal. The work is done in threads; the scheduler's memory holds a few pieces. Large frames
go between kernels and workers, who ask here where (`dask_async_run.carrier`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from dask_async_run.errors import FrameError
from dask_async_run.incoming import Incoming, read_piece
from dask_async_run.job import Message
from dask_async_run.scheduler.registry import JobRegistry
from dask_async_run.snapshots import Snapshot

PLACES = 3
"""Workers that are proposed for a frame: who cannot reach one of them reaches none, likely."""


class FrameOps:
    """Operations on the registry's frame store."""

    NAMES = (
        "missing_frames",
        "write_frame",
        "complete_frame",
        "read_frame",
        "frame_places",
        "holders",
        "held",
        "bring",
    )

    def __init__(self, registry: JobRegistry) -> None:
        self._registry = registry
        self._store = registry.store
        self._holders = registry.holders

    async def missing_frames(self, digests: Sequence[str], coming: bool = False) -> list[str]:
        missing = []
        for digest in digests:
            if self._store.use(digest):
                self._holders.came(digest)
            elif not (coming and self._holders.is_coming(digest)):
                missing.append(digest)
        return missing

    async def frame_places(self, size: int) -> list[str]:
        return self._registry.cluster.frame_places()[:PLACES]

    async def holders(self, digests: Sequence[str]) -> dict[str, list[str]]:
        return {digest: self._holders.of(digest) for digest in digests}

    async def held(
        self, worker: str, digests: Sequence[str], passing: bool = False, gone: Sequence[str] = ()
    ) -> None:
        # One that has left the cluster meanwhile is not connected to.
        if self._registry.cluster.places(worker):
            missing = [each for each in digests if passing and not self._store.has(each)]
            self._holders.add(worker, digests, missing)
        if gone:
            self._holders.drop(worker, gone)
            self._registry.frames_came()

    async def bring(self, snapshot: Message) -> bool:
        return await self._registry.arrivals.bring(Snapshot.from_message(snapshot))

    async def write_frame(self, transfer: str, offset: int, piece: bytes) -> None:
        await asyncio.to_thread(Incoming(self._store, transfer).write, offset, piece)

    async def complete_frame(self, transfer: str, digest: str) -> None:
        await asyncio.to_thread(Incoming(self._store, transfer).complete, digest)
        self._holders.came(digest)
        self._registry.frames_came()

    async def read_frame(self, digest: str, offset: int) -> bytes:
        # Who cannot reach the worker that brings it here waits for that.
        await self._holders.arrival(digest)
        await self._registry.stores.at_hand([digest])
        if not self._store.has(digest):
            raise FrameError(digest, self._holders.missing(digest, self._store.folder))
        return await asyncio.to_thread(read_piece, self._store, digest, offset)
