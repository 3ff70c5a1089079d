"""What SQLite connections and cursors tell of what they did: rows changed, the last one's id.

Nobody can set it, but it can be done again: as many rows as were changed are put into a temporary
table, the last one with the id that the last one had. For the connection that counts, too: what
cursors tell comes first, and all of it when all else is done.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

Counts = tuple[int, int]
"""How many rows a connection has changed, and the id of the row that it put in last."""

Told = tuple[list[str] | None, int | None, int]
"""What a cursor fetched last: its columns; the last row that it knows of; how many it changed.

None for the row if it did nothing but `executemany`, if that; -1 if what it did last changed none.
"""

Again = tuple[list[tuple[Any, Counts]], list[tuple[Any, Told]]]
"""What connections did more than here, and what cursors are to tell."""

MOST = 1_000_000
"""Rows that are put in at most: half a second."""

_TABLE = "temp._dask_async_run"
_ROWS = (
    f"INSERT INTO {_TABLE} WITH RECURSIVE k(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM k "
    "WHERE i < ?1) SELECT ?2 - ?1 + i FROM k WHERE ?1 > 0"
)
_NOTHING = "PRAGMA _dask_async_run"  # SQLite passes over names that it does not know


def is_closed(connection: Any) -> bool:
    try:
        connection.total_changes  # noqa: B018 - asks
    except sys.modules["sqlite3"].ProgrammingError:
        return True
    return False


def ask(connection: Any, question: str) -> list[tuple[Any, ...]]:
    """Answer the rows of a query, whatever the connection makes of rows and texts."""
    cursor = connection.cursor()
    cursor.row_factory = None
    before, connection.text_factory = connection.text_factory, str
    try:
        return [tuple(row) for row in cursor.execute(question)]
    finally:
        connection.text_factory = before


def counts_of(connection: Any) -> Counts:
    """Answer what a connection tells."""
    return connection.total_changes, _last_row(connection)


def _last_row(connection: Any) -> int:
    return int(ask(connection, "SELECT last_insert_rowid()")[0][0])


@contextmanager
def _scratch(connection: Any) -> Iterator[None]:
    """Have the table, in no transaction that was not there, and no text of the user's."""
    level, begun = connection.isolation_level, connection.in_transaction
    if not begun:
        connection.isolation_level = None  # which would end one
    ((guarded,),) = ask(connection, "PRAGMA query_only")
    ask(connection, "PRAGMA query_only = 0")
    ask(connection, f"CREATE TEMP TABLE {_TABLE.partition('.')[2]} (id INTEGER PRIMARY KEY)")
    try:
        yield
    finally:
        ask(connection, f"DROP TABLE {_TABLE}")
        ask(connection, f"PRAGMA query_only = {guarded}")
        if not begun:
            connection.isolation_level = level


def _set_counts(connection: Any, total: int, last: int) -> None:
    missing = total - connection.total_changes
    if 0 < missing <= MOST:
        with _scratch(connection):
            connection.cursor().execute(_ROWS, (missing, last))


def describe(cursor: Any, columns: list[str]) -> None:
    """Have a cursor fetched no rows of some columns."""
    cursor.execute(f"SELECT {_nothing_as(columns)} WHERE 0")
    cursor.fetchall()


def _nothing_as(columns: list[str]) -> str:
    named = (name.replace('"', '""') for name in columns)
    return ", ".join(f'NULL AS "{name}"' for name in named)


def told_by(cursor: Any) -> Told:
    """Answer what a cursor tells."""
    columns = cursor.description and [column[0] for column in cursor.description]
    return columns, cursor.lastrowid, cursor.rowcount


def _set_told(cursor: Any, columns: list[str] | None, last: int | None, count: int) -> None:
    connection = cursor.connection
    count = count if count <= MOST else -1
    if count < 0 and (last is None or last == _last_row(connection)):
        if columns:
            describe(cursor, columns)
        elif last is not None:
            cursor.execute(_NOTHING)
        return
    with _scratch(connection):
        if last is None:
            cursor.executemany(f"INSERT INTO {_TABLE} VALUES (NULL)", [()] * count)
        elif count < 0:
            connection.cursor().execute(_ROWS, (1, last))
            describe(cursor, columns) if columns else cursor.execute(_NOTHING)
        else:
            back = f" RETURNING {_nothing_as(columns)}" if columns else ""
            cursor.execute(_ROWS + back, (count, last))
            cursor.fetchall()


def told_among(objects: Iterable[Any]) -> Again:
    """Answer what of some connections and cursors has to be done again where they are new."""
    sqlite3 = sys.modules["sqlite3"]
    connections = [obj for obj in objects if isinstance(obj, sqlite3.Connection)]
    cursors = [obj for obj in objects if isinstance(obj, sqlite3.Cursor)]
    there = [(each, counts_of(each)) for each in connections if not is_closed(each)]
    told = [(cursor, told_by(cursor)) for cursor in cursors if not is_closed(cursor.connection)]
    done = [(connection, counts) for connection, counts in there if any(counts)]
    return done, [(cursor, what) for cursor, what in told if what != (None, None, -1)]


def tell_again(
    connections: Iterable[tuple[Any, Counts]], cursors: Iterable[tuple[Any, Told]]
) -> None:
    """Have connections and cursors tell what they told elsewhere."""
    there = [(each, counts) for each, counts in connections if not is_closed(each)]
    totals = [(each, each.total_changes + more, last) for each, (more, last) in there]
    for cursor, told in cursors:
        if not is_closed(cursor.connection) and told_by(cursor) != told:
            with suppress(sys.modules["sqlite3"].Error):  # somebody has locked the database
                _set_told(cursor, *told)
    for connection, total, last in totals:
        with suppress(sys.modules["sqlite3"].Error):
            _set_counts(connection, total, last)
