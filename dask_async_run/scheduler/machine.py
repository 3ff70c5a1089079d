"""What becomes of a job: events in, instructions out.

All decisions about jobs are made here, and nothing else: no I/O, no clock, no Dask.
The caller applies an event with `Machine.handle` and then carries the instructions
out, in order. The machine keeps only the jobs that have not ended; the journal has
the others.

A job is *pending* until its cell has been claimed. A pending job whose `after` have
all finished is *ready*: it has a Dask task, and whatever happens to that task, the
job gets another one or an end. A job is *running* from the claim on, which is
granted once per attempt; what Dask's task does then is of no interest unless it ends
without the job having ended. A job may be claimed *ahead*, for a worker that Dask sends its task
to: as long as that has not begun, the worker can give the claim back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dask_async_run.job import State
from dask_async_run.scheduler.events import (
    CancelAsked,
    Claimed,
    Created,
    CrowdOut,
    Ended,
    Event,
    GivenBack,
    Granted,
    Instruction,
    Members,
    Record,
    Recovered,
    Refused,
    Stopping,
    Store,
    Submit,
    SweepCreated,
    TaskEnded,
    TaskVanished,
    TellWorker,
    Withdraw,
    WorkerGone,
)
from dask_async_run.sweeps import shortfall

MAX_SUBMISSIONS = 20
"""Dask tasks that a job gets before it is claimed: its tasks die without having begun,
killed with workers on which they waited, and that should not go on for ever."""

RETRY_DELAYS = (0.2, 1.0, 3.0)
"""Seconds before another Dask task is made when one has failed before the claim."""


@dataclass
class Machine:
    """The jobs that have not ended, and the rules by which they do.

    Attributes
    ----------
    records : dict of str to Record
        By id, in order of creation.
    followers : dict of str to set of str
        Ids of the unfinished jobs that come after a job.
    """

    records: dict[str, Record] = field(default_factory=dict)
    followers: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _on_worker: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _stopping: str = ""

    def cells(self) -> dict[str, int]:
        """Answer how many cells each worker runs that runs any."""
        return {worker: len(jobs) for worker, jobs in self._on_worker.items() if jobs}

    def is_pending(self, job: str) -> bool:
        """Whether a job's cell has not begun yet."""
        record = self.records.get(job)
        return record is not None and record.state is State.PENDING

    def handle(self, event: Event) -> list[Instruction]:
        """Apply an event; return what is to be done, in order."""
        match event:
            case Created():
                return self._created(event)
            case SweepCreated():
                return self._sweep_created(event)
            case Claimed():
                return self._claimed(event)
            case GivenBack():
                return self._given_back(event)
            case Ended():
                return self._ended(event)
            case CancelAsked():
                return self._cancel_asked(event)
            case WorkerGone():
                jobs = sorted(self._on_worker.get(event.worker, ()))
                return self._lose(jobs, event.reason, event.now)
            case TaskEnded():
                return self._task_ended(event)
            case TaskVanished():
                return self._task_vanished(event)
            case Recovered():
                return self._recovered(event)
            case Stopping():
                self._stopping = event.reason
                if not event.lose:
                    return []
                running = [r.id for r in self.records.values() if r.state is State.RUNNING]
                return self._lose(running, event.reason, event.now)

    def _created(self, event: Created) -> list[Instruction]:
        record = event.record
        self._add(record, event.ended)
        stopped = _stopped_by(event.ended, record.after)
        if stopped:
            return self._end(record, State.CANCELLED, stopped, event.now)
        record.after -= event.ended.keys()
        return [Store(record), *self._submit_if_ready(record, event.now)]

    def _sweep_created(self, event: SweepCreated) -> list[Instruction]:
        sweep = event.record
        self.records[sweep.id] = sweep
        instructions: list[Instruction] = [Store(sweep)]
        for member in event.members:
            instructions += self._created(Created(member, event.ended, event.now))
        if not event.members:
            instructions += self._submit_if_ready(sweep, event.now)
        return instructions

    def _claimed(self, event: Claimed) -> list[Instruction]:
        record = self.records.get(event.job)
        if record is None:
            return [Refused(event.job, "it has ended, or does not exist")]
        if record.state is State.RUNNING and event.token and event.token == record.token:
            # The answer to this very claim was lost on its way.
            record.ahead = event.ahead
            return [Granted(record.id)]
        if record.state is not State.PENDING:
            return [Refused(record.id, f"it runs on {record.worker} already")]
        if record.after:
            return [Refused(record.id, "it has to wait for other jobs")]
        if self._stopping:
            return [Refused(record.id, self._stopping)]
        if len(self._on_worker.get(event.worker, ())) >= event.places:
            # One of its cells waits for Dask, and its thread is for that work.
            if event.ahead:
                return [Refused(record.id, f"{event.worker} has no place left")]
            return [Refused(record.id, f"{event.worker} has no place left"), CrowdOut(record.id)]
        record.state, record.reason = State.RUNNING, ""
        record.attempt += 1
        record.submissions = 0
        record.token, record.worker, record.host = event.token, event.worker, event.host
        record.ahead = event.ahead
        if record.members is None or record.started is None:
            record.started = event.now
        self._on_worker[event.worker].add(record.id)
        instructions: list[Instruction] = [Store(record), Granted(record.id)]
        sweep = self.records.get(record.sweep)
        if sweep is not None and sweep.started is None:
            sweep.started = event.now
            instructions.append(Store(sweep))
        return instructions

    def _given_back(self, event: GivenBack) -> list[Instruction]:
        record = self.records.get(event.job)
        if record is None or not record.ahead or record.token != event.token:
            return [Refused(event.job, "it is not claimed ahead")]
        if record.stopping:
            return self._end(record, State.CANCELLED, "cancelled before it ran", event.now)
        self._unclaim(record)
        record.attempt -= 1
        return [Store(record), Granted(record.id)]

    def _ended(self, event: Ended) -> list[Instruction]:
        record = self.records.get(event.job)
        if record is None:
            return [Refused(event.job, "it has ended already, or does not exist")]
        if record.state is not State.RUNNING:
            return [Refused(record.id, "its cell does not run")]
        if event.attempt is not None and event.attempt != record.attempt:
            return [Refused(record.id, f"attempt {event.attempt} is over")]
        if event.state is State.LOST:
            return [*self._lose([record.id], event.reason, event.now), Granted(record.id)]
        reason = event.reason
        if record.members is not None and event.state is State.FINISHED:
            reason = shortfall(record.members.ended)
        return [*self._end(record, event.state, reason, event.now), Granted(record.id)]

    def _cancel_asked(self, event: CancelAsked) -> list[Instruction]:
        record = self.records.get(event.job)
        if record is None:
            return [Refused(event.job, "it has ended already")]
        if record.members is not None and record.members.open:
            record.stopping = True
            instructions: list[Instruction] = []
            # The last first, so that none that waits for its turn gets it meanwhile.
            for member in reversed(list(record.members.open)):
                instructions += self._cancel_asked(CancelAsked(member, event.now))
            return instructions
        if record.state is State.RUNNING:
            record.stopping = True
            return [TellWorker(record.id, record.worker)]
        return self._end(record, State.CANCELLED, "cancelled before it ran", event.now)

    def _task_ended(self, event: TaskEnded) -> list[Instruction]:
        record = self.records.get(event.job)
        if record is None:
            return []
        if self._stopping and record.state is State.PENDING:
            return []  # its claim was refused for that; the next server submits it again
        problem = event.problem or "its task ended without saying how"
        if record.state is State.RUNNING:
            return self._lose([record.id], f"what ran it failed: {problem}", event.now)
        # Not one line of the cell has run. A task that fails before it claims its job may
        # have met a worker that is just being set up, or one that lacks this package.
        if record.submissions <= len(RETRY_DELAYS):
            delay = RETRY_DELAYS[record.submissions - 1]
            return self._submit_if_ready(record, event.now, delay)
        return self._end(record, State.LOST, f"it could not be run: {problem}", event.now)

    def _task_vanished(self, event: TaskVanished) -> list[Instruction]:
        record = self.records.get(event.job)
        if record is None or record.state is State.RUNNING:
            # A running cell does not need its task: it ends by itself or with its worker.
            return []
        return self._submit_if_ready(record, event.now)

    def _recovered(self, event: Recovered) -> list[Instruction]:
        for record in event.records:
            self._add(record, event.ended)
        instructions: list[Instruction] = []
        running = [r.id for r in event.records if r.state is State.RUNNING]
        again = set(running)
        died = event.now if event.alive is None else min(event.now, event.alive)
        instructions += self._lose(running, "the server died while it ran", died)
        for record in event.records:
            if record.id in self.records and record.id not in again and not record.submissions:
                stopped = _stopped_by(event.ended, record.after)
                if stopped:
                    instructions += self._end(record, State.CANCELLED, stopped, event.now)
                else:
                    record.after -= event.ended.keys()
                    instructions += self._submit_if_ready(record, event.now)
        return instructions

    def _add(self, record: Record, ended: Mapping[str, tuple[str, State]]) -> None:
        self.records[record.id] = record
        for parent in record.after - ended.keys():
            self.followers[parent].add(record.id)

    def _submit_if_ready(self, record: Record, now: float, delay: float = 0.0) -> list[Instruction]:
        if record.after or record.state is not State.PENDING or self._stopping:
            return []
        if (record.members is not None and record.members.open) or not self._has_turn(record):
            return []
        if record.submissions >= MAX_SUBMISSIONS:
            reason = f"it could not be run: its task vanished {record.submissions} times"
            return self._end(record, State.LOST, reason, now)
        record.submissions += 1
        return [Submit(record.id, delay)]

    def _has_turn(self, record: Record) -> bool:
        """Whether a job may have a Dask task: a member takes one of its sweep's places."""
        sweep = self.records.get(record.sweep)
        members = sweep.members if sweep is not None else None
        if members is None or not members.at_once or record.id in members.active:
            return True
        if len(members.active) >= members.at_once:
            return False
        members.active.add(record.id)
        return True

    def _member_ended(self, record: Record, state: State, now: float) -> list[Instruction]:
        """Go on with a sweep one of whose members has ended."""
        sweep = self.records.get(record.sweep)
        if sweep is None or sweep.members is None:
            return []
        members = sweep.members
        members.open.pop(record.id, None)
        members.active.discard(record.id)
        members.ended[state] += 1
        total = members.ended.total()
        if members.open:
            return [] if sweep.stopping else self._next_member(members, now)
        if sweep.stopping:
            finished = members.ended[State.FINISHED]
            said = f"cancelled; {finished} of {total} members had finished"
            return self._end(sweep, State.CANCELLED, said, now)
        if not members.ended[State.FINISHED]:
            same = len(members.ended) == 1
            said = record.reason if total == 1 else shortfall(members.ended)
            return self._end(sweep, state if same else State.FAILED, said, now)
        return self._submit_if_ready(sweep, now)

    def _next_member(self, members: Members, now: float) -> list[Instruction]:
        """Give the first member that waits for its turn the place of one that has ended."""
        if not members.at_once:
            return []
        waiting = (self.records.get(job) for job in members.open if job not in members.active)
        return next(
            (found for r in waiting if r is not None if (found := self._submit_if_ready(r, now))),
            [],
        )

    def _lose(self, jobs: Iterable[str], reason: str, now: float) -> list[Instruction]:
        """End running jobs whose cells died, or let them run again if that was asked for."""
        instructions: list[Instruction] = []
        for job in jobs:
            record = self.records.get(job)
            if record is None or record.state is not State.RUNNING:
                continue
            if record.stopping:
                end = f"{reason} while it was being stopped"
                instructions += self._end(record, State.CANCELLED, end, now)
            elif record.attempt <= record.retries:
                self._unclaim(record)
                record.reason = f"attempt {record.attempt} was lost: {reason}"
                instructions += [Store(record), *self._submit_if_ready(record, now)]
            else:
                tried = f" (attempt {record.attempt})" if record.retries else ""
                instructions += self._end(record, State.LOST, reason + tried, now)
        return instructions

    def _end(self, record: Record, state: State, reason: str, now: float) -> list[Instruction]:
        """End a job, and what that means for those that come after it, at any depth."""
        instructions: list[Instruction] = []
        ends = [(record, state, reason)]
        while ends:
            record, state, reason = ends.pop()
            if self.records.pop(record.id, None) is None:
                continue
            if record.state is State.PENDING:
                instructions.append(Withdraw(record.id))
            self._leave_worker(record)
            for parent in record.after:
                self._unfollow(parent, record.id)
            # Not before it started, though the machine's clock may have been set back since.
            ended = max(now, record.started or now)
            record.state, record.reason, record.ended = state, reason, ended
            instructions.append(Store(record))
            if record.sweep:
                instructions += self._member_ended(record, state, now)
            for follower in sorted(self.followers.pop(record.id, ())):
                waiting = self.records[follower]
                waiting.after -= {record.id}
                if state is State.FINISHED:
                    instructions += self._submit_if_ready(waiting, now)
                else:
                    ends.append((waiting, State.CANCELLED, not_run(record.name, state)))
        return instructions

    def _unclaim(self, record: Record) -> None:
        self._leave_worker(record)
        record.state, record.ahead = State.PENDING, ""
        record.token = record.worker = record.host = ""
        if record.members is None:
            record.started = None

    def _leave_worker(self, record: Record) -> None:
        jobs = self._on_worker.get(record.worker)
        if jobs is not None:
            jobs.discard(record.id)
            if not jobs:
                del self._on_worker[record.worker]

    def _unfollow(self, parent: str, job: str) -> None:
        if parent in self.followers:
            self.followers[parent].discard(job)
            if not self.followers[parent]:
                del self.followers[parent]


def not_run(name: str, state: State) -> str:
    """Why a job is not run that comes after the job `name`, which ended in `state`."""
    return f"not run: {name!r} {came_to_nothing(state)}"


def came_to_nothing(state: State) -> str:
    """How a job that ended in `state`, and did not finish, came to nothing."""
    return {State.FAILED: "failed", State.TIMED_OUT: "timed out"}.get(state, f"was {state}")


def _stopped_by(ended: Mapping[str, tuple[str, State]], after: Iterable[str]) -> str:
    """Why a job that comes after `after` is not run; empty if it may be."""
    for parent in sorted(after):
        name, state = ended.get(parent, ("", State.FINISHED))
        if state is not State.FINISHED:
            return not_run(name, state)
    return ""
