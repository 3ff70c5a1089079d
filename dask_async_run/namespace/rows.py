"""Rows of structured numpy arrays: numbers by the look of them, but they show an array's memory."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from dask_async_run.namespace.kinds import Kind, NotInPlace, Undo


def is_row(obj: Any) -> bool:
    """Whether an object is a row with fields: what is written to it its array shows."""
    void = getattr(sys.modules.get("numpy"), "void", None)
    if void is None or not isinstance(obj, void) or not obj.dtype.names:
        return False
    return not obj.dtype.hasobject or bool(_array_of(obj))


def take_row(array: Any) -> Any:
    """Answer the one row of an array, on its memory."""
    return array[0]


def _array_of(row: Any) -> list[Any]:
    return [row.base] if isinstance(row.base, sys.modules["numpy"].ndarray) else []


def _children(row: Any) -> Iterable[Any]:
    return _array_of(row)


def _snapshot(row: Any) -> Any:
    return None if _array_of(row) else row.tobytes()


def _set_row(row: Any, state: Any) -> Undo:
    old = row.copy()

    def put(values: Any) -> None:
        for name in row.dtype.names:
            row[name] = values[name]

    try:
        put(state)
    except ValueError as error:
        raise NotInPlace("it is read-only here") from error
    return lambda: put(old)


ROW = Kind(
    "row",
    _children,
    _snapshot,
    lambda row, snapshot: bool(_snapshot(row) == snapshot),
    lambda row, snapshot: row.copy(),
    _set_row,
)
"""What is in the memory of an array, that tells itself."""
