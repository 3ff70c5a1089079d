"""What becomes of a job: every decision, as a table and as laws over random histories."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    Record,
    Recovered,
    Refused,
    Stopping,
    Store,
    Submit,
    TaskEnded,
    TaskVanished,
    TellWorker,
    Withdraw,
    WorkerGone,
)
from dask_async_run.scheduler.machine import MAX_SUBMISSIONS, RETRY_DELAYS, Machine

F, X = State.FINISHED, State.FAILED


def create(job: str, after: str = "", retries: int = 0, **ended: State) -> Created:
    """Job `job`, called so too, after the jobs whose one-letter ids are given."""
    record = Record(job, "nb", job, after=frozenset(after), retries=retries)
    return Created(record, {name: (name, state) for name, state in ended.items()}, 1.0)


def claim(
    job: str, worker: str = "w1", token: str = "", places: int = 4, ahead: str = ""
) -> Claimed:
    return Claimed(job, worker, "host", token, 2.0, places, ahead)


def give_back(job: str, token: str) -> GivenBack:
    return GivenBack(job, token, 2.5)


def end(job: str, state: State = F, reason: str = "", attempt: int | None = None) -> Ended:
    return Ended(job, state, reason, attempt, 3.0)


def cancel(job: str) -> CancelAsked:
    return CancelAsked(job, 4.0)


GONE = WorkerGone("w1", "its worker died", 5.0)


def said(instruction: Instruction) -> str:
    """An instruction in one line; taken when it is given, since records change."""
    match instruction:
        case Store(record=r):
            return f"store {r.id} {r.state}" + (f": {r.reason}" if r.reason else "")
        case Submit(job=job, delay=delay):
            return f"submit {job}" + (f" in {delay}" if delay else "")
        case CrowdOut(job=job):
            return f"crowd out {job}"
        case Withdraw(job=job):
            return f"withdraw {job}"
        case TellWorker(job=job, worker=worker):
            return f"tell {worker} {job}"
        case Granted(job=job):
            return f"granted {job}"
        case Refused(job=job, reason=reason):
            return f"refused {job}: {reason}"


@dataclass(frozen=True)
class Case:
    """After `before`, `event` leads to `then`."""

    name: str
    before: Sequence[Event]
    event: Event
    then: Sequence[str]


CASES = [
    # --- creation ---
    Case("a job is written down, then submitted", [], create("a"), ["store a pending", "submit a"]),
    Case("one that waits is not submitted", [create("a")], create("b", "a"), ["store b pending"]),
    Case(
        "one whose predecessors have finished is",
        [],
        create("b", "a", a=F),
        ["store b pending", "submit b"],
    ),
    Case(
        "one whose predecessor has failed is cancelled, by name",
        [],
        create("b", "a", a=X),
        ["withdraw b", "store b cancelled: not run: 'a' failed"],
    ),
    Case(
        "also when another predecessor is still to come",
        [create("c")],
        create("b", "ac", a=State.TIMED_OUT),
        ["withdraw b", "store b cancelled: not run: 'a' timed out"],
    ),
    # --- claims ---
    Case("the first claim is granted", [create("a")], claim("a"), ["store a running", "granted a"]),
    Case(
        "the second is not: a task that Dask runs again does not run the cell again",
        [create("a"), claim("a")],
        claim("a", "w2"),
        ["refused a: it runs on w1 already"],
    ),
    Case(
        "nor is one from the same worker",
        [create("a"), claim("a", token="1")],
        claim("a", token="2"),
        ["refused a: it runs on w1 already"],
    ),
    Case(
        "a claim that came ahead of its task is given back: the task is still to come",
        [create("a"), claim("a", token="1", ahead="task")],
        give_back("a", "1"),
        ["store a pending", "granted a"],
    ),
    Case(
        "it is granted again then",
        [create("a"), claim("a", token="1", ahead="task"), give_back("a", "1")],
        claim("a", "w2", "2"),
        ["store a running", "granted a"],
    ),
    Case(
        "what has been cancelled meanwhile has not run",
        [create("a"), claim("a", token="1", ahead="task"), cancel("a")],
        give_back("a", "1"),
        ["store a cancelled: cancelled before it ran"],
    ),
    Case(
        "nobody gives back what another one has",
        [
            create("a"),
            claim("a", token="1", ahead="task"),
            give_back("a", "1"),
            claim("a", "w2", "2"),
        ],
        give_back("a", "1"),
        ["refused a: it is not claimed ahead"],
    ),
    Case(
        "nor what a task asked for that had begun",
        [create("a"), claim("a", token="1")],
        give_back("a", "1"),
        ["refused a: it is not claimed ahead"],
    ),
    Case(
        "where there is no place, none is claimed ahead, and the task asks itself",
        [create("a"), create("b"), claim("a", places=1)],
        claim("b", places=1, ahead="task"),
        ["refused b: w1 has no place left"],
    ),
    Case(
        "unless it is the same claim, whose answer was lost",
        [create("a"), claim("a", token="1")],
        claim("a", token="1"),
        ["granted a"],
    ),
    Case(
        "nor where another cell has the only place",
        [create("a"), create("b"), claim("a")],
        claim("b", places=1),
        ["refused b: w1 has no place left", "crowd out b"],
    ),
    Case(
        "who was refused a place may claim another one",
        [create("a"), create("b"), claim("a"), claim("b", places=1)],
        claim("b", "w2", places=1),
        ["store b running", "granted b"],
    ),
    Case(
        "nor after the end",
        [create("a"), claim("a"), end("a")],
        claim("a"),
        ["refused a: it has ended, or does not exist"],
    ),
    Case(
        "nor for what was cancelled while its task was on its way",
        [create("a"), cancel("a")],
        claim("a"),
        ["refused a: it has ended, or does not exist"],
    ),
    Case(
        "nor for a job that has to wait",
        [create("a"), create("b", "a")],
        claim("b"),
        ["refused b: it has to wait for other jobs"],
    ),
    # --- ends ---
    Case(
        "a job that finishes lets those run that waited for it alone",
        [create("a"), create("b", "a"), create("c", "ax"), claim("a")],
        end("a"),
        ["store a finished", "submit b", "granted a"],
    ),
    Case(
        "the last predecessor to finish lets a job run",
        [create("a"), create("b"), create("c", "ab"), claim("a"), claim("b"), end("b")],
        end("a"),
        ["store a finished", "submit c", "granted a"],
    ),
    Case(
        "a job that fails cancels those that wait for it, at any depth, by name",
        [create("a"), create("b", "a"), create("c", "b"), create("d", "ab"), claim("a")],
        end("a", X, "ValueError: no"),
        [
            "store a failed: ValueError: no",
            "withdraw d",
            "store d cancelled: not run: 'a' failed",
            "withdraw b",
            "store b cancelled: not run: 'a' failed",
            "withdraw c",
            "store c cancelled: not run: 'b' was cancelled",
            "granted a",
        ],
    ),
    Case(
        "the second end is refused: a terminal state never changes",
        [create("a"), claim("a"), end("a")],
        end("a", X),
        ["refused a: it has ended already, or does not exist"],
    ),
    Case(
        "so is the end of what does not run",
        [create("a")],
        end("a"),
        ["refused a: its cell does not run"],
    ),
    Case(
        "so is the end of an earlier attempt",
        [create("a", retries=1), claim("a"), GONE, claim("a", "w2")],
        end("a", F, attempt=1),
        ["refused a: attempt 1 is over"],
    ),
    # --- loss ---
    Case(
        "a worker that dies loses what ran on it, and only that",
        [create("a"), create("b"), create("c"), claim("a"), claim("b", "w2")],
        GONE,
        ["store a lost: its worker died"],
    ),
    Case("a worker on which nothing ran loses nothing", [create("a")], GONE, []),
    Case(
        "those that wait for a lost job are cancelled",
        [create("a"), create("b", "a"), claim("a")],
        GONE,
        ["store a lost: its worker died", "withdraw b", "store b cancelled: not run: 'a' was lost"],
    ),
    Case(
        "with retries left the job runs again, and its followers keep waiting",
        [create("a", retries=1), create("b", "a"), claim("a")],
        GONE,
        ["store a pending: attempt 1 was lost: its worker died", "submit a"],
    ),
    Case(
        "not more often than asked for",
        [create("a", retries=1), claim("a"), GONE, claim("a")],
        GONE,
        ["store a lost: its worker died (attempt 2)"],
    ),
    Case(
        "a cell process that died is retried like a worker that died",
        [create("a", retries=1), claim("a")],
        end("a", State.LOST, "killed by signal 9", 1),
        ["store a pending: attempt 1 was lost: killed by signal 9", "submit a", "granted a"],
    ),
    Case(
        "a cell that fails is not retried: retries are for deaths",
        [create("a", retries=1), claim("a")],
        end("a", X),
        ["store a failed", "granted a"],
    ),
    # --- cancelling ---
    Case(
        "a pending job is cancelled at once, with those that wait for it",
        [create("a"), create("b", "a")],
        cancel("a"),
        [
            "withdraw a",
            "store a cancelled: cancelled before it ran",
            "withdraw b",
            "store b cancelled: not run: 'a' was cancelled",
        ],
    ),
    Case("a running one is told to stop", [create("a"), claim("a")], cancel("a"), ["tell w1 a"]),
    Case(
        "one that ends by itself meanwhile has ended by itself",
        [create("a"), claim("a"), cancel("a")],
        end("a"),
        ["store a finished", "granted a"],
    ),
    Case(
        "one whose worker dies meanwhile is cancelled, not lost, and not retried",
        [create("a", retries=3), claim("a"), cancel("a")],
        GONE,
        ["store a cancelled: its worker died while it was being stopped"],
    ),
    Case(
        "one that has ended is refused",
        [create("a"), claim("a"), end("a")],
        cancel("a"),
        ["refused a: it has ended already"],
    ),
    # --- tasks ---
    Case(
        "a task that vanishes before the claim is replaced",
        [create("a")],
        TaskVanished("a", 6.0),
        ["submit a"],
    ),
    Case(
        "but not for ever",
        [create("a"), *[TaskVanished("a", 6.0)] * (MAX_SUBMISSIONS - 1)],
        TaskVanished("a", 6.0),
        [
            "withdraw a",
            f"store a lost: it could not be run: its task vanished {MAX_SUBMISSIONS} times",
        ],
    ),
    Case(
        "a running job does not need its task", [create("a"), claim("a")], TaskVanished("a", 6), []
    ),
    Case(
        "a task that fails before the claim is tried again a little later",
        [create("a")],
        TaskEnded("a", "ImportError", 6.0),
        [f"submit a in {RETRY_DELAYS[0]}"],
    ),
    Case(
        "some times",
        [create("a"), *[TaskEnded("a", "ImportError", 6.0)] * len(RETRY_DELAYS)],
        TaskEnded("a", "ImportError", 6.0),
        ["withdraw a", "store a lost: it could not be run: ImportError"],
    ),
    Case(
        "a task that ends without its job having ended loses it",
        [create("a"), claim("a")],
        TaskEnded("a", "", 6.0),
        ["store a lost: what ran it failed: its task ended without saying how"],
    ),
    Case(
        "a task may end after its job",
        [create("a"), claim("a"), end("a")],
        TaskEnded("a", "", 6),
        [],
    ),
    # --- the server's own end ---
    Case(
        "a server that is going to stop lets nothing begin",
        [create("a"), Stopping("stopped", 7.0, lose=False)],
        claim("a"),
        ["refused a: stopped"],
    ),
    Case(
        "and loses what runs, when it is time",
        [create("a"), create("b"), claim("a"), Stopping("stopped", 7.0, lose=False)],
        Stopping("stopped", 8.0),
        ["store a lost: stopped"],
    ),
    Case(
        "what is to be retried stays pending for the next server",
        [create("a", retries=1), claim("a")],
        Stopping("stopped", 8.0),
        ["store a pending: attempt 1 was lost: stopped"],
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_decisions(case: Case) -> None:
    """Each event leads to these instructions, in this order."""
    machine = Machine()
    for event in case.before:
        machine.handle(_fresh(event))
    assert [said(i) for i in machine.handle(_fresh(case.event))] == list(case.then)
    _check_consistent(machine)


def _fresh(event: Event) -> Event:
    # Records are the machine's own once they are handed over; the tables use theirs again.
    return replace(event, record=replace(event.record)) if isinstance(event, Created) else event


def test_a_new_server_takes_up_what_the_last_one_left() -> None:
    """Running ones are lost or run again, pending ones are submitted, waiters wait or end."""

    def left(job: str, state: State, after: str = "", retries: int = 0) -> Record:
        running = state is State.RUNNING
        return Record(
            job,
            "nb",
            job,
            after=frozenset(after),
            retries=retries,
            state=state,
            attempt=int(running),
            worker="w1" if running else "",
        )

    machine = Machine()
    instructions = machine.handle(
        Recovered(
            (
                left("a", State.PENDING),
                left("b", State.RUNNING),
                left("c", State.PENDING, "b"),
                left("d", State.PENDING, "f"),
                left("e", State.PENDING, "g"),
                left("h", State.RUNNING, retries=1),
                left("i", State.PENDING, "h"),
            ),
            {"f": ("f", F), "g": ("g", X)},
            9.0,
            7.0,
        )
    )
    assert {i.record.ended for i in instructions if isinstance(i, Store)} == {None, 7.0, 9.0}
    assert [said(i) for i in instructions] == [
        "store b lost: the server died while it ran",
        "withdraw c",
        "store c cancelled: not run: 'b' was lost",
        "store h pending: attempt 1 was lost: the server died while it ran",
        "submit h",
        "submit a",
        "submit d",
        "withdraw e",
        "store e cancelled: not run: 'g' failed",
    ]
    assert list(machine.records) == ["a", "d", "h", "i"]
    _check_consistent(machine)


def test_times_and_places_are_noted() -> None:
    """Who runs a job since when, and when it ended, are in its record."""
    machine = Machine()
    machine.handle(create("a"))
    record = machine.records["a"]
    machine.handle(claim("a"))
    assert (record.worker, record.host, record.started, record.attempt) == ("w1", "host", 2.0, 1)
    machine.handle(end("a"))
    assert (record.ended, record.state) == (3.0, F)


def _check_consistent(machine: Machine) -> None:
    for job, record in machine.records.items():
        assert record.id == job
        assert not record.state.terminal
        assert (record.state is State.RUNNING) == bool(record.worker)
    waiting = {
        (parent, record.id) for record in machine.records.values() for parent in record.after
    }
    assert waiting == {(p, f) for p, followers in machine.followers.items() for f in followers}
    assert {(r.worker, r.id) for r in machine.records.values() if r.worker} == {
        (w, job) for w, jobs in machine._on_worker.items() for job in jobs
    }
    assert all(machine.followers.values())
    assert all(machine._on_worker.values())


JOBS = st.sampled_from("abcdef")
WORKERS = st.sampled_from(["w1", "w2"])
ENDS = st.sampled_from([F, F, F, X, State.CANCELLED, State.LOST])
EVENTS = st.one_of(
    st.builds(claim, JOBS, WORKERS, st.sampled_from(["", "t1", "t2"])),
    st.builds(claim, JOBS, WORKERS),
    st.builds(claim, JOBS, WORKERS, st.sampled_from(["t1", "t2"]), ahead=st.just("task")),
    st.builds(give_back, JOBS, st.sampled_from(["t1", "t2"])),
    st.builds(end, JOBS, ENDS, attempt=st.sampled_from([None, 1, 2])),
    st.builds(cancel, JOBS),
    st.builds(lambda w: WorkerGone(w, "died", 5.0), WORKERS),
    st.builds(lambda j, p: TaskEnded(j, p, 6.0), JOBS, st.sampled_from(["", "bad"])),
    st.builds(lambda j: TaskVanished(j, 6.0), JOBS),
)


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.sets(st.integers(0, 5)), st.integers(0, 2)), max_size=6),
    st.lists(EVENTS, max_size=60),
)
def test_laws(made: list[tuple[set[int], int]], events: list[Event]) -> None:
    """Whatever happens in whatever order: what must never happen does not, all ends well."""
    machine = Machine()
    retries: dict[str, int] = {}
    after: dict[str, set[str]] = {}
    granted: Counter[str] = Counter()
    ended: dict[str, State] = {}
    has_task: set[str] = set()

    def handle(event: Event) -> None:
        if isinstance(event, TaskEnded | TaskVanished):
            if event.job not in has_task:
                return
            record = machine.records.get(event.job)
            if record is not None and record.ahead:  # as the registry asks first
                handle(give_back(event.job, record.token))
            has_task.discard(event.job)
        for instruction in machine.handle(event):
            match instruction:
                case Granted(job=job) if isinstance(event, Claimed) and not (
                    event.token and event.token == tokens.get(job)
                ):
                    granted[job] += 1
                    tokens[job] = event.token
                case Granted(job=job) if isinstance(event, GivenBack):
                    granted[job] -= 1
                    assert machine.records[job].attempt == granted[job]
                case Store(record=record):
                    assert record.id not in ended, "a terminal state changed"
                    if record.state.terminal:
                        ended[record.id] = record.state
                        assert record.reason or record.state in (F, X, State.CANCELLED, State.LOST)
                    if record.state is not State.RUNNING:
                        tokens.pop(record.id, None)
                case Submit(job=job):
                    assert machine.records[job].state is State.PENDING
                    has_task.add(job)
                case Withdraw(job=job):
                    has_task.discard(job)
                case _:
                    pass
        _check_consistent(machine)
        for job, record in machine.records.items():
            # A ready job has a task: it never waits for nothing.
            if record.state is State.PENDING and not record.after:
                assert job in has_task

    tokens: dict[str, str] = {}
    for job, (parents, tries) in zip("abcdef", made, strict=False):
        after[job] = {"abcdef"[i] for i in parents if i < "abcdef".index(job)}
        retries[job] = tries
        known = {p: ended[p] for p in after[job] if p in ended}
        handle(create(job, "".join(sorted(after[job])), tries, **known))
    for event in events:
        handle(event)
    # Bring everything to its end: workers claim what has a task, and finish it.
    for _ in range(20):
        for job in list(machine.records):
            handle(claim(job, token="last"))
            handle(end(job))
    assert not machine.records
    assert not machine.followers
    for job, parents_of_it in after.items():
        assert granted[job] <= 1 + retries[job], "a cell ran more often than was asked for"
        if any(ended[p] is not F for p in parents_of_it):
            assert ended[job] is State.CANCELLED
            assert granted[job] == 0
