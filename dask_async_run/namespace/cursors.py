"""Cursors of SQLite connections, and rows.

What a cursor and a connection tell of what they did (`lastrowid`, `rowcount`, `total_changes`)
nobody can set: it stays where they did it, and the user is told.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any

from dask_async_run.namespace.containers import immutable
from dask_async_run.namespace.databases import CONNECTION, is_closed, reduce_connection
from dask_async_run.namespace.kinds import Kind, Undo


def make_cursor(connection: Any) -> Any:
    """Make a cursor; its class, unlike `Connection.cursor`, takes a closed connection, too."""
    return sys.modules["sqlite3"].Cursor(connection)


def _cursor_state(cursor: Any, snapshot: Any = None) -> dict[str, Any]:
    held = any(type(part).__name__ == "Statement" for part in gc.get_referents(cursor))
    if held and cursor.description is not None:  # one of `executemany` has no rows
        raise TypeError("cannot pickle a cursor with rows that are not fetched yet")
    columns = cursor.description and [column[0] for column in cursor.description]
    return {"columns": columns, "row_factory": cursor.row_factory, "arraysize": cursor.arraysize}


def set_cursor(cursor: Any, state: dict[str, Any]) -> None:
    """Give a cursor its settings, and the description of what it fetched last."""
    cursor.row_factory, cursor.arraysize = state["row_factory"], state["arraysize"]
    if state["columns"]:
        with suppress(sys.modules["sqlite3"].ProgrammingError):  # its connection is closed
            _describe(cursor, state["columns"])


def _describe(cursor: Any, columns: list[str]) -> None:
    """Have a cursor fetched no rows of some columns."""
    named = (name.replace('"', '""') for name in columns)
    cursor.execute("SELECT " + ", ".join(f'NULL AS "{name}"' for name in named) + " WHERE 0")
    cursor.fetchall()


def _reduce_cursor(cursor: Any) -> Any:
    return make_cursor, (cursor.connection,), _cursor_state(cursor), None, None, set_cursor


def _apply_to_cursor(cursor: Any, state: dict[str, Any]) -> Undo:
    before = _cursor_state(cursor)
    set_cursor(cursor, state)
    return lambda: set_cursor(cursor, before)


def _cursor_snapshot(cursor: Any) -> Any:
    try:
        return _cursor_state(cursor), _told(cursor)
    except TypeError as error:
        return str(error), _told(cursor)


def _told(cursor: Any) -> tuple[Any, Any]:
    return cursor.lastrowid, cursor.rowcount


def has_gone_on(obj: Any, snapshot: Any) -> bool:
    """Whether an object is a cursor that has done something since."""
    return database_kind(type(obj)) is CURSOR and bool(snapshot[1] != _told(obj))


CURSOR = Kind(
    "cursor",
    lambda cursor: (cursor.connection,),
    _cursor_snapshot,
    lambda cursor, snapshot: bool(_cursor_snapshot(cursor)[0] == snapshot[0]),
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
        _describe(cursor, columns)
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


def untold(values: Mapping[str, Any], words: Collection[str]) -> list[str]:
    """Answer what cursors and connections will not tell where they arrive, and could tell here.

    Parameters
    ----------
    values : mapping of str to object
        By name; those that are neither are passed over.
    words : collection of str
        Of the code that may ask: of connections, few do.
    """
    found = []
    for name, value in values.items():
        kind = database_kind(type(value))
        if kind is CURSOR and value.rowcount >= 0:  # the last it did was to change rows
            found.append(f"{name}.lastrowid, {name}.rowcount")
        elif kind is CONNECTION and not _DONE.isdisjoint(words) and not is_closed(value):
            found.append(f"{name}.total_changes and last_insert_rowid()")
    return found


_DONE = frozenset(("total_changes", "last_insert_rowid"))
ASKED = _DONE | {"lastrowid", "rowcount"}
"""Words of code that may ask for it."""
