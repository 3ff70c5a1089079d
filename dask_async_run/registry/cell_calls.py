"""Operations for whoever runs a cell: a worker's task."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from dask_async_run.job import JobResult, Message, State
from dask_async_run.messages import pack
from dask_async_run.registry.answers import Claim
from dask_async_run.registry.calls import Calls


class CellCalls(Calls):
    """Operations on a job whose cell runs; see `Calls`."""

    async def claim(
        self, job: str, worker: str, host: str, task: str = "", token: str = ""
    ) -> Claim:
        """Ask to run a job's cell; granted once per attempt.

        Parameters
        ----------
        worker : str
            Address of the worker that asks.
        host : str
            Name of its machine.
        task : str
            Key of the Dask task that asks, if it is one.
        token : str
            Of a claim that was asked for already, and may have been granted.
        """
        arguments = {"job": job, "worker": worker, "host": host, "task": task}
        arguments["token"] = token or uuid.uuid4().hex
        return Claim.from_message(await self._ask_again("claim", **arguments))

    async def record(
        self,
        job: str,
        outputs: Iterable[Message],
        tail: str | None = None,
        info: Message | None = None,
        *,
        attempt: int | None = None,
        batch: int | None = None,
    ) -> Message:
        """Append outputs of a running cell; they are in the journal on return.

        Parameters
        ----------
        outputs
            In nbformat's terms.
        tail : str or None
            The end of a flood so far; None if it has not changed.
        info : dict or None
            ``pid``, ``memory`` (bytes), ``cpu`` (percent), ``last_line``.
        attempt : int or None
            As the claim said.
        batch : int or None
            Counts the calls, from 1: then one whose answer was lost can be made again.

        Returns
        -------
        dict
            ``accepted``: False when the job does not run (any more), so that the cell has
            to be stopped; ``stopping``: somebody wants it stopped.
        """
        ask = self._ask if batch is None else self._ask_again
        packed = [pack(output) for output in outputs]
        arguments = {"tail": tail, "info": info, "attempt": attempt, "batch": batch}
        answer: Message = await ask("record", job=job, outputs=packed, **arguments)
        return answer

    async def finish(
        self,
        job: str,
        state: State | str,
        reason: str = "",
        result: JobResult | None = None,
        *,
        attempt: int | None = None,
        last: Message | None = None,
    ) -> Message:
        """End a running job; its result's frames must be in the store.

        Parameters
        ----------
        last : dict or None
            The last outputs, which are recorded first: ``outputs``, ``tail``, ``info`` and
            ``batch`` as of `record`. Nobody sees the end without them.

        Returns
        -------
        dict
            ``accepted``: False when it had ended already or another attempt runs;
            ``state``: the job's state now; ``reason``: why it was not accepted.
        """
        answer: Message = await self._ask_again(
            "finish",
            job=job,
            state=str(state),
            reason=reason,
            result=result.to_message() if result else None,
            attempt=attempt,
            last=last and {**last, "outputs": [pack(output) for output in last["outputs"]]},
        )
        return answer

    async def give_back(self, job: str, token: str) -> None:
        """Give back a claim that came ahead, and by which no cell has run or will run."""
        await self._ask_again("give_back", job=job, token=token)

    async def keep(self, job: str, keys: Iterable[Any]) -> None:
        """Keep the data of some Dask keys on the cluster until a job is forgotten."""
        await self._ask_again("keep", job=job, keys=list(keys))
