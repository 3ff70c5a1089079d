"""What may become of a job of the soak, given what was done to it: plain values, no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from dask_async_run.job import JobView, Message, State

SLACK = 3.0
"""Seconds by which a fault and what it causes may seem to be apart."""

KILLED = "the cell's process died: killed by signal 9"


@dataclass(frozen=True)
class Fault:
    """Something that ends cells: when, and of what kind.

    Parameters
    ----------
    kind : str
        ``worker``, ``template`` or ``server``: their cells are lost; ``stop``: cancelled or
        lost; ``cell``: the job `job` has failed.
    begun, done : float
        Seconds since the epoch.
    """

    kind: str
    begun: float
    done: float
    job: str = ""


@dataclass
class Planned:
    """One submission, and all that its cell does.

    Parameters
    ----------
    number : int
        Its cell writes a line into the file ``ran/number`` before all else.
    notebook, name : str
    kind : str
        Of the cell, see `soak.KINDS`.
    text : str
        All that it prints when nothing stops it.
    value : int
        What ``v{number}`` stands for afterwards, if it gets so far.
    ends : State
        How it ends when nothing happens to it.
    retries : int
    parent : Planned or None
        The job that it starts from.
    id : str
        Empty while nobody knows whether it was submitted.
    cancelled : bool
        Somebody asked for that.
    forgotten : bool
    runs : int
        How many submissions write into its file, reruns included.
    """

    number: int
    notebook: str
    name: str
    kind: str
    text: str
    value: int
    ends: State = State.FINISHED
    retries: int = 0
    parent: Planned | None = None
    id: str = ""
    cancelled: bool = False
    forgotten: bool = False
    again: list[Planned] = field(default_factory=list)

    @property
    def label(self) -> str:
        return f"{self.notebook}/{self.name} ({self.kind}, {self.id[:6]})"


def text_of(outputs: Iterable[Message]) -> str:
    """What a job has printed, the noise of its end left out."""
    return "".join(
        o["text"] for o in outputs if o["output_type"] == "stream" and o["name"] == "stdout"
    )


def problems_of(
    job: Planned,
    view: JobView,
    parents: dict[str, JobView],
    printed: str,
    ran: int,
    ends: list[str],
    faults: list[Fault],
) -> list[str]:
    """What is wrong with how a job ended.

    Parameters
    ----------
    view : JobView
    parents : dict of str to JobView
        By id, of those that it comes after.
    printed : str
        What the journal has of its standard output.
    ran : int
        How many lines its cell wrote into its file, reruns included.
    ends : list of str
        The terminal states that the journal's events tell of.
    faults : list of Fault
    """
    found = []
    state = State(view.state)
    if not state.terminal:
        return [f"has not ended: {state} {view.reason}"]
    if ends != [state]:
        found.append(f"ended as {ends}, and is {state}")
    if not _may_end(job, view, parents, faults):
        found.append(f"must not be {state}: {view.reason!r}, {view.ename} {view.evalue}")
    family = [job, *job.again]
    if ran > sum(1 + one.retries for one in family):
        found.append(f"ran {ran} times")
    if state is State.FINISHED and ran == 0:
        found.append("is finished, and never ran")
    if not _is_text(job, view, printed):
        found.append(f"printed {printed[-200:]!r} instead of {job.text[-200:]!r}")
    return found


def _is_text(job: Planned, view: JobView, printed: str) -> bool:
    """Whether each attempt printed a beginning, and the last one all if nothing stopped it."""
    first = job.text.splitlines(keepends=True)[0]
    attempts = [first + rest for rest in printed.split(first)[1:]]
    if not attempts:
        attempts = [printed]  # the cell was stopped before its first line was complete
    if len(attempts) > 1 + job.retries:
        return False
    whole = _ended_by_itself(job, view) and job.ends is not State.TIMED_OUT
    return all(job.text.startswith(text) for text in attempts) and (
        not whole or attempts[-1] == job.text
    )


def _ended_by_itself(job: Planned, view: JobView) -> bool:
    """Whether it came to the end that its cell has: one that raises has failed when killed, too."""
    return view.state == job.ends and not view.reason.startswith(KILLED)


def _may_end(job: Planned, view: JobView, parents: dict[str, JobView], faults: list[Fault]) -> bool:
    state = State(view.state)
    stopped = [p for p in parents.values() if p.state != State.FINISHED]
    forgotten = len(parents) < len(view.after)
    if forgotten and view.reason.startswith("not run:"):
        return state is State.CANCELLED
    if stopped:
        return state is State.CANCELLED and (job.cancelled or view.reason.startswith("not run:"))
    if _ended_by_itself(job, view):
        return True
    started, ended = view.started or 0.0, view.ended or 0.0
    during = [f for f in faults if started - SLACK <= f.done and f.begun <= ended + SLACK]
    if state is State.CANCELLED:
        stops = [f for f in during if f.kind == "stop"]
        return job.cancelled or bool(stops)
    if state is State.LOST:
        return any(f.kind in ("worker", "template", "server", "stop") for f in during)
    if state is State.FAILED and view.reason.startswith(KILLED):
        kills = [f for f in faults if f.kind == "cell" and f.job == job.id]
        others = [f for f in faults if f.kind in ("worker", "template")]
        return bool(kills) and len(kills) + len(others) > job.retries
    return False
