"""Large frames straight to a worker and from it, past the scheduler's process.

A worker that does not see the registry's folder has copies of frames, and serves them to
whoever of the cluster can connect to it (its RPC handler ``async_run_frames``). Nobody need be
able to: a kernel before a gateway, or a worker behind a firewall, goes through the scheduler,
which has every frame sooner or later. Whether a worker can be reached is found out by trying,
once in a while.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterable
from typing import Any

from distributed.core import ConnectionPool
from distributed.protocol import to_serialize

from dask_async_run.frames import Frame
from dask_async_run.incoming import PIECE, Incoming

DIRECT = 1024 * 1024
"""Bytes from which a frame takes this way: what is small is one call of the registry."""

REACH = 2.0
"""Seconds that a worker has to take a connection."""

TRY_AGAIN = 300.0
"""Seconds until one is tried again that could not be reached."""

PATIENCE = 60.0
"""Seconds for one piece; after that the scheduler's way is taken."""

AT_ONCE = 3
"""Pieces that are on their way at one time, for each frame."""

_BROKEN = (OSError, TimeoutError, ValueError, RuntimeError)
"""What Dask raises when a worker cannot be reached, is closing, or closes the connection."""


class UnreachableError(Exception):
    """A worker cannot be asked, or does not do what it is asked for: the text says why."""


class Peers:
    """The workers that have frames, for one process; in its event loop.

    Parameters
    ----------
    pool : ConnectionPool
        A client's or a worker's own.

    Raises
    ------
    UnreachableError
        `send` and `read`; another way has to be taken.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._unreachable: dict[str, float] = {}  # address: when it is tried again

    async def reach(self, address: str) -> bool:
        """Whether a worker can be connected to from here."""
        if time.monotonic() < self._unreachable.get(address, 0.0):
            return False
        try:
            self._pool.reuse(address, await self._pool.connect(address, timeout=REACH))
        except _BROKEN:
            self._unreachable[address] = time.monotonic() + TRY_AGAIN
            return False
        self._unreachable.pop(address, None)
        return True

    async def send(self, address: str, frame: Frame, view: memoryview) -> None:
        """Bring a worker a frame's bytes; it has them, and passes them on, when this returns."""
        transfer = Incoming.new_name()

        async def piece(offset: int) -> None:
            part: Any = to_serialize(view[offset : offset + PIECE])
            await self._ask(address, "write", transfer=transfer, offset=offset, piece=part)

        await some_at_once(piece(offset) for offset in range(0, frame.size, PIECE))
        await self._ask(address, "complete", transfer=transfer, digest=frame.digest)

    async def read(self, address: str, digest: str, offset: int) -> memoryview:
        """Fetch the piece of a frame that begins at `offset`."""
        if not await self.reach(address):
            raise UnreachableError(f"{address} takes no connection")
        reply = await self._ask(address, "read", digest=digest, offset=offset)
        return memoryview(reply["piece"])

    async def _ask(self, address: str, do: str, **arguments: Any) -> dict[str, Any]:
        try:
            async with asyncio.timeout(PATIENCE):
                call = self._pool(address).async_run_frames
                reply: dict[str, Any] | None = await call(do=do, **arguments)
        except _BROKEN as error:
            self._unreachable[address] = time.monotonic() + TRY_AGAIN
            raise UnreachableError(f"{address}: {type(error).__name__}: {error}") from error
        if reply is None:  # what Dask answers for a handler that it does not have
            raise UnreachableError(f"{address} has no frames")
        if problem := reply.get("problem"):
            raise UnreachableError(f"{address}: {problem}")
        return reply


async def some_at_once(calls: Iterable[Coroutine[Any, Any, None]]) -> None:
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
