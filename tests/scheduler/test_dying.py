"""What is really killed: a worker under a cell, the scheduler under everything."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from distributed import Client

from dask_async_run.job import JobSpec
from dask_async_run.registry import SyncRegistry
from dask_async_run.scheduler.journal import Journal
from registry_site import Site
from scripted import job_spec
from waiting import wait_for

PROGRAM = Path(__file__).parent.parent / "helpers" / "registry_process.py"


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.timeout(300)
def test_a_worker_killed_under_its_cell(state: Path, tmp_path: Path) -> None:
    """The cell ran once, the job is lost and says so, its output is kept; retries run it again.

    Dask runs the dead worker's task again, on the other one: it must not run the cell.
    """
    ran, again, waited = (tmp_path / name for name in ("ran", "again", "waited"))
    with Site(state, processes=True) as site:
        killer = site.submit("killer", f"run {ran}", "say so far", "kill")
        ((end, reason),) = site.ends(killer, within=60)
        assert end == "lost"
        assert reason.startswith("its worker tcp://127.0.0.1:")
        assert site.registry.outputs(killer.id).outputs[0].output["text"] == "so far\n"
        view = site.registry.show(killer.id)
        assert view.pid is not None
        # Dask's own repetition has come and gone when the published future has a result.
        wait_for(lambda: "nb/killer" in site.client.list_datasets())
        answer = site.client.get_dataset("nb/killer").result(timeout=60)
        assert answer == {"job": killer.id, "state": "lost"}
        assert lines(ran) == ["1"]

        stubborn = site.submit("stubborn", f"run {again}", "kill", retries=2)
        after = site.submit("after", f"run {waited}", after=[stubborn.id])
        ends = site.ends(stubborn, after, within=120)
        assert ends[0][0] == "lost"
        assert ends[1] == ("cancelled", "not run: 'stubborn' was lost")
        assert lines(again) == ["1", "2", "3"]
        assert lines(waited) == []


@pytest.mark.timeout(300)
def test_what_waits_on_a_worker_that_is_killed_runs_elsewhere(state: Path, tmp_path: Path) -> None:
    """Only the job that ran is lost: those queued behind it, again and again, are not."""
    ran = tmp_path / "ran"
    with Site(state, processes=True) as site:
        killers = [site.submit(f"killer-{n}", "kill") for n in range(4)]
        others = [site.submit(f"other-{n}", f"run {ran}") for n in range(4)]
        assert {end for end, _ in site.ends(*killers, within=90)} == {"lost"}
        assert [end for end, _ in site.ends(*others, within=60)] == ["finished"] * 4
        assert lines(ran) == ["1"] * 4


@contextmanager
def server(state: Path) -> Iterator[tuple[subprocess.Popen[str], SyncRegistry]]:
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), str(state)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        with Client(address) as client:
            yield process, SyncRegistry(client)
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(60)


def create(registry: SyncRegistry, name: str, *steps: str, after: JobSpec | None = None) -> JobSpec:
    spec = job_spec(name, *steps, after=[after.id] if after else [])
    registry.create(spec)
    return spec


@pytest.mark.timeout(300)
def test_a_scheduler_killed_under_everything(state: Path, tmp_path: Path) -> None:
    """Finished jobs keep their results, running ones are lost with their output, others run.

    Read meanwhile, too, while no server runs.
    """
    ran = tmp_path / "ran"
    with server(state) as (process, registry):
        done = create(registry, "done", "say kept", f"run {ran}")
        registry.wait([done.id])
        running = [
            create(registry, f"r{n}", f"run {ran}", "say so far", "await-stop") for n in "12"
        ]
        for spec in running:
            assert registry.outputs(spec.id, 0, 60).outputs
        waiting = create(registry, "waiting", f"run {ran}")
        follower = create(registry, "follower", f"run {ran}", after=waiting)
        orphan = create(registry, "orphan", f"run {ran}", after=running[0])
        result = registry.result(done.id)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(60)
    died = time.time()
    wait_for(lambda: time.time() > died + 2)
    with Journal.open_readonly(state / "journal.sqlite") as journal:
        assert [v.state for v in journal.views()] == [
            "finished", "running", "running", "pending", "pending", "pending",
        ]  # fmt: skip
    with server(state) as (_, registry):
        views = registry.wait([waiting.id, follower.id], 60)
        # Not when somebody found out, which may be days later.
        found = [v.ended or 0.0 for v in registry.jobs() if v.state == "lost"]
        assert 0 < max(found) < died + 0.1
        assert [v.state for v in views] == ["finished"] * 2
        ends = {v.name: (v.state, v.reason) for v in registry.jobs()}
        lost = ("lost", "the server died while it ran")
        assert ends["r1"] == ends["r2"] == lost
        assert ends["orphan"] == ("cancelled", "not run: 'r1' was lost")
        assert ends["done"] == ("finished", "")
        assert registry.result(done.id) == result
        for spec, said in ((done, "kept\n"), (running[0], "so far\n")):
            assert registry.outputs(spec.id).outputs[0].output["text"] == said
        wait_for(lambda: all(v.saved for v in registry.jobs()))
        registry.forget([orphan.id])
    assert lines(ran) == ["1"] * 5


@pytest.mark.timeout(300)
def test_killed_at_any_moment_every_job_is_run_at_most_once(state: Path, tmp_path: Path) -> None:
    """Servers killed in the middle of everything: each job ends, none runs twice, none is gone."""
    made: list[JobSpec] = []
    for round_ in range(5):
        with server(state) as (process, registry):
            for n in range(15):
                made.append(create(registry, f"{round_}-{n}", f"run {tmp_path / f'{round_}-{n}'}"))
            registry.wait([spec.id for spec in made[-15 : -14 + 3 * round_]], 10, any=True)
            os.kill(process.pid, signal.SIGKILL)
            process.wait(60)
    with server(state) as (_, registry):
        views = {v.id: v for v in registry.wait([spec.id for spec in made], 60)}
        assert len(views) == len(made)
        for spec in made:
            runs = lines(tmp_path / spec.name)
            assert len(runs) <= 1, spec.name
            assert views[spec.id].state in ("finished", "lost"), spec.name
            assert views[spec.id].state == "lost" or len(runs) == 1, spec.name
