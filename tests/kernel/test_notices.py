"""What is said of jobs that have ended."""

from __future__ import annotations

from typing import Any

from dask_async_run.job import JobView
from dask_async_run.kernel.notices import EACH, lines


def view(name: str, state: str = "finished", **facts: Any) -> JobView:
    return JobView(name, "n", name, state=state, started=0.0, ended=720.0, **facts)


def test_each_end_has_its_words() -> None:
    """And says what to do next."""
    said = lines(
        [
            view("train"),
            view("fit", "failed", ename="ValueError", evalue="no"),
            view("old", "lost", reason="its worker died"),
            view("slow", "timed-out"),
        ]
    )
    assert said == [
        "train finished after 12 min 00 s: %async_gather train",
        "fit failed after 12 min 00 s (ValueError: no): %async_gather fit",
        "old is lost (its worker died): %async_rerun old runs it again",
        "slow is timed-out after 12 min 00 s: %async_gather slow",
    ]


def test_an_end_is_one_line() -> None:
    """Whatever the message of its exception is: pandas' have many lines, some have colours."""
    said = lines([view("fit", "failed", ename="ValueError", evalue="\x1b[31mno\x1b[0m\nway")])
    assert said == ["fit failed after 12 min 00 s (ValueError: no way): %async_gather fit"]


def test_many_share_a_line() -> None:
    """A sweep of fifty jobs does not push the cell's own output out of sight."""
    said = lines([*(view(f"j{n}") for n in range(50)), view("gone", "lost")])
    assert len(said) == EACH
    assert said[-1].startswith("ended too: j3, j4, j5, j6 and 43 more (finished), gone (lost).")


def test_nothing_to_say() -> None:
    """No job, no line."""
    assert lines([]) == []
