"""A server that is there, but slow: who asks it waits."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import dask_async_run
from dask_async_run.errors import ServerError, ServerGoneError
from jobs import cell_spec
from observer import stop_server
from waiting import wait_for


@pytest.fixture
def session(folders: Any) -> Iterator[Any]:
    """A session whose connections must be made within a second, as far as Dask is concerned."""
    try:
        with dask_async_run.connect(workers=1) as session:
            session._inner.client.rpc.timeout = 1.0
            yield session._inner
    finally:
        stop_server()


def calls(session: Any) -> list[Any]:
    """Ask side by side, for which there is not more than one connection so far."""
    with ThreadPoolExecutor(3) as pool:
        return [pool.submit(session.registry.count) for _ in range(3)]


def test_a_server_that_has_no_time_to_connect_is_tried_again(session: Any) -> None:
    """As on a machine whose processors are busy with a hundred cells; who waits is told."""

    class Line:
        def show(self, text: str) -> None:
            shown.append((time.monotonic(), text))

        def clear(self) -> None:
            cleared.append(len(shown))

    shown: list[tuple[float, str]] = []
    cleared: list[int] = []
    session.registry._line = Line()
    server = session.connection.pid
    begun = time.monotonic()
    go_on = threading.Timer(4.0, os.kill, (server, signal.SIGCONT))
    os.kill(server, signal.SIGSTOP)
    go_on.start()
    try:
        assert [asked.result(60) for asked in calls(session)] == [0, 0, 0]
    finally:
        go_on.join()
    assert shown[0][0] - begun < 3.5
    assert shown[0][1].startswith("the server has not answered for 2 s")
    # Each of the three takes its own away; they need not be answered at the same moment.
    assert len(cleared) == 3
    assert max(cleared) == len(shown)


def test_a_server_that_died_is_told_at_once(session: Any) -> None:
    """It is not tried again and again."""
    os.kill(session.connection.pid, signal.SIGKILL)
    for asked in calls(session):
        error = asked.exception(30)
        assert isinstance(error, ServerError)
        assert "%async_run_server" in str(error)


def test_who_waits_when_the_server_dies_is_told_that_it_has_gone(session: Any) -> None:
    """And not what Dask says of the connection."""
    job = session.registry.create(cell_spec("import time\ntime.sleep(1000)")).id
    wait_for(lambda: session.registry.show(job).state == "running")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(session.registry.wait, [job], 60)
        os.kill(session.connection.pid, signal.SIGKILL)
        error = waiting.exception(30)
    assert isinstance(error, ServerGoneError)
    assert str(error).startswith("the server has gone")
