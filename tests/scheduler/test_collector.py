"""Frames that are nobody's any more: removed; those that may be about to be named: kept."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from dask_async_run.frames import FrameStore
from dask_async_run.scheduler.collector import IN_FLIGHT, Collector, collectable

NOW = 1_000_000.0


@dataclass(frozen=True)
class Case:
    """A frame last put at `used`, last named at `named`, while `running_since`."""

    name: str
    used: float
    named: float
    running_since: float | None
    removed: bool


CASES = [
    Case("put, named by a job, forgotten", NOW - 50, NOW - 40, None, True),
    Case(
        "put again after it was named: a kernel may be about to name it",
        NOW - 5,
        NOW - 40,
        None,
        False,
    ),
    Case("but not for ever", NOW - IN_FLIGHT - 1, NOW - 2 * IN_FLIGHT, None, True),
    Case("never named, just put", NOW - 5, 0.0, None, False),
    Case(
        "never named, long ago: left by a cell that was killed",
        NOW - IN_FLIGHT - 1,
        0.0,
        None,
        True,
    ),
    Case("put while a job runs that may have put it", NOW - 50, NOW - 40, NOW - 60, False),
    Case("however long ago that was", NOW - 5000, 0.0, NOW - 6000, False),
    Case("put before the job that runs began", NOW - 50, NOW - 40, NOW - 30, True),
    Case("named before the clock was set back, put after", NOW - 5, NOW + 3600, None, False),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_which_frames_are_removed(case: Case) -> None:
    """Only those that nobody names and nobody is about to name."""
    found = collectable({"d": (case.used, case.named)}, case.running_since, NOW)
    assert found == (["d"] if case.removed else [])


def test_what_must_wait_is_kept_in_mind(tmp_path: Path) -> None:
    """A frame that a running job may have put goes when no such job runs, unless named."""
    store = FrameStore(tmp_path / "frames")
    collector = Collector(store)
    one, two = store.put(b"1").digest, store.put(b"2").digest
    collector.consider({one: time.time(), two: time.time()})
    assert collector.collect([], running_since=time.time() - 10) == 0
    assert sorted(collector.considered) == sorted([one, two])
    assert collector.collect([two], running_since=None) == 1
    assert list(store) == [two]
    assert collector.considered == []


def test_a_sweep_finds_what_nobody_ever_named(tmp_path: Path) -> None:
    """Old frames without a job go, new ones and named ones stay."""
    store = FrameStore(tmp_path / "frames")
    old, new, named = (store.put(content).digest for content in (b"old", b"new", b"named"))
    for digest in (old, named):
        os.utime(store.path(digest), (1.0, 1.0))
    collector = Collector(store)
    collector.consider_all()
    assert collector.collect([named], running_since=None) == 1
    assert sorted(store) == sorted([new, named])


def test_a_frame_that_is_gone_is_not_kept_in_mind(tmp_path: Path) -> None:
    """Somebody else may have removed it."""
    store = FrameStore(tmp_path / "frames")
    digest = store.put(b"x").digest
    collector = Collector(store)
    collector.consider_all()
    store.remove([digest])
    assert collector.collect([], None) == 0
    assert collector.considered == []


class Clocks:
    """The machine's clock, which somebody sets, and the one that nobody sets."""

    def __init__(self) -> None:
        self.time = time.time()
        self.steady = 1000.0

    def passes(self, seconds: float) -> None:
        self.time += seconds
        self.steady += seconds


@pytest.mark.parametrize("step", [-86400.0, -3.0, 3.0, 86400.0])
def test_nothing_goes_while_the_clock_that_was_set_leaves_doubt(
    tmp_path: Path, step: float
) -> None:
    """A job that ran then may name any frame at its end, a kernel within minutes."""
    clocks = Clocks()
    store = FrameStore(tmp_path / "frames")
    collector = Collector(store, lambda: clocks.time, lambda: clocks.steady)
    digest = store.put(b"x").digest
    started = clocks.time - 10
    clocks.time += step
    collector.consider({digest: clocks.time})
    assert collector.collect([], None) == 0
    clocks.passes(2 * IN_FLIGHT)
    collector.consider({digest: clocks.time})
    assert collector.collect([], running_since=started) == 0  # it ran when the clock was set
    os.utime(store.path(digest), (clocks.time - 10, clocks.time - 10))
    assert collector.collect([], running_since=clocks.time - 5) == 1  # as ever
    assert list(store) == []
