"""When a registry was last alive is known to the next one, also if it had nothing to write."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from dask_async_run.scheduler import heartbeat
from dask_async_run.scheduler.heartbeat import Heartbeat
from dask_async_run.scheduler.journal import Journal


def test_an_idle_registry_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It touches its file as long as it is open, and no longer."""
    monkeypatch.setattr(heartbeat, "BEAT", 0.05)
    path = tmp_path / "journal.sqlite"
    assert Heartbeat(path).last is None
    with Journal.open(path):
        pass
    for file in tmp_path.iterdir():
        os.utime(file, (1000.0, 1000.0))

    async def live() -> float:
        beating = Heartbeat(path)
        assert beating.last == 1000.0
        beating.beat()
        begun = time.time()
        while (seen := Heartbeat(path).last) is None or seen < begun + 0.1:  # noqa: ASYNC110 - a file
            await asyncio.sleep(0.01)
        beating.close()
        return seen

    seen = asyncio.run(asyncio.wait_for(live(), 30))
    assert Heartbeat(path).last == pytest.approx(seen, abs=0.2)


def test_a_commit_is_a_sign_of_life(tmp_path: Path) -> None:
    """What was written last was written by who was alive then."""
    path = tmp_path / "journal.sqlite"
    with Journal.open(path):
        os.utime(path, (1000.0, 1000.0))
        os.utime(path.with_suffix(".lock"), (2000.0, 2000.0))
        os.utime(path.with_name("journal.sqlite-wal"), (3000.0, 3000.0))
        assert Heartbeat(path).last == 3000.0
