"""The frames of one worker: the registry's own folder, or a folder of copies of them.

Where the worker does not see the registry's folder, what a cell needs is fetched before
it runs and what it leaves is sent before its job ends. Copies are kept for the next cell
that needs them, up to `KEEP` bytes of those that none uses.
"""

from __future__ import annotations

import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distributed import Worker

from dask_async_run.carrier import FrameCarrier
from dask_async_run.folders import sees
from dask_async_run.frames import FrameStore
from dask_async_run.registry import Registry

KEEP = 2 * 1024**3
"""Bytes of copies that no cell uses now."""

Named = Sequence[Sequence[Any]]
"""Frames, each as ``[digest, size]``."""


class FramesHere:
    """Where the cells of a worker find their frames.

    Parameters
    ----------
    folder : Path
        Of the store.
    carrier : FrameCarrier or None
        None: the folder is the registry's own.
    """

    def __init__(self, folder: Path, carrier: FrameCarrier | None = None) -> None:
        self.store = FrameStore(folder)
        self._carrier = carrier
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
        if sees(folder, answer["host_token"]):
            return cls(folder / "frames")
        temporary = tempfile.TemporaryDirectory(prefix="dask-async-run-")
        here = cls(Path(temporary.name) / "frames", FrameCarrier(registry))
        here._temporary = temporary
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
            await self._carrier.fetch_into(self.store, frames)

    async def send(self, frames: Named) -> None:
        """Make frames that are here be in the registry's store too; raises as `fetch`."""
        if self._carrier is not None:
            await self._carrier.send_from(self.store, frames)

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
        for digest, size in list(self._idle.items()):
            if kept <= KEEP:
                return
            self.store.remove([digest])
            del self._idle[digest]
            kept -= size
