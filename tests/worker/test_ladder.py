"""SIGINT, SIGTERM, SIGKILL: which is due when. Pure."""

from __future__ import annotations

import signal

from dask_async_run.job import State
from dask_async_run.worker.ladder import COLLECTING_GRACE, Ladder


def test_nothing_is_due_before_it_starts() -> None:
    ladder = Ladder(grace=5)
    assert ladder.deadline is None
    assert ladder.due(1e9, collecting=False) is None


def test_three_rungs_with_the_grace_between() -> None:
    ladder = Ladder(grace=5)
    ladder.start(100, State.CANCELLED, "cancelled")
    sent = [(now, ladder.due(now, collecting=False)) for now in range(100, 130)]
    assert [(now, rung) for now, rung in sent if rung] == [
        (100, signal.SIGINT),
        (105, signal.SIGTERM),
        (110, signal.SIGKILL),
    ]
    assert ladder.reason == "cancelled; stopped by SIGKILL"
    assert ladder.deadline is None


def test_the_first_to_start_it_says_why() -> None:
    ladder = Ladder(grace=5)
    ladder.start(100, State.TIMED_OUT, "ran too long")
    ladder.start(101, State.CANCELLED, "cancelled")
    assert (ladder.state, ladder.reason) == (State.TIMED_OUT, "ran too long")


def test_a_result_that_is_being_made_gets_time() -> None:
    ladder = Ladder(grace=5)
    ladder.start(100, State.CANCELLED, "cancelled")
    assert ladder.due(100, collecting=False) is signal.SIGINT
    times = [now for now in range(101, 300) if ladder.due(now, collecting=True)]
    assert times == [100 + COLLECTING_GRACE, 105 + COLLECTING_GRACE]


def test_a_cancel_interrupts_a_result_that_is_being_made() -> None:
    """At most the value that is asked just then is lost; the next signals come after the grace."""
    ladder = Ladder(grace=5)
    ladder.start(100, State.CANCELLED, "cancelled")
    sent = [(now, ladder.due(now, collecting=True)) for now in range(100, 130)]
    assert [(now, rung) for now, rung in sent if rung] == [
        (100, signal.SIGINT),
        (105, signal.SIGTERM),
        (110, signal.SIGKILL),
    ]


def test_as_long_as_signals_are_heard_there_is_time_for_the_result() -> None:
    """Each value that hangs gets an interrupt of its own; it does not go on for ever."""
    ladder = Ladder(grace=5)
    ladder.start(100, State.CANCELLED, "cancelled")
    sent = []
    for now in range(100, 400):
        if rung := ladder.due(now, collecting=True):
            sent.append((now, rung))
            ladder.heard(now)
    first = 100 + COLLECTING_GRACE
    interrupts = [(now, rung) for now, rung in sent if now <= first]
    assert interrupts == [(100 + 5 * i, signal.SIGINT) for i in range(len(interrupts))]
    assert sent[len(interrupts) :] == [
        (first + 5, signal.SIGTERM),
        (first + 5 + COLLECTING_GRACE, signal.SIGKILL),
    ]


def test_who_ran_out_of_time_may_make_a_result() -> None:
    """Nobody asked for it to be cut short."""
    ladder = Ladder(grace=5)
    ladder.start(100, State.TIMED_OUT, "ran longer than 9 s")
    times = [now for now in range(100, 300) if ladder.due(now, collecting=True)]
    assert times[0] == 95 + COLLECTING_GRACE


def test_killing_skips_rungs_and_grace() -> None:
    ladder = Ladder(grace=5)
    ladder.start(100, State.FAILED, "used too much")
    assert ladder.due(100, collecting=False) is signal.SIGINT
    ladder.kill(101)
    assert ladder.due(101, collecting=True) is signal.SIGKILL
    assert ladder.used == [signal.SIGINT, signal.SIGKILL]
    ladder.kill(102)
    assert ladder.due(102, collecting=False) is None
