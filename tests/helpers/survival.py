"""What survives which fault: README's table, and the tests that cause the faults.

A test that causes the fault of a row is marked ``@pytest.mark.survives("its name")``. After a
run of them the table is printed, each row with how its tests ended; a test compares it with
README and asserts that each row has a test and each mark a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One fault.

    Parameters
    ----------
    fault : str
    job : str
        What becomes of the job.
    output, result : str
        Whether they are there afterwards.
    """

    fault: str
    job: str
    output: str = "all of it"
    result: str = "yes"


GOES_ON = "goes on"
LOST = "`lost`, not run again"

ROWS = (
    Row("page reloaded, kernel restarted", GOES_ON),
    Row("kernel killed while it submits", "submitted, or not at all"),
    Row("kernel and server killed while large inputs are copied", GOES_ON),
    Row("kernel killed while the cell runs", GOES_ON),
    Row("kernel killed while it gathers", "can be gathered elsewhere"),
    Row("kernel asleep for longer than Dask waits", GOES_ON),
    Row("connection to the scheduler cut for a minute", GOES_ON),
    Row("scheduler at a standstill for more than a minute", GOES_ON),
    Row("cell's process killed, or died of a segfault", "`failed`, says how", "so far", "no"),
    Row(
        "cell uses more memory than it may",
        "`failed`, says how much",
        "so far",
        "perhaps what it had bound",
    ),
    Row("worker killed while the cell runs", LOST, "so far", "no"),
    Row("worker killed after the cell finished", "finished"),
    Row("server killed while the cell runs", LOST, "so far", "no"),
    Row("server killed after the cell finished", "finished"),
    Row(
        "server killed while it writes", "finished, or `lost`", "what was recorded", "whole, or no"
    ),
    Row("machine rebooted after the result was `saved`", "finished"),
    Row("package upgraded between two runs", "as it was"),
)


def markdown(ended: Mapping[str, str] | None = None) -> str:
    """README's table; with how the tests of each row ended, if that is given."""
    head = ["what happens", "the job", "its output", "its result"]
    rows = [[row.fault, row.job, row.output, row.result] for row in ROWS]
    if ended is not None:
        head.append("tried")
        for row in rows:
            row.append(ended.get(row[0], "no"))
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
