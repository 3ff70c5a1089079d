"""The second half of the table's cases: a file of its own, since a file is run by one worker."""

from __future__ import annotations

import pytest

from .cases import CASES, Case
from .compare import Judge
from .test_cases import FIRST
from .trial import try_case

SECOND = CASES[len(FIRST) :]


@pytest.mark.timeout(150)
@pytest.mark.parametrize("case", SECOND, ids=[case.id for case in SECOND])
def test_as_if_it_had_run_here(remote_pair: Judge, case: Case) -> None:
    """After running elsewhere, the notebook is as if the cell had run in it."""
    assert try_case(remote_pair, case) == []
