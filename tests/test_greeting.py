"""Clients connect although the scheduler tells every client something at the same time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import LocalCluster
from distributed.diagnostics.plugin import SchedulerPlugin

import dask_async_run
from dask_async_run.clients import make_client
from elsewhere import dask_elsewhere
from waiting import wait_for

ANNOUNCEMENT = {"op": "cancelled-keys", "keys": [], "reason": "test", "msg": "of nobody's task"}


def crowd(every: int) -> SchedulerPlugin:
    """A plugin that has something told to all when a client is greeted, but for the last ones.

    Parameters
    ----------
    every : int
        Of so many clients that come, the last one has its greeting for itself.
    """

    class Crowd(SchedulerPlugin):  # of the function: it travels by value
        name = "crowd"
        came = 0

        def add_client(self, scheduler: Any, client: str) -> None:
            self.came += 1
            if self.came % every:
                scheduler.loop.asyncio_loop.call_soon(scheduler.report, ANNOUNCEMENT)

    return Crowd()


@pytest.fixture
def scheduler() -> Iterator[Any]:
    """In this process, without workers."""
    with LocalCluster(n_workers=0, dashboard_address=":0", protocol="tcp://") as cluster:
        yield cluster.scheduler


def test_a_client_comes_through(scheduler: Any, caplog: pytest.LogCaptureFixture) -> None:
    """It connects, and the scheduler knows it; those that were greeted in a crowd are forgotten."""
    plugin: Any = crowd(every=3)
    scheduler.add_plugin(plugin)
    with make_client(scheduler.address, set_as_default=False) as client:
        assert plugin.came == 3
        assert client.run_on_scheduler(lambda: 7) == 7
        ours = {name for name in scheduler.clients if name.startswith("Client-")}
        wait_for(lambda: ours & scheduler.clients.keys() == {client.id})
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_who_is_never_greeted_alone_is_told(scheduler: Any) -> None:
    """After some attempts, none of which is left."""
    scheduler.add_plugin(crowd(every=10**9))

    async def connect() -> None:
        await make_client(scheduler.address, set_as_default=False, asynchronous=True)

    with pytest.raises(OSError, match="greeting came with other messages"):
        asyncio.run(connect())
    wait_for(lambda: not any(name.startswith("Client-") for name in scheduler.clients))


def test_a_cell_comes_through(folders: Any, tmp_path: Path) -> None:
    """Whoever makes the client there: ours, or the cell's own."""
    with dask_elsewhere(tmp_path, threads=1) as cluster, make_client(cluster.address) as client:
        session = dask_async_run.connect(client=client)
        client.register_plugin(crowd(every=2))
        job = session.run(
            "from distributed import Client, get_client\n"
            "one = get_client().submit(sum, [1, 2]).result()\n"
            "with Client() as own:\n    two = own.submit(sum, [3, 4]).result()\n"
        )
        job.wait()
        assert (job["one"], job["two"]) == (3, 7)
