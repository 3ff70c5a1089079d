"""The client side of the registry, against real schedulers."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import Client, LocalCluster, Security
from distributed.comm import CommClosedError

from dask_async_run import errors
from dask_async_run.errors import NoSuchJobError, ServerError
from dask_async_run.job import JobResult, State
from dask_async_run.messages import pack, unpack
from dask_async_run.registry import Registry, SyncRegistry, sync
from dask_async_run.scheduler.cell_ops import CellOps
from dask_async_run.scheduler.client_ops import ClientOps
from registry_site import Site
from scripted import job_spec
from waiting import wait_for


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    _released.clear()
    with Site(tmp_path / "state", run=leave_alone) as site:
        yield site
        _released.set()


def leave_alone(job: str) -> None:
    """Keep a slot until the test has ended; the tests play the task's part themselves."""
    while not _released.wait(0.05):
        pass


_released = threading.Event()


@pytest.fixture
def ask(site: Site) -> Callable[..., Any]:
    """Calls a method of the asynchronous registry, as a worker's task would."""
    registry = Registry.of_client(site.client)

    def call(method: str, *args: Any, **kwargs: Any) -> Any:
        return site.client.sync(getattr(registry, method), *args, **kwargs)

    return call


@pytest.fixture
def worker(site: Site) -> str:
    return str(next(iter(site.scheduler.workers)))


def test_both_sides_have_the_same_operations() -> None:
    """Registry, SyncRegistry and the scheduler's side agree on names and parameters."""
    for operations in (ClientOps, CellOps):
        for name in operations.NAMES:
            there = inspect.signature(getattr(operations, name)).parameters
            here = inspect.signature(getattr(Registry, name)).parameters
            assert set(here) == set(there), name
    for name in ClientOps.NAMES:
        ours = inspect.signature(getattr(Registry, name)).parameters
        assert list(inspect.signature(getattr(SyncRegistry, name)).parameters) == list(ours), name


# --- claims and attempts ---


def test_a_claim_is_granted_once(ask: Callable[..., Any], worker: str) -> None:
    """With what is needed to run; the second gets the state and the reason."""
    spec = job_spec("a")
    ask("create", spec)
    claim = ask("claim", spec.id, worker, "host")
    assert (claim.granted, claim.attempt, claim.spec, claim.state) == (True, 1, spec, "running")
    again = ask("claim", spec.id, worker, "host")
    assert (again.granted, again.spec, again.state) == (False, None, "running")
    assert again.reason == f"it runs on {worker} already"
    assert ask("finish", spec.id, State.FINISHED)["accepted"]
    assert ask("claim", spec.id, worker, "host").state == "finished"
    assert not ask("claim", "0" * 32, worker, "host").granted


def test_a_claim_waits_for_who_keeps_the_journal_locked(
    ask: Callable[..., Any], worker: str, site: Site
) -> None:
    """A job that could not be recorded as begun for a while is not lost for that."""
    spec = job_spec("a")
    ask("create", spec)
    other = sqlite3.connect(site.host.registry.journal.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    claiming = threading.Thread(target=lambda: claims.append(ask("claim", spec.id, worker, "host")))
    claims: list[Any] = []
    claiming.start()
    wait_for(lambda: site.host.registry.problem, what="the journal to be found locked")
    assert "not on record yet" in site.registry.show(spec.id).reason
    other.close()
    claiming.join(30)
    assert [claim.granted for claim in claims] == [True]
    ask("finish", spec.id, State.FINISHED)
    assert site.registry.show(spec.id).state == "finished"


def test_a_claim_waits_for_a_journal_that_was_moved(
    ask: Callable[..., Any], worker: str, site: Site
) -> None:
    """Until it is back: nothing has happened that is not on record."""
    spec = job_spec("a")
    ask("create", spec)
    path = site.host.registry.journal.path
    aside = path.rename(path.with_name("aside"))
    claims: list[Any] = []
    claiming = threading.Thread(target=lambda: claims.append(ask("claim", spec.id, worker, "host")))
    claiming.start()
    wait_for(lambda: site.host.registry.problem, what="the journal to be missed")
    aside.rename(path)
    claiming.join(30)
    assert [claim.granted for claim in claims] == [True]


def test_a_claim_from_a_stranger_is_refused(ask: Callable[..., Any]) -> None:
    """A worker that the scheduler has removed would run a cell that is lost already."""
    spec = job_spec("a")
    ask("create", spec)
    claim = ask("claim", spec.id, "tcp://127.0.0.1:1", "host")
    assert (claim.granted, claim.state) == (False, "pending")
    assert "does not belong to the cluster" in claim.reason


def test_a_claim_brings_the_parents(ask: Callable[..., Any], worker: str) -> None:
    """Specs and results, streams included, in the order that the job names them."""
    parents = [job_spec(name) for name in "ab"]
    for n, parent in enumerate(parents):
        ask("create", parent)
        ask("claim", parent.id, worker, "host")
        ask("finish", parent.id, "finished", "", JobResult({"stream": bytes([n])}, bound=["x"]))
    ids = [parents[1].id, parents[0].id]
    child = job_spec("c", after=ids, parents=ids)
    ask("create", child)
    claim = ask("claim", child.id, worker, "host")
    assert [parent.spec for parent in claim.parents] == [parents[1], parents[0]]
    assert [parent.result.payload["stream"] for parent in claim.parents] == [b"\1", b"\0"]


def test_the_worker_of_an_earlier_attempt_is_not_listened_to(
    ask: Callable[..., Any], worker: str
) -> None:
    """Cut off, declared dead, replaced: what it still sends does not mix with the new run."""
    spec = job_spec("a", retries=1)
    ask("create", spec)
    assert ask("claim", spec.id, worker, "host").attempt == 1
    assert ask("finish", spec.id, State.LOST, "killed by signal 9", attempt=1)["state"] == "pending"
    assert ask("show", spec.id).reason == "attempt 1 was lost: killed by signal 9"
    assert ask("claim", spec.id, worker, "host").attempt == 2
    assert ask("record", spec.id, [{"late": 1}], attempt=1) == {"accepted": False, "stopping": True}
    late = ask("finish", spec.id, State.FINISHED, "", JobResult(bound=["old"]), attempt=1)
    assert late == {"accepted": False, "state": "running", "reason": "attempt 1 is over"}
    assert ask("record", spec.id, [{"new": 1}], attempt=2)["accepted"]
    ask("finish", spec.id, State.FINISHED, "", JobResult(bound=["new"]), attempt=2)
    assert ask("result", spec.id).bound == ["new"]
    assert [o.output for o in ask("outputs", spec.id).outputs] == [{"new": 1}]


def test_the_end_is_the_end(ask: Callable[..., Any], worker: str) -> None:
    """A second end changes nothing and says what the state is; an end must be one."""
    spec = job_spec("a")
    ask("create", spec)
    assert ask("finish", spec.id, "finished") == {
        "accepted": False,
        "state": "pending",
        "reason": "its cell does not run",
    }
    ask("claim", spec.id, worker, "host")
    with pytest.raises(ServerError, match="running is no end"):
        ask("finish", spec.id, "running")
    ask("finish", spec.id, "timed-out", "after 2 s", JobResult(bound=["x"]))
    second = ask("finish", spec.id, "finished", "", JobResult(bound=["y"]))
    assert (second["accepted"], second["state"]) == (False, "timed-out")
    assert ask("result", spec.id).bound == ["x"]
    assert not ask("record", spec.id, [{}])["accepted"]


# --- outputs ---


def test_a_batch_sent_twice_is_recorded_once(ask: Callable[..., Any], worker: str) -> None:
    """When an answer is lost the worker sends again; numbers stay without gaps."""
    spec = job_spec("a")
    ask("create", spec)
    ask("claim", spec.id, worker, "host")
    for batch in (1, 1, 2, 2, 1, 3):
        ask("record", spec.id, [{"batch": batch}], attempt=1, batch=batch)
    outputs = ask("outputs", spec.id).outputs
    assert [(o.seq, o.output["batch"]) for o in outputs] == [(1, 1), (2, 2), (3, 3)]


def test_batches_count_anew_in_each_attempt(ask: Callable[..., Any], worker: str) -> None:
    """Outputs of an attempt that was lost stay; those of the next come after them."""
    spec = job_spec("a", retries=1)
    ask("create", spec)
    for attempt in (1, 2):
        ask("claim", spec.id, worker, "host")
        ask("record", spec.id, [{"attempt": attempt}], attempt=attempt, batch=1)
        ask("finish", spec.id, State.LOST, "died", attempt=attempt)
    outputs = ask("outputs", spec.id).outputs
    assert [(o.seq, o.output["attempt"]) for o in outputs] == [(1, 1), (2, 2)]


def test_a_flood_of_large_outputs_comes_in_portions(
    site: Site, ask: Callable[..., Any], worker: str
) -> None:
    """30 MB do not travel in one answer, which would hold all others up; but all arrive."""
    spec = job_spec("a")
    ask("create", spec)
    ask("claim", spec.id, worker, "host")
    for batch in range(1, 16):
        ask("record", spec.id, [{"text": "x" * 2**20}] * 2, attempt=1, batch=batch)
    ask("finish", spec.id, "finished")
    registry = Registry.of_client(site.client)
    first = site.client.sync(registry._ask, "outputs", job=spec.id)
    assert len(first["outputs"]) <= 9
    assert first["more"]
    assert not first["done"]
    outputs = ask("outputs", spec.id)
    assert [o.seq for o in outputs.outputs] == list(range(1, 31))
    assert outputs.done
    assert [o.seq for o in ask("outputs", spec.id, 28).outputs] == [29, 30]


# --- a glimpse ---


def test_a_look_shows_the_end_and_costs_the_same(
    ask: Callable[..., Any], worker: str, site: Site
) -> None:
    """The end of the text and the last picture, of 40 MB as of a line; nothing twice."""
    spec, quiet = job_spec("a"), job_spec("quiet")
    for each in (spec, quiet):
        ask("create", each)
    ask("claim", spec.id, worker, "host")
    picture = {"output_type": "display_data", "data": {"image/png": "abcd"}}
    line = {"output_type": "stream", "name": "stdout", "text": "x" * 2**20 + "\n"}
    ask("record", spec.id, [*[line] * 40, picture], attempt=1, batch=1)
    (first,) = ask("look", {spec.id: ""}, {})
    assert first.view.state == "running"
    assert first.picture.data == "abcd"
    assert first.text == "x" * (len(first.text) - 1) + "\n"
    assert len(first.text) == 8192

    seen = {spec.id: first.mark, quiet.id: ask("look", {quiet.id: ""}, {})[0].mark}
    assert ask("look", seen, {}) == []
    info = {"pid": 7, "memory": 5.0, "cpu": 50.0}
    ask("record", spec.id, [], info=info, attempt=1, batch=2)
    (second,) = ask("look", seen, {spec.id: first.picture.number})
    assert (second.view.pid, second.view.memory, second.view.cpu) == (7, 5.0, 50.0)
    assert (second.picture.number, second.picture.data) == (41, "")


def test_a_look_shows_what_is_above_a_long_bar(
    ask: Callable[..., Any], worker: str, site: Site
) -> None:
    """However often the bar was drawn anew; also after the end."""
    spec = job_spec("a")
    ask("create", spec)
    ask("claim", spec.id, worker, "host")

    def output(text: str) -> dict[str, str]:
        return {"output_type": "stream", "name": "stderr", "text": text}

    bar = [output(f"\r{n:4} % {'#' * 60}") for n in range(5000)]
    ask("record", spec.id, [output("above\n"), *bar], attempt=1, batch=1)
    (look,) = ask("look", {spec.id: ""}, {})
    assert look.text == "above\n" + bar[-2]["text"] + bar[-1]["text"]
    ask("record", spec.id, [output("\nbelow\n")], attempt=1, batch=2)
    ask("finish", spec.id, "finished", "")
    (look,) = ask("look", {spec.id: look.mark}, {})
    assert look.text == "above\n" + bar[-2]["text"] + bar[-1]["text"] + "\nbelow\n"


def test_a_look_waits_for_the_end(ask: Callable[..., Any], worker: str, site: Site) -> None:
    """The last glimpse says how the job ended; a forgotten one has no view."""
    spec = job_spec("a")
    ask("create", spec)
    ask("claim", spec.id, worker, "host")
    (first,) = ask("look", {spec.id: ""}, {})
    waiting = threading.Thread(
        target=lambda: found.extend(site.registry.look({spec.id: first.mark}, {}, 60))
    )
    found: list[Any] = []
    waiting.start()
    ask("finish", spec.id, "failed", "no")
    waiting.join(60)
    assert [(look.view.state, look.view.reason) for look in found] == [("failed", "no")]
    assert ask("look", {spec.id: found[0].mark}, {}) == []
    ask("forget", [spec.id])
    assert ask("look", {spec.id: found[0].mark}, {})[0].view is None


def test_an_outcome_is_the_end_and_what_is_left(
    ask: Callable[..., Any], worker: str, site: Site
) -> None:
    """In one call that waits; before the end there is nothing but how the job stands."""
    spec = job_spec("a")
    ask("create", spec)
    ask("claim", spec.id, worker, "host")
    ask("record", spec.id, [{"output_type": "stream", "name": "stdout", "text": "one"}])
    open_ = site.registry.outcome(spec.id, 0.0)
    assert (open_.view.state, open_.remains) == ("running", None)
    answers: list[Any] = []
    waiting = threading.Thread(target=lambda: answers.append(site.registry.outcome(spec.id, 60.0)))
    waiting.start()
    ask("finish", spec.id, "finished", "", JobResult({"stream": b"1"}, bound=["x"]))
    waiting.join(60)
    [outcome] = answers
    assert outcome.view.state == "finished"
    assert outcome.remains.result.bound == ["x"]
    assert [output.output["text"] for output in outcome.remains.outputs] == ["one"]


def test_the_next_call_comes_after_what_was_marked(
    ask: Callable[..., Any], worker: str, site: Site
) -> None:
    """Nobody waits for the mark, and nobody sees the job without it."""
    for number in range(20):
        spec = job_spec(f"a{number}")
        ask("create", spec)
        ask("claim", spec.id, worker, "host")
        ask("finish", spec.id, State.FINISHED)
        site.registry.gathered([spec.id])
        assert site.registry.jobs(gathered=False) == []
    site.registry.gathered(["0" * 32])  # somebody forgot it meanwhile
    site.registry.settle()
    assert site.registry.count() == 20


def test_text_that_utf8_does_not_know_travels(ask: Callable[..., Any], worker: str) -> None:
    """Lone surrogates, from file names: in outputs, results, reasons, names."""
    odd = "caf\udce9 \x00 é"
    spec = job_spec(odd)
    ask("create", spec)
    ask("claim", spec.id, worker, "host")
    ask("record", spec.id, [{"text": odd}], odd, {"last_line": odd}, attempt=1)
    ask("finish", spec.id, "failed", odd, JobResult(evalue=odd, failed={odd: odd}))
    assert ask("spec", spec.id) == spec
    assert ask("result", spec.id).failed == {odd: odd}
    assert ask("outputs", spec.id).outputs[0].output == {"text": odd}
    assert ask("show", spec.id).evalue.startswith("caf")


def test_whoever_stops_a_job_is_heard_at_the_next_record(
    ask: Callable[..., Any], worker: str
) -> None:
    """A worker that the cancel did not reach learns it from the answer."""
    spec = job_spec("a")
    ask("create", spec)
    ask("claim", spec.id, worker, "host")
    assert ask("record", spec.id, [])["stopping"] is False
    ask("cancel", [spec.id])
    assert ask("record", spec.id, []) == {"accepted": True, "stopping": True}
    ask("finish", spec.id, "cancelled")


# --- errors and broken connections ---


def test_errors_arrive_as_themselves(ask: Callable[..., Any]) -> None:
    """With their facts; not as a traceback of the scheduler's."""
    ask("create", job_spec("train"))
    with pytest.raises(NoSuchJobError) as caught:
        ask("show", "trian")
    assert caught.value.known == ("train",)
    assert str(caught.value) == "there is no job 'trian'. Did you mean 'train'?"


def test_a_job_that_was_forgotten_meanwhile_is_called_by_its_name(
    site: Site, ask: Callable[..., Any], worker: str
) -> None:
    """By every operation of who knew it; an id says nothing to a user."""
    kept, gone = job_spec("kept"), job_spec("gone")
    for spec in (kept, gone):
        site.registry.create(spec)
    ask("claim", gone.id, worker, "host")
    pending = threading.Thread(target=lambda: told.append(told_of(site.registry.wait, ids, 60.0)))
    told: list[str] = []
    ids = [kept.id, gone.id]

    def told_of(operation: Callable[..., Any], *args: Any) -> str:
        with pytest.raises(errors.ForgottenJobError) as caught:
            operation(*args)
        return str(caught.value)

    pending.start()
    wait_for(lambda: len(site.host.registry.changes), what="somebody to wait")
    ask("finish", gone.id, State.FINISHED)
    ask("forget", [gone.id])
    ask("cancel", [kept.id])
    pending.join()
    told += [
        told_of(site.registry.outcome, gone.id, 0.0),
        told_of(site.registry.outputs, gone.id),
        told_of(site.registry.wait, [gone.id]),
        told_of(site.registry.result, gone.id),
    ]
    assert set(told) == {
        "there is no job 'gone' any more: it was forgotten meanwhile, and its result with it."
    }


def test_every_error_of_the_package_survives_the_way() -> None:
    """Whatever an operation raises is raised here with equal arguments."""
    examples = [
        errors.NoServerError(),
        errors.ServerError("no", None),
        errors.NoSuchJobError("a", ["b"]),
        errors.ForgottenJobError("a"),
        errors.JobStateError("a", "running", "no"),
        errors.FrameError("d", "is missing"),
    ]
    for error in examples:
        answer = pack({"error": [type(error).__name__, list(error.args)]})

        async def call(answer: bytes = answer, **_: Any) -> bytes:
            return answer

        with pytest.raises(type(error)) as caught:
            asyncio.run(Registry(call).idle())
        assert str(caught.value) == str(error)


def test_a_scheduler_without_a_registry_says_so() -> None:
    """A plain Dask cluster: what is missing and how to get it."""
    with LocalCluster(
        n_workers=0, processes=False, protocol="tcp://", host="127.0.0.1", dashboard_address=":0"
    ) as cluster:
        with Client(cluster) as client:
            with pytest.raises(ServerError, match="keeps no registry of jobs"):
                sync(client).jobs()


def test_an_operation_of_another_version_is_a_clear_error(site: Site) -> None:
    """A newer client and an older server: no traceback, no hang."""
    registry = Registry.of_client(site.client)
    with pytest.raises(ServerError, match="knows no operation 'teleport'"):
        site.client.sync(registry._ask, "teleport")
    with pytest.raises(ServerError, match="failed at 'idle': TypeError"):
        site.client.sync(registry._ask, "idle", later="option")


def test_what_may_be_asked_twice_is_asked_again_when_the_connection_breaks() -> None:
    """A claim, an end, a numbered batch; with the same token, so that it is the same claim."""
    asked: list[dict[str, Any]] = []

    async def call(do: str, body: bytes) -> bytes:
        asked.append({"do": do, **unpack(body)})
        if len(asked) % 2:
            raise OSError("connection reset")
        return pack({"answer": {"granted": False, "reason": "", "state": "", "attempt": 0,
                                "spec": None, "parents": [], "accepted": True}})  # fmt: skip

    async def main() -> None:
        registry = Registry(call)
        await registry.claim("a", "w", "h")
        await registry.finish("a", "finished")
        await registry.record("a", [], batch=1)
        with pytest.raises(ServerError, match="does not answer"):
            await registry.record("a", [])

    asyncio.run(main())
    assert [a["do"] for a in asked] == ["claim"] * 2 + ["finish"] * 2 + ["record"] * 3
    assert asked[0] == asked[1]


@pytest.mark.parametrize("lives", [True, False])
def test_a_connection_that_breaks_is_told_in_words(lives: bool) -> None:
    """None of Dask's own; and what may have been done, where that is not known."""

    async def call(do: str, body: bytes) -> bytes:
        raise CommClosedError("in <TLS (closed) rpc local=tls://127.0.0.1:1>: Stream is closed")

    registry = Registry(call, alive=lambda: lives)
    with pytest.raises(ServerError) as raised:
        asyncio.run(registry.forget(["a"]))
    told = str(raised.value)
    assert ("the scheduler does not answer" if lives else "the server has gone") in told
    assert "Whether the jobs were forgotten, all of them or none, %async_jobs tells then." in told
    assert "TLS" not in told
    assert "CommClosedError" not in told
    with pytest.raises(ServerError) as raised:
        asyncio.run(registry.idle())
    assert "Whether" not in str(raised.value)


def test_a_scheduler_that_is_silent_is_a_clear_error() -> None:
    """A long poll, a frame, and what a store brings back, may take longer."""

    async def call(do: str, body: bytes) -> bytes:
        await asyncio.sleep(1000 if do == "jobs" else 0.2)
        return pack({"answer": b"" if do == "read_frame" else []})

    async def main() -> None:
        registry = Registry(call, patience=0.1)
        with pytest.raises(ServerError, match=r"has not answered for 0 s.*Jobs go on"):
            await registry.jobs()
        assert await registry.read_frame("digest", 0) == b""
        assert await registry.wait(["a"], timeout=5.0) == []
        await registry.recall(["digest"])
        assert not await registry.restore("/store")

    asyncio.run(main())


def test_a_scheduler_that_is_gone_is_a_clear_error(tmp_path: Path) -> None:
    """After the server has died, or the client was closed, calls end with what to do."""
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        with Site(tmp_path / "state") as site:
            site.cluster.sync(site.scheduler.close)
            with pytest.raises(ServerError, match="%async_run_server"):
                site.registry.jobs()
            registry = site.registry
    with pytest.raises(ServerError, match="connection to the server is closed"):
        registry.jobs()


# --- a thread that waits ---


def test_an_interrupt_ends_the_wait_and_nothing_else(site: Site) -> None:
    """Ctrl-C in a kernel that waits: KeyboardInterrupt at once, the job goes on."""
    spec = site.submit("a")
    changes, news = site.host.registry.changes, site.host.registry.news
    for waiting, bell in (
        (lambda: site.registry.wait([spec.id]), changes),
        (lambda: site.registry.outputs(spec.id, 0, 60.0), news),
    ):

        def interrupt(bell: Any = bell) -> None:
            """Once the registry has somebody wait: earlier, it would end this whole run."""
            wait_for(lambda: len(bell), what="somebody to wait")
            # This process's main thread is on its way into a lock. A signal that comes just
            # before, Python sees when the lock's time is up: Dask's 10 s.
            time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGINT)

        interrupting = threading.Thread(target=interrupt)
        interrupting.start()
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            waiting()
        assert time.monotonic() - start < 10
        interrupting.join()
    assert site.registry.show(spec.id).state == "pending"
    assert site.registry.idle()["unfinished"] == 1
    wait_for(lambda: len(changes) + len(news) <= 2)


def test_many_threads_wait_at_once(site: Site, ask: Callable[..., Any], worker: str) -> None:
    """Fifty watchers of one job all get its end."""
    spec = job_spec("a")
    ask("create", spec)
    ask("claim", spec.id, worker, "host")
    states: list[str] = []
    threads = [
        threading.Thread(target=lambda: states.append(site.registry.wait([spec.id])[0].state))
        for _ in range(50)
    ]
    for thread in threads:
        thread.start()
    ask("finish", spec.id, "finished")
    for thread in threads:
        thread.join()
    assert states == ["finished"] * 50


def test_everything_works_over_tls(tmp_path: Path) -> None:
    """With the credentials of a cluster that has only made its own."""
    security = Security.temporary()
    with Site(tmp_path / "state", protocol="tls://", security=security) as site:
        spec = site.submit("a", "say hello")
        assert site.ends(spec) == [("finished", "")]
        wait_for(lambda: site.client.list_datasets() == ("nb/a",))
        assert site.client.get_dataset("nb/a").result(timeout=60)["state"] == "finished"


def test_a_scheduler_with_only_its_own_certificate_will_do(tmp_path: Path) -> None:
    """Somebody else's cluster gives its scheduler no client certificate."""
    security: Any = Security.temporary()
    with Site(tmp_path / "state", protocol="tls://", security=security) as site:
        for name in ("tls_client_cert", "tls_client_key"):
            setattr(site.scheduler.security, name, None)
        assert site.ends(site.submit("a")) == [("finished", "")]
