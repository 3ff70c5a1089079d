"""Connections to SQLite databases, and their cursors.

A connection to a file is opened again: the file is everybody's, and what is committed to it
everybody sees. A database in memory goes as the bytes that it is made of. What can't be seen
from outside, or is not in the file yet, is refused.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from dask_async_run.namespace.kinds import Kind, NotInPlace, Undo

_SETTINGS = ("isolation_level", "row_factory", "text_factory")


def _is_closed(connection: Any) -> bool:
    try:
        connection.total_changes  # noqa: B018 - asks
    except sys.modules["sqlite3"].ProgrammingError:
        return True
    return False


def _ask(connection: Any, question: str) -> list[tuple[Any, ...]]:
    cursor = connection.cursor()
    cursor.row_factory = None
    return [tuple(row) for row in cursor.execute(question)]


def _refusal(why: str) -> TypeError:
    return TypeError(f"cannot pickle a connection to a database {why}")


def _path(connection: Any) -> str:
    """Answer the file of a connection, ``""`` for one in memory; refuse what is not only that."""
    import sqlite3

    databases = {name: file for _, name, file in _ask(connection, "PRAGMA database_list")}
    if databases.keys() - {"main", "temp"}:
        raise _refusal("that has others attached to it")
    if _ask(connection, "SELECT count(*) FROM temp.sqlite_master") != [(0,)]:
        raise _refusal("with temporary tables")
    fresh = sqlite3.connect(":memory:")
    try:
        for thing in ("function", "collation"):
            listed = f"SELECT name FROM pragma_{thing}_list"
            if {*_ask(connection, listed)} - {*_ask(fresh, listed)}:
                raise _refusal(f"with a {thing} of the notebook's")
    finally:
        fresh.close()
    # What was once filled by `deserialize` has a name, but no file.
    path: str = databases["main"] if databases["main"].startswith(os.sep) else ""
    if path and connection.in_transaction:
        raise _refusal("with changes that are not committed")
    return path


def _detects_types(connection: Any) -> int:
    """Answer the ``detect_types`` of a connection, as far as its tables let that be seen."""
    import sqlite3

    seen: list[bytes] = []
    found = 0
    before = dict(sqlite3.converters)
    try:
        sqlite3.register_converter("probe", seen.append)
        _ask(connection, "SELECT 'x' AS \"c [probe]\"")
        found |= sqlite3.PARSE_COLNAMES if seen else 0
        seen.clear()
        columns = "SELECT m.name, c.name, c.type FROM sqlite_master m, pragma_table_info(m.name) c"
        for table, column, kind in _ask(connection, f"{columns} WHERE m.type = 'table'"):
            words = kind.partition("(")[0].split()
            if words:
                sqlite3.register_converter(words[0], seen.append)
                named = f'SELECT "{column}" FROM "{table}"'
                _ask(connection, f'{named} WHERE "{column}" IS NOT NULL LIMIT 1')
        found |= sqlite3.PARSE_DECLTYPES if seen else 0
    finally:
        sqlite3.converters.clear()
        sqlite3.converters.update(before)
    return found


def make_connection(path: str | None, detect_types: int) -> Any:
    """Connect to a file, to memory (``""``), or have a connection that is closed (None)."""
    import sqlite3

    connection = sqlite3.connect(path or ":memory:", detect_types=detect_types)
    if path is None:
        connection.close()
    return connection


def _contents(connection: Any) -> tuple[bytes, bool] | None:
    """Answer what a database in memory is made of, and whether it is in a transaction."""
    if _path(connection):
        return None
    if not connection.in_transaction:
        return connection.serialize(), False
    # The bytes of what `deserialize` has filled are without what is not committed yet.
    copy = sys.modules["sqlite3"].connect(":memory:")
    before, connection.row_factory = connection.row_factory, None
    try:
        copy.executescript("\n".join(connection.iterdump()))
        return copy.serialize(), True
    finally:
        connection.row_factory = before
        copy.close()


def _state(connection: Any, snapshot: Any = None) -> dict[str, Any] | None:
    if _is_closed(connection):
        return None
    settings = {name: getattr(connection, name) for name in _SETTINGS}
    return settings | {"contents": _contents(connection)}


def set_connection(connection: Any, state: dict[str, Any] | None) -> None:
    """Give a connection its settings, and its contents if it is to memory."""
    if state is None:
        connection.close()
        return
    if state["contents"] is not None:
        contents, in_transaction = state["contents"]
        connection.commit()
        connection.deserialize(contents)
        if in_transaction:
            connection.execute("BEGIN")
    for name in _SETTINGS:
        if getattr(connection, name) is not state[name]:
            setattr(connection, name, state[name])


def _reduce_connection(connection: Any) -> Any:
    if _is_closed(connection):
        return make_connection, (None, 0)
    made = (_path(connection), _detects_types(connection))
    return make_connection, made, _state(connection), None, None, set_connection


def _apply(connection: Any, state: dict[str, Any] | None) -> Undo:
    if _is_closed(connection):
        if state is not None:
            raise NotInPlace("a closed connection cannot be opened again")
        return lambda: None
    before = _state(connection)
    set_connection(connection, state)

    def undo() -> None:
        if not _is_closed(connection):
            set_connection(connection, before)

    return undo


def _snapshot(connection: Any) -> Any:
    try:
        return _state(connection)
    except TypeError as error:
        return str(error)


CONNECTION = Kind(
    "connection",
    lambda connection: (),
    _snapshot,
    lambda connection, snapshot: bool(_snapshot(connection) == snapshot),
    _state,
    _apply,
)

# -- cursors --------------------------------------------------------------------------------------


def make_cursor(connection: Any) -> Any:
    return connection.cursor()


def _columns(cursor: Any, snapshot: Any = None) -> dict[str, Any]:
    if any(type(part).__name__ == "Statement" for part in gc.get_referents(cursor)):
        raise TypeError("cannot pickle a cursor with rows that are not fetched yet")
    columns = cursor.description and [column[0] for column in cursor.description]
    return {"columns": columns, "row_factory": cursor.row_factory, "arraysize": cursor.arraysize}


def set_cursor(cursor: Any, state: dict[str, Any]) -> None:
    """Give a cursor its settings, and the description of what it fetched last."""
    cursor.row_factory, cursor.arraysize = state["row_factory"], state["arraysize"]
    if state["columns"]:
        named = (name.replace('"', '""') for name in state["columns"])
        with suppress(sys.modules["sqlite3"].ProgrammingError):  # its connection is closed
            cursor.execute(
                "SELECT " + ", ".join(f'NULL AS "{name}"' for name in named) + " WHERE 0"
            )
            cursor.fetchall()


def _reduce_cursor(cursor: Any) -> Any:
    return make_cursor, (cursor.connection,), _columns(cursor), None, None, set_cursor


def _apply_to_cursor(cursor: Any, state: dict[str, Any]) -> Undo:
    before = _columns(cursor)
    set_cursor(cursor, state)
    return lambda: set_cursor(cursor, before)


def _cursor_snapshot(cursor: Any) -> Any:
    try:
        return _columns(cursor)
    except TypeError as error:
        return str(error)


CURSOR = Kind(
    "cursor",
    lambda cursor: (cursor.connection,),
    _cursor_snapshot,
    lambda cursor, snapshot: bool(_cursor_snapshot(cursor) == snapshot),
    _columns,
    _apply_to_cursor,
)

_NAMES: dict[str, tuple[Kind, Callable[[Any], Any]]] = {
    "Connection": (CONNECTION, _reduce_connection),
    "Cursor": (CURSOR, _reduce_cursor),
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
