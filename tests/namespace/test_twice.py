"""Two jobs that do not know of each other compute the same, and keep it."""

from __future__ import annotations

import pytest

from notebook import Notebook

FITTED = """
import numpy as np
class Fitted:
    def __init__(self): self.n, self.kept, self.known = 0, None, {'a': 1}
    def residuals(self):
        if self.kept is None: self.kept = np.arange(3.0)
        return self.kept
    def mean(self):
        if 'mean' not in self.known: self.known['mean'] = np.ones(2)
        return self.known['mean']
    def lazy(self):
        if not hasattr(self, 'table'): self.table = ['x', self.n]
        return self.table
    def count(self): self.n += 1; return self.n
fitted = Fitted()
"""


@pytest.mark.contract(17, 19)
@pytest.mark.parametrize("call", ["residuals()", "mean()", "lazy()"])
def test_what_was_computed_twice_is_no_conflict(notebook: Notebook, call: str) -> None:
    """Who asked first has it kept; the second one has its answer."""
    notebook.here(FITTED)
    jobs = [notebook.submit(f"{name} = fitted.{call}") for name in ("first", "second")]
    assert [job.gather().conflicts for job in jobs] == [{}, {}]
    assert notebook.here(f"first is fitted.{call}, list(first) == list(second)") == (True, True)


@pytest.mark.contract(19)
@pytest.mark.parametrize(
    "other", ["count()", "kept = np.zeros(3)", "known['mean'] = 0", "table = []"]
)
def test_what_was_done_otherwise_here_is_a_conflict(notebook: Notebook, other: str) -> None:
    """A count that both have raised by one is alike, and wrong."""
    notebook.here(FITTED)
    jobs = [
        notebook.submit(f"fitted.{other}"),
        notebook.submit("fitted.count(), fitted.residuals(), fitted.mean(), fitted.lazy()"),
    ]
    assert jobs[0].gather().conflicts == {}
    assert jobs[1].gather().conflicts == {"fitted": "was changed in place here since"}
