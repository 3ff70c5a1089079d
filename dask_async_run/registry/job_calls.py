"""Operations on jobs, and on the server that runs them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dask_async_run.glimpse import Glimpse
from dask_async_run.job import JobResult, JobSpec, JobView, Message, State
from dask_async_run.messages import dask_key
from dask_async_run.registry.answers import (
    Endings,
    Outcome,
    Output,
    Outputs,
    Remains,
    outputs_of,
)
from dask_async_run.registry.calls import POLL, Calls


class JobCalls(Calls):
    """Operations on jobs; see `Calls`."""

    async def hello(self) -> Message:
        """Answer what the server is.

        Returns
        -------
        dict
            Its ``version``, ``state_folder``, ``host_token`` and ``python``; ``page``, its
            page of jobs; ``peers``, whether its workers have frames for others; ``endings``,
            whether it has that operation: an older one has not.
        """
        answer: Message = await self._ask("hello")
        return answer

    async def create(self, spec: JobSpec) -> JobView:
        """Make a job; on return it is in the journal and depends on nobody here.

        Calling again with the same spec gives the same job.

        Raises
        ------
        FrameError
            A frame of the inputs is not there: `put` it (again), and call again.
        """
        return JobView.from_message(await self._ask("create", spec=spec.to_message()))

    async def kept(self) -> list[Any]:
        """Keys of all of Dask's data that is kept for jobs, and is there."""
        return [dask_key(key) for key in await self._ask("kept")]

    async def cancel(self, jobs: Iterable[str]) -> dict[str, str]:
        """Cancel jobs; say for each what was done. A running one ends when it has stopped."""
        answer: dict[str, str] = await self._ask("cancel", jobs=list(jobs))
        return answer

    async def jobs(
        self,
        notebook: str | None = None,
        states: Iterable[str] | None = None,
        wanted: Iterable[str] | None = None,
        gathered: bool | None = None,
        latest: int | None = None,
        sweep: str | None = None,
        owner: str = "",
    ) -> list[JobView]:
        """Jobs in order of submission: all, those of a notebook, those in some states.

        Parameters
        ----------
        wanted
            Only those that have one of these names in `notebook`, or one of these ids: costs
            the same however many others there are.
        gathered : bool or None
            Only those that were gathered, or were not.
        latest : int or None
            Only so many, those submitted last, and all that have not ended: costs the same
            however many others there are.
        sweep : str or None
            Only the members of the sweep with this id, which are not listed else, unless
            they are `wanted`.
        owner : str
            Only of this user of a cluster that several have.
        """
        listed = None if states is None else [str(state) for state in states]
        words = None if wanted is None else list(wanted)
        options: Message = {"wanted": words, "gathered": gathered, "latest": latest, "sweep": sweep}
        options |= {"owner": owner or None}
        chosen = {name: value for name, value in options.items() if value is not None}
        answer = await self._ask("jobs", notebook=notebook, states=listed, **chosen)
        return [JobView.from_message(message) for message in answer]

    async def endings(self, jobs: Iterable[str]) -> Endings:
        """Answer which of some jobs, by their ids, have ended.

        Of those that are open nothing travels, however many they are.
        """
        answer = await self._ask("endings", jobs=list(jobs))
        ended = [JobView.from_message(message) for message in answer["ended"]]
        return Endings(ended, answer["gone"])

    async def labels(self, wanted: Iterable[str] = ()) -> list[JobView]:
        """All jobs in order of submission, with nothing but what they are called.

        Members of sweeps only if they are `wanted`, by their names.

        To find out which of ten thousand somebody means: `id`, `notebook`, `name`,
        `version` and `latest` are true, all else is not known.
        """
        answer = await self._ask("labels", wanted=list(wanted))
        return [
            JobView(job, notebook, name, version, latest)
            for job, notebook, name, version, latest in answer
        ]

    async def count(self, notebook: str | None = None, owner: str = "") -> int:
        """How many jobs there are: all, a notebook's, or a user's."""
        chosen = {"owner": owner} if owner else {}
        answer: int = await self._ask("count", notebook=notebook, **chosen)
        return answer

    async def show(self, job: str) -> JobView:
        return JobView.from_message(await self._ask("show", job=job))

    async def spec(self, job: str) -> JobSpec:
        return JobSpec.from_message(await self._ask("spec", job=job))

    async def result(self, job: str) -> JobResult | None:
        """Result of a job; None if it has none (yet)."""
        answer = await self._ask("result", job=job)
        return JobResult.from_message(answer) if answer else None

    async def collected(self, sweep: str) -> list[Message]:
        """What the members of a sweep have left behind that have ended, in their order.

        Returns
        -------
        list of dict
            ``member``, ``state``, ``reason``, ``ename``, ``evalue``, and ``result``: a
            `JobResult` as a message, or None.
        """
        answer: list[Message] = await self._ask("collected", sweep=sweep)
        return answer

    async def remains(self, job: str) -> Remains:
        """What a job that has ended left behind, in one call where it is not much."""
        return await self._remains(job, await self._ask("remains", job=job))

    async def outcome(self, job: str, wait: float) -> Outcome:
        """Wait at most `wait` seconds, and no longer than `POLL`, for a job to end."""
        answer = await self._ask("outcome", job=job, wait=min(wait, POLL))
        view = JobView.from_message(answer["view"])
        return Outcome(view, await self._remains(job, answer) if "result" in answer else None)

    async def _remains(self, job: str, answer: Message) -> Remains:
        outputs = outputs_of(answer["outputs"])
        if answer["more"]:
            outputs += (await self.outputs(job, outputs[-1].seq)).outputs
        result = answer["result"]
        return Remains(JobResult.from_message(result) if result else None, outputs)

    async def outputs(
        self, job: str, since: int = 0, wait: float = 0.0, tail: str | None = None
    ) -> Outputs:
        """Outputs with numbers above `since`: all there are.

        Parameters
        ----------
        wait : float
            Seconds to wait when there are none and the job has not ended; the scheduler
            may answer sooner with none.
        tail : str or None
            The tail that the caller has: another one ends the wait too. None: one that
            changes from now on does.
        """
        listed: list[Output] = []
        while True:
            answer = await self._ask("outputs", job=job, since=since, wait=wait, tail=tail)
            listed += outputs_of(answer["outputs"])
            if not answer["more"]:
                break
            since, wait = listed[-1].seq, 0.0
        return Outputs(listed, answer["tail"], answer["state"], answer["done"])

    async def look(
        self, seen: Mapping[str, str], pictures: Mapping[str, int], wait: float = 0.0
    ) -> list[Glimpse]:
        """Look at jobs: how they stand, the end of their text, their latest picture.

        Costs the same however much a job has put out.

        Parameters
        ----------
        seen : mapping of str to str
            The jobs, and the mark of the last glimpse of each; empty at first.
        pictures : mapping of str to int
            Numbers of the pictures that the caller has; those come without their data.
        wait : float
            Seconds to wait until there is something new to see of one of them.

        Returns
        -------
        list of Glimpse
            Of the jobs of which there is something new to see.
        """
        answer = await self._ask("look", seen=dict(seen), pictures=dict(pictures), wait=wait)
        return [Glimpse.from_message(message) for message in answer]

    async def wait(
        self,
        jobs: Sequence[str],
        timeout: float | None = None,  # noqa: ASYNC109  (a long poll's, in the scheduler)
        any: bool = False,  # noqa: A002
    ) -> list[JobView]:
        """Wait until all of the jobs have ended (one of them, if `any`).

        Returns
        -------
        list of JobView
            In order of submission; some have not ended when `timeout` seconds have passed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = POLL if deadline is None else max(0.0, deadline - time.monotonic())
            answer = await self._ask("wait", jobs=list(jobs), timeout=min(left, POLL), any=any)
            views = [JobView.from_message(message) for message in answer]
            ended = [State(view.state).terminal for view in views]
            if all(ended) or (any and True in ended) or left < POLL:
                return views

    async def gathered(self, jobs: Iterable[str]) -> None:
        """Mark jobs as gathered."""
        await self._ask("gathered", jobs=list(jobs))

    async def forget(self, jobs: Iterable[str]) -> None:
        """Remove jobs that have ended, their outputs and results: all of them or none.

        Raises
        ------
        JobStateError
            One has not ended; or another job needs its result: one that is unfinished, or whose
            own result builds on it and was not gathered.
        """
        await self._ask("forget", jobs=list(jobs))

    async def warm(self, modules: Sequence[str]) -> None:
        """Have the workers' templates import modules when they have nothing else to do."""
        await self._ask("warm", modules=list(modules))

    async def idle(self) -> Message:
        """``unfinished``: how many jobs; ``clients``: how many are connected."""
        answer: Message = await self._ask("idle")
        return answer

    async def stopping(self, reason: str = "the server was stopped", lose: bool = True) -> None:
        """Announce that the server is going to stop: no cell is started any more.

        Parameters
        ----------
        lose : bool
            Running jobs are lost, and say why; else they go on until they are.
        """
        await self._ask("stopping", reason=reason, lose=lose)
