"""The follower, on a real registry; its places only write down what they are to show."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from distributed import Client

from dask_async_run.job import JobSpec
from dask_async_run.kernel.live import MOST, Follower, Watched
from dask_async_run.kernel.live_card import Card
from registry_site import Site
from waiting import wait_for


@dataclass
class Paper:
    """A place that keeps what was shown."""

    cards: list[str] = field(default_factory=list)
    last: str = ""

    def begin(self, card: Card, html: str, text: str) -> None:
        raise AssertionError("not the follower's business")

    def show(self, card: Card) -> None:
        self.cards.append(card.html)

    def end(self, card: Card, text: str, over: bool) -> None:
        assert not self.last
        self.last = text


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path / "state") as site:
        yield site


@pytest.fixture
def follower(site: Site) -> Iterator[Follower]:
    session: Any = SimpleNamespace(client=site.client, alive=True, awaited=lambda view: view.after)
    follower = Follower(session)
    yield follower
    follower.stop()


def watch(site: Site, follower: Follower, spec: JobSpec) -> Paper:
    paper = Paper()
    follower.watch(Watched(paper, site.registry.show(spec.id), since=0.0))
    return paper


def test_two_jobs_to_their_ends(site: Site, follower: Follower, tmp_path: Path) -> None:
    """Lines while they run; one end, with the reason; nothing is followed afterwards."""
    go = tmp_path / "go"
    papers = [
        watch(site, follower, site.submit(name, f"say {name}-line", f"await {go}", end))
        for name, end in (("a", "end finished"), ("b", "end failed no luck"))
    ]
    for name, paper in zip("ab", papers, strict=True):
        wait_for(lambda p=paper, n=name: f"{n}-line" in "".join(p.cards))  # type: ignore[misc]
    go.touch()
    wait_for(lambda: all(paper.last for paper in papers))
    assert papers[0].last.startswith("Job a: finished after")
    assert "(no luck)" in papers[1].last
    assert follower.stop() == []


def test_the_oldest_makes_place(site: Site, follower: Follower) -> None:
    """Of more than `MOST` views the first ones end, and say why; others go on."""
    spec = site.submit("long", "await-stop", "end cancelled")
    papers = [watch(site, follower, spec) for _ in range(MOST + 2)]
    wait_for(lambda: papers[1].last)
    assert [bool(paper.last) for paper in papers] == [True] * 2 + [False] * MOST
    follower.cancel(spec.id)
    wait_for(lambda: all(paper.last for paper in papers))


def test_a_forgotten_job(site: Site, follower: Follower) -> None:
    """Ends its view with what was seen last."""
    spec = site.submit("gone")
    view = site.registry.show(spec.id)
    site.ended(spec)
    site.registry.forget([spec.id])
    paper = Paper()
    follower.watch(Watched(paper, view, since=0.0))
    wait_for(lambda: paper.last)


def test_another_follower_goes_on(site: Site, follower: Follower) -> None:
    """What one has followed is handed on, as when a server was started again."""
    spec = site.submit("long", "say here", "await-stop", "end cancelled")
    paper = watch(site, follower, spec)
    wait_for(lambda: paper.cards)
    session: Any = SimpleNamespace(client=site.client, alive=True, awaited=lambda view: view.after)
    second = Follower(session, follower.stop())
    second.cancel(spec.id)
    wait_for(lambda: paper.last)
    assert second.stop() == []


def test_a_server_that_has_gone(site: Site) -> None:
    """Cards say that there is no connection, until somebody connects again or closes them."""
    spec = site.submit("long", "say here", "await-stop", "end cancelled")
    client: Any = Client(site.cluster)
    session: Any = SimpleNamespace(client=client, alive=True, awaited=lambda view: view.after)
    follower = Follower(session)
    papers = [watch(site, follower, spec) for _ in range(2)]
    wait_for(lambda: all(paper.cards for paper in papers))
    session.alive = False
    client.close()
    wait_for(lambda: all("no connection to the server" in paper.cards[-1] for paper in papers))
    session = SimpleNamespace(client=site.client, alive=True, awaited=lambda view: view.after)
    second = Follower(session, follower.stop())
    wait_for(lambda: all("no connection" not in paper.cards[-1] for paper in papers))
    second.cancel(spec.id)
    wait_for(lambda: all(paper.last for paper in papers))


def test_a_loop_that_has_no_time_ends_the_views_later(site: Site, follower: Follower) -> None:
    """Whoever stops following does not wait for it for ever; the views say so all the same."""
    spec = site.submit("long", "say here", "await-stop", "end cancelled")
    paper = watch(site, follower, spec)
    wait_for(lambda: paper.cards)
    session: Any = follower._session
    session.alive = False  # or it is waited for
    follower._loop.add_callback(time.sleep, 1.0)
    (watched,) = follower.stop("not followed any more")
    wait_for(lambda: paper.last)
    assert watched.note == "not followed any more"
    site.registry.cancel([spec.id])
    site.ended(spec)
