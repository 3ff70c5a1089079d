"""The registry on a real cluster: jobs run once, end truly, and outlive what dies."""

from __future__ import annotations

import asyncio
import logging
import shutil
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask
import numpy as np
import pytest
from distributed import Client, Future, LocalCluster
from distributed.comm import connect

from dask_async_run.errors import FrameError, JobStateError, NoSuchJobError, ServerError
from dask_async_run.frames import FrameStore, name_of, unread_name
from dask_async_run.job import Message, Payload, State
from dask_async_run.kernel.snapshot import address_of, is_possible, take
from dask_async_run.messages import pack
from dask_async_run.registry import SyncRegistry
from dask_async_run.scheduler import cell_ops, client_ops
from dask_async_run.scheduler import registry as registry_module
from dask_async_run.scheduler.client_ops import ClientOps
from dask_async_run.scheduler.journal import Journal
from dask_async_run.scheduler.plugin import NAME, RegistryPlugin
from dask_async_run.scheduler.registry import RETRY_COMMIT
from dask_async_run.snapshots import Part, Snapshot
from registry_site import Site
from scripted import job_spec, play
from waiting import wait_for


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


# --- the ordinary way ---


def test_a_job_runs_and_everything_about_it_is_told(site: Site, tmp_path: Path) -> None:
    """Created, run, finished; with output, result, times, place and version."""
    spec = site.submit("train", f"run {tmp_path / 'ran'}", "say hello", "say world")
    (view,) = site.ended(spec)
    assert (view.state, view.reason, view.label, view.version) == ("finished", "", "train", 1)
    assert view.started is not None
    assert view.ended is not None
    assert spec.submitted <= view.started <= view.ended
    assert view.worker in site.scheduler.workers
    assert (view.host, view.outputs, view.last_line, view.nbytes) == ("here", 2, "world", 1)
    assert lines(tmp_path / "ran") == ["1"]
    outputs = site.registry.outputs(spec.id)
    assert [(o.seq, o.output["text"]) for o in outputs.outputs] == [(1, "hello\n"), (2, "world\n")]
    assert outputs.done
    assert site.registry.spec(spec.id) == spec
    result = site.registry.result(spec.id)
    assert result is not None
    assert result.payload["stream"] == b"r"
    assert view.result is not None
    assert view.result["payload"]["stream"] == b""
    # From here on nothing about it changes.
    wait_for(lambda: site.registry.show(spec.id).saved)
    assert site.registry.show(spec.id) == site.registry.jobs("nb")[0]


def test_the_job_is_published_in_dask_under_its_name(site: Site) -> None:
    """Any Dask client finds the latest job of a name as a future; forgetting takes it back."""
    old, new = site.submit("train"), site.submit("train")
    site.ended(old, new)
    wait_for(lambda: site.client.list_datasets() == ("nb/train",))
    future = site.client.get_dataset("nb/train")
    assert isinstance(future, Future)
    assert future.result(timeout=60) == {"job": new.id, "state": "finished"}
    # The older one's task is forgotten by Dask: tasks do not pile up.
    wait_for(lambda: len(site.scheduler.tasks) == 1)
    future.release()
    site.registry.forget([new.id])
    wait_for(lambda: not site.client.list_datasets() and not site.scheduler.tasks)


def test_versions_count_within_a_notebook_and_name(site: Site) -> None:
    """The name means the latest; others are name@version; notebooks do not mix."""
    specs = [site.submit("a"), site.submit("a"), site.submit("b"), site.submit("a", notebook="x")]
    assert [v.label for v in site.ended(*specs)] == ["a@1", "a", "b", "a"]
    assert [v.label for v in site.registry.jobs("nb")] == ["a@1", "a", "b"]
    assert [v.notebook for v in site.registry.jobs()] == ["nb", "nb", "nb", "x"]
    site.registry.forget([specs[1].id])
    assert [v.label for v in site.registry.jobs("nb")] == ["a", "b"]


def test_creating_the_same_job_again_changes_nothing(site: Site, tmp_path: Path) -> None:
    """A client that did not get the answer asks again: one job, one run."""
    spec = job_spec("a", f"run {tmp_path / 'ran'}")
    first = site.registry.create(spec)
    assert site.registry.create(spec).id == first.id
    site.ended(spec)
    assert site.registry.create(spec).state == "finished"
    assert len(site.registry.jobs()) == 1
    assert lines(tmp_path / "ran") == ["1"]


def test_jobs_run_side_by_side_on_all_slots(site: Site, tmp_path: Path) -> None:
    """A short job does not wait behind a long one while a slot is free."""
    go = tmp_path / "go"
    long = site.submit("long", "say up", f"await {go}")
    assert site.registry.outputs(long.id, 0, 60).outputs
    for n in range(6):
        site.ended(site.submit(f"short-{n}"))
    many = [site.submit(f"many-{n}") for n in range(6)]
    site.ended(*many)
    assert site.registry.show(long.id).state == "running"
    go.touch()
    site.ended(long)


@pytest.mark.parametrize("names", [["a", "b", "c", "d", "e"], ["same"] * 5])
def test_jobs_wait_for_the_first_free_slot(state: Path, tmp_path: Path, names: list[str]) -> None:
    """And not on a worker, behind a job that may take hours."""
    with (
        dask.config.set({"distributed.scheduler.worker-saturation": 1.0}),
        Site(state) as site,
    ):
        long, short = (site.submit(w, f"await {tmp_path / w}") for w in ("long", "short"))
        wait_for(
            lambda: all(site.registry.show(job.id).state == "running" for job in (long, short))
        )
        others = [site.submit(name) for name in names]

        def states() -> list[str]:
            tasks = list(site.scheduler.tasks.values())
            return [task.state for task in tasks for job in others if job.id in task.key]

        wait_for(lambda: len(states()) == len(others) and "released" not in states())
        assert set(states()) == {"queued"}
        (tmp_path / "short").touch()
        begun = [view.started or 0 for view in site.ended(*others)]
        assert begun == sorted(begun)
        (tmp_path / "long").touch()
        site.ended(long)


def test_priority_workers_and_resources_reach_dask(site: Site) -> None:
    """A job restricted to a worker runs there; one that asks for what nobody has waits."""
    there = list(site.scheduler.workers)[1]
    bound = [site.submit(f"b{n}", workers=[there]) for n in range(3)]
    assert {v.worker for v in site.ended(*bound)} == {there}
    waiting = site.submit("gpu", resources={"GPU": 1.0}, priority=5)

    def stuck() -> Any:
        tasks = list(site.scheduler.tasks.values())
        return next((t for t in tasks if "gpu in " in str(t.key) and t.state == "no-worker"), None)

    task = wait_for(stuck)
    assert task.priority[0] == -5
    assert site.registry.cancel([waiting.id]) == {waiting.id: "cancelled before it ran"}


# --- order ---


def test_a_job_starts_from_the_jobs_it_comes_after(site: Site, tmp_path: Path) -> None:
    """`after` orders, `parents` hand their specs and results over."""
    go, log = tmp_path / "go", tmp_path / "log"
    one = site.submit("one", f"await {go}", f"run {log}")
    two = site.submit("two", f"run {log}", after=[one.id], parents=[one.id])
    three = site.submit("three", f"run {log}", after=[one.id, two.id])
    assert [v.state for v in site.registry.wait([two.id, three.id], 0.2)] == ["pending"] * 2
    go.touch()
    views = site.ended(one, two, three)
    times = [(v.started, v.ended) for v in views]
    assert times == sorted(times)
    assert all(a[1] <= b[0] for a, b in pairwise(times))  # type: ignore[operator]


def test_what_comes_after_a_failure_is_cancelled_by_name(site: Site) -> None:
    """At any depth, also for jobs made after the failure."""
    train = site.submit("train", "end failed ValueError: no")
    score = site.submit("score", after=[train.id])
    plot = site.submit("plot", after=[score.id])
    assert site.ends(train, score, plot) == [
        ("failed", "ValueError: no"),
        ("cancelled", "not run: 'train' failed"),
        ("cancelled", "not run: 'score' was cancelled"),
    ]
    late = site.submit("late", after=[train.id])
    assert site.ends(late) == [("cancelled", "not run: 'train' failed")]


def test_an_unknown_predecessor_is_an_error(site: Site) -> None:
    """A job after one that was forgotten is not made."""
    with pytest.raises(NoSuchJobError):
        site.submit("a", after=["0" * 32])
    assert site.registry.jobs() == []


# --- cancelling ---


def test_cancelling_what_waits_and_what_runs(site: Site, tmp_path: Path) -> None:
    """Pending ones end at once, with those after them; running ones are told to stop."""
    ran = tmp_path / "ran"
    running = [
        site.submit(f"r{n}", "say started", "await-stop", "end cancelled SIGINT") for n in (1, 2)
    ]
    for spec in running:
        assert site.registry.outputs(spec.id, 0, 60).outputs
    queued = site.submit("queued", f"run {ran}")
    after = site.submit("after", f"run {ran}", after=[queued.id])
    done = site.registry.cancel([queued.id, running[0].id, after.id])
    assert done[queued.id] == done[after.id] == "cancelled before it ran"
    assert done[running[0].id] == "told to stop"
    assert site.ends(queued, running[0]) == [
        ("cancelled", "cancelled before it ran"),
        ("cancelled", "SIGINT"),
    ]
    assert site.registry.show(running[1].id).state == "running"
    assert site.registry.cancel([queued.id]) == {queued.id: "it has ended already"}
    site.registry.cancel([running[1].id])
    site.ended(running[1])
    assert lines(ran) == []


def test_cancelling_an_unknown_job_cancels_nothing(site: Site) -> None:
    """A misspelt id among others is an error before anything is done."""
    spec = site.submit("a", "await-stop", "end cancelled")
    with pytest.raises(NoSuchJobError):
        site.registry.cancel([spec.id, "f" * 32])
    assert site.registry.wait([spec.id], 0.1)[0].state in ("pending", "running")
    site.registry.cancel([spec.id])
    site.ended(spec)


# --- waiting ---


def test_wait_for_all_for_one_and_not_for_ever(site: Site, tmp_path: Path) -> None:
    """`wait` returns in order of submission, when all (any) have ended or time is over."""
    go = tmp_path / "go"
    slow, fast = site.submit("slow", "say up", f"await {go}"), site.submit("fast")
    assert site.registry.outputs(slow.id, 0, 60).outputs
    ids = [fast.id, slow.id]
    assert [v.name for v in site.registry.wait(ids, 60, any=True)] == ["slow", "fast"]
    assert [v.state for v in site.registry.wait(ids, 0.1)] == ["running", "finished"]
    go.touch()
    assert {v.state for v in site.registry.wait(ids)} == {"finished"}
    assert site.registry.wait([]) == []
    with pytest.raises(NoSuchJobError):
        site.registry.wait(["0" * 32])


def test_outputs_arrive_while_the_cell_runs(site: Site, tmp_path: Path) -> None:
    """A long poll is answered by the next output, the tail's change, or the end."""
    go, on = tmp_path / "go", tmp_path / "on"
    spec = site.submit("a", "say 1", f"await {go}", "tail flood", f"await {on}", "say 2")
    first = site.registry.outputs(spec.id, 0, 60)
    assert ([o.seq for o in first.outputs], first.done) == ([1], False)
    assert site.registry.outputs(spec.id, 1, 0.05).outputs == []
    go.touch()
    assert site.registry.outputs(spec.id, 1, 60, tail="").tail == "flood"
    view = site.registry.show(spec.id)
    assert (view.last_line, view.memory, view.cpu) == ("flood", 5.0, 1.0)
    on.touch()
    second = site.registry.outputs(spec.id, 1, 60)
    assert [o.output["text"] for o in second.outputs] == ["2\n"]
    site.ended(spec)
    last = site.registry.outputs(spec.id, 2, 60)
    assert (last.outputs, last.done, last.state, last.tail) == ([], True, "finished", "flood")


def test_a_long_poll_whose_client_goes_away_disturbs_nobody(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """A comm that closes while the scheduler waits on its behalf is let go without a word."""
    spec = site.submit("a", "await-stop", "end cancelled")

    async def ask_and_leave() -> None:
        for do in ("wait", "outputs"):
            comm = await connect(site.cluster.scheduler_address)
            arguments = {"jobs": [spec.id]} if do == "wait" else {"job": spec.id, "wait": 60.0}
            await comm.write({"op": "async_run", "do": do, "body": pack(arguments), "reply": True})
            await asyncio.sleep(0.05)
            comm.abort()

    with caplog.at_level(logging.WARNING):
        site.client.sync(ask_and_leave)
        wait_for(lambda: len(site.host.registry.news) == 1)
        site.registry.cancel([spec.id])
        site.ended(spec)
        wait_for(lambda: len(site.host.registry.news) + len(site.host.registry.changes) == 0)
    assert [r.message for r in caplog.records if r.levelno > logging.WARNING] == []


def test_closing_the_registry_answers_long_polls(site: Site) -> None:
    """Who waits when the server stops is told so, at once; so is who asks later."""
    spec = site.submit("a", resources={"GPU": 1.0})
    answers: list[str] = []

    def wait() -> None:
        try:
            site.registry.wait([spec.id])
        except ServerError as error:
            answers.append(str(error))

    thread = threading.Thread(target=wait)
    thread.start()
    wait_for(lambda: len(site.host.registry.changes))
    site.cluster.sync(site.host.close)
    thread.join(60)
    assert answers == ["the server is stopping. %async_run_server starts it again."]
    with pytest.raises(ServerError, match="keeps no registry"):
        site.registry.jobs()


# --- forgetting, saving, marking ---


def test_forget_removes_the_job_and_the_frames_that_no_other_job_names(
    site: Site, state: Path
) -> None:
    """Rows, outputs, result; frames that another job names stay until that one goes too."""
    store = FrameStore(state / "frames")
    shared, own, made = (store.put(content) for content in (b"shared", b"own", b"made"))
    both = [[f.digest, f.size] for f in (shared, own)]
    one = site.submit(
        "one", f"frames {made.digest} {made.size}", inputs=Payload(b"", both).to_message()
    )
    two = site.submit("two", inputs=Payload(b"", both[:1]).to_message())
    site.ended(one, two)
    site.registry.forget([one.id])
    assert [v.name for v in site.registry.jobs()] == ["two"]
    assert list(store) == [shared.digest]
    for ask in (site.registry.show, site.registry.spec, site.registry.result):
        with pytest.raises(NoSuchJobError, match="there is no job"):
            ask(one.id)
    site.registry.forget([two.id])
    assert list(store) == []
    with Journal.open_readonly(state / "journal.sqlite") as journal:
        for table in ("jobs", "briefs", "specs", "results", "outputs", "tails", "events", "frames"):
            assert journal._all(f"SELECT count(*) AS n FROM {table}")[0]["n"] == 0, table


def test_no_more_jobs_are_taken_than_the_disk_limit_has_room_for(site: Site, state: Path) -> None:
    """Results are, whatever they take: nothing that was made is lost. Forgetting makes room."""
    site.host.registry.disk_limit = 1000
    store = FrameStore(state / "frames")
    given, made = store.put(bytes(600)), store.put(bytes(800))
    inputs = Payload(b"", [[given.digest, given.size]]).to_message()
    first = site.submit("first", f"frames {made.digest} {made.size}", inputs=inputs)
    (view,) = site.ended(first)
    assert view.state == "finished"
    with pytest.raises(ServerError, match=r"more than the server's limit of .* Nothing was"):
        site.submit("second", inputs=inputs)
    assert [v.name for v in site.registry.jobs()] == ["first"]
    site.registry.forget([first.id])
    given = store.put(bytes(600))
    site.ended(site.submit("second", inputs=inputs))


def test_a_frame_that_a_running_cell_found_there_is_not_removed_under_it(
    site: Site, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cell did not write it again, and has not named it yet: forgetting waits for it."""
    monkeypatch.setattr("dask_async_run.scheduler.registry.COLLECT_AGAIN", 0.1)
    go = tmp_path / "go"
    store = FrameStore(state / "frames")
    shared = store.put(b"shared")
    old = site.submit("old", inputs=Payload(b"", [[shared.digest, shared.size]]).to_message())
    site.ended(old)
    cell = site.submit("cell", "say up", f"await {go}", f"frames {shared.digest} {shared.size}")
    assert site.registry.outputs(cell.id, 0, 60).outputs
    lonely = store.put(b"lonely")
    assert store.put(b"shared") == shared
    site.registry.forget([old.id])
    assert store.has(shared.digest)
    go.touch()
    assert site.ends(cell) == [("finished", "")]
    wait_for(lambda: site.registry.show(cell.id).saved)
    assert store.has(lonely.digest)  # put just now, perhaps by a kernel that is about to name it
    site.registry.forget([cell.id])
    wait_for(lambda: not store.has(shared.digest))


def test_forget_refuses_what_has_not_ended_or_is_needed(site: Site, tmp_path: Path) -> None:
    """All or none: one job that cannot be forgotten keeps the others."""
    go = tmp_path / "go"
    one = site.submit("one")
    site.ended(one)
    two = site.submit("two", f"await {go}", after=[one.id], parents=[one.id])
    with pytest.raises(JobStateError, match="cannot be forgotten before it has ended"):
        site.registry.forget([one.id, two.id])
    with pytest.raises(JobStateError, match=r"'two', which is .*, needs its result"):
        site.registry.forget([one.id])
    assert len(site.registry.jobs()) == 2
    go.touch()
    site.ended(two)
    three = site.submit("three", after=[one.id, two.id])  # builds on none
    site.ended(three)
    with pytest.raises(JobStateError, match=r"'one' is finished: .* before 'two' is gathered"):
        site.registry.forget([one.id, three.id])
    assert len(site.registry.jobs()) == 3
    four = site.submit("four", after=[one.id, two.id], parents=[one.id, two.id])
    site.ended(four)
    site.registry.gathered([two.id])
    with pytest.raises(JobStateError, match=r"before 'four' is gathered"):
        site.registry.forget([one.id, two.id])
    site.registry.forget([one.id, two.id, four.id])
    assert [view.id for view in site.registry.jobs()] == [three.id]
    five = site.submit("five", after=[three.id], parents=[three.id])
    site.ended(five)
    site.registry.gathered([five.id])
    site.registry.forget([three.id])
    assert [view.id for view in site.registry.jobs()] == [five.id]


def test_a_job_whose_frames_are_missing_is_not_made(site: Site, state: Path) -> None:
    """The client is told which one, so that it can put it again."""
    store = FrameStore(state / "frames")
    frame = store.put(b"x")
    spec = job_spec("a", inputs=Payload(b"", [[frame.digest, 1]]).to_message())
    store.remove([frame.digest])
    with pytest.raises(FrameError, match="missing") as caught:
        site.registry.create(spec)
    assert caught.value.digest == frame.digest
    store.put(b"x")
    site.registry.create(spec)
    site.ended(spec)


def test_ended_jobs_are_saved_soon_after(site: Site) -> None:
    """Saved follows finished; also for jobs without a result."""
    specs = [site.submit("a"), site.submit("b", "end failed no")]
    site.ended(*specs)
    wait_for(lambda: all(v.saved for v in site.registry.jobs()))


def test_a_result_that_cannot_be_saved_is_not_called_saved(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """A result whose frame is not there is not durable, and the log says why."""
    lost = site.submit("lost", f"frames {'0' * 32}-5 5")
    good = site.submit("good")
    site.ended(lost, good)
    wait_for(lambda: site.registry.show(good.id).saved)
    wait_for(lambda: "is not saved" in caplog.text)
    assert not site.registry.show(lost.id).saved


def test_gathered_is_marked(site: Site) -> None:
    """A kernel that starts later knows what was gathered."""
    spec = site.submit("a")
    site.ended(spec)
    assert not site.registry.show(spec.id).gathered
    site.registry.gathered([spec.id])
    assert site.registry.show(spec.id).gathered


def test_idle_counts_jobs_and_clients(site: Site, tmp_path: Path) -> None:
    """The registry's own client and the workers' do not count as somebody who is there."""
    wait_for(lambda: site.registry.idle() == {"unfinished": 0, "clients": 1})
    spec = site.submit("a", f"await {tmp_path / 'go'}")
    with Client(site.cluster.scheduler_address, set_as_default=False):
        wait_for(lambda: site.registry.idle() == {"unfinished": 1, "clients": 2})
    (tmp_path / "go").touch()
    site.ended(spec)
    wait_for(lambda: site.registry.idle() == {"unfinished": 0, "clients": 1})


# --- tasks that go wrong ---


def fails_at_once(job: str) -> None:
    raise RuntimeError(f"not able to run {job}")


def test_a_task_that_cannot_run_ends_its_job(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that lacks what runs cells does not leave the job pending for ever."""
    monkeypatch.setattr("dask_async_run.scheduler.machine.RETRY_DELAYS", (0.01, 0.01))
    with Site(state, fails_at_once) as site:
        spec = site.submit("a")
        ((state_, reason),) = site.ends(spec)
        assert state_ == "lost"
        assert reason.startswith("it could not be run: RuntimeError('not able to run")


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ("raise", "what ran it failed: RuntimeError('the supervisor has a bug')"),
        ("return", "what ran it failed: its task ended without saying how"),
    ],
)
def test_a_task_that_ends_without_its_job_loses_it(site: Site, step: str, reason: str) -> None:
    """A running job whose task is over is not running."""
    assert site.ends(site.submit("a", step)) == [("lost", reason)]


def test_dask_cannot_take_the_job(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Dask refuses at submission becomes the job's end, with what Dask said."""
    monkeypatch.setattr("dask_async_run.scheduler.machine.RETRY_DELAYS", ())
    ((state, reason),) = site.ends(site.submit("a", resources=["not a dict"]))
    assert state == "lost"
    assert "could not be run" in reason


# --- a full disk ---


@contextmanager
def full_disk(site: Site) -> Iterator[None]:
    """Make the journal's disk full, by SQLite's own limit on the size of its file."""

    async def set_full(is_full: bool) -> None:
        connection = site.host.registry.journal._connection
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages if is_full else 1_000_000}")

    site.cluster.sync(set_full, True)
    try:
        yield
    finally:
        site.cluster.sync(set_full, False)


def test_on_a_full_disk_nothing_said_is_lost(site: Site, tmp_path: Path) -> None:
    """New jobs are refused; what runs goes on, and is on record when there is space again."""
    go, ran = tmp_path / "go", tmp_path / "ran"
    big = "x" * 100_000
    spec = site.submit("a", "say up", f"await {go}", f"say {big}", f"run {ran}", "say end")
    assert site.registry.outputs(spec.id, 0, 60).outputs
    with full_disk(site):
        go.touch()
        wait_for(lambda: lines(ran))
        with pytest.raises(ServerError, match="cannot be written: database or disk is full"):
            site.submit("b", inputs=Payload(bytes(100_000)).to_message())
        wait_for(lambda: site.registry.idle()["unfinished"] == 0)
        (view,) = site.registry.wait([spec.id], 0.1)
        assert view.state == "running"
        assert view.reason.startswith("not on record yet: the journal")
    assert site.ends(spec) == [("finished", "")]
    outputs = site.registry.outputs(spec.id)
    assert [len(o.output["text"]) for o in outputs.outputs] == [3, 100_001, 4]
    assert outputs.done
    assert site.registry.result(spec.id) is not None
    assert [v.name for v in site.registry.jobs()] == ["a"]
    assert site.ends(site.submit("c")) == [("finished", "")]


def test_a_claim_waits_until_it_can_be_put_on_record(site: Site, tmp_path: Path) -> None:
    """Or the cell might run again after a restart; no job is lost for a disk that was full."""
    ran = tmp_path / "ran"
    first = site.submit("first", "say up", f"await {tmp_path / 'go'}")
    assert site.registry.outputs(first.id, 0, 60).outputs
    second = site.submit("second", f"run {ran}", after=[first.id])
    registry = site.host.registry

    async def fill() -> None:  # with what is committed together with the claim
        registry.journal.append(second.id, 1000, [bytes(1_000_000)], 0.0)

    with full_disk(site):
        site.cluster.sync(fill)
        (tmp_path / "go").touch()
        wait_for(lambda: registry.machine.records[second.id].state is State.RUNNING)
        wait_for(lambda: bool(registry.problem))
        time.sleep(2 * RETRY_COMMIT)
        assert lines(ran) == []
        assert site.registry.idle()["unfinished"] == 1
    assert site.ends(second) == [("finished", "")]
    assert lines(ran) == ["1"]


# --- what dies ---


@pytest.mark.parametrize("how", ["abort", "close"])
def test_the_registrys_own_connection_breaks(site: Site, tmp_path: Path, how: str) -> None:
    """Its client is replaced: pending jobs get tasks, running ones are not disturbed."""
    go, ran = tmp_path / "go", tmp_path / "ran"
    running = [site.submit(f"r{n}", "say up", f"await {go}", f"run {ran}") for n in (1, 2)]
    for spec in running:
        assert site.registry.outputs(spec.id, 0, 60).outputs
    waiting = [site.submit(f"w{n}", f"run {ran}") for n in range(3)]

    async def cut() -> None:
        client = site.host.tasks._client
        assert client is not None
        if how == "abort":
            scheduler_comm: Any = client.scheduler_comm
            scheduler_comm.comm.abort()
        else:
            await client.close()

    site.cluster.sync(cut)
    later = site.submit("later", f"run {ran}")
    go.touch()
    assert [s for s, _ in site.ends(*running, *waiting, later)] == ["finished"] * 6
    assert lines(ran) == ["1"] * 6
    assert site.ends(site.submit("last")) == [("finished", "")]


@pytest.mark.parametrize("name", ["\udcff", "é 🎉", "a'b\"c", "x" * 10_000, "a\0b", "-1-2", "()"])
def test_any_name_is_no_problem_for_dask(site: Site, name: str) -> None:
    """A name becomes part of a key and the name of a dataset; none may break the stream."""
    odd, plain = site.submit(name, notebook=name), site.submit("plain")
    assert [s for s, _ in site.ends(odd, plain)] == ["finished"] * 2
    wait_for(lambda: len(site.client.list_datasets()) == 2)


def test_client_restart_loses_what_runs_and_keeps_what_waits(state: Path, tmp_path: Path) -> None:
    """``Client.restart`` empties Dask: pending jobs get new tasks, none runs twice."""
    ran = tmp_path / "ran"
    with Site(state, processes=True, n_workers=1) as site:
        done = site.submit("done")
        site.ended(done)
        wait_for(site.client.list_datasets)
        running = site.submit("running", f"run {ran}", "say up", "await-stop")
        assert site.registry.outputs(running.id, 0, 60).outputs
        waiting = [site.submit(f"w{n}", f"run {ran}") for n in range(3)]
        last = site.submit("last", f"run {ran}", after=[spec.id for spec in waiting])
        site.client.restart()
        ((end, reason),) = site.ends(running)
        assert end == "lost"
        assert "died or was stopped" in reason
        assert [end for end, _ in site.ends(*waiting, last)] == ["finished"] * 4
        assert lines(ran) == ["1"] * 5
        # What is published arrives; what would never arrive is not listed.
        wait_for(lambda: set(site.client.list_datasets()) == {"nb/w0", "nb/w1", "nb/w2", "nb/last"})
        assert site.client.get_dataset("nb/last").result(timeout=60)["state"] == "finished"
        assert site.registry.show(done.id).state == "finished"


def test_registering_again_keeps_the_registry(site: Site, state: Path, tmp_path: Path) -> None:
    """Also from two other clients at the same moment, also with another folder."""
    host = site.host
    spec = site.submit("a")

    def register() -> None:
        with Client(site.cluster.scheduler_address, set_as_default=False) as client:
            client.register_plugin(RegistryPlugin(str(tmp_path / "x")))

    threads = [threading.Thread(target=register) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert site.host is host
    assert site.registry.hello()["state_folder"] == str(state)
    site.ended(spec)


def test_registering_twice_at_the_same_moment_makes_one_registry(state: Path) -> None:
    """Dask starts both plugins and keeps one: either way events reach the registry."""
    with (
        LocalCluster(
            processes=False,
            protocol="tcp://",
            host="127.0.0.1",
            n_workers=1,
            threads_per_worker=1,
            dashboard_address=":0",
        ) as cluster,
        Client(cluster) as client,
    ):

        async def both() -> None:
            await asyncio.gather(
                *(client.register_plugin(RegistryPlugin(str(state), play)) for _ in range(3))
            )

        client.sync(both)
        registry = SyncRegistry(client)
        spec = job_spec("a", "say up", "await-stop")
        registry.create(spec)
        assert registry.outputs(spec.id, 0, 60).outputs
        # Only the plugin that Dask kept hears of this:
        cluster.scale(0)
        assert registry.wait([spec.id], 60)[0].state == "lost"
        scripted_stop(spec.id)


def test_a_copied_state_folder_is_what_a_killed_server_leaves(
    site: Site, state: Path, tmp_path: Path
) -> None:
    """Whatever was answered is in the journal: the next server takes up from there."""
    ran, go = tmp_path / "ran", tmp_path / "go"
    done = site.submit("done", "say kept", f"run {ran}")
    failed = site.submit("failed", "end failed ValueError")
    site.ended(done, failed)
    running = [site.submit(f"r{n}", "say so far", f"await {go}", f"run {ran}") for n in (1, 2)]
    for spec in running:
        assert site.registry.outputs(spec.id, 0, 60).outputs
    again = site.submit("again", f"run {ran}")
    follower = site.submit("follower", f"run {ran}", after=[again.id, done.id])
    orphan = site.submit("orphan", f"run {ran}", after=[running[0].id])
    copy = tmp_path / "copy"
    shutil.copytree(state, copy)
    go.touch()
    site.ended(*running, again, follower, orphan)
    before = len(lines(ran))

    with Site(copy) as next_site:
        assert next_site.ends(done, failed, *running, orphan) == [
            ("finished", ""),
            ("failed", "ValueError"),
            ("lost", "the server died while it ran"),
            ("lost", "the server died while it ran"),
            ("cancelled", "not run: 'r1' was lost"),
        ]
        assert [s for s, _ in next_site.ends(again, follower)] == ["finished", "finished"]
        assert len(lines(ran)) - before == 2
        for spec in (done, running[0]):
            assert next_site.registry.outputs(spec.id).outputs[0].output["text"] in (
                "kept\n",
                "so far\n",
            )
        assert next_site.registry.result(done.id) == site.registry.result(done.id)
        wait_for(lambda: all(v.saved for v in next_site.registry.jobs()))


def test_an_orderly_stop_says_so_and_keeps_what_waits(state: Path, tmp_path: Path) -> None:
    """After `stopping` nothing begins; what ran is lost for that reason, what waited runs next."""
    ran = tmp_path / "ran"
    with Site(state) as site:
        running = [site.submit(f"r{n}", "say up", "await-stop") for n in (1, 2)]
        for spec in running:
            assert site.registry.outputs(spec.id, 0, 60).outputs
        waiting = site.submit("w", f"run {ran}")
        site.registry.stopping(lose=False)
        assert {v.state for v in site.registry.wait([r.id for r in running], 0.1)} == {"running"}
        site.registry.stopping("the server was stopped")
        assert site.ends(*running) == [("lost", "the server was stopped")] * 2
        for spec in running:
            scripted_stop(spec.id)
    with Site(state) as site:
        assert site.ends(waiting) == [("finished", "")]
    assert lines(ran) == ["1"]


def scripted_stop(job: str) -> None:
    """Let a script that waits to be stopped end, though nobody tells its worker."""
    from scripted import _stopped

    _stopped.add(job)


def test_two_servers_do_not_share_a_folder(site: Site, state: Path) -> None:
    """The second is refused, and the first goes on."""
    with pytest.raises(Exception, match="another server runs on this state folder"):
        Site(state).close()
    assert site.ends(site.submit("a")) == [("finished", "")]


def test_files_are_private(site: Site, state: Path) -> None:
    """Journal, its companions, lock and token are 0600, the folder 0700."""
    site.ended(site.submit("a"))
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in state.iterdir() if p.is_file()}
    assert set(modes.values()) == {0o600}, modes
    assert {"journal.sqlite", "journal.sqlite-wal", "host_token"} <= modes.keys()
    assert (state / "host_token").read_text() == site.registry.hello()["host_token"]


def test_a_scheduler_finds_its_own_folder_again(folders: Any) -> None:
    """Nobody said where: the folder is named after the scheduler's address, in the user's own."""
    with Site(None) as site:
        port = site.cluster.scheduler_address.rpartition(":")[2]
        folder = folders.state / f"cluster-127.0.0.1-{port}"
        assert site.registry.hello()["state_folder"] == str(folder)
        assert site.ends(site.submit("a")) == [("finished", "")]
        assert (folder / "journal.sqlite").exists()


def test_a_worker_that_does_not_know_the_job_yet_is_told_again(site: Site) -> None:
    """Between the claim and the cell's start a cancel finds nobody; it is not lost."""
    spec = site.submit("a", "say up", "await-stop", "end cancelled SIGINT")
    assert site.registry.outputs(spec.id, 0, 60).outputs
    address = site.registry.show(spec.id).worker
    (worker,) = (w for w in site.cluster.workers.values() if w.address == address)
    handler = worker.handlers["async_run_cell"]
    asked: list[str] = []

    def busy(do: str, job: str) -> object:
        asked.append(job)
        if len(asked) == 1:
            raise OSError("not now")
        return handler(do, job) if len(asked) > 2 else False

    worker.handlers["async_run_cell"] = busy
    site.registry.cancel([spec.id])
    assert site.ends(spec) == [("cancelled", "SIGINT")]
    assert asked == [spec.id] * 3


@pytest.mark.skipif(not is_possible(), reason="this system takes no snapshots")
def test_a_job_says_that_its_inputs_are_being_copied(site: Site) -> None:
    """And runs when they have been; of others it is not said."""
    array = np.arange(1_000_000.0)
    view = array.data.cast("B")
    part = Part(unread_name(view.nbytes), view.nbytes, address_of(view))
    snapshot = take([part])
    inputs = Payload(frames=[[part.digest, part.size]]).to_message()
    spec = job_spec("job", inputs=inputs)
    other = job_spec("other", after=[spec.id])
    late = job_spec("late", inputs=inputs)

    async def submit(snapshot: Snapshot, messages: list[Message], dask_scheduler: Any) -> list[str]:
        registry = dask_scheduler.extensions[NAME].registry
        assert await registry.arrivals.bring(snapshot)
        rows = [await ClientOps(registry).create(message) for message in messages]
        return [row["reason"] for row in rows]

    messages = [spec.to_message(), other.to_message()]
    reasons = site.client.run_on_scheduler(submit, snapshot, messages)
    assert reasons == ["its inputs are being copied", ""]
    assert [end for end, _ in site.ends(spec, other)] == ["finished"] * 2
    # One that the kernel made when they were there, and did not know.
    site.registry.create(late)
    assert site.ends(late) == [("finished", "")]
    for each in (spec, late):
        assert site.registry.spec(each.id).payload.digests == [name_of(view).digest]


def test_an_input_that_was_coming_and_never_came(site: Site, tmp_path: Path) -> None:
    """The job ends and says what became of it; not a line of the cell runs."""
    ran = tmp_path / "ran"
    digest = f"{'0' * 32}-8"
    spec = job_spec("job", f"run {ran}", inputs=Payload(frames=[[digest, 8]]).to_message())

    async def lose(message: Message, dask_scheduler: Any) -> None:
        registry = dask_scheduler.extensions[NAME].registry
        registry.holders.bring("a snapshot", [digest])
        await ClientOps(registry).create(message)
        registry.holders.failed("a snapshot", digest, "could not be copied (it is full)")

    site.client.run_on_scheduler(lose, spec.to_message())
    assert site.ends(spec) == [
        ("lost", "not run: an input could not be copied (it is full). Submit the cell again")
    ]
    assert lines(ran) == []


def test_states_are_told_by_state(site: Site) -> None:
    """`jobs` can be asked for some states only."""
    site.ended(site.submit("a"), site.submit("b", "end failed no"))
    assert [v.name for v in site.registry.jobs(states=[State.FAILED])] == ["b"]
    assert site.registry.jobs(states=[]) == []


@pytest.mark.parametrize("step", [-86400.0, 86400.0])
def test_the_machines_clock_is_set_while_a_job_runs(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    """Jobs stay in order of submission, none ends before it began, waiting ends as ever.

    How long one ran, or has run so far, is not what the clock was set by.
    """
    moved = [0.0]
    clock = SimpleNamespace(time=lambda: time.time() + moved[0], monotonic=time.monotonic)
    for module in (registry_module, client_ops, cell_ops):
        monkeypatch.setattr(module, "time", clock)
    go = tmp_path / "go"
    first = site.submit("first", f"await {go}")
    wait_for(lambda: site.registry.show(first.id).state == State.RUNNING)
    moved[0] = step
    ran = site.registry.show(first.id).ran(clock.time())
    assert ran is not None
    assert 0 <= ran < 60
    second = site.submit("second", after=[first.id])
    assert not State(site.registry.wait([first.id], 0.2)[0].state).terminal
    go.touch()
    assert [view.state for view in site.ended(first, second)] == [State.FINISHED] * 2
    views = site.registry.jobs()
    assert [view.name for view in views] == ["first", "second"]
    assert [view.name for view in site.registry.jobs(latest=1)] == ["second"]
    for view in views:
        assert view.started is not None
        assert view.ended is not None
        assert view.ended >= view.started
        assert view.took is not None
        assert 0 <= view.took < 60
    with Journal.open_readonly(site.host.registry.folder / "journal.sqlite") as journal:
        events = [event["state"] for event in journal.events(first.id)]
    assert events == ["pending", "running", "finished"]
