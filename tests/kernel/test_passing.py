"""The passing line."""

from __future__ import annotations

import pytest

from dask_async_run.kernel.passing import fitting


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [
        ("waiting for train (running): 3 s", 80, "waiting for train (running): 3 s"),
        ("waiting for train (running): 3 s", 26, "waiting for train (…: 3 s"),
        ("waiting for a (pending: waits for b): 12 s", 30, "waiting for a (pending…: 12 s"),
        ("no colon, but rather long", 10, "no colon…"),
    ],
)
def test_it_stays_one_line_of_a_terminal(text: str, columns: int, shown: str) -> None:
    """Of more than one, only the last could be taken away: the others would pile up."""
    assert fitting(text, columns) == shown
    assert len(shown) < columns or shown == text
