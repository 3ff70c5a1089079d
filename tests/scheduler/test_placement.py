"""Placement: where a job's task may go, and what a job waits for that no worker can take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from distributed import Worker

from dask_async_run.namespace.axes import Axis
from dask_async_run.scheduler.placement import why_nowhere
from dask_async_run.scheduler.places import HERE, Place, Places, python_of
from dask_async_run.sweeps import as_sweep
from registry_site import Site
from scripted import job_spec
from waiting import wait_for

GPU, BIG = {"GPU": 1.0}, {"GPU": 1.0, "MEM": 5e9}


@pytest.mark.parametrize(
    ("wanted", "places", "workers", "told"),
    [
        ({}, [], {}, "waits for a worker: the cluster has none"),
        ({}, ["b", "a"], {}, "waits for a worker: none is called a or b"),
        (GPU, [], {"a": {}}, "waits for a worker that offers GPU=1: none does"),
        (
            BIG,
            ["a"],
            {"a": {"GPU": 0.5}},
            "waits for a worker of those named that offers GPU=1 and MEM=5e+09: none does",
        ),
        (
            BIG,
            [],
            {"a": GPU, "b": {"MEM": 6e9}},
            "waits for a worker that offers all of GPU=1, MEM=5e+09: none does",
        ),
        (GPU, [], {"a": BIG}, "waits for a worker: none takes tasks now, since they are paused"),
    ],
)
def test_what_is_missing_is_named(
    wanted: dict[str, float], places: list[str], workers: dict[str, dict[str, float]], told: str
) -> None:
    """The first thing that nobody has."""
    assert why_nowhere(wanted, places, workers).startswith(told)


def test_what_a_pending_job_waits_for_now(site: Site, tmp_path: Path) -> None:
    """Of the jobs before it those that have not ended; a free slot, if there is none."""
    go = tmp_path / "go"
    first = site.submit("first", "end finished")
    slow = site.submit("slow", f"await {go}", "end finished")
    last = site.submit("last", "end finished", after=[first.id, slow.id])
    wait_for(lambda: site.registry.show(first.id).state == "finished", 60)
    assert site.registry.show(last.id).after == [slow.id]
    (seen,) = site.registry.look({last.id: ""}, {}, 5)
    others = [site.submit(f"other-{n}", f"await {go}", "end finished") for n in range(6)]
    wait_for(lambda: site.registry.show(others[-1].id).reason == "waits for a free slot", 60)
    sweep = as_sweep(job_spec("sweep", "end finished"), [Axis(("n",), [1, 2])], 0, False)
    site.registry.create(sweep)
    wait_for(lambda: site.registry.show(sweep.id).reason == "waits for a free slot", 60)
    go.touch()
    wait_for(lambda: site.registry.show(last.id).state == "finished", 60)
    # Who follows it heard of both changes.
    assert seen.view is not None
    assert seen.view.after == [slow.id]
    # What it waited for stays on record.
    assert set(site.registry.show(last.id).after) == {first.id, slow.id}


def test_a_job_waits_for_a_worker_with_its_resources(site: Site) -> None:
    """It says so to who asks and to who watches; a worker that comes later takes it."""
    spec = site.submit("train", "say hello", resources={"GPU": 1.0})
    wait_for(lambda: site.registry.show(spec.id).reason, 60)
    view = site.registry.show(spec.id)
    assert view.state == "pending"
    assert view.reason == "waits for a worker that offers GPU=1: none does"
    (seen,) = site.registry.look({spec.id: ""}, {}, 5)
    assert seen.view is not None
    assert seen.view.reason == view.reason

    async def join() -> Worker:
        return await Worker(site.scheduler.address, nthreads=1, resources=GPU)

    worker = site.client.sync(join)
    try:
        (ended,) = site.ended(spec)
        assert (ended.state, ended.worker, ended.reason) == ("finished", worker.address, "")
    finally:
        site.client.sync(worker.close)


def test_an_adaptive_cluster_keeps_a_worker_that_runs_a_cell(site: Site, tmp_path: Path) -> None:
    """Asked which workers can go, the scheduler names the others; after the cell all of them."""
    go = tmp_path / "go"
    spec = site.submit("train", f"await {go}")
    wait_for(lambda: site.registry.show(spec.id).state == "running", 60)
    busy = site.registry.show(spec.id).worker
    workers = set(site.scheduler.workers)

    async def can_go() -> set[str]:
        return set(site.scheduler.workers_to_close(target=0))

    assert busy in workers
    assert site.client.sync(can_go) == workers - {busy}
    go.touch()
    site.ended(spec)
    wait_for(lambda: site.client.sync(can_go) == workers, 60)


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("tcp://10.0.0.7:*", True),
        ("tcp://10.0.0.7:4001", True),
        ("10.0.0.7:4001", True),
        ("10.0.0.?", True),
        ("gpu-*", True),
        ("tcp://10.0.0.7", False),
        ("gpu", False),
        ("10.0.0.8", False),
    ],
)
def test_a_pattern_is_about_address_name_or_host(pattern: str, meant: bool) -> None:
    """As a whole, as Dask's own way of naming a worker is."""
    place = Place("tcp://10.0.0.7:4001", "gpu-1", "10.0.0.7")
    assert place.is_meant(["nobody", pattern]) is meant
    assert Place("tcp://[fe80::1]:4001", "x", "fe80::1").is_meant(["tcp://[fe80::1]:4001"])


class Workers:
    """Workers and their cells, as a test sets them."""

    def __init__(self, *workers: Place) -> None:
        self.workers = list(workers)
        self.cells: dict[str, int] = {}
        self.begun: set[str] = set()
        self.places = Places(
            lambda: self.workers, lambda: self.cells, lambda job: job not in self.begun
        )

    def moved(self) -> list[tuple[str, list[str] | None]]:
        """Names of the jobs that move, and where to."""
        moved = self.places.moved()
        return [(spec.name, None if where is None else sorted(where)) for spec, where in moved]


A, B = Place("a", "a", "a"), Place("b", "b", "b")
OLD = Place("o", "o", "o", python=(2, 7))


def test_jobs_that_are_crowded_out_get_the_next_places_in_order() -> None:
    """One each, which is kept until the cell begins; nobody else is sent there meanwhile."""
    site = Workers(A)
    site.cells = {"a": 1}
    for name in ("one", "two", "three"):
        site.places.crowd_out(job_spec(name))
    assert site.moved() == []
    site.workers.append(B)
    assert site.moved() == [("one", ["b"])]
    assert site.moved() == []
    site.cells = {}
    assert site.moved() == [("two", ["a"])]
    site.workers.remove(B)  # and with it the place that was kept
    assert site.moved() == [("one", [])]
    site.workers.append(Place("c", "c", "c", threads=2))
    assert site.moved() == [("one", ["c"]), ("three", ["c"])]


def test_a_job_goes_to_the_first_worker_with_its_inputs_that_has_a_place() -> None:
    """Which is kept for it; where there is none, where it is not meant, or must not: elsewhere."""
    site = Workers(A, B, OLD)
    assert site.places.assign(job_spec("one"), ["o", "gone", "b", "a"]) == frozenset("b")
    assert site.places.assign(job_spec("two"), ["b", "a"]) == frozenset("a")
    assert site.places.assign(job_spec("three"), ["b", "a"]) == frozenset("ab")
    site = Workers(A, replace(B, tasks=1), replace(A, address="c", open=False))
    assert site.places.assign(job_spec("busy"), ["b", "c"]) is None
    assert site.places.assign(job_spec("named", workers=["b"]), ["a"]) == frozenset("b")
    assert site.places.assign(job_spec("gpu", resources={"GPU": 1}), ["a"]) is None
    assert site.places.best() == ["a", "b"]


def test_a_place_at_the_inputs_that_is_lost_is_replaced() -> None:
    """The worker goes, or takes no more tasks: the job gets the next place anywhere."""
    site = Workers(A, B)
    site.cells = {"b": 1}
    assert site.places.assign(job_spec("near"), ["a"]) == frozenset("a")
    site.workers[0] = replace(A, open=False)
    assert site.moved() == [("near", [])]
    site.cells = {}
    assert site.moved() == [("near", ["b"])]


def test_where_a_job_may_go_changes_with_the_workers() -> None:
    """A pattern means those that come, too; a job that has begun stays where it is."""
    site = Workers(A, B)
    anywhere, named = job_spec("anywhere"), job_spec("named", workers=["[bc]"])
    assert site.places.assign(anywhere) is None
    assert site.places.assign(named) == frozenset("b")
    site.workers.remove(B)
    assert site.moved() == [("named", [])]
    assert site.places.waits_for(named.id) == "waits for a worker: none is called [bc]"
    site.workers.append(Place("c", "c", "c"))
    assert site.moved() == [("named", ["c"])]
    assert site.places.waits_for(named.id) == ""
    site.begun.add(named.id)
    site.workers.append(B)
    assert site.moved() == []


def test_a_worker_of_another_python_gets_no_cells() -> None:
    """Neither by name, nor when it comes while jobs wait; they say what for."""
    site = Workers(OLD)
    spec, named = job_spec("job"), job_spec("named", workers=["o"])
    assert site.places.assign(spec) == site.places.assign(named) == frozenset()
    told = f"waits for a worker with Python {HERE[0]}.{HERE[1]}: none has it"
    assert site.places.waits_for(spec.id) == site.places.waits_for(named.id) == told
    site.workers.append(A)
    assert site.moved() == [("job", ["a"])]
    assert python_of({"host": {"python": "3.11.7.final.0"}}) == (3, 11)
    assert python_of({}) is None


def test_a_pattern_waits_for_a_worker_that_it_is_about(site: Site) -> None:
    """It says so by the pattern; a worker that comes later takes the job, and no other one."""
    spec = site.submit("far", workers=["gpu-*", "tpu-?"])
    wait_for(lambda: site.registry.show(spec.id).reason, 60)
    assert site.registry.show(spec.id).reason == (
        "waits for a worker: none is called gpu-* or tpu-?"
    )

    async def join(name: str) -> Worker:
        return await Worker(site.scheduler.address, nthreads=1, name=name)

    workers = [site.client.sync(join, name) for name in ("cpu-1", "gpu-1")]
    try:
        (ended,) = site.ended(spec)
        assert (ended.worker, ended.reason) == (workers[1].address, "")
    finally:
        for worker in workers:
            site.client.sync(worker.close)


def test_a_cell_that_uses_dask_gives_its_thread_but_not_its_place(
    site: Site, tmp_path: Path
) -> None:
    """Another cell waits until it has ended, though Dask has a thread for it; Dask's work runs."""
    go, ran = tmp_path / "go", tmp_path / "ran"
    there = next(iter(site.scheduler.workers))
    first = site.submit("first", f"run {ran}", "secede", f"await {go}", workers=[there])
    wait_for(ran.exists, 60)
    others = [
        site.submit(f"other-{n}", f"run {tmp_path / 'others'}", workers=[there]) for n in "ab"
    ]
    wait_for(lambda: any(ws.long_running for ws in site.scheduler.workers.values()), 60)
    assert site.client.submit(sum, [1, 2], workers=[there], pure=False).result(60) == 3
    assert [v.state for v in site.registry.wait([s.id for s in others], 0.2)] == ["pending"] * 2
    free = site.submit("free")  # another worker has a place
    site.ended(free)
    assert not (tmp_path / "others").exists()
    go.touch()
    assert [v.worker for v in site.ended(first, *others)] == [there] * 3


def test_a_job_that_is_crowded_out_goes_where_a_place_is(site: Site, tmp_path: Path) -> None:
    """It does not wait for the worker that it came to first."""
    go = tmp_path / "go"
    one, two = site.scheduler.workers
    first = site.submit("first", "secede", f"await {go}", workers=[one])
    wait_for(lambda: site.scheduler.workers[one].long_running, 60)
    many = [site.submit(f"many-{n}") for n in range(6)]
    assert {v.worker for v in site.ended(*many)} == {two}
    go.touch()
    site.ended(first)
