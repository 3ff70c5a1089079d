"""Sweeps in the machine and in the journal: members apart, one end."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from dask_async_run.errors import ServerError
from dask_async_run.job import JobResult, JobSpec, Payload, State
from dask_async_run.messages import pack
from dask_async_run.namespace.axes import Axis
from dask_async_run.scheduler.events import (
    CancelAsked,
    Claimed,
    Ended,
    Event,
    Granted,
    Instruction,
    Members,
    Record,
    Recovered,
    Store,
    Submit,
    SweepCreated,
    TellWorker,
    Withdraw,
    WorkerGone,
)
from dask_async_run.scheduler.journal import Journal
from dask_async_run.scheduler.machine import Machine
from dask_async_run.scheduler.sweep_creation import create_sweep
from dask_async_run.sweeps import as_sweep, member_id
from scripted import job_spec


def member(number: int, after: str = "", retries: int = 0) -> Record:
    name = f"m{number}"
    return Record(name, "nb", name, after=frozenset(after), retries=retries, sweep="s")


def sweep(
    count: int, at_once: int = 0, after: str = "", retries: int = 0, **ended: State
) -> SweepCreated:
    """A sweep ``s`` with members ``m0``, ``m1``, ..."""
    members = [member(number, after, retries) for number in range(count)]
    record = Record("s", "nb", "s", retries=3)
    record.members = Members(dict.fromkeys(m.id for m in members), at_once)
    return SweepCreated(
        record, members, {name: (name, state) for name, state in ended.items()}, 1.0
    )


def play(machine: Machine, *events: Event) -> list[str]:
    """Apply events; what is to be done, in short, without what is only recorded."""
    return [said(i) for event in events for i in machine.handle(event) if said(i)]


def said(instruction: Instruction) -> str:
    match instruction:
        case Submit(job=job):
            return f"submit {job}"
        case TellWorker(job=job):
            return f"tell {job}"
        case Withdraw(job=job):
            return f"withdraw {job}"
        case Store(record=record) if record.state.terminal:
            return f"{record.id} {record.state}" + (f": {record.reason}" if record.reason else "")
    return ""


def claim(job: str) -> Claimed:
    return Claimed(job, "w1", "host", "", 2.0, places=4)


def end(job: str, state: State = State.FINISHED) -> Ended:
    return Ended(job, state, "", None, 3.0)


def run(job: str, state: State = State.FINISHED) -> tuple[Event, Event]:
    return claim(job), end(job, state)


def test_the_sweep_collects_after_the_last_member_has_ended() -> None:
    """However the members ended, if one finished; its reason counts the others."""
    machine = Machine()
    assert play(machine, sweep(3)) == ["submit m0", "submit m1", "submit m2"]
    assert play(machine, *run("m1", State.FAILED), *run("m0")) == ["m1 failed", "m0 finished"]
    assert machine.records["s"].started == 2.0
    assert play(machine, *run("m2", State.TIMED_OUT)) == ["m2 timed-out", "submit s"]
    assert play(machine, *run("s")) == [
        "s finished: 2 of 3 members did not finish: 1 failed, 1 timed-out"
    ]
    assert not machine.records


def test_without_a_member_that_finished_there_is_nothing_to_collect() -> None:
    """The sweep ends as they did, or has failed if they ended in different ways."""
    machine = Machine()
    play(machine, sweep(2), *run("m0", State.LOST))
    assert play(machine, *run("m1", State.LOST))[-1].startswith("s lost: 2 of 2")
    play(machine, sweep(2), *run("m0", State.LOST))
    assert play(machine, *run("m1", State.FAILED))[-1].startswith("s failed: 2 of 2")


def test_only_so_many_members_have_tasks_at_once() -> None:
    """The next one gets the place of one that has ended, in order; one that waits is passed."""
    machine = Machine()
    assert play(machine, sweep(4, at_once=2)) == ["submit m0", "submit m1"]
    assert play(machine, *run("m1", State.FAILED)) == ["m1 failed", "submit m2"]
    assert play(machine, *run("m2"), *run("m0")) == ["m2 finished", "submit m3", "m0 finished"]
    assert play(machine, *run("m3")) == ["m3 finished", "submit s"]


def test_a_place_is_kept_by_a_member_that_runs_again() -> None:
    """A lost attempt that is retried gives no place away."""
    machine = Machine()
    play(machine, sweep(2, at_once=1, retries=1), claim("m0"))
    assert play(machine, WorkerGone("w1", "it died", 3.0)) == ["submit m0"]
    assert play(machine, claim("m0"), WorkerGone("w1", "it died", 3.0)) == [
        "m0 lost: it died (attempt 2)",
        "submit m1",
    ]


def test_cancelling_ends_all_members() -> None:
    """Those that run are told, the others never begin; the sweep ends with the last one."""
    machine = Machine()
    play(machine, sweep(4, at_once=2), *run("m0"), claim("m1"))
    assert play(machine, CancelAsked("s", 4.0)) == [
        "withdraw m3",
        "m3 cancelled: cancelled before it ran",
        "withdraw m2",
        "m2 cancelled: cancelled before it ran",
        "tell m1",
    ]
    assert play(machine, end("m1", State.CANCELLED)) == [
        "m1 cancelled",
        "withdraw s",
        "s cancelled: cancelled; 1 of 4 members had finished",
    ]


def test_a_sweep_comes_after_what_its_members_come_after() -> None:
    """If that fails none of them runs, and neither does what comes after the sweep."""
    machine = Machine()
    play(machine, SweepCreated(Record("a", "nb", "a", members=Members({})), [], {}, 1.0))
    assert play(machine, sweep(2, after="a")) == []
    machine.handle(claim("a"))
    assert play(machine, end("a", State.FAILED)) == [
        "a failed",
        "withdraw m1",
        "m1 cancelled: not run: 'a' failed",
        "withdraw m0",
        "m0 cancelled: not run: 'a' failed",
        "withdraw s",
        "s cancelled: 2 of 2 members did not finish: 2 cancelled",
    ]


def test_collecting_is_run_again_when_it_is_lost() -> None:
    """It is our own code; the sweep has run since its first member did."""
    machine = Machine()
    play(machine, sweep(1), *run("m0"), Claimed("s", "w1", "host", "", 9.0, 4))
    assert play(machine, WorkerGone("w1", "it died", 10.0)) == ["submit s"]
    assert machine.records["s"].started == 2.0


def test_a_new_server_goes_on() -> None:
    """What ran is lost, what waited is submitted, what has finished counts."""
    machine = Machine()
    running, waiting, later = member(1), member(2), member(3)
    running.state, running.started, running.attempt = State.RUNNING, 1.0, 1
    record = Record("s", "nb", "s", started=1.0, retries=3)
    record.members = Members(
        dict.fromkeys(["m1", "m2", "m3"]), 1, ended=Counter({State.FINISHED: 1})
    )
    found = machine.handle(Recovered((record, running, waiting, later), {}, 5.0))
    assert [s for s in map(said, found) if s] == [
        "m1 lost: the server died while it ran",
        "submit m2",
    ]
    assert play(machine, *run("m2"), *run("m3"))[-1] == "submit s"
    assert any(isinstance(i, Granted) for i in machine.handle(claim("s")))


# --- the journal ---


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal.open(tmp_path / "journal.sqlite")
    yield journal
    journal.close()


def made(journal: Journal, name: str = "lr", count: int = 3, again: str = "") -> JobSpec:
    """A sweep in the journal; its members are still to run."""
    axes = [Axis(("n",), list(range(count)))]
    inputs = Payload(b"in", [["d1", 4]]).to_message()
    spec = as_sweep(job_spec(name, inputs=inputs, binds=["y"], only=["y"]), axes, 2, True)
    spec.sweep["again"] = again
    create_sweep(journal, spec, journal.next_version("nb", name), 1.0)
    return spec


def ended(journal: Journal, spec: JobSpec, number: int, state: State) -> str:
    job = member_id(spec.id, number)
    record = Record(job, "nb", f"lr[{number}]", state=state, started=1.0, ended=2.0)
    journal.append(job, 1, [pack({"n": number})], 1.5)
    journal.progress(job, 1, "said", 7)
    journal.store(record, 2.0)
    journal.store_result(job, JobResult({"stream": b"y"}, bound=["y"], nbytes=1), 2.0)
    return job


def test_no_list_shows_members_that_were_not_asked_for(journal: Journal) -> None:
    """One row with counts; members by name, by id, or of their sweep."""
    spec = made(journal)
    first = ended(journal, spec, 0, State.FINISHED)
    (view,) = journal.views("nb")
    assert view.members == {"finished": 1, "pending": 2}
    assert (view.sweep["size"], view.binds) == (3, ["lr"])
    assert (journal.count(), journal.names(), len(journal.labels())) == (1, ["lr"], 1)
    assert [v.label for v in journal.views(sweep=spec.id)] == ["lr[0]", "lr[1]", "lr[2]"]
    assert [row["member"] for row in journal.rows("nb", wanted=["lr[2]", first])] == [0, 2]
    assert [label[2] for label in journal.labels(["nb/lr[1]@1"])] == ["lr", "lr[1]"]


def test_a_members_spec_is_its_sweeps(journal: Journal) -> None:
    """Its own are name, number and what of it comes back; the inputs are stored once."""
    spec = made(journal)
    found = journal.spec(member_id(spec.id, 2))
    assert found is not None
    assert (found.name, found.member, found.of) == ("lr[2]", 2, spec.id)
    assert (found.binds, found.only, found.inputs) == (["y"], ["y"], spec.inputs)
    assert len(journal._all("SELECT * FROM specs")) == 1
    assert journal.spec("0" * 32) is None


def test_what_is_unfinished_is_found_again(journal: Journal) -> None:
    """With the places that are left, and how the others ended."""
    spec = made(journal)
    ended(journal, spec, 1, State.FAILED)
    record, *members = journal.unfinished()
    assert [m.id for m in members] == [member_id(spec.id, n) for n in (0, 2)]
    assert {m.sweep for m in members} == {spec.id}
    assert record.members is not None
    assert list(record.members.open) == [m.id for m in members]
    assert (record.members.at_once, record.members.ended) == (2, {State.FAILED: 1})


def test_finished_members_are_taken_over_whole(journal: Journal) -> None:
    """State, output, result and names of frames: the old sweep may be forgotten."""
    old = made(journal)
    ended(journal, old, 0, State.FINISHED)
    ended(journal, old, 1, State.FAILED)
    new = made(journal, again=old.id)
    journal.forget([old.id])
    first, second, third = journal.views(sweep=new.id)
    assert (first.state, first.outputs, first.last_line, first.nbytes) == ("finished", 1, "said", 1)
    assert (second.state, third.state) == ("pending", "pending")
    assert journal.outputs(first.id) == [(1, 1.5, pack({"n": 0}))]
    assert [m["member"] for m in journal.collected(new.id)] == [0]
    assert journal.collected(new.id)[0]["result"]["bound"] == ["y"]
    assert journal.events(first.id)


def test_forgetting_leaves_nothing_of_a_sweep(journal: Journal) -> None:
    spec = made(journal)
    ended(journal, spec, 0, State.FINISHED)
    journal.forget([spec.id])
    journal.flush()
    for table in ("jobs", "members", "briefs", "specs", "results", "outputs", "events", "frames"):
        assert journal._all(f"SELECT * FROM {table}") == []


def test_a_journal_from_before_sweeps_is_read_and_migrated(tmp_path: Path) -> None:
    """By a command that runs before the new server does, and by that server."""
    path = tmp_path / "journal.sqlite"
    with Journal.open(path) as journal:
        spec = job_spec("a")
        journal.create(Record(spec.id, "nb", "a"), spec, 1.0)
    old = sqlite3.connect(path)
    newer = ("members", "caches", "stores", "leavings", "spans")
    dropped = "".join(f"DROP TABLE {table};" for table in newer)
    old.executescript(f"{dropped} PRAGMA user_version = 1;")
    old.close()
    with Journal.open_readonly(path) as reader:
        assert [(v.name, v.members) for v in reader.views()] == [("a", {})]
    with Journal.open(path) as journal:
        made(journal)
        assert [(v.name, len(v.members)) for v in journal.views()] == [("a", 0), ("lr", 1)]


def test_a_sweep_without_end_is_refused(journal: Journal) -> None:
    """Whoever asks for it past the kernel's check."""
    spec = as_sweep(job_spec("lr"), [Axis(("n",), [1])], 0, True)
    spec.sweep["size"] = 10**9
    with pytest.raises(ServerError, match="cannot be a sweep of 1000000000"):
        create_sweep(journal, spec, 1, 1.0)
