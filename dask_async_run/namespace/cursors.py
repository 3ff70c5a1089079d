"""Cursors of SQLite connections, and rows."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Any

from dask_async_run.namespace.containers import immutable
from dask_async_run.namespace.counts import describe, told_by
from dask_async_run.namespace.databases import CONNECTION, reduce_connection
from dask_async_run.namespace.kinds import Kind, Undo


def make_cursor(connection: Any) -> Any:
    """Make a cursor; its class, unlike `Connection.cursor`, takes a closed connection, too."""
    return sys.modules["sqlite3"].Cursor(connection)


def _cursor_state(cursor: Any, snapshot: Any = None) -> dict[str, Any]:
    held = any(type(part).__name__ == "Statement" for part in gc.get_referents(cursor))
    if held and cursor.description is not None:  # one of `executemany` has no rows
        raise TypeError("cannot pickle a cursor with rows that are not fetched yet")
    settings = {"row_factory": cursor.row_factory, "arraysize": cursor.arraysize}
    return settings | {"told": told_by(cursor)}


def set_cursor(cursor: Any, state: dict[str, Any]) -> None:
    """Give a cursor its settings; `counts.tell_again` does the rest when all is there."""
    cursor.row_factory, cursor.arraysize = state["row_factory"], state["arraysize"]


def _reduce_cursor(cursor: Any) -> Any:
    return make_cursor, (cursor.connection,), _cursor_state(cursor), None, None, set_cursor


def _apply_to_cursor(cursor: Any, state: dict[str, Any]) -> Undo:
    before = _cursor_state(cursor)
    set_cursor(cursor, state)
    return lambda: set_cursor(cursor, before)


def _cursor_snapshot(cursor: Any) -> Any:
    try:
        return _cursor_state(cursor)
    except TypeError as error:
        return str(error)


CURSOR = Kind(
    "cursor",
    lambda cursor: (cursor.connection,),
    _cursor_snapshot,
    lambda cursor, snapshot: bool(_cursor_snapshot(cursor) == snapshot),
    _cursor_state,
    _apply_to_cursor,
)

# -- rows -----------------------------------------------------------------------------------------


def make_row(columns: list[str], values: tuple[Any, ...]) -> Any:
    """Make a `sqlite3.Row`."""
    import sqlite3

    connection = sqlite3.connect(":memory:")
    try:
        cursor = connection.cursor()
        describe(cursor, columns)
        return sqlite3.Row(cursor, values)
    finally:
        connection.close()


def _reduce_row(row: Any) -> Any:
    return make_row, (row.keys(), tuple(row))


_NAMES: dict[str, tuple[Kind, Callable[[Any], Any]]] = {
    "Connection": (CONNECTION, reduce_connection),
    "Cursor": (CURSOR, _reduce_cursor),
    "Row": (immutable("row", tuple), _reduce_row),
}


def _known(cls: type) -> tuple[Kind, Callable[[Any], Any]] | None:
    return _NAMES.get(cls.__name__) if cls.__module__ == "sqlite3" else None


def database_kind(cls: type) -> Kind | None:
    """Answer the kind of connections and cursors, None for other classes."""
    known = _known(cls)
    return known and known[0]


def reducer(cls: type) -> Callable[[Any], Any] | None:
    """Answer what reduces connections and cursors, None for other classes."""
    known = _known(cls)
    return known and known[1]
