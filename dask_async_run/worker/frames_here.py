"""The frames of one worker: the registry's own folder, or a folder of copies of them.

Where the worker does not see the registry's folder, what a cell needs is fetched before
it runs and what it leaves is sent before its job ends. Copies are kept for the next cell
that needs them, up to `KEEP` bytes of those that none uses. Large ones are served to others,
and taken from kernels: see `dask_async_run.carrier`.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from distributed import Worker
from distributed.protocol import to_serialize

from dask_async_run.carrier import FrameCarrier
from dask_async_run.errors import AsyncRunError
from dask_async_run.folders import FRAMES, sees
from dask_async_run.frames import FrameStore, size_of
from dask_async_run.incoming import Incoming, read_piece
from dask_async_run.job import Message
from dask_async_run.peers import DIRECT, Peers
from dask_async_run.registry import Registry

logger = logging.getLogger(__name__)

SEND_AGAIN, SEND_AGAIN_AT_LEAST = 1.0, 60.0
"""Seconds until a frame is sent again that the registry did not take: at first, and later."""

KEEP = 2 * 1024**3
"""Bytes of copies that no cell uses now."""

Named = Sequence[Sequence[Any]]
"""Frames, each as ``[digest, size]``."""


def _temporary(local: str) -> tempfile.TemporaryDirectory[str]:
    """Make a folder where Dask tidies up after a worker that was killed."""
    Path(local).mkdir(mode=0o700, parents=True, exist_ok=True)  # somebody may have deleted it
    return tempfile.TemporaryDirectory(prefix="cells-", dir=local)


class FramesHere:
    """Where the cells of a worker find their frames.

    Parameters
    ----------
    folder : Path
        Of the store.
    carrier : FrameCarrier or None
        None: the folder is the registry's own.
    tell : callable or None
        As `Registry.held`, of this worker: tells which large frames are here, and which ones are
        no more; in the worker's event loop.

    Attributes
    ----------
    modules : Path or None
        Where the notebooks' local code comes to lie.
    """

    def __init__(
        self,
        folder: Path,
        carrier: FrameCarrier | None = None,
        tell: Callable[..., Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self.store = FrameStore(folder)
        self._carrier = carrier
        self._tell = tell
        self.modules: Path | None = None
        self._loop = asyncio.get_running_loop() if tell is not None else None
        self._passing: set[asyncio.Task[None]] = set()
        self._telling: set[asyncio.Task[None]] = set()
        self._told_of: set[str] = set()
        self._unsure: set[str] = set()  # whether the registry's store has them
        self._lock = threading.Lock()
        self._users: Counter[str] = Counter()
        self._idle: dict[str, int] = {}  # digest: size; the one used last is the last
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    @classmethod
    async def of_worker(cls, worker: Worker) -> FramesHere:
        """Find out where they are; for the worker's event loop."""
        registry = Registry.of_worker(worker)
        answer = await registry.hello()
        folder = Path(answer["state_folder"])
        temporary = _temporary(worker.local_directory)
        if sees(folder, answer["host_token"]):
            here = cls(folder / FRAMES)
        else:
            here = cls(
                Path(temporary.name) / "frames",
                FrameCarrier(registry, Peers(worker.rpc), worker.address),
                partial(registry.held, worker.address),
            )
        here._temporary = temporary
        here.modules = Path(temporary.name) / "modules"
        return here

    @property
    def shared(self) -> bool:
        """Whether the folder is the registry's own, so that nothing has to be carried."""
        return self._carrier is None

    async def fetch(self, frames: Named) -> None:
        """Make frames be here; in the worker's event loop.

        Raises
        ------
        FrameError
            One is missing or damaged.
        ServerError, OSError
        """
        if self._carrier is not None:
            fetched = await self._carrier.fetch_into(self.store, frames)
            self._unsure.update(digest for digest, size in fetched if size >= DIRECT)
            await self._told(fetched)

    async def send(self, frames: Named) -> None:
        """Make frames that are here be in the registry's store too; raises as `fetch`."""
        if self._carrier is not None:
            await self._carrier.send_from(self.store, frames)
            await self._told(frames)

    async def leave(self, frames: Named) -> None:
        """After a cell: see to its inputs that another worker was to bring to the store.

        That one may be gone meanwhile. Nobody waits for it.
        """
        unsure = [frame for frame in frames if frame[0] in self._unsure]
        if unsure:
            self._unsure.difference_update(digest for digest, _ in unsure)
            await self._pass_on(unsure)

    async def serve(
        self, do: str, digest: str = "", transfer: str = "", offset: int = 0, piece: Any = b""
    ) -> Message:
        """Answer one call of `Peers`: ``read`` a piece, ``write`` one, ``complete`` a frame."""
        try:
            if do == "read":
                part = await asyncio.to_thread(read_piece, self.store, digest, offset)
                return {"piece": to_serialize(memoryview(part))}
            incoming = Incoming(self.store, transfer)
            if do == "write":
                await asyncio.to_thread(incoming.write, offset, piece)
            elif do == "complete":
                await asyncio.to_thread(incoming.complete, digest)
                await self._pass_on([(digest, size_of(digest))])
            else:
                return {"problem": f"knows no {do!r}"}
        except (AsyncRunError, OSError, ValueError) as error:
            return {"problem": f"{type(error).__name__}: {error}"}
        return {}

    async def settle(self, patience: float) -> None:
        """Wait until the registry has what was taken for it, for some seconds at most."""
        if self._passing:
            _, late = await asyncio.wait(self._passing, timeout=patience)
            for task in late:
                task.cancel()

    async def _pass_on(self, frames: Named) -> None:
        """Say that frames are here, and bring them to the registry's store meanwhile."""
        if self._carrier is not None:
            with self.used(frames):
                await self._told(frames, passing=True)
                self._begin_sending(frames)

    def _begin_sending(self, frames: Named) -> None:
        used = ExitStack()
        used.enter_context(self.used(frames))
        task = asyncio.create_task(self._keep_sending(frames, used))
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)

    async def _keep_sending(self, frames: Named, used: ExitStack) -> None:
        assert self._carrier is not None
        pause = SEND_AGAIN
        with used:
            while all(self.store.has(digest) for digest, _ in frames):
                try:
                    await self._carrier.send_from(self.store, frames)
                    return
                except (AsyncRunError, OSError) as error:
                    logger.warning("an input is not in the registry's store yet: %s", error)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, SEND_AGAIN_AT_LEAST)
        # Somebody has removed it here: who needs it is to hear that.
        await self._tell_gone([digest for digest, _ in frames])

    async def _told(self, frames: Named, passing: bool = False) -> None:
        large = {str(digest) for digest, size in frames if int(size) >= DIRECT}
        new = large if passing else large - self._told_of
        if new and self._tell is not None:
            self._told_of |= new
            await self._tell(sorted(new), passing=passing)

    @contextmanager
    def used(self, frames: Named) -> Iterator[None]:
        """Keep copies of frames while the block runs; any thread."""
        sizes = {str(digest): int(size) for digest, size in frames}
        with self._lock:
            self._users.update(sizes.keys())
            for digest in sizes:
                self._idle.pop(digest, None)
        try:
            yield
        finally:
            with self._lock:
                self._users.subtract(sizes.keys())
                self._idle |= {d: size for d, size in sizes.items() if not self._users[d]}
                self._users += Counter()  # drops what nobody uses
                self._tidy()

    def close(self) -> None:
        """Remove the copies."""
        if self._temporary is not None:
            self._temporary.cleanup()

    def _tidy(self) -> None:
        if self._carrier is None:
            return
        kept = sum(self._idle.values())
        gone = []
        for digest, size in list(self._idle.items()):
            if kept <= KEEP:
                break
            del self._idle[digest]
            kept -= size
            gone.append(digest)
        if gone:
            self.store.remove(gone)
            self.store.sweep()  # pieces of what was begun and given up
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._say_gone, gone)

    def _say_gone(self, digests: list[str]) -> None:
        self._told_of.difference_update(digests)
        self._unsure.difference_update(digests)
        task = asyncio.create_task(self._tell_gone(digests))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell_gone(self, digests: list[str]) -> None:
        # Who asks for one nevertheless hears that it is not here.
        with suppress(AsyncRunError, OSError):
            if self._tell is not None:
                await self._tell([], gone=digests)
