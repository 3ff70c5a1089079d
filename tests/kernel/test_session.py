"""The session: what it learns of jobs' ends, also from a server of an earlier version."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

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
