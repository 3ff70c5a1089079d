"""Connections to SQLite databases, and their cursors.

A connection to a file is opened again: the file is everybody's, and what is committed to it
everybody sees. A database in memory goes as the bytes that it is made of. What can't be seen
from outside, or is not in the file yet, is refused.
"""

from __future__ import annotations

import functools
import gc
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from dask_async_run.namespace.containers import immutable
from dask_async_run.namespace.kinds import Kind, NotInPlace, Undo

_DESCRIPTORS = Path("/proc/self/fd")
_SETTINGS = ("isolation_level", "row_factory", "text_factory")
_PRAGMAS = (
    *("foreign_keys", "recursive_triggers", "busy_timeout", "synchronous", "cache_size"),
    *("temp_store", "read_uncommitted", "reverse_unordered_selects", "ignore_check_constraints"),
    *("automatic_index", "legacy_alter_table", "trusted_schema", "secure_delete"),
    *("full_column_names", "short_column_names", "query_only"),
)
"""Settings that a connection forgets when it is closed; the last one makes it read only."""


def _is_closed(connection: Any) -> bool:
    try:
        connection.total_changes  # noqa: B018 - asks
    except sys.modules["sqlite3"].ProgrammingError:
        return True
    return False


def _ask(connection: Any, question: str) -> list[tuple[Any, ...]]:
    cursor = connection.cursor()
    cursor.row_factory = None
    before, connection.text_factory = connection.text_factory, str
    try:
        return [tuple(row) for row in cursor.execute(question)]
    finally:
        connection.text_factory = before


def _refusal(why: str) -> TypeError:
    return TypeError(f"cannot pickle a connection to a database {why}")


def _path(connection: Any) -> str:
    """Answer the file of a connection, ``""`` for one in memory; refuse what is not only that."""
    if _has_callback(connection):
        raise _refusal("with a callback of the notebook's")
    databases = {name: file for _, name, file in _ask(connection, "PRAGMA database_list")}
    if databases.keys() - {"main", "temp"}:
        raise _refusal("that has others attached to it")
    if _ask(connection, "SELECT count(*) FROM temp.sqlite_master") != [(0,)]:
        raise _refusal("with temporary tables")
    _refuse_functions(connection)
    # What was once filled by `deserialize` has a name, but no file.
    path: str = databases["main"] if databases["main"].startswith(os.sep) else ""
    if path and connection.in_transaction:
        raise _refusal("with changes that are not committed")
    return path


def _has_callback(connection: Any) -> bool:
    """Whether a connection tells, or asks, a function of what it does."""
    known = (type(connection), connection.row_factory, connection.text_factory)
    return any(
        callable(part)
        and type(part) is not functools._lru_cache_wrapper  # its prepared statements
        and not any(part is other for other in known)
        for part in gc.get_referents(connection)
    )


def _refuse_functions(connection: Any) -> None:
    import sqlite3

    fresh = sqlite3.connect(":memory:")
    try:
        _set_pragma(fresh, "case_sensitive_like", 1)  # makes functions of its own
        for thing, listed in (
            ("function", "SELECT name, narg, builtin FROM pragma_function_list"),
            ("collation", "SELECT name FROM pragma_collation_list"),
        ):
            if {*_ask(connection, listed)} - {*_ask(fresh, listed)}:
                raise _refusal(f"with a {thing} of the notebook's")
    finally:
        fresh.close()


def _detects_types(connection: Any) -> int:
    """Answer the ``detect_types`` of a connection, by what it does."""
    import sqlite3

    # The first half has a column of a declared type, and the second one a row.
    declared = "SELECT name FROM sqlite_master WHERE 0 UNION ALL SELECT 'x'"
    seen: list[bytes] = []
    found = 0
    before = dict(sqlite3.converters)
    try:
        for kind, flag, question in (
            ("text", sqlite3.PARSE_DECLTYPES, declared),
            ("probe", sqlite3.PARSE_COLNAMES, "SELECT 'x' AS \"c [probe]\""),
        ):
            sqlite3.register_converter(kind, seen.append)
            _ask(connection, question)
            found |= flag if seen else 0
            seen.clear()
    finally:
        sqlite3.converters.clear()
        sqlite3.converters.update(before)
    return found


def _is_read_only(path: str) -> bool:
    """Whether this process has a file open for nothing but reading; Linux only.

    SQLite tells only those who try to write, and keeps all others from writing meanwhile.
    """
    if not _DESCRIPTORS.is_dir():
        return False
    import fcntl

    modes = set()
    for descriptor in map(int, (entry.name for entry in _DESCRIPTORS.iterdir())):
        with suppress(OSError):  # that of the listing
            if os.path.samestat(os.fstat(descriptor), Path(path).stat()):
                modes.add(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE)
    return modes == {os.O_RDONLY}


def _pragmas(connection: Any) -> dict[str, int]:
    """Answer a connection's settings, as far as this SQLite has them."""
    ((distinguishes,),) = _ask(connection, "SELECT 'a' NOT LIKE 'A'")
    found = {"case_sensitive_like": int(distinguishes)}
    for name in _PRAGMAS:
        for (value,) in _ask(connection, f"PRAGMA {name}"):
            found[name] = int(value)
    return found


def _set_pragma(connection: Any, name: str, value: int) -> None:
    _ask(connection, f"PRAGMA {name} = {value}")


def make_connection(path: str | None, detect_types: int, read_only: bool) -> Any:
    """Connect to a file, to memory (``""``), or have a connection that is closed (None)."""
    import sqlite3

    name = f"{Path(path).as_uri()}?mode=ro" if path and read_only else path or ":memory:"
    connection = sqlite3.connect(name, detect_types=detect_types, uri=read_only)
    if path is None:
        connection.close()
    return connection


def _contents(connection: Any) -> tuple[bytes, bool] | None:
    """Answer what a database in memory is made of, and whether it is in a transaction."""
    if _path(connection):
        return None
    if _ask(connection, "PRAGMA page_count") == [(0,)]:
        return b"", connection.in_transaction
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
    contents = _contents(connection)  # refuses what must not be asked
    return settings | {"contents": contents, "pragmas": _pragmas(connection)}


def set_connection(connection: Any, state: dict[str, Any] | None) -> None:
    """Give a connection its settings, and its contents if it is to memory."""
    if state is None:
        connection.close()
        return
    in_transaction = False
    if state["contents"] is not None:
        contents, in_transaction = state["contents"]
        connection.commit()
        if contents:
            connection.deserialize(contents)
    before = _pragmas(connection)
    for name, value in state["pragmas"].items():
        if value != before.get(name, value):
            _set_pragma(connection, name, value)
    if in_transaction:
        connection.execute("BEGIN")
    for name in _SETTINGS:
        if getattr(connection, name) is not state[name]:
            setattr(connection, name, state[name])


def _reduce_connection(connection: Any) -> Any:
    if _is_closed(connection):
        return make_connection, (None, 0, False)
    path = _path(connection)
    made = (path, _detects_types(connection), bool(path) and _is_read_only(path))
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
        with suppress(sys.modules["sqlite3"].ProgrammingError):  # its connection is closed
            _describe(cursor, state["columns"])


def _describe(cursor: Any, columns: list[str]) -> None:
    """Have a cursor fetched no rows of some columns."""
    named = (name.replace('"', '""') for name in columns)
    cursor.execute("SELECT " + ", ".join(f'NULL AS "{name}"' for name in named) + " WHERE 0")
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
    "Connection": (CONNECTION, _reduce_connection),
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
