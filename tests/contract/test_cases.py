"""Every case of the table, plainly and through the real path."""

from __future__ import annotations

import pytest

from .cases import CASES, Case
from .compare import Judge
from .trial import try_case

GAPS = {
    "exception-group": "IPython prints a group itself, with the frames of whoever raises it",
}
"""What is known not to hold yet, and why: each fails, and starts to be noticed when it does not."""


def _listed(case: Case) -> object:
    marks = [pytest.mark.xfail(reason=GAPS[case.id], strict=True)] if case.id in GAPS else []
    return pytest.param(case, id=case.id, marks=marks)


def test_cases_have_names_of_their_own() -> None:
    """No two cases share an id, and there are enough of them."""
    assert len({case.id for case in CASES}) == len(CASES) >= 170


@pytest.mark.timeout(150)
@pytest.mark.parametrize("case", [_listed(case) for case in CASES])
def test_as_if_it_had_run_here(remote_pair: Judge, case: Case) -> None:
    """After running elsewhere, the notebook is as if the cell had run in it."""
    assert try_case(remote_pair, case) == []
