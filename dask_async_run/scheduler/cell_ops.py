"""What the task that runs a cell can ask of the registry, called by name from outside.

`dask_async_run.registry.Registry` has the same methods and says what they mean.
"""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from dask_async_run.errors import AsyncRunError, ServerError
from dask_async_run.job import JobResult, JobSpec, Message, State
from dask_async_run.messages import dask_key
from dask_async_run.registry.answers import Parent
from dask_async_run.scheduler.events import Claimed, Ended, GivenBack, Refused
from dask_async_run.scheduler.registry import RETRY_COMMIT, JobRegistry
from dask_async_run.sweeps import collecting_spec

RECENT = 1.0
"""Seconds for which a worker is taken to be alive that has said something."""

_TAIL_EVERY = 5.0  # seconds between two writes of a running cell's tail to the journal


class CellOps:
    """Operations for the worker that runs a job's cell."""

    NAMES = ("claim", "give_back", "record", "keep", "finish")

    def __init__(self, registry: JobRegistry) -> None:
        self._registry = registry
        self._journal = registry.journal

    async def claim(
        self, job: str, worker: str, host: str, token: str = "", task: str = ""
    ) -> Message:
        cluster = self._registry.cluster
        await self._arrived(job)
        places = cluster.places(worker)
        if not places:
            return self._refusal(job, f"{worker} does not belong to the cluster")
        if task and not cluster.is_current(job, task):
            return self._refusal(job, "its task was taken back")
        await self._registry.call_back(job, unless=worker)
        claimed = Claimed(job, worker, host, token, time.time(), places)
        for instruction in self._registry.apply(claimed):
            if isinstance(instruction, Refused):
                return self._refusal(job, instruction.reason)
        attempt = self._registry.machine.records[job].attempt
        try:
            await self._on_record()
        except ServerError as error:
            # A claim that is not on record could be granted again after a restart.
            self._registry.apply(Ended(job, State.LOST, f"not run: {error}", attempt, time.time()))
            return self._refusal(job, str(error))
        if not self._is_running(job, attempt):
            return self._refusal(job, "it was stopped before it began")
        spec = self._spec(job)
        await self._at_hand(job, spec)
        if missing := self._lost_input(spec):
            reason = f"not run: an input {missing}. Submit the cell again"
            self._registry.apply(Ended(job, State.LOST, reason, attempt, time.time()))
            return self._refusal(job, reason)
        return self._grant(job, spec, self._parents(job))

    async def give_back(self, job: str, token: str) -> None:
        self._registry.apply(GivenBack(job, token, time.time()))
        await self._committed()

    def _grant(self, job: str, spec: JobSpec, parents: list[Message]) -> Message:
        self._registry.live[job].batch = 0  # each attempt counts its own
        return {
            "granted": True,
            "reason": "",
            "state": State.RUNNING,
            "attempt": self._registry.machine.records[job].attempt,
            "spec": (collecting_spec(spec) if spec.has_members else spec).to_message(),
            "parents": parents,
            "members": self._journal.collected(job) if spec.has_members else [],
        }

    async def _on_record(self) -> None:
        """Wait until this turn's writes are on record: the disk may be full, the journal locked.

        Raises
        ------
        ServerError
            The registry is closed before.
        """
        while True:
            try:
                return await self._registry.committed()
            except ServerError:
                if self._registry.closed:
                    raise
            await asyncio.sleep(RETRY_COMMIT)

    def _is_running(self, job: str, attempt: int) -> bool:
        record = self._registry.machine.records.get(job)
        return record is not None and (record.state, record.attempt) == (State.RUNNING, attempt)

    async def _arrived(self, job: str) -> None:
        """Wait for inputs that the kernel which made a job left to a snapshot of itself."""
        if self._registry.arrivals and (spec := self._journal.spec(job)) is not None:
            await self._registry.arrivals.wait(spec.payload.digests)

    def _lost_input(self, spec: JobSpec) -> str:
        """Say what became of an input that was coming and never came."""
        holders, store = self._registry.holders, self._registry.store
        for digest in spec.payload.digests:
            if (why := holders.fate(digest)) and not store.has(digest):
                return why
        return ""

    async def _at_hand(self, job: str, spec: JobSpec) -> None:
        """Bring back what the cell needs and only a store has; who misses a frame says so."""
        with suppress(AsyncRunError):
            await self._registry.stores.at_hand(_needed(spec, self._parents(job)))

    def _parents(self, job: str) -> list[Message]:
        return self._journal.parents(self._registry.live[job].parents)

    async def record(
        self,
        job: str,
        outputs: Sequence[bytes],
        tail: str | None = None,
        info: Message | None = None,
        attempt: int | None = None,
        batch: int | None = None,
    ) -> Message:
        accepted, stopping = self._record(job, outputs, tail, info, attempt, batch)
        if accepted:
            self._registry.ring(job)
            await self._committed()
        return {"accepted": accepted, "stopping": stopping}

    def _record(
        self,
        job: str,
        outputs: Sequence[bytes],
        tail: str | None,
        info: Message | None,
        attempt: int | None,
        batch: int | None,
    ) -> tuple[bool, bool]:
        """Write outputs; whether they are wanted, and whether the cell is to stop."""
        record = self._registry.machine.records.get(job)
        if (
            record is None
            or record.state is not State.RUNNING
            or attempt not in (None, record.attempt)
        ):
            return False, True
        live = self._registry.live[job]
        if batch is not None and batch <= live.batch:
            return True, record.stopping  # its answer was lost
        live.batch = batch or live.batch
        record.ahead = ""  # it has begun
        now = time.time()
        self._journal.append(job, live.outputs + 1, outputs, now)
        for number, packed in enumerate(outputs, live.outputs + 1):
            self._registry.overwritten.add_packed(job, number, packed)
        live.outputs += len(outputs)
        live.beats += 1
        if info:
            live.pid = info.get("pid") or live.pid
            live.memory = info.get("memory") or live.memory
            live.cpu = info.get("cpu") or 0.0
            if live.memory:
                live.usage.add(now, live.memory, live.cpu)
            live.last_line = info.get("last_line") or live.last_line
        self._journal.progress(job, live.outputs, live.last_line, live.pid)
        if tail is not None:
            live.tail = tail
            steady = time.monotonic()  # the other one may be set back
            if not tail or steady - live.tail_stored > _TAIL_EVERY:
                self._journal.store_tail(job, tail)
                live.tail_stored = steady
        return True, record.stopping

    async def keep(self, job: str, keys: Sequence[Any]) -> None:
        await self._registry.cluster.keep(job, map(dask_key, keys))

    async def finish(
        self,
        job: str,
        state: str,
        reason: str = "",
        result: Message | None = None,
        attempt: int | None = None,
        last: Message | None = None,
    ) -> Message:
        end = State(state)
        if not end.terminal:
            raise ValueError(f"{state} is no end")
        if last is not None:
            self._record(job, attempt=attempt, **last)
        now = time.time()
        before = self._registry.machine.records.get(job)
        for instruction in self._registry.apply(Ended(job, end, reason, attempt, now)):
            if isinstance(instruction, Refused):
                await self._registry.committed()
                return {
                    "accepted": False,
                    "state": self._state(job),
                    "reason": instruction.reason,
                }
        if before is not None:
            self._registry.heard[before.worker] = before.host, time.monotonic()
        # A lost attempt that is followed by another leaves nothing behind.
        if result is not None and job not in self._registry.machine.records:
            self._journal.store_result(job, JobResult.from_message(result), now)
        await self._committed()
        record = self._registry.machine.records.get(job)
        return {"accepted": True, "state": str(record.state if record else end), "reason": ""}

    def claim_ahead(self, job: str, worker: str, task: str) -> tuple[str, Message] | None:
        """Claim a job for the worker that Dask is sending its task to; token and grant.

        None: the task has to ask, as any does whose worker has not just ended a cell. A worker
        that is dead, and nobody knows it yet, must not get a claim: its job would be lost
        though nothing of it had run.
        """
        registry = self._registry
        record = registry.machine.records.get(job)
        host, heard = registry.heard.get(worker, ("", -math.inf))
        recent = time.monotonic() - heard < RECENT
        if record is None or record.state is not State.PENDING or not recent or registry.arrivals:
            return None
        spec = self._spec(job)
        if spec.has_members:
            return None
        parents = self._parents(job)
        if not all(map(registry.store.has, _needed(spec, parents))) or self._lost_input(spec):
            return None
        token, places = uuid.uuid4().hex, registry.cluster.places(worker)
        claimed = Claimed(job, worker, host, token, time.time(), places, ahead=task)
        if any(isinstance(each, Refused) for each in registry.apply(claimed)):
            return None
        try:
            registry.commit()
        except ServerError:
            registry.apply(GivenBack(job, token, time.time()))
            return None
        return token, self._grant(job, spec, parents)

    async def _committed(self) -> None:
        # On a full disk the cell goes on: what it said is kept here, and written when there
        # is space; the client's side shows that it is not on record yet.
        with suppress(ServerError):
            await self._registry.committed()

    def _refusal(self, job: str, reason: str) -> Message:
        return {
            "granted": False,
            "reason": reason,
            "state": self._state(job),
            "attempt": 0,
            "spec": None,
            "parents": [],
            "members": [],
        }

    def _state(self, job: str) -> str:
        rows = self._journal.rows(jobs=[job])
        state: str = rows[0]["state"] if rows else State.LOST  # lost: it was forgotten
        return state

    def _spec(self, job: str) -> JobSpec:
        spec = self._journal.spec(job)
        assert spec is not None  # as long as a job that needs it has not ended
        return spec


def _needed(spec: JobSpec, parents: Sequence[Message]) -> list[str]:
    """Answer the frames that a cell starts from."""
    named = [frame for parent in parents for frame in Parent(parent).named]
    return [*spec.payload.digests, *(digest for digest, _ in named)]
