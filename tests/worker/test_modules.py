"""What a cell did comes back, whatever it did to ``sys.modules``."""

from __future__ import annotations

import pytest

from cells import Cells
from dask_async_run.job import State


@pytest.mark.parametrize("emptied", ["sys.modules.clear()", "sys.modules = {}"])
def test_a_cell_that_takes_all_modules_away_keeps_its_result(cells: Cells, emptied: str) -> None:
    """Writing a result needs them, and would load others in their place."""
    ended = cells.run(
        f"import collections, sys\nrow = collections.OrderedDict(a=1)\nprint('made')\n{emptied}",
        limit=30,
    )
    assert (ended.state, ended.text()) == (State.FINISHED, "made\n")
    assert {"collections", "row", "sys"} == set(ended.result.bound)
    assert not ended.result.failed


def test_modules_that_were_loaded_anew_stay(cells: Cells) -> None:
    """Only what is not there at the end is put back: instances are of the new module's classes."""
    ended = cells.run(
        "import sys, colorsys\ndel sys.modules['colorsys']\nimport colorsys\n"
        "import fractions\ndel sys.modules['fractions']\nfrom fractions import Fraction\n"
        "half = Fraction(1, 2)"
    )
    assert (ended.state, ended.result.failed) == (State.FINISHED, {})
    assert "half" in ended.result.bound
