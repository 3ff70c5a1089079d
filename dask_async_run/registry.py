"""The client side of the registry: the only way to talk to it.

`Registry` is asynchronous, for event loops (a worker's, an asynchronous client's);
`SyncRegistry` is the same for a thread that may wait, as a kernel's main thread, where
an interrupt ends the wait and nothing else.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

from distributed import Client, Worker

from dask_async_run import errors
from dask_async_run.carrier import FrameCarrier
from dask_async_run.frames import Frame
from dask_async_run.glimpse import Glimpse
from dask_async_run.job import JobResult, JobSpec, JobView, Message, State
from dask_async_run.messages import dask_key, pack, unpack, unpack_output
from dask_async_run.peers import Peers
from dask_async_run.snapshots import Snapshot

P = ParamSpec("P")
T = TypeVar("T")

CONNECTION_ERRORS = (OSError, TimeoutError, ValueError)
"""What Dask raises when a scheduler cannot be reached or goes away.

``ValueError`` is tornado's, when a connection is closed before TLS has begun on it.
"""

POLL = 25.0
"""Seconds that one call waits in the scheduler; longer waits are several calls."""

CONNECTING = 30.0
"""Seconds in which a scheduler that lives has to take a connection: Dask's own default."""

_NO_CONNECTION = "Timed out trying to connect"
"""How Dask's error begins when nothing was sent yet."""

PATIENCE = 60.0
"""Seconds after which a scheduler that is connected, but silent, is said to be so."""
_UNHURRIED = frozenset(
    ("write_frame", "read_frame", "complete_frame", "check_store", "recall", "restore")
)
"""What takes as long as a network, a store or a disk does."""


@dataclass(frozen=True, slots=True)
class Output:
    """A recorded output: its number (the first is 1), its time, itself in nbformat's terms."""

    seq: int
    time: float
    output: Message


@dataclass(frozen=True, slots=True)
class Outputs:
    """Some of a job's outputs.

    Parameters
    ----------
    outputs : list of Output
        In order.
    tail : str
        The end of a flood of text whose middle was dropped: so far, while it runs.
    state : str
        The job's `State`.
    done : bool
        The job has ended and these are the last ones.
    """

    outputs: list[Output]
    tail: str
    state: str
    done: bool


@dataclass(frozen=True, slots=True)
class Endings:
    """Which of some jobs are not open: those that have ended, and ids of which there is none."""

    ended: list[JobView]
    gone: list[str]


@dataclass(frozen=True, slots=True)
class Remains:
    """What a job left behind: its result, None if it has none, and all outputs in order."""

    result: JobResult | None
    outputs: list[Output]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job stands, and what it left behind: None before it has ended."""

    view: JobView
    remains: Remains | None


@dataclass(frozen=True, slots=True)
class Parent:
    """A job whose result a later job's cell starts from."""

    spec: JobSpec
    result: JobResult


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to `Registry.claim`.

    Parameters
    ----------
    granted : bool
        Whether the cell may run, now and here.
    reason : str
        Why not.
    state : str
        The job's `State`.
    attempt : int
        To be passed to `Registry.record` and `Registry.finish`.
    spec : JobSpec or None
        What to run, if granted.
    parents : list of Parent
        Those of ``spec.parents``, in that order.
    members : list of dict
        Of a sweep, which is to collect: as `Registry.collected` answers.
    """

    granted: bool
    reason: str
    state: str
    attempt: int
    spec: JobSpec | None
    parents: list[Parent]
    members: list[Message] = field(default_factory=list)


class Registry:
    """The registry's operations, asynchronous.

    Parameters
    ----------
    call : callable
        ``call(do=..., body=...)`` calls the scheduler's handler ``async_run``.
    patience : float or None
        Seconds that it may take to answer; None: for ever, where somebody's results depend on
        it. What a network, a store or a disk has to do takes as long as it takes.

    Raises
    ------
    NoSuchJobError, JobStateError, FrameError
        Every method, as the operation says.
    ServerError
        Every method, when the scheduler cannot be reached, has no registry, or cannot
        write its journal.
    """

    def __init__(self, call: Callable[..., Awaitable[Any]], patience: float | None = None) -> None:
        self._call = call
        self._patience = patience

    @classmethod
    def of_client(
        cls, client: Client, patience: float = PATIENCE, alive: Callable[[], bool] | None = None
    ) -> Registry:
        """Return the registry of a client's scheduler; for the client's event loop.

        `alive` tells, where that can be found out without asking it, whether the scheduler's
        process lives: then a connection that takes long is tried again, for `CONNECTING`.
        """

        async def call(**kwargs: Any) -> Any:
            until = time.monotonic() + CONNECTING
            while True:
                # Looked up at each call: a client that reconnects has another `scheduler`, and
                # one that is closed has none.
                if client.scheduler is None:
                    raise OSError("this client is closed")
                try:
                    return await client.scheduler.async_run(**kwargs)
                except OSError as error:
                    sent = not str(error).startswith(_NO_CONNECTION)
                    if sent or alive is None or time.monotonic() > until or not alive():
                        raise

        return cls(call, patience)

    @classmethod
    def of_worker(cls, worker: Worker) -> Registry:
        """Return the registry of a worker's scheduler; for the worker's event loop.

        A connection that takes long is tried again as long as the worker lives: a second call
        needs one of its own while the first waits for a scheduler that is at a standstill, and
        may be the one that tells what a cell has made. A worker is closed with its scheduler.
        """

        async def call(**kwargs: Any) -> Any:
            while True:
                try:
                    return await worker.scheduler.async_run(**kwargs)
                except OSError as error:
                    sent = not str(error).startswith(_NO_CONNECTION)
                    if sent or worker.status.name in ("closing", "closed", "failed"):
                        raise

        return cls(call)

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
        return _view(await self._ask("create", spec=spec.to_message()))

    async def claim(self, job: str, worker: str, host: str, task: str = "") -> Claim:
        """Ask to run a job's cell; granted once per attempt.

        Parameters
        ----------
        worker : str
            Address of the worker that asks.
        host : str
            Name of its machine.
        task : str
            Key of the Dask task that asks, if it is one.
        """
        arguments = {"job": job, "worker": worker, "host": host, "task": task}
        arguments["token"] = uuid.uuid4().hex
        answer = await self._ask_again("claim", **arguments)
        spec = answer["spec"]
        return Claim(
            granted=answer["granted"],
            reason=answer["reason"],
            state=answer["state"],
            attempt=answer["attempt"],
            spec=JobSpec.from_message(spec) if spec else None,
            parents=[
                Parent(JobSpec.from_message(p["spec"]), JobResult.from_message(p["result"]))
                for p in answer["parents"]
            ],
            members=answer.get("members", []),  # an older server has no sweeps
        )

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

    async def keep(self, job: str, keys: Iterable[Any]) -> None:
        """Keep the data of some Dask keys on the cluster until a job is forgotten."""
        await self._ask_again("keep", job=job, keys=list(keys))

    async def kept(self) -> list[Any]:
        """Keys of all of Dask's data that is kept for jobs, and is there."""
        return [dask_key(key) for key in await self._ask("kept")]

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
        return [_view(message) for message in answer]

    async def endings(self, jobs: Iterable[str]) -> Endings:
        """Answer which of some jobs, by their ids, have ended.

        Of those that are open nothing travels, however many they are.
        """
        answer = await self._ask("endings", jobs=list(jobs))
        return Endings([_view(message) for message in answer["ended"]], answer["gone"])

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
        return _view(await self._ask("show", job=job))

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
        ended = "result" in answer
        return Outcome(_view(answer["view"]), await self._remains(job, answer) if ended else None)

    async def _remains(self, job: str, answer: Message) -> Remains:
        outputs = _outputs(answer["outputs"])
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
            listed += _outputs(answer["outputs"])
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
            views = [_view(message) for message in answer]
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
            One has not ended, or an unfinished job needs its result.
        """
        await self._ask("forget", jobs=list(jobs))

    async def missing_frames(self, digests: Sequence[str], coming: bool = False) -> list[str]:
        """Which frames the store does not have; the others are marked as used now.

        Parameters
        ----------
        coming : bool
            Whether one is not missing either that a worker is bringing there.
        """
        more = (
            {"coming": True} if coming else {}
        )  # which a server of an older version does not know
        answer: list[str] = await self._ask("missing_frames", digests=list(digests), **more)
        return answer

    async def frame_places(self, size: int) -> list[str]:
        """Addresses of workers that a frame of `size` bytes may be brought to, the best first."""
        answer: list[str] = await self._ask("frame_places", size=size)
        return answer

    async def holders(self, digests: Sequence[str]) -> dict[str, list[str]]:
        """By digest, the addresses of the workers that have copies of frames."""
        answer: dict[str, list[str]] = await self._ask("holders", digests=list(digests))
        return answer

    async def held(
        self,
        worker: str,
        digests: Sequence[str],
        passing: bool = False,
        gone: Sequence[str] = (),
    ) -> None:
        """Tell which frames a worker has copies of.

        Parameters
        ----------
        worker : str
            Its address.
        digests : sequence of str
            That it has from now on.
        passing : bool
            Whether it brings those of them to the store that this does not have.
        gone : sequence of str
            That it has no more.
        """
        told = {"digests": list(digests), "passing": passing, "gone": list(gone)}
        await self._ask_again("held", worker=worker, **told)

    async def bring(self, snapshot: Snapshot) -> bool:
        """Have frames copied to the store from a snapshot, which is ended then.

        On return they count as coming: a job that needs them can be made.

        Returns
        -------
        bool
            Whether the registry can read the snapshot and has the room. If not, it is as it was.
        """
        return bool(await self._ask("bring", snapshot=snapshot.to_message()))

    async def write_frame(self, transfer: str, offset: int, piece: bytes) -> None:
        """Send a piece of a frame; see `dask_async_run.incoming`."""
        await self._ask_again("write_frame", transfer=transfer, offset=offset, piece=piece)

    async def complete_frame(self, transfer: str, digest: str) -> None:
        """Have what was sent become a frame.

        Raises
        ------
        FrameError
            It is not what its name says.
        """
        await self._ask_again("complete_frame", transfer=transfer, digest=digest)

    async def read_frame(self, digest: str, offset: int) -> bytes:
        """Fetch the piece of a frame that begins at `offset`."""
        answer: bytes = await self._ask_again("read_frame", digest=digest, offset=offset)
        return answer

    async def check_store(self, url: str) -> Message:
        """Try a store at a URL.

        Returns
        -------
        dict
            ``place``: where jobs will lie; ``unknown``: how many jobs lie there that the
            registry does not know.

        Raises
        ------
        StoreError
            It cannot be used.
        """
        answer: Message = await self._ask("check_store", url=url)
        return answer

    async def recall(self, digests: Sequence[str]) -> None:
        """Make frames be in the store, and whole, that are in a store at a URL.

        Raises
        ------
        StoreError, FrameError
            Such a store cannot be reached, or has not got it either.
        """
        await self._ask_again("recall", digests=list(digests))

    async def restore(self, url: str) -> Message:
        """Take in jobs that lie in a store at a URL.

        Returns
        -------
        dict
            ``jobs``: how many; ``problems``: what is wrong with others.
        """
        answer: Message = await self._ask("restore", url=url)
        return answer

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

    async def _ask_again(self, do: str, **arguments: Any) -> Any:
        """Ask; and once more if the connection broke, for what may be asked twice."""
        try:
            return await self._ask(do, **arguments)
        except errors.ServerError as error:
            if not isinstance(error.__cause__, CONNECTION_ERRORS):
                raise
        await asyncio.sleep(0.1)
        return await self._ask(do, **arguments)

    async def _ask(self, do: str, **arguments: Any) -> Any:
        body = pack(arguments)
        limit = None if self._patience is None or do in _UNHURRIED else self._patience
        if limit is not None:
            limit += arguments.get("wait") or arguments.get("timeout") or 0.0
        silence = asyncio.timeout(limit)
        try:
            async with silence:
                reply = await self._call(do=do, body=body)
        except CONNECTION_ERRORS as error:
            if silence.expired():
                raise errors.ServerError(
                    f"the scheduler has not answered for {limit:.0f} s, though it is connected. "
                    "Jobs go on; try again later."
                    + (" This one may have been submitted." if do == "create" else "")
                ) from None
            raise errors.ServerError(
                f"the scheduler does not answer ({type(error).__name__}: {error}). Is the server "
                "still running? %async_run_server starts it or connects to it again."
            ) from error
        if reply is None:  # what Dask answers for a handler that it does not have
            raise errors.ServerError(
                "this Dask scheduler keeps no registry of jobs. Connect to it with "
                "%async_run_server ADDRESS, which installs one."
            )
        message = unpack(reply)
        if "error" in message:
            name, args = message["error"]
            raise getattr(errors, name, errors.ServerError)(*args)
        return message["answer"]


class SyncRegistry:
    """The registry's operations for a thread that waits; see `Registry` for each.

    Parameters
    ----------
    client : Client
        A synchronous one. ``KeyboardInterrupt`` gets through while a method waits; the
        scheduler does not notice.
    patience, alive
        See `Registry`.
    """

    def __init__(
        self,
        client: Client,
        patience: float = PATIENCE,
        alive: Callable[[], bool] | None = None,
    ) -> None:
        self._client = client
        self._registry = Registry.of_client(client, patience, alive)
        self._carrier = FrameCarrier(self._registry)
        self._marking: asyncio.Task[None] | None = None

    def hello(self) -> Message:
        return self._sync(self._registry.hello)

    def create(self, spec: JobSpec) -> JobView:
        return self._sync(self._registry.create, spec)

    def cancel(self, jobs: Iterable[str]) -> dict[str, str]:
        return self._sync(self._registry.cancel, jobs)

    def jobs(
        self,
        notebook: str | None = None,
        states: Iterable[str] | None = None,
        wanted: Iterable[str] | None = None,
        gathered: bool | None = None,
        latest: int | None = None,
        sweep: str | None = None,
        owner: str = "",
    ) -> list[JobView]:
        return self._sync(
            self._registry.jobs, notebook, states, wanted, gathered, latest, sweep, owner
        )

    def endings(self, jobs: Iterable[str]) -> Endings:
        return self._sync(self._registry.endings, list(jobs))

    def labels(self, wanted: Iterable[str] = ()) -> list[JobView]:
        return self._sync(self._registry.labels, wanted)

    def collected(self, sweep: str) -> list[Message]:
        return self._sync(self._registry.collected, sweep)

    def count(self, notebook: str | None = None, owner: str = "") -> int:
        return self._sync(self._registry.count, notebook, owner)

    def show(self, job: str) -> JobView:
        return self._sync(self._registry.show, job)

    def spec(self, job: str) -> JobSpec:
        return self._sync(self._registry.spec, job)

    def result(self, job: str) -> JobResult | None:
        return self._sync(self._registry.result, job)

    def remains(self, job: str) -> Remains:
        return self._sync(self._registry.remains, job)

    def outcome(self, job: str, wait: float) -> Outcome:
        return self._sync(self._registry.outcome, job, wait)

    def outputs(
        self, job: str, since: int = 0, wait: float = 0.0, tail: str | None = None
    ) -> Outputs:
        return self._sync(self._registry.outputs, job, since, wait, tail)

    def look(
        self, seen: Mapping[str, str], pictures: Mapping[str, int], wait: float = 0.0
    ) -> list[Glimpse]:
        return self._sync(self._registry.look, seen, pictures, wait)

    def wait(
        self,
        jobs: Sequence[str],
        timeout: float | None = None,
        any: bool = False,  # noqa: A002
    ) -> list[JobView]:
        return self._sync(self._registry.wait, jobs, timeout, any)

    def gathered(self, jobs: Iterable[str]) -> None:
        """As `Registry.gathered`; returns at once, and the next call is made after it.

        Should it get lost, with the server or this kernel, the jobs can be gathered again.
        """
        marked = list(jobs)
        loop: Any = self._client.loop
        loop.add_callback(lambda: self._mark(marked))

    def settle(self) -> None:
        """Wait until nothing is on its way."""
        with suppress(errors.AsyncRunError):
            self._sync(self._marked)

    def _mark(self, jobs: list[str]) -> None:
        self._marking = asyncio.ensure_future(self._mark_after(self._marking, jobs))

    async def _mark_after(self, before: asyncio.Task[None] | None, jobs: list[str]) -> None:
        if before is not None:
            await before
        with suppress(errors.AsyncRunError):
            await self._registry.gathered(jobs)

    async def _marked(self) -> None:
        marking, self._marking = self._marking, None
        if marking is not None:
            await asyncio.shield(marking)

    def forget(self, jobs: Iterable[str]) -> None:
        self._sync(self._registry.forget, jobs)

    def missing_frames(self, digests: Sequence[str]) -> list[str]:
        return self._sync(self._registry.missing_frames, digests)

    def bring(self, snapshot: Snapshot) -> bool:
        return self._sync(self._registry.bring, snapshot)

    def use_peers(self) -> None:
        """Have large frames go straight to workers and from them, where these can be reached."""
        self._carrier = FrameCarrier(self._registry, Peers(self._client.rpc))

    def place_frame(self, frame: Frame, view: memoryview) -> None:
        """Bring a frame's bytes where a job can use them; see `FrameCarrier`."""
        self._sync(self._carrier.place, frame, view)

    def fetch_frame(self, digest: str, size: int) -> bytearray:
        """Fetch a frame's bytes."""
        return self._sync(self._carrier.fetch, digest, size)

    def check_store(self, url: str) -> Message:
        return self._sync(self._registry.check_store, url)

    def recall(self, digests: Sequence[str]) -> None:
        self._sync(self._registry.recall, digests)

    def restore(self, url: str) -> Message:
        return self._sync(self._registry.restore, url)

    def keep(self, job: str, keys: Iterable[Any]) -> None:
        self._sync(self._registry.keep, job, keys)

    def kept(self) -> list[Any]:
        return self._sync(self._registry.kept)

    def warm(self, modules: Sequence[str]) -> None:
        """As `Registry.warm`; returns at once, and nobody hears whether it was done."""

        async def tell() -> None:
            with suppress(errors.AsyncRunError):
                await self._registry.warm(modules)

        loop: Any = self._client.loop
        loop.add_callback(tell)

    def idle(self) -> Message:
        return self._sync(self._registry.idle)

    def stopping(self, reason: str = "the server was stopped", lose: bool = True) -> None:
        self._sync(self._registry.stopping, reason, lose)

    def _sync(self, operation: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._client.status in ("closing", "closed"):
            raise errors.ServerError(
                "the connection to the server is closed. %async_run_server makes a new one."
            )

        async def call() -> T:
            await self._marked()
            return await operation(*args, **kwargs)

        result: T = self._client.sync(call)
        return result


def sync(client: Client) -> SyncRegistry:
    """Return the registry of a synchronous client's scheduler."""
    return SyncRegistry(client)


def _outputs(rows: Iterable[tuple[int, float, bytes]]) -> list[Output]:
    return [Output(seq, at, unpack_output(packed)) for seq, at, packed in rows]


def _view(message: Message) -> JobView:
    return JobView.from_message(message)
