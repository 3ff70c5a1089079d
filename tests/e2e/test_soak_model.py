"""The soak's judge: what it lets pass, and what not."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from dask_async_run.job import JobView, State
from soak_model import KILLED, Fault, Planned, problems_of

RAISES = Planned(1, "one.ipynb", "j1", "raises", "begun 1\n", 1000, State.FAILED, id="a")
QUICK = replace(RAISES, kind="quick", ends=State.FINISHED)
VIEW = JobView("a", "one.ipynb", "j1", 1, True, state=State.FAILED, started=10.0, ended=20.0)
KILL = Fault("cell", 15.0, 15.0, "a")


@dataclass(frozen=True)
class Judged:
    """How a job ended, and whether that is right."""

    name: str
    job: Planned
    view: JobView
    printed: str
    faults: tuple[Fault, ...]
    right: bool


KILLED_VIEW = replace(VIEW, reason=KILLED)
FINISHED = replace(VIEW, state=State.FINISHED)
CASES = [
    Judged("raised", RAISES, VIEW, "begun 1\n", (), True),
    Judged("raised, and its output is lost", RAISES, VIEW, "", (), False),
    Judged("killed before it printed", RAISES, KILLED_VIEW, "", (KILL,), True),
    Judged("died, and nobody killed it", RAISES, KILLED_VIEW, "begun 1\n", (), False),
    Judged("finished", QUICK, FINISHED, "begun 1\n", (), True),
    Judged("finished, and its output is lost", QUICK, FINISHED, "", (), False),
    Judged("failed, and should not", QUICK, VIEW, "begun 1\n", (), False),
    Judged("printed twice", QUICK, FINISHED, "begun 1\nbegun 1\n", (), False),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_only_what_may_be_passes(case: Judged) -> None:
    """A lost line, or an end that nothing caused, is a problem; what a fault explains is none."""
    found = problems_of(
        case.job, case.view, {}, case.printed, 1, [State(case.view.state)], list(case.faults)
    )
    assert (not found) is case.right, found
