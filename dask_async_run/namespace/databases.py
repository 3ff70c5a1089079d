"""Connections to SQLite databases.

A connection to a file is opened again: the file is everybody's, and what is committed to it
everybody sees. A database in memory goes as the bytes that it is made of. What can't be seen
from outside, or is not in the file yet, is refused.
"""

from __future__ import annotations

import functools
import gc
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from dask_async_run.namespace.counts import ask, counts_of, is_closed
from dask_async_run.namespace.kinds import Kind, NotInPlace, Undo

_DESCRIPTORS = Path("/proc/self/fd")
_LOCKS = Path("/proc/locks")
_SETTINGS = ("isolation_level", "row_factory", "text_factory")
_PRAGMAS = (
    *("foreign_keys", "recursive_triggers", "busy_timeout", "synchronous", "cache_size"),
    *("temp_store", "read_uncommitted", "reverse_unordered_selects", "ignore_check_constraints"),
    *("automatic_index", "legacy_alter_table", "trusted_schema", "secure_delete"),
    *("full_column_names", "short_column_names", "query_only"),
)
"""Settings that a connection forgets when it is closed; the last one makes it read only."""


def _refusal(why: str) -> TypeError:
    return TypeError(f"cannot pickle a connection to a database {why}")


def _path(connection: Any) -> str:
    """Answer the file of a connection, ``""`` for one in memory; refuse what is not only that."""
    if _has_callback(connection):
        raise _refusal("with a callback of the notebook's")
    databases = {name: file for _, name, file in ask(connection, "PRAGMA database_list")}
    if databases.keys() - {"main", "temp"}:
        raise _refusal("that has others attached to it")
    if ask(connection, "SELECT count(*) FROM temp.sqlite_master") != [(0,)]:
        raise _refusal("with temporary tables")
    _refuse_functions(connection)
    # What was once filled by `deserialize` has a name, but no file.
    path: str = databases["main"] if databases["main"].startswith(os.sep) else ""
    if path and _DESCRIPTORS.is_dir() and not _modes(path):
        raise _refusal("whose file is not where it was, or in a file system of SQLite's (vfs)")
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
        # As tables (`pragma_function_list`) they crash a connection that was asked once before
        # it got other contents (SQLite 3.40).
        for thing, listed, name in (
            ("function", "function_list", 0),
            ("collation", "collation_list", 1),
        ):
            known = {row[name:] for row in ask(fresh, f"PRAGMA {listed}")}
            if {row[name:] for row in ask(connection, f"PRAGMA {listed}")} - known:
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
            ask(connection, question)
            found |= flag if seen else 0
            seen.clear()
    finally:
        sqlite3.converters.clear()
        sqlite3.converters.update(before)
    return found


def _modes(path: str) -> set[int]:
    """Answer in which modes this process has a file open; Linux only."""
    import fcntl

    found = set()
    for descriptor in map(int, (entry.name for entry in _DESCRIPTORS.iterdir())):
        with suppress(OSError):  # that of the listing
            if os.path.samestat(os.fstat(descriptor), Path(path).stat()):
                found.add(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE)
    return found


def _is_read_only(path: str) -> bool:
    """Whether this process has a file open for nothing but reading; Linux only.

    SQLite tells only those who try to write, and keeps all others from writing meanwhile.
    """
    return _DESCRIPTORS.is_dir() and _modes(path) == {os.O_RDONLY}


def _takes_locks(connection: Any, path: str) -> bool:
    """Whether others are kept from writing while a connection reads; Linux only.

    Not so with ``immutable=1``, and with some of the ``vfs=`` that a name may ask for.
    """
    # Of another file system the list of locks may name another file, as overlayfs's may.
    return Path(path).stat().st_dev != _where_locks_are_seen() or _is_locked_by(connection, path)


def _keeps_locks(connection: Any, path: str) -> bool:
    """Whether others can't use a file as long as a connection is open, as far as one can see."""
    if ask(connection, "PRAGMA locking_mode") == [("exclusive",)]:
        return True
    exclusive = (line.split() for line in _our_locks(path))
    return any("WRITE" in words and words[-1] == _LAST_OF_SHARED for words in exclusive)


_LAST_OF_SHARED = str(0x40000000 + 511)
"""The last byte that SQLite locks in a file to read it, or, against readers, to write it."""


def _our_locks(path: str) -> list[str]:
    if not _LOCKS.is_file():
        return []
    ours = f" {os.getpid()} ", f":{Path(path).stat().st_ino} "
    lines = _LOCKS.read_text().splitlines()
    return [line for line in lines if all(map(line.__contains__, ours))]


def _is_locked_by(connection: Any, path: str) -> bool:
    reading = connection.cursor()
    reading.execute("SELECT 1 UNION ALL SELECT 1 FROM main.sqlite_master UNION ALL SELECT 1")
    reading.fetchone()
    try:
        return bool(_our_locks(path))
    finally:
        reading.close()


@functools.cache
def _where_locks_are_seen() -> int | None:
    """The device of temporary files, if this machine lists the locks of this process on it.

    Not every container does.
    """
    import sqlite3

    if not _LOCKS.is_file():
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/probe.db"
        connection = sqlite3.connect(path)
        try:
            connection.execute("CREATE TABLE probe (a)")
            return Path(path).stat().st_dev if _is_locked_by(connection, path) else None
        finally:
            connection.close()


def _pragmas(connection: Any) -> dict[str, int]:
    """Answer a connection's settings, as far as this SQLite has them."""
    ((distinguishes,),) = ask(connection, "SELECT 'a' NOT LIKE 'A'")
    found = {"case_sensitive_like": int(distinguishes)}
    for name in _PRAGMAS:
        for (value,) in ask(connection, f"PRAGMA {name}"):
            found[name] = int(value)
    return found


def _set_pragma(connection: Any, name: str, value: int) -> None:
    ask(connection, f"PRAGMA {name} = {value}")


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
    if ask(connection, "PRAGMA page_count") == [(0,)]:
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


def _state(connection: Any) -> dict[str, Any] | None:
    if is_closed(connection):
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


def reduce_connection(connection: Any) -> Any:
    if is_closed(connection):
        return make_connection, (None, 0, False)
    path = _path(connection)
    if path and _keeps_locks(connection, path):
        raise _refusal("that keeps all others out (vfs=unix-excl, or locking_mode = exclusive)")
    if path and not _takes_locks(connection, path):
        raise _refusal("that takes no locks (immutable=1, or a vfs of its own)")
    made = (path, _detects_types(connection), bool(path) and _is_read_only(path))
    return make_connection, made, _state(connection), None, None, set_connection


def _apply(connection: Any, state: dict[str, Any] | None) -> Undo:
    if is_closed(connection):
        if state is not None:
            raise NotInPlace("a closed connection cannot be opened again")
        return lambda: None
    before = _state(connection)
    set_connection(connection, state)

    def undo() -> None:
        if not is_closed(connection):
            set_connection(connection, before)

    return undo


def _all_of(connection: Any, snapshot: Any = None) -> dict[str, Any] | None:
    """Answer the state with what it did since: that is done when all else is (`counts`)."""
    state = _state(connection)
    changed, last = counts_of(connection) if state else (0, 0)
    before = snapshot["counts"][0] if isinstance(snapshot, dict) else 0
    return state and state | {"counts": (changed - before, last)}


def _snapshot(connection: Any) -> Any:
    try:
        return _all_of(connection)
    except TypeError as error:
        return str(error)


CONNECTION = Kind(
    "connection",
    lambda connection: (),
    _snapshot,
    lambda connection, snapshot: bool(_snapshot(connection) == snapshot),
    _all_of,
    _apply,
)
