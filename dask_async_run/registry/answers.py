"""What the registry answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from dask_async_run.job import JobResult, JobSpec, JobView, Message
from dask_async_run.messages import unpack_output


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
    """A job whose result a later job's cell starts from.

    Parameters
    ----------
    message : dict
        Its ``spec`` and its ``result``: of many parents most are only passed on.
    """

    message: Message

    @property
    def spec(self) -> JobSpec:
        return JobSpec.from_message(self.message["spec"])

    @property
    def result(self) -> JobResult:
        return JobResult.from_message(self.message["result"])

    @property
    def named(self) -> list[list[Any]]:
        """Digest and size of every frame that a cell needs of it."""
        found: list[list[Any]] = []
        if _has_frames(self.message["spec"].get("inputs")):
            found += self.spec.payload.named
        if _has_frames(self.message["result"].get("payload")):
            found += self.result.values.named
        return found


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

    @property
    def job(self) -> str:
        """The job's id, if granted."""
        return self.spec.id if self.spec is not None else ""

    @classmethod
    def from_message(cls, answer: Message) -> Claim:
        """Make one of what the registry answers."""
        spec = answer["spec"]
        return cls(
            granted=answer["granted"],
            reason=answer["reason"],
            state=answer["state"],
            attempt=answer["attempt"],
            spec=JobSpec.from_message(spec) if spec else None,
            parents=[Parent(parent) for parent in answer["parents"]],
            members=answer.get("members", []),  # an older server has no sweeps
        )


def _has_frames(payload: Message | None) -> bool:
    return bool(payload and (payload.get("frames") or payload.get("stream_frame")))


def outputs_of(rows: Iterable[tuple[int, float, bytes]]) -> list[Output]:
    """Make outputs of what the journal has of them."""
    return [Output(seq, at, unpack_output(packed)) for seq, at, packed in rows]
