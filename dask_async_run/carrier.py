"""Frames between a registry's store and a machine that does not see it.

Nobody assumes a shared file system: who does not find the store's folder (see
`Registry.hello`) sends what is missing there, and fetches what it needs, in pieces. A frame
that is there is not sent again. So inputs and results are files beside the journal
wherever a cell runs, and as durable as there.

Large frames do not wait for that. A kernel brings an input to a worker with a free place,
where its job then runs, and that worker passes it on to the store meanwhile; the worker
that made a result keeps a copy. Who needs such a frame fetches its pieces from all workers that
have it (`dask_async_run.peers`), and from the store where none can be reached. The
scheduler's process never holds more than some pieces.

The price: until an input has arrived in the store, mostly a second or two, it is on that worker
alone, and on nobody else's disk. Should the worker die just then, the job is lost and says why.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any

from dask_async_run.errors import FrameError
from dask_async_run.frames import Frame, FrameStore, name_of, payload_of
from dask_async_run.incoming import PIECE, Incoming
from dask_async_run.job import Payload
from dask_async_run.peers import DIRECT, Peers, UnreachableError, some_at_once

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from dask_async_run.registry import Registry, SyncRegistry

logger = logging.getLogger(__name__)

Read = Callable[[str, int], Coroutine[Any, Any, "bytes | memoryview"]]
"""Answers the piece of a frame, named by its digest, that begins at an offset."""


class FrameCarrier:
    """Sends and fetches frames; for an event loop.

    Parameters
    ----------
    registry : Registry
    peers : Peers or None
        None: everything goes through the scheduler.
    own : str
        The address of the worker that this is, or empty.

    Raises
    ------
    FrameError
        Every method: a frame is missing, or was damaged on its way.
    ServerError
        Every method: the scheduler does not answer.
    """

    def __init__(self, registry: Registry, peers: Peers | None = None, own: str = "") -> None:
        self._registry = registry
        self._peers = peers
        self._own = own
        self._moving: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    async def place(self, frame: Frame, view: memoryview) -> None:
        """Bring a frame's bytes where a job can use them, if they are nowhere yet.

        Parameters
        ----------
        view : memoryview
            Of bytes; if another thread changes them meanwhile, `FrameError` is raised.
        """
        direct = self._peers is not None and frame.size >= DIRECT
        if not await self._registry.missing_frames([frame.digest], coming=direct):
            return
        if not (direct and await self._direct(frame, view)):
            await self._carry(frame, view)

    async def fetch(self, digest: str, size: int) -> bytearray:
        """Fetch a frame's bytes."""
        found = bytearray(size)

        async def by(read: Read) -> None:
            async def piece(offset: int) -> None:
                wanted = min(PIECE, size - offset)
                part = await read(digest, offset)
                if len(part) != wanted:
                    raise FrameError(digest, "is not as long in the store as it should be")
                found[offset : offset + wanted] = part

            await some_at_once(piece(offset) for offset in range(0, size, PIECE))
            if name_of(found).digest != digest:
                raise FrameError(digest, "was damaged, in the store or on its way")

        await _first(by, await self._ways([(digest, size)]))
        return found

    async def send_from(self, store: FrameStore, frames: Iterable[Sequence[Any]]) -> None:
        """Send the frames, ``[digest, size]``, of another store that the registry's lacks."""
        sizes = {str(digest): int(size) for digest, size in frames}
        if not sizes:
            return
        for digest in await self._registry.missing_frames(list(sizes)):
            lock = self._moving.setdefault(digest, asyncio.Lock())
            sent_meanwhile = lock.locked()
            async with lock:
                if sent_meanwhile and not await self._registry.missing_frames([digest]):
                    continue
                frame = Frame(digest, sizes[digest])
                await self._carry(frame, store.open(digest, frame.size))

    async def fetch_into(
        self, store: FrameStore, frames: Iterable[Sequence[Any]]
    ) -> list[tuple[str, int]]:
        """Fetch the frames, ``[digest, size]``, that another store does not have.

        Nothing is kept in memory but some pieces.

        Returns
        -------
        list of tuple
            Those that were fetched.
        """
        wanted = [(str(digest), int(size)) for digest, size in frames]
        missing = [(digest, size) for digest, size in wanted if not store.use(digest)]
        ways = await self._ways(missing)
        fetched = []
        for digest, size in missing:
            # Two cells that begin at once need it once.
            async with self._moving.setdefault(digest, asyncio.Lock()):
                if not store.use(digest):
                    await _first(partial(self._fetch_into, store, digest, size), ways)
                    fetched.append((digest, size))
        return fetched

    async def _fetch_into(self, store: FrameStore, digest: str, size: int, read: Read) -> None:
        incoming = Incoming(store)

        async def piece(offset: int) -> None:
            part = await read(digest, offset)
            await asyncio.to_thread(incoming.write, offset, part)

        try:
            # One piece at least: an empty frame is a file too.
            await some_at_once(piece(offset) for offset in range(0, max(1, size), PIECE))
            await asyncio.to_thread(incoming.complete, digest)
        except BaseException:
            incoming.abandon()
            raise

    async def _direct(self, frame: Frame, view: memoryview) -> bool:
        """Bring a frame to a worker; whether one has it now."""
        assert self._peers is not None
        places = await self._registry.frame_places(frame.size)
        reached = await asyncio.gather(*map(self._peers.reach, places))
        for address in itertools.compress(places, reached):
            try:
                await self._peers.send(address, frame, view)
            except UnreachableError as error:
                logger.info("a frame goes through the scheduler: %s", error)
                return False
            return True
        return False

    async def _carry(self, frame: Frame, view: memoryview) -> None:
        """Send a frame's bytes to the registry's store."""
        transfer = Incoming.new_name()

        async def piece(offset: int) -> None:
            part = bytes(view[offset : offset + PIECE])
            await self._registry.write_frame(transfer, offset, part)

        # One piece at least: an empty frame is a file too.
        await some_at_once(piece(offset) for offset in range(0, max(1, frame.size), PIECE))
        await self._registry.complete_frame(transfer, frame.digest)

    async def _ways(self, frames: Sequence[tuple[str, int]]) -> list[Read]:
        """Look up who has some frames; answer what reads them, the best way first."""
        large = [digest for digest, size in frames if size >= DIRECT]
        peers = self._peers
        if peers is None or not large:
            return [self._registry.read_frame]
        holders = await self._registry.holders(large)
        for others in holders.values():
            if self._own in others:
                others.remove(self._own)

        async def read(digest: str, offset: int) -> bytes | memoryview:
            others = holders.get(digest, [])
            while others:
                address = others[offset // PIECE % len(others)]
                try:
                    return await peers.read(address, digest, offset)
                except UnreachableError as error:
                    logger.info("a frame comes another way: %s", error)
                if address in others:  # several pieces notice at once
                    others.remove(address)
            return await self._registry.read_frame(digest, offset)

        return [read, self._registry.read_frame]


async def _first(fetch: Callable[[Read], Awaitable[None]], ways: Sequence[Read]) -> None:
    """Fetch by the first way on which a frame arrives whole: a worker's copy may be damaged."""
    for way in ways:
        try:
            return await fetch(way)
        except FrameError:
            if way is ways[-1]:
                raise
    return None


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
        view = PickleBuffer(buffer).raw()
        frame = name_of(view)
        try:
            self._registry.place_frame(frame, view)
        except FrameError:
            # Another thread is changing it.
            still = memoryview(bytes(view))
            frame = name_of(still)
            self._registry.place_frame(frame, still)
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
