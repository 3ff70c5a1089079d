"""Which workers have copies of large frames.

What they told, in memory only: who asks a worker that has no copy any more, or is gone, finds
out and takes another way. So this need not be right, and a restart may forget it. It is
bounded, since what a worker keeps is.

Beside it: which frames are on their way to the store. A job may be made whose inputs are. A copy
alone is not enough for that: nobody brings one that has been lying with a worker since
the job it belonged to was forgotten.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from dask_async_run.frames import size_of

ARRIVAL = 600.0
"""Seconds that a frame may be on its way for those who wait for it."""

LOST = 1000
"""Digests of frames that went with a worker, whose fate is remembered."""


class Holders:
    """The workers that have frames, by digest; for the scheduler's event loop."""

    def __init__(self) -> None:
        self._workers: dict[str, dict[str, None]] = {}  # digest: addresses, in order
        self._digests: dict[str, set[str]] = {}  # address: digests
        self._lost: dict[str, str] = {}  # digest: what became of it
        self._coming: dict[str, set[str]] = {}  # digest: addresses, and snapshots
        self._awaited: dict[str, asyncio.Event] = {}  # digest: set when it is coming no more

    def __bool__(self) -> bool:
        """Whether any worker has copies: none does where all see the store's folder."""
        return bool(self._workers)

    def add(self, worker: str, digests: Iterable[str], passing: Iterable[str] = ()) -> None:
        """A worker has copies; some of them it brings to the store, which has none."""
        for digest in digests:
            self._workers.setdefault(digest, {})[worker] = None
            self._digests.setdefault(worker, set()).add(digest)
            self._lost.pop(digest, None)
        for digest in passing:
            self._coming.setdefault(digest, set()).add(worker)

    def bring(self, snapshot: str, digests: Iterable[str]) -> None:
        """Frames come from a snapshot, until they `came` or it `failed`."""
        for digest in digests:
            self._lost.pop(digest, None)
            self._coming.setdefault(digest, set()).add(snapshot)

    def failed(self, snapshot: str, digest: str, why: str) -> None:
        """A frame will not come from a snapshot."""
        self._comes_no_more(snapshot, digest)
        if digest not in self._coming:
            self._lose(digest, why)

    def came(self, digest: str) -> None:
        """The store has a frame."""
        self._coming.pop(digest, None)
        if awaited := self._awaited.pop(digest, None):
            awaited.set()

    async def arrival(self, digest: str) -> None:
        """Wait until a frame that is coming has come or will not; `ARRIVAL` seconds at most."""
        if digest in self._coming:
            awaited = self._awaited.setdefault(digest, asyncio.Event())
            with suppress(TimeoutError):
                await asyncio.wait_for(awaited.wait(), ARRIVAL)

    def is_coming(self, digest: str) -> bool:
        """Whether somebody brings a frame to the store, which does not have it yet."""
        return digest in self._coming

    def alone(self, worker: str) -> bool:
        """Whether a worker has a frame that neither the store nor another worker has."""
        return any(
            digest in self._coming and list(self._workers[digest]) == [worker]
            for digest in self._digests.get(worker, ())
        )

    def drop(self, worker: str, digests: Iterable[str]) -> None:
        """A worker has some copies no more."""
        for digest in digests:
            if worker in self._workers.get(digest, {}):
                self._remove(worker, digest)
                self._digests[worker].discard(digest)

    def gone(self, worker: str) -> None:
        """A worker has left the cluster, with all its copies."""
        for digest in self._digests.pop(worker, ()):
            came = digest not in self._coming
            self._remove(worker, digest)
            if not came and digest not in self._workers:
                self._lose(
                    digest,
                    f"was on the worker {worker} alone, which died or was stopped before it was "
                    "copied",
                )

    def of(self, digest: str) -> list[str]:
        """Addresses of the workers that have a frame; the first had it first."""
        return list(self._workers.get(digest, ()))

    def nearest(self, digests: Iterable[str]) -> list[str]:
        """Workers that have some of the frames; the one with the most bytes first."""
        sizes: Counter[str] = Counter()
        for digest in digests:
            for worker in self._workers.get(digest, ()):
                sizes[worker] += size_of(digest)
        return [worker for worker, _ in sizes.most_common()]

    def fate(self, digest: str) -> str:
        """Say what became of a frame that was coming, and comes no more; else empty."""
        return self._lost.get(digest, "")

    def missing(self, digest: str, folder: Path) -> str:
        """Say of a frame that it is not in the store's folder, and why if that is known."""
        if why := self._lost.get(digest):
            return f"{why} to {folder}"
        return f"is missing from {folder}"

    def _lose(self, digest: str, why: str) -> None:
        self._lost[digest] = why
        for old in list(self._lost)[:-LOST]:
            del self._lost[old]

    def _comes_no_more(self, source: str, digest: str) -> None:
        bringing = self._coming.get(digest, set())
        bringing.discard(source)
        if not bringing:
            self.came(digest)  # or never will

    def _remove(self, worker: str, digest: str) -> None:
        self._comes_no_more(worker, digest)
        del self._workers[digest][worker]
        if not self._workers[digest]:
            del self._workers[digest]
