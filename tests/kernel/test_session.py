"""The session: what it learns of jobs' ends, also from a server of an earlier version."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dask_async_run.job import JobView
from dask_async_run.kernel import session as session_module
from dask_async_run.kernel.gathering import Gatherer
from dask_async_run.kernel.record import Record
from dask_async_run.kernel.session import Session
from registry_site import Site
from waiting import wait_for


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path / "state") as site:
        yield site


@pytest.mark.parametrize("earlier", [False, True])
def test_endings_are_those_that_ended_and_those_that_are_gone(
    site: Site, tmp_path: Path, earlier: bool
) -> None:
    """Of what is open nothing is told, whether it runs or waits."""
    session = Session(site.client, None, {})
    if earlier:
        session._tells_endings = False
    go = tmp_path / "go"
    finished, failed = site.submit("a"), site.submit("b", "end failed no")
    site.ended(finished, failed)
    runs = site.submit("c", f"await {go}")
    waits = site.submit("d", after=[runs.id])
    wait_for(lambda: site.registry.show(runs.id).state == "running")
    forgotten = site.submit("e")
    site.ended(forgotten)
    site.registry.forget([forgotten.id])
    asked = [job.id for job in (finished, waits, forgotten, failed, runs)]

    answer = session.endings_of(asked)
    assert [(view.id, view.state) for view in answer.ended] == [
        (finished.id, "finished"),
        (failed.id, "failed"),
    ]
    assert answer.gone == [forgotten.id]
    go.touch()
    site.ended(runs, waits)
    assert {view.id for view in session.endings_of(asked).ended} == {*asked} - {forgotten.id}
    assert session.endings_of([]).ended == []


def test_what_was_just_said_of_jobs_is_asked_again_only_after_something_was_done(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cell is looked at with one question; what it cancels itself has ended then."""
    monkeypatch.setattr(session_module, "JUST_NOW", 60.0)
    monkeypatch.setattr(session_module, "BRIEF", 60.0)
    session = Session(site.client, None, {})
    jobs = [site.submit(name, "await-stop", "end cancelled stopped") for name in "ab"]
    for job in jobs:
        spec = session.registry.spec(job.id)
        session.add(Record(spec, session.store, {}))
    one, two = waiting = session.waiting()
    assert session.answers()
    calls = session.registry.calls
    assert session.endings(waiting) == {one.id: None, two.id: None}
    assert session.endings([two]) == {two.id: None}
    assert session.registry.calls == calls
    session.registry.cancel([one.id])
    site.ended(jobs[0])
    found = session.endings(waiting)
    assert [view and view.state for view in found.values()] == ["cancelled", None]
    session.registry.forget([one.id])
    assert session.drop_forgotten([one])
    assert [*session.endings(waiting)] == [two.id]
    assert [*session.endings(waiting)] == [two.id]
    monkeypatch.setattr(session_module, "JUST_NOW", 0.0)
    session.registry.cancel([two.id])
    site.ended(jobs[1])
    assert session.answers()
    assert two.ended is not None


def test_of_a_chain_each_job_is_asked_for_once(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last of 300 names 299 that it builds on, the one before it 298 of these."""
    links = [site.submit("x0")]
    for number in range(1, 9):
        links.append(site.submit(f"x{number}", parents=[link.id for link in links]))
    last = site.ended(*links)[-1]
    session = Session(site.client, None, {})
    show = session.registry.show
    asked: list[str] = []

    def noted(job: str) -> JobView:
        asked.append(job)
        return show(job)

    monkeypatch.setattr(session.registry, "show", noted)
    found = Gatherer(session)._with_parents([last])
    assert [view.id for view in found] == [link.id for link in links]
    assert asked == [link.id for link in links[:-1]]
