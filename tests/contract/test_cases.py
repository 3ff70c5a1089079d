"""The first half of the table's cases, plainly and through the real path."""

from __future__ import annotations

import pytest

from .cases import CASES, Case
from .compare import Judge
from .trial import try_case

FIRST = CASES[: len(CASES) // 2]


def test_cases_have_names_of_their_own() -> None:
    """No two cases share an id, and there are enough of them."""
    assert len({case.id for case in CASES}) == len(CASES) >= 170


@pytest.mark.timeout(150)
@pytest.mark.parametrize("case", FIRST, ids=[case.id for case in FIRST])
def test_as_if_it_had_run_here(remote_pair: Judge, case: Case) -> None:
    """After running elsewhere, the notebook is as if the cell had run in it."""
    assert try_case(remote_pair, case) == []
