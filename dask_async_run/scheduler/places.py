"""Places: which workers a job's task may go to.

Dask places a task where a thread is free. For cells there is more to it: a worker may have
another Python, the user may have named some by a pattern, and a cell that uses Dask gives its
thread to the work it waits for, though the worker has as many cells as it may have. A cell
that is sent there then is *crowded out*: it waits without a task for the next place anywhere,
which is kept for it.

All decisions, no effect: the caller has the tasks.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from dask_async_run.job import JobSpec
from dask_async_run.scheduler.placement import why_nowhere

HERE = sys.version_info[:2]
"""The scheduler's Python, which is that of the notebooks (see `kernel.preflight`)."""

Where = frozenset[str] | None
"""Addresses of workers; None: all of them, also those that come. Empty: nowhere yet."""


@dataclass(frozen=True, slots=True)
class Place:
    """A worker of the cluster.

    Parameters
    ----------
    address, name, host : str
    threads : int
        How many cells it may run side by side.
    tasks : int
        That it has, cells or not.
    resources : dict of str to float
        In all.
    python : tuple of int or None
        Major and minor version; None: nobody knows.
    open : bool
        Whether it takes tasks: one that has no memory left, or is being retired, does not.
    """

    address: str
    name: str
    host: str
    threads: int = 1
    tasks: int = 0
    resources: Mapping[str, float] = field(default_factory=dict)
    python: tuple[int, ...] | None = None
    open: bool = True

    @property
    def able(self) -> bool:
        """Whether it understands what the notebooks send."""
        return self.python in (None, HERE)

    def is_meant(self, patterns: Iterable[str]) -> bool:
        """Whether one of some patterns is about it; true if there are none."""
        words = (self.address, self.address.partition("://")[2], self.name, self.host)
        patterns = list(patterns)
        # Itself first: the address of a machine with IPv6 has brackets.
        return not patterns or any(
            word == each or fnmatchcase(word, each) for each in patterns for word in words
        )


class Places:
    """The places of one scheduler's workers, and who waits for which.

    Parameters
    ----------
    workers : callable
        Answers the cluster's workers.
    cells : callable
        Answers how many cells each address runs.
    pending : callable
        Whether a job, by id, still waits for its cell to begin.
    """

    def __init__(
        self,
        workers: Callable[[], list[Place]],
        cells: Callable[[], Mapping[str, int]],
        pending: Callable[[str], bool],
    ) -> None:
        self._workers = workers
        self._cells = cells
        self._pending = pending
        self._limited: dict[str, tuple[JobSpec, frozenset[str]]] = {}
        self._crowded: dict[str, JobSpec] = {}
        self._kept: dict[str, tuple[JobSpec, str]] = {}

    def assign(self, spec: JobSpec, near: Sequence[str] = ()) -> Where:
        """Answer where a job's task may go; if that is not everywhere, `moved` looks again.

        Parameters
        ----------
        near : sequence of str
            Addresses of workers that have its inputs, the best first: it goes there if there
            is a place now. Bringing them elsewhere is better than waiting for one.
        """
        self.forget(spec.id)
        if place := self._free_among(near, spec):
            self._kept[spec.id] = spec, place
            return frozenset({place})
        where = self._where(spec)
        if where is not None:
            self._limited[spec.id] = spec, where
        return where

    def best(self) -> list[str]:
        """Answer the addresses of all workers that can run cells, the least busy first."""
        taken = self._taken()

        def load(place: Place) -> tuple[float, str]:
            return max(taken[place.address], place.tasks) / max(1, place.threads), place.address

        usable = (place for place in self._workers() if place.able and place.open)
        return [place.address for place in sorted(usable, key=load)]

    def crowd_out(self, spec: JobSpec) -> None:
        """Have a job wait for the next place, since the worker that it came to has none."""
        self.forget(spec.id)
        self._crowded[spec.id] = spec

    def forget(self, job: str) -> None:
        """Let a job wait for nothing, and keep no place for it."""
        for known in (self._limited, self._crowded, self._kept):
            known.pop(job, None)

    def moved(self) -> list[tuple[JobSpec, Where]]:
        """Answer the jobs that go elsewhere now that a worker or a cell has come or gone."""
        if not (self._limited or self._crowded or self._kept):
            return []
        for job in [*self._limited, *self._crowded, *self._kept]:
            if not self._pending(job):
                self.forget(job)
        workers = {place.address: place for place in self._workers()}
        open_ones = {address for address, place in workers.items() if place.open}
        moved: list[tuple[JobSpec, Where]] = []
        for spec, before in list(self._limited.values()):
            if self._where(spec) != before:
                moved.append((spec, self.assign(spec)))
        lost = {job: spec for job, (spec, place) in self._kept.items() if place not in open_ones}
        for job in lost:
            del self._kept[job]
        self._crowded = lost | self._crowded
        moved += ((spec, frozenset[str]()) for spec in lost.values())
        taken = self._taken()
        for spec in list(self._crowded.values()):
            free = [p for p in workers.values() if taken[p.address] < p.threads and _fits(p, spec)]
            if free:
                place = min(free, key=lambda p: p.tasks).address
                taken[place] += 1
                del self._crowded[spec.id]
                self._kept[spec.id] = spec, place
                moved.append((spec, frozenset({place})))
        return moved

    def named(self, job: str) -> list[str]:
        """Answer the patterns by which a job's user has named workers."""
        spec, _ = self._limited.get(job, (None, None))
        return list(spec.workers) if spec is not None else []

    def waits_for(self, job: str) -> str:
        """Say which worker a job waits for that has no task therefore; else empty."""
        spec, where = self._limited.get(job, (None, None))
        if spec is None or where:
            return ""
        if any(place.is_meant(spec.workers) for place in self._workers()):
            return f"waits for a worker with Python {'.'.join(map(str, HERE))}: none has it"
        return why_nowhere({}, spec.workers, {})

    def _taken(self) -> Counter[str]:
        """How many cells each worker runs or has a place kept for."""
        return Counter(self._cells()) + Counter(place for _, place in self._kept.values())

    def _free_among(self, near: Sequence[str], spec: JobSpec) -> str:
        """Answer the first of some workers that has a place for a job, or nothing.

        A job that asks for resources goes where Dask finds them free.
        """
        if not near or spec.resources:
            return ""
        workers = {place.address: place for place in self._workers()}
        taken = self._taken()
        for place in filter(None, map(workers.get, near)):
            busy = max(taken[place.address], place.tasks)
            if busy < place.threads and _fits(place, spec):
                return place.address
        return ""

    def _where(self, spec: JobSpec) -> Where:
        workers = self._workers()
        if not spec.workers and all(place.able for place in workers):
            return None
        return frozenset(p.address for p in workers if p.able and p.is_meant(spec.workers))


def _fits(place: Place, spec: JobSpec) -> bool:
    enough = all(place.resources.get(n, 0) >= amount for n, amount in spec.resources.items())
    return place.able and place.open and enough and place.is_meant(spec.workers)


def python_of(versions: Mapping[str, Mapping[str, object]]) -> tuple[int, ...] | None:
    """Answer a worker's Python, of what Dask's workers tell of themselves."""
    text = str(versions.get("host", {}).get("python", ""))
    parts = text.split(".")[:2]
    return tuple(map(int, parts)) if len(parts) == 2 and all(map(str.isdigit, parts)) else None
