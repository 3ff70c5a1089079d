"""The words between the registry and the `Machine`: records, events, instructions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dask_async_run.job import State


@dataclass(slots=True)
class Members:
    """The members of a sweep.

    Parameters
    ----------
    open : dict of str to None
        Ids of those that have not ended, in their order.
    at_once : int
        How many may have Dask tasks at the same time; 0: any number.
    active : set of str
        Ids of those that have, where that is bounded.
    ended : Counter of State
        How many have ended in each state.
    """

    open: dict[str, None]
    at_once: int = 0
    active: set[str] = field(default_factory=set)
    ended: Counter[State] = field(default_factory=Counter)


@dataclass(slots=True)
class Record:
    """A job that has not ended, as far as decisions need it; the machine's own.

    Parameters
    ----------
    id, notebook, name, version
        As in `JobView`.
    after : frozenset of str
        Ids of the jobs that have to finish first and have not ended yet.
    retries : int
        As in `JobSpec`.
    state, reason
        As in `JobView`.
    attempt : int
        How many claims have been granted.
    token : str
        The last granted claim's own: the same claim again is the same claim.
    worker, host : str
        Who claimed it.
    started, ended : float or None
        Seconds since the epoch.
    submissions : int
        Dask tasks it has had since the last claim.
    stopping : bool
        A cancel was asked for while it ran.
    ahead : str
        Key of the Dask task that it was claimed for before that began, if it has not been heard
        of since.
    sweep : str
        Of a member: id of the sweep.
    members : Members or None
        Of a sweep; its own task, which collects, comes after all of them have ended.
    """

    id: str
    notebook: str
    name: str
    version: int = 1
    after: frozenset[str] = frozenset()
    retries: int = 0
    state: State = State.PENDING
    reason: str = ""
    attempt: int = 0
    token: str = ""
    worker: str = ""
    host: str = ""
    started: float | None = None
    ended: float | None = None
    submissions: int = 0
    stopping: bool = False
    ahead: str = ""
    sweep: str = ""
    members: Members | None = None


# --- events ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Created:
    """A client made a job.

    Parameters
    ----------
    record : Record
        Pending; its `after` holds every job it comes after.
    ended : dict of str to (str, State)
        Of those, the ones that have ended: name and state.
    now : float
        Seconds since the epoch; so in all events.
    """

    record: Record
    ended: Mapping[str, tuple[str, State]]
    now: float


@dataclass(frozen=True, slots=True)
class SweepCreated:
    """A client made a sweep.

    Parameters
    ----------
    record : Record
        Pending; its `members` are those that have to run.
    members : sequence of Record
        These, in their order; what the sweep comes after, they come after.
    ended
        As in `Created`.
    """

    record: Record
    members: Sequence[Record]
    ended: Mapping[str, tuple[str, State]]
    now: float


@dataclass(frozen=True, slots=True)
class Claimed:
    """A worker's task asks to run a job's cell. Answered by `Granted` or `Refused`.

    Parameters
    ----------
    places : int
        How many cells the worker may run side by side.
    ahead : str
        Key of the task, if it has not begun: the claim may be given back.
    """

    job: str
    worker: str
    host: str
    token: str
    now: float
    places: int
    ahead: str = ""


@dataclass(frozen=True, slots=True)
class GivenBack:
    """A worker says that no cell has run by a claim that came ahead, and none will.

    Its task is still to come, or is another worker's now.

    Parameters
    ----------
    token : str
        The claim's.
    """

    job: str
    token: str
    now: float


@dataclass(frozen=True, slots=True)
class Ended:
    """A worker says how the cell ended. Answered by `Granted` or `Refused`.

    Parameters
    ----------
    attempt : int or None
        Of which attempt it speaks; None: of the current one.
    """

    job: str
    state: State
    reason: str
    attempt: int | None
    now: float


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """Somebody wants a job cancelled."""

    job: str
    now: float


@dataclass(frozen=True, slots=True)
class WorkerGone:
    """A worker left the cluster."""

    worker: str
    reason: str
    now: float


@dataclass(frozen=True, slots=True)
class TaskEnded:
    """A job's Dask task ended: it returned, or (`problem`) it raised."""

    job: str
    problem: str
    now: float


@dataclass(frozen=True, slots=True)
class TaskVanished:
    """A job's Dask task is gone, or died with its worker before it began.

    Dask forgets tasks when somebody calls ``Client.restart``, and gives up those that
    waited on several workers that were killed.
    """

    job: str
    now: float


@dataclass(frozen=True, slots=True)
class Recovered:
    """The journal's unfinished jobs, in order of creation, when a server starts.

    Parameters
    ----------
    ended
        As in `Created`, for all of `records`.
    alive : float or None
        When the server that left them was alive for the last time; None: nobody knows.
    """

    records: tuple[Record, ...]
    ended: Mapping[str, tuple[str, State]]
    now: float
    alive: float | None = None


@dataclass(frozen=True, slots=True)
class Stopping:
    """The server is about to stop in good order: nothing is claimed any more.

    Parameters
    ----------
    lose : bool
        Whether what runs is lost now; else it is given time to end.
    """

    reason: str
    now: float
    lose: bool = True


Event = (
    Created
    | SweepCreated
    | Claimed
    | GivenBack
    | Ended
    | CancelAsked
    | WorkerGone
    | TaskEnded
    | TaskVanished
    | Recovered
    | Stopping
)


# --- instructions ----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Store:
    """Write the record to the journal, and tell those who wait for the job."""

    record: Record


@dataclass(frozen=True, slots=True)
class Submit:
    """Give the job a Dask task (another one, if it had one), `delay` seconds from now."""

    job: str
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class CrowdOut:
    """Take the job's Dask task back; it gets another one where there is a place for a cell."""

    job: str


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Cancel the job's Dask task."""

    job: str


@dataclass(frozen=True, slots=True)
class TellWorker:
    """Tell the worker that runs the job to stop it."""

    job: str
    worker: str


@dataclass(frozen=True, slots=True)
class Granted:
    """The answer to an event that asks is yes."""

    job: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The answer is no; why, for people."""

    job: str
    reason: str


Instruction = Store | Submit | CrowdOut | Withdraw | TellWorker | Granted | Refused
