"""What a job is: its spec, its states, its record.

Plain values that every process shares and that none of them owns. What crosses
a process does so as a *message*: a dict of str, int, float, bool, None, bytes,
lists and dicts, which msgpack (Dask's RPCs) and the journal both take.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from functools import cache
from typing import Any, Self

Message = dict[str, Any]
"""A msgpack-able dict."""

PAGER = "dask_async_run.pager"
NEXT_INPUT = "dask_async_run.next_input"
"""In a display's ``transient``: it is for the pager, from that line on, or the next cell's text."""

NOT_ON_RECORD = "not on record yet"
"""How the reason of a job begins whose end the registry cannot write to its journal."""


class State(StrEnum):
    """Where a job stands. A terminal state never changes."""

    PENDING = "pending"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed-out"
    LOST = "lost"

    @property
    def terminal(self) -> bool:
        """Whether the job has ended."""
        return self not in (State.PENDING, State.RUNNING)


class _Record:
    """Mixin: a frozen dataclass that travels as a message.

    Unknown keys of a message are ignored, missing ones take their defaults, so
    that a journal written by another version stays readable.
    """

    def to_message(self) -> Message:
        """Answer the fields; of what lists and dicts hold no copies are made."""
        kind: Any = type(self)
        found = {name: getattr(self, name) for name in _ordered_names(kind)}
        return {n: v.copy() if type(v) in (list, dict) else v for n, v in found.items()}

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Self:
        known = _names(cls)  # type: ignore[arg-type]
        return cls(**{key: value for key, value in message.items() if key in known})


@cache
def _names(kind: Any) -> frozenset[str]:
    return frozenset(_ordered_names(kind))


@cache
def _ordered_names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


@dataclass(frozen=True, slots=True)
class Payload(_Record):
    """A pickle stream and the frames it refers to, in the order of its buffers.

    Parameters
    ----------
    stream : bytes
        The stream itself, or empty when `stream_frame` names the frame that
        holds it (a large stream).
    frames : list of [str, int]
        Digest and size in bytes of each out-of-band buffer.
    stream_frame : [str, int] or None
        Digest and size of the frame that holds the stream.
    """

    stream: bytes = b""
    frames: list[list[Any]] = field(default_factory=list)
    stream_frame: list[Any] | None = None

    @property
    def nbytes(self) -> int:
        """Size of stream and frames in bytes."""
        inline = int(self.stream_frame[1]) if self.stream_frame else len(self.stream)
        return inline + sum(int(size) for _, size in self.frames)

    @property
    def named(self) -> list[list[Any]]:
        """Digest and size of every frame that this payload needs."""
        return [*self.frames, *([self.stream_frame] if self.stream_frame else [])]

    @property
    def digests(self) -> list[str]:
        """Every frame that this payload needs."""
        return [digest for digest, _ in self.named]

    def renamed(self, names: Mapping[str, str]) -> Payload:
        """The same with other names for frames."""
        frames = [[names.get(digest, digest), size] for digest, size in self.named]
        stream_frame = frames.pop() if self.stream_frame else None
        return Payload(self.stream, frames, stream_frame)


@dataclass(frozen=True, slots=True)
class JobSpec(_Record):
    """One submission of a cell, as the kernel makes it; never changes, but see `renamed`.

    Parameters
    ----------
    id : str
        32 hex digits, chosen by the client, so that a repeated submission of
        the same job is recognised.
    notebook : str
        Whose job it is.
    name : str
        The user's name for it, without version.
    source : str
        The cell as written, magic line included: what ``In[n]`` holds.
    code : str
        What the cell process runs: same number of lines as `source`, the magic
        line left blank, so that line numbers are those that the user sees.
    filename : str
        What code compiled from the cell is called in tracebacks (``co_filename``).
    execution_count : int or None
        ``n`` of ``In[n]`` in the submitting kernel.
    inputs : dict
        A `Payload` as a message.
    input_names : list of [str, str, int]
        Name, type and size in bytes of each input: for people.
    input_parts : list of [int, int, int, int]
        For each of these, where it begins and ends in the inputs' stream, and which of their
        buffers came with it.
    left_out : dict of str to str
        Names that the cell only mentions and that can't be pickled, and why.
    reads, binds, deletes, mutates : list of str
        What the analysis found; `binds` may be incomplete when `dynamic`.
    certain : list of str
        The part of `binds` that is bound if the cell ends normally.
    removes : list of str
        The part of `deletes` that the cell has deleted if it ends normally without them.
    dynamic : bool
        The cell reaches names dynamically (``exec``, ``globals()``, ``%run``).
    after : list of str
        Ids of the jobs that must have finished first; if one of them does not
        finish, this one is cancelled.
    parents : list of str
        The subset of `after` whose merged result the cell's namespace is built
        from before its own inputs, in that order.
    makers : dict of str to list of int
        For each name whose value came along in case no earlier job binds it: which of `parents`
        may, by their places.
    only, also : list of str
        Restrict or widen what comes back; empty means: what the cell changed.
    timeout : float or None
        Seconds of running after which the cell is stopped.
    memory : int or None
        Bytes that the cell's process tree may use.
    grace : float
        Seconds between the steps of a cancel.
    retries : int
        How often the cell may be run again when its worker or process dies.
    resources : dict
        Dask's worker resources.
    workers : list of str
        Shell-style patterns of the addresses, names and hosts of the Dask workers that may
        run it; empty: all.
    priority : int
        Dask's priority: more is sooner.
    shell : dict
        What the cell's shell should look like: ``class`` (name of the kernel's
        shell class), ``kernel`` (bool: rich front end), ``colors``.
    warm : list of str
        Top-level modules that the notebook has imported.
    futures : list
        Keys of the Dask futures in the inputs; tuples are lists in a message.
    files : dict
        Empty, or: ``folder`` (the notebook's working folder), ``uploads`` (names of files in
        it, whose contents are the last frames of the inputs), ``downloads`` (patterns of what
        comes back), ``local`` (of the files that these mean now: size and time of change).
    modules : dict
        Empty, or the local code that goes along: ``frame`` (digest and size of a zip file),
        ``entries`` (the folders of the notebook's ``sys.path`` whose files are in the zip's folders
        0, 1, ...), ``names`` (of the top-level modules), ``folder`` (the working folder).
    submitted : float
        Seconds since the epoch, client's clock.
    sweep : dict
        Of a sweep and its members, empty for other jobs: ``size`` (how many members),
        ``axes`` (for each, the names of its parameters and how many values), ``table``
        (name of the variable that the table is bound to), ``binds`` and ``only`` (the
        members'), ``at_once`` (members that run side by side at most; 0: any number),
        ``frame`` (bool: the table is a DataFrame where the cluster has pandas too),
        ``again`` (id of the sweep whose finished members are taken over; or empty).
    member : int or None
        Which member of a sweep, from 0; None: none.
    of : str
        Id of the sweep that it is a member of.
    cache : str
        What its result depends on, as a digest: a finished job that has the same makes running
        it needless. Empty: it is run.
    store : str
        URL of a store where the job is to lie too once it has ended; empty: none.
    rerun_of : str
        Id of the job that it runs again, the very first one where that was a rerun; empty: none.
    """

    id: str
    notebook: str
    name: str
    source: str
    code: str
    filename: str
    execution_count: int | None = None
    inputs: Message = field(default_factory=dict)
    input_names: list[list[Any]] = field(default_factory=list)
    input_parts: list[list[int]] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    reads: list[str] = field(default_factory=list)
    binds: list[str] = field(default_factory=list)
    certain: list[str] = field(default_factory=list)
    deletes: list[str] = field(default_factory=list)
    removes: list[str] = field(default_factory=list)
    mutates: list[str] = field(default_factory=list)
    dynamic: bool = False
    after: list[str] = field(default_factory=list)
    parents: list[str] = field(default_factory=list)
    makers: dict[str, list[int]] = field(default_factory=dict)
    only: list[str] = field(default_factory=list)
    also: list[str] = field(default_factory=list)
    timeout: float | None = None
    memory: int | None = None
    grace: float = 5.0
    retries: int = 0
    resources: dict[str, float] = field(default_factory=dict)
    workers: list[str] = field(default_factory=list)
    priority: int = 0
    shell: Message = field(default_factory=dict)
    warm: list[str] = field(default_factory=list)
    futures: list[Any] = field(default_factory=list)
    files: Message = field(default_factory=dict)
    modules: Message = field(default_factory=dict)
    submitted: float = 0.0
    sweep: Message = field(default_factory=dict)
    member: int | None = None
    of: str = ""
    cache: str = ""
    store: str = ""
    rerun_of: str = ""

    @property
    def payload(self) -> Payload:
        return Payload.from_message(self.inputs)

    @property
    def has_members(self) -> bool:
        """Whether it is a sweep; its members are none."""
        return bool(self.sweep) and self.member is None

    def renamed(self, names: Mapping[str, str]) -> JobSpec:
        """The same with other names for frames, where there are any.

        That is of large inputs, of which a kernel took a snapshot and did not read them.
        """
        return replace(self, inputs=self.payload.renamed(names).to_message()) if names else self

    def again(self, notebook: str) -> JobSpec:
        """The same cell with the same inputs and options, as a new job of this name; it runs."""
        sweep = {**self.sweep, "again": ""} if self.sweep else {}
        return replace(
            self,
            id=uuid.uuid4().hex,
            notebook=notebook,
            submitted=time.time(),
            sweep=sweep,
            cache="",
            rerun_of=self.rerun_of or self.id,
        )


@dataclass(frozen=True, slots=True)
class JobResult(_Record):
    """What a cell leaves behind when it has ended by itself or been stopped.

    Parameters
    ----------
    payload : dict
        A `Payload` as a message; its stream is `namespace`'s business.
    bound, deleted, mutated : list of str
        Names, for people and for `%async_jobs`.
    failed : dict of str to str
        Names whose values could not be pickled, and why.
    ename, evalue : str
        Type and text of the cell's exception, empty if it raised none.
    nbytes : int
        Size of the payload in bytes.
    environment : dict
        What it ran with: see `surroundings.versions`.
    files : list of str
        Names of files that come back, whose contents are the last frames of the payload.
    """

    payload: Message = field(default_factory=dict)
    bound: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    mutated: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    ename: str = ""
    evalue: str = ""
    nbytes: int = 0
    environment: Message = field(default_factory=dict)
    files: list[str] = field(default_factory=list)

    @property
    def has_values(self) -> bool:
        """Whether there is anything to merge: the cell came so far that it was asked for it."""
        return bool(self.payload.get("stream") or self.payload.get("stream_frame"))

    @property
    def values(self) -> Payload:
        """The payload without files."""
        payload = Payload.from_message(self.payload)
        return replace(payload, frames=payload.frames[: len(payload.frames) - len(self.files)])


@dataclass(frozen=True, slots=True)
class JobView(_Record):
    """What the registry tells of a job: a row of `%async_jobs`.

    Parameters
    ----------
    id, notebook, name, source, execution_count, binds, deletes, mutates, dynamic, after, sweep,
    member, of
        As in `JobSpec`; of a member only its name, its number and its sweep are known.
    version : int
        1 for the first job of this name in this notebook, 2 for the next.
    latest : bool
        Whether `name` alone means this job.
    state : str
        A `State`.
    reason : str
        Why, for people: "killed by signal 9", "not run: 'train' failed"; of a pending job,
        what it waits for if no worker can take it yet.
    submitted, started, ended : float or None
        Seconds since the epoch, scheduler's clock (`submitted`: client's).
    took : float or None
        Seconds that it ran, by a clock that nobody sets; None: it has not ended, or nobody
        measured it.
    worker, host : str
        Where it runs or ran: the worker's address, the machine's name.
    pid : int or None
        The cell process.
    outputs : int
        How many outputs are recorded.
    last_line : str
        Last line of output, ANSI codes removed, at most 200 characters.
    memory, cpu : float
        Bytes and percent that the cell's process tree uses now.
    input_names : list
        As in `JobSpec`.
    nbytes : int
        Size of the result in bytes.
    result : dict or None
        A `JobResult` as a message, without its payload's inline stream.
    ename, evalue : str
        The cell's exception.
    saved : bool
        Whether the result survives a reboot.
    gathered : bool
        Whether it was gathered.
    members : dict of str to int
        Of a sweep: how many members are in each state.
    store : str
        Where the job lies, or will lie, apart from the scheduler's folder; empty: nowhere.
    stored : bool
        Whether it does.
    store_problem : str
        Why not yet; it is tried again.
    """

    id: str
    notebook: str
    name: str
    version: int = 1
    latest: bool = True
    state: str = State.PENDING
    reason: str = ""
    source: str = ""
    execution_count: int | None = None
    submitted: float = 0.0
    started: float | None = None
    ended: float | None = None
    took: float | None = None
    worker: str = ""
    host: str = ""
    pid: int | None = None
    outputs: int = 0
    last_line: str = ""
    memory: float = 0.0
    cpu: float = 0.0
    input_names: list[list[Any]] = field(default_factory=list)
    binds: list[str] = field(default_factory=list)
    deletes: list[str] = field(default_factory=list)
    mutates: list[str] = field(default_factory=list)
    dynamic: bool = False
    after: list[str] = field(default_factory=list)
    nbytes: int = 0
    result: Message | None = None
    ename: str = ""
    evalue: str = ""
    saved: bool = False
    gathered: bool = False
    sweep: Message = field(default_factory=dict)
    member: int | None = None
    of: str = ""
    members: dict[str, int] = field(default_factory=dict)
    store: str = ""
    stored: bool = False
    store_problem: str = ""

    @property
    def why(self) -> str:
        """What is to be said of the state that it is in: what it raised, or the reason; or nothing.

        An interrupt that has a reason was not the cell's own: its time was up, or it was cancelled.
        The state, which a reason may begin with, is said beside it.
        """
        if self.ename and not (self.reason and self.ename == KeyboardInterrupt.__name__):
            return f"{self.ename}: {self.evalue}".rstrip(": ")
        return self.reason.removeprefix(f"{self.state}; ")

    def ran(self, now: float) -> float | None:
        """Answer for how many seconds it ran, or has run until `now`; None: it has not begun.

        Where nobody measured it, the clocks of two machines may differ, and either may have been
        set meanwhile: it is not negative.
        """
        if self.started is None:
            return None
        if self.took is not None:
            return self.took
        return max(0.0, (now if self.ended is None else self.ended) - self.started)

    @property
    def settled(self) -> bool:
        """Whether it has ended and lies where it is going to."""
        return State(self.state).terminal and self.saved and (self.stored or not self.store)

    @property
    def kept(self) -> str:
        """Where its record and its result lie and what would lose them, for people."""
        folder = "the state folder on the scheduler's machine"
        if not State(self.state).terminal:
            return f"in {folder}, and at {self.store} when it has ended" if self.store else ""
        if self.stored:
            return f"at {self.store}, and in {folder}: lost only with both"
        where = f"in {folder}: lost with it" + ("" if self.saved else ", or with the power")
        if not self.store:
            return where
        why = f" ({self.store_problem}; it is tried again)" if self.store_problem else ""
        return f"{where}; not yet at {self.store}{why}"

    @property
    def label(self) -> str:
        """Name by which its own notebook reaches exactly this job."""
        return self.name if self.latest else f"{self.name}@{self.version}"
