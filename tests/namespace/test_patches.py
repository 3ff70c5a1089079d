"""Large arrays of which a cell changes a little."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from notebook import Notebook, Run

LARGE = "import numpy as np\nx = np.zeros((1000, 1000)); same = x; row = x[7]"
NAMES = LARGE.replace("; row = x[7]", "")

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what was written")


def nbytes(job: Run) -> int:
    """How much a job brings back."""
    payload = job.run().payload
    return sum(size for _, size in payload["frames"]) + len(payload["stream"])


@linux
def test_only_changed_pages_come_back(notebook: Notebook) -> None:
    """In place, into the very memory that was sent, which other views see."""
    notebook.here(LARGE)
    job = notebook.submit("x[::250] += 1; x[7, 7] = 5")
    assert nbytes(job) < 200_000
    assert not job.gather().conflicts
    expected = np.zeros((1000, 1000))
    expected[::250] += 1
    expected[7, 7] = 5
    assert notebook.here("x is same and row[7] == 5 and row.base is x")
    assert np.array_equal(notebook["x"], expected)


@pytest.mark.parametrize(
    "make",
    [
        "np.zeros((1000, 1000), order='F')",
        "np.zeros((1000, 2000))[:, ::2]",
        "np.zeros((1000, 1000), 'i8').view('M8[s]')",
        "np.zeros(1000 * 1000, [('a', 'f4'), ('b', 'i4')])",
        "np.zeros((1000, 1001)).T",
    ],
)
def test_arrays_of_all_kinds_are_changed_as_here(notebook: Notebook, make: str) -> None:
    """Whether they come back as a patch or as a whole."""
    code = "x[7:9] = np.ones(1, x.dtype)[0]"
    here: dict[str, Any] = {}
    for scope in (here, notebook.namespace):
        exec(f"import numpy as np; x = {make}; same = x", scope)
    exec(code, here)
    notebook.there(code)
    assert notebook["x"] is notebook["same"]
    assert notebook["x"].dtype == here["x"].dtype
    assert notebook["x"].tobytes() == here["x"].tobytes()


def test_a_change_here_is_a_conflict_and_overwriting_takes_all(notebook: Notebook) -> None:
    """A patch alone would leave a mixture."""
    notebook.here(NAMES)
    job = notebook.submit("x[3] = 3")
    notebook.here("x[500] = 500")
    plan = job.gather()
    assert "x" in plan.conflicts
    assert notebook.here("x[3].any(), x[500].all()") == (False, True)
    assert not job.gather(overwrite=True).conflicts
    assert notebook.here("(x[3] == 3).all() and x[500].any() == False and x is same")


def test_a_kernel_that_knows_nothing_gets_all(notebook: Notebook) -> None:
    """The patch is made to what was sent."""
    notebook.here("import numpy as np\nx = np.arange(1_000_000.0)")
    job = notebook.submit("x[3] = -1")
    notebook.restart([job])
    job.gather()
    expected = np.arange(1_000_000.0)
    expected[3] = -1
    assert np.array_equal(notebook["x"], expected)


def test_changes_add_up_over_jobs_that_build_on_one_another(notebook: Notebook) -> None:
    """Also a change that takes an earlier one back."""
    notebook.here(NAMES)
    first = notebook.submit("x[3] = 3; x[4] = 4")
    second = notebook.submit("x[3] = 0; x[5] = x[4] + 1", parents=[first])
    third = notebook.submit("total = x.sum()", parents=[first, second])
    third.run()
    for job in (first, second, third):
        assert not job.gather().conflicts
    assert notebook.here("x is same and x[3].any() == False and x.sum() == total == 9000")


def test_much_that_was_written_comes_back_as_a_whole(notebook: Notebook) -> None:
    """A patch would save little."""
    notebook.here(NAMES)
    job = notebook.there("x[:600] = 1")
    assert nbytes(job) > 7_000_000
    assert notebook.here("x is same and x.sum()") == 600_000


def test_what_is_taken_back_if_merging_fails(notebook: Notebook) -> None:
    """A patch is undone like every other change."""
    notebook.here(NAMES + "\nclass P:\n    def __setstate__(self, s): raise ValueError\nr = [0]")
    job = notebook.submit("x[3] = 3; x[-1] = 9; r.append(1)")
    plan = job.merger().plan()
    plan.updates.append((plan.updates[0][0], "list", object()))
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever a state that fits nothing raises
        job.merger().apply(plan)
    assert notebook.here("x.any() == False and r == [0]")
