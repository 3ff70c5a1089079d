"""What Tab offers on the line of a magic."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from dask_async_run.job import JobView
from dask_async_run.kernel import options
from dask_async_run.kernel.completion import candidates

JOBS = [
    JobView("1", "n", "train", latest=False, binds=["model"]),
    JobView("2", "n", "train", version=2, binds=["model", "score"], mutates=["rows"]),
    JobView("3", "n", "fit-all", binds=["fits"]),
]
MAGICS = {"run": options.RUN, "gather": options.GATHER, "jobs": options.JOBS}
NAMESPACE = {"data": 1, "cluster": 2, "_hidden": 3}


@dataclass(frozen=True)
class Case:
    """A line up to the cursor, and what may come there."""

    line: str
    offered: set[str]

    def __str__(self) -> str:
        return self.line


@pytest.mark.parametrize(
    "case",
    [
        Case("gather ", {"train@1", "train", "fit-all"}),
        Case("gather tr", {"train@1", "train", "fit-all"}),  # IPython leaves out what does not fit
        Case("gather train@", {"1"}),
        Case("gather --tim", {"--timeout", "--only", "--overwrite", "--help", "-h"}),
        Case("gather train --only ", {"model", "score", "rows"}),
        Case("gather train --only model,", {"model", "score", "rows"}),
        Case("gather --only ", {"data", "cluster"}),
        Case("gather train --overwrite ", {"train@1", "train", "fit-all"}),
        Case("jobs --sort ", {"submitted", "name", "state", "took", "age", "size"}),
        Case("jobs --sort=", {"submitted", "name", "state", "took", "age", "size"}),
        Case("run --after ", {"train@1", "train", "fit-all"}),
        Case("run --also ", {"data", "cluster"}),
        Case("run --name ", set()),
        Case("run ", set()),
    ],
    ids=str,
)
def test_candidates(case: Case) -> None:
    """Options, their values, jobs and variables, each where it is taken."""
    magic, _, line = case.line.partition(" ")
    symbol = re.split(r"[ ,@=]", line)[-1]
    found = candidates(MAGICS[magic], f"%async_{magic} {line}", symbol, lambda: JOBS, NAMESPACE)
    assert set(found) >= case.offered if "--tim" in case.line else set(found) == case.offered


def test_jobs_are_only_asked_for_where_they_are_needed() -> None:
    """Completing an option does not connect to a server."""

    def jobs() -> list[JobView]:
        raise AssertionError("asked")

    assert "--sort" in candidates(options.JOBS, "%async_jobs --so", "--so", jobs, {})
