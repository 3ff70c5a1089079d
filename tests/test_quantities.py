"""How amounts are read and said."""

from __future__ import annotations

import pytest

from dask_async_run.looks import span
from dask_async_run.quantities import age


@pytest.mark.parametrize(
    ("seconds", "old", "took"),
    [
        (-1.0, "0 s", "0 s"),
        (9.7, "9 s", "9 s"),
        (59.9, "59 s", "59 s"),
        (90.0, "1 min", "1 min 30 s"),
        (3599.0, "59 min", "59 min 59 s"),
        (86399.0, "23 h", "23 h 59 min"),
        (200000.0, "2 d", "2 d 7 h"),
    ],
)
def test_nothing_is_rounded_up(seconds: float, old: str, took: str) -> None:
    """No second that has not passed is told, and no "60 min"; so all places agree."""
    assert (age(seconds), span(seconds)) == (old, took)
