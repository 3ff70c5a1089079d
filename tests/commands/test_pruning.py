"""What may be forgotten."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from dask_async_run.commands.pruning import prunable
from dask_async_run.job import JobView, State

NOW = 1000.0


def view(number: int, name: str = "a", **facts: Any) -> JobView:
    return JobView(
        **{
            "id": str(number),
            "notebook": "n",
            "name": name,
            "source": "",
            "state": State.FINISHED,
            "ended": 100.0 * number,
            "gathered": True,
            **facts,
        }
    )


VIEWS = [
    view(0),
    view(1, gathered=False),
    view(2, state=State.RUNNING, ended=None),
    view(3, state=State.LOST),
    view(4, name="b"),
    view(5),
]


@dataclass
class Case:
    name: str
    expected: str
    named: set[str] = field(default_factory=set)
    older_than: float | None = None
    keep_last: int = 0


CASES = [
    Case("all that was gathered", "0 3 4 5"),
    Case("what is old enough", "0 3", older_than=700.0),
    Case("not the latest of each name", "0 3", keep_last=1),
    Case("the latest counts all of that name", "0", keep_last=3),
    Case("ungathered when named", "1", named={"1"}),
    Case("a running one not even then", "0", named={"0", "2"}),
    Case("named and too young", "", named={"5"}, older_than=600.0),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_may_be_forgotten(case: Case) -> None:
    """In order of submission."""
    found = prunable(VIEWS, case.named, case.older_than, case.keep_last, NOW)
    assert " ".join(job.id for job in found) == case.expected
