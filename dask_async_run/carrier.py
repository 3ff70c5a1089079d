"""Frames between a registry's store and a machine that does not see it.

Nobody assumes a shared file system: who does not find the store's folder (see
`Registry.hello`) sends what is missing there, and fetches what it needs, in pieces over
the connection to the scheduler. A frame that is there is not sent again. So inputs and
results are files beside the journal wherever a cell runs, and as durable as there.

The price: what travels passes the scheduler's process, some pieces at a time, and goes
through its disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from dask_async_run.errors import FrameError
from dask_async_run.frames import Frame, FrameStore, name_of, payload_of
from dask_async_run.incoming import PIECE, Incoming
from dask_async_run.job import Payload

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from dask_async_run.registry import Registry, SyncRegistry

AT_ONCE = 3
"""Pieces that are on their way at one time, for each frame."""


class FrameCarrier:
    """Sends and fetches frames; for an event loop.

    Parameters
    ----------
    registry : Registry

    Raises
    ------
    FrameError
        Every method: a frame is missing, or was damaged on its way.
    ServerError
        Every method: the scheduler does not answer.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def send(self, frame: Frame, view: memoryview) -> None:
        """Send a frame's bytes, if the store does not have them.

        Parameters
        ----------
        view : memoryview
            Of bytes; if another thread changes them meanwhile, `FrameError` is raised.
        """
        if not await self._registry.missing_frames([frame.digest]):
            return
        transfer = Incoming.new_name()

        async def piece(offset: int) -> None:
            part = bytes(view[offset : offset + PIECE])
            await self._registry.write_frame(transfer, offset, part)

        # One piece at least: an empty frame is a file too.
        await _some_at_once(piece(offset) for offset in range(0, max(1, frame.size), PIECE))
        await self._registry.complete_frame(transfer, frame.digest)

    async def fetch(self, digest: str, size: int) -> bytearray:
        """Fetch a frame's bytes."""
        found = bytearray(size)

        async def piece(offset: int) -> None:
            wanted = min(PIECE, size - offset)
            part = await self._registry.read_frame(digest, offset)
            if len(part) != wanted:
                raise FrameError(digest, "is not as long in the store as it should be")
            found[offset : offset + wanted] = part

        await _some_at_once(piece(offset) for offset in range(0, size, PIECE))
        if name_of(found).digest != digest:
            raise FrameError(digest, "was damaged, in the store or on its way")
        return found

    async def send_from(self, store: FrameStore, frames: Iterable[Sequence[Any]]) -> None:
        """Send frames, ``[digest, size]``, that lie in another store."""
        for digest, size in frames:
            await self.send(Frame(digest, size), store.open(digest, size))

    async def fetch_into(self, store: FrameStore, frames: Iterable[Sequence[Any]]) -> None:
        """Fetch the frames, ``[digest, size]``, that another store does not have.

        Nothing is kept in memory but some pieces.
        """
        for digest, size in frames:
            if store.use(digest):
                continue
            incoming = Incoming(store)

            async def piece(offset: int, incoming: Incoming, digest: str) -> None:
                part = await self._registry.read_frame(digest, offset)
                await asyncio.to_thread(incoming.write, offset, part)

            try:
                await _some_at_once(
                    piece(offset, incoming, digest) for offset in range(0, max(1, size), PIECE)
                )
                await asyncio.to_thread(incoming.complete, digest)
            except BaseException:
                incoming.abandon()
                raise


class CarriedFrames:
    """The store of a registry whose folder is not seen from here; as a `FrameStore`.

    Runs in a kernel, in the thread that calls it.

    Parameters
    ----------
    registry : SyncRegistry
    """

    def __init__(self, registry: SyncRegistry) -> None:
        self._registry = registry

    def put(self, buffer: Buffer) -> Frame:
        """Send a buffer's bytes, as they are now; return their name."""
        view = memoryview(buffer).cast("B") if isinstance(buffer, bytes) else memoryview(buffer)
        frame = name_of(view)
        try:
            self._registry.send_frame(frame, view)
        except FrameError:
            # Another thread is changing it.
            still = memoryview(bytes(view))
            frame = name_of(still)
            self._registry.send_frame(frame, still)
        return frame

    def put_payload(self, stream: bytes, buffers: Sequence[Buffer]) -> Payload:
        """As `FrameStore.put_payload`."""
        return payload_of(self.put, stream, buffers)

    def open_payload(self, payload: Payload) -> tuple[bytes | memoryview, list[memoryview]]:
        """As `FrameStore.open_payload`; the buffers are this process's own memory."""

        def fetch(digest: str, size: int) -> memoryview:
            return memoryview(self._registry.fetch_frame(digest, size))

        named = payload.stream_frame
        stream: bytes | memoryview = fetch(*named) if named else payload.stream
        return stream, [fetch(digest, size) for digest, size in payload.frames]


async def _some_at_once(calls: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run coroutines, `AT_ONCE` at a time; after a failure no more are begun."""
    waiting: set[asyncio.Task[None]] = set()
    try:
        for call in calls:
            waiting.add(asyncio.create_task(call))
            if len(waiting) >= AT_ONCE:
                done, waiting = await asyncio.wait(waiting, return_when="FIRST_COMPLETED")
                for task in done:
                    task.result()
        for task in waiting:
            await task
    finally:
        for task in waiting:
            task.cancel()
