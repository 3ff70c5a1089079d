"""The journal's file: tables, versions, and how it is opened."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from dask_async_run.advice import too_many_files
from dask_async_run.errors import LockedJournalError, ServerError
from dask_async_run.folders import STATE_VARIABLE, check_private_file

SCHEMA_VERSION = 4
_SWEEPS_SINCE = 2
_STORES_SINCE = 3
_SPANS_SINCE = 4

# Which jobs are members of sweeps: id of the sweep, number of the member.
_MEMBERS = """
CREATE TABLE members (number INTEGER PRIMARY KEY, sweep TEXT NOT NULL, member INTEGER NOT NULL);
"""

# Which jobs have results that another one may take over: what they depend on, as a digest.
_CACHES = """
CREATE TABLE caches (number INTEGER PRIMARY KEY, key TEXT NOT NULL);
CREATE INDEX caches_by_key ON caches (key);
"""

# Where jobs are to lie apart from this folder (see `dask_async_run.stores`), and whether they do;
# and what was written there that has to be removed again.
_STORES = """
CREATE TABLE stores (
    number INTEGER NOT NULL, place TEXT NOT NULL, done INTEGER NOT NULL DEFAULT 0,
    problem TEXT NOT NULL DEFAULT '', PRIMARY KEY (number, place)
) WITHOUT ROWID;
CREATE TABLE leavings (
    place TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (place, name)
) WITHOUT ROWID;
"""

# For how many seconds jobs ran, by a clock that nobody sets: no row if nobody measured it.
_SPANS = """
CREATE TABLE spans (number INTEGER PRIMARY KEY, seconds REAL NOT NULL);
"""

# Listing a thousand jobs must not read a thousand pickles, and counting an output must not
# rewrite a cell's source: so what lists show of specs and results lies apart from them,
# and from the rows that change.
_SCHEMA = f"""
{_CACHES}
{_MEMBERS}
{_STORES}
{_SPANS}
CREATE INDEX members_of_sweep ON members (sweep, member);
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY,  -- order of submission
    id TEXT NOT NULL UNIQUE,
    notebook TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '',
    attempt INTEGER NOT NULL DEFAULT 0,
    submitted REAL NOT NULL,
    started REAL,
    ended REAL,
    worker TEXT NOT NULL DEFAULT '',
    host TEXT NOT NULL DEFAULT '',
    pid INTEGER,
    outputs INTEGER NOT NULL DEFAULT 0,
    last_line TEXT NOT NULL DEFAULT '',
    nbytes INTEGER NOT NULL DEFAULT 0,
    ename TEXT NOT NULL DEFAULT '',
    evalue TEXT NOT NULL DEFAULT '',
    saved INTEGER NOT NULL DEFAULT 0,
    gathered INTEGER NOT NULL DEFAULT 0,
    UNIQUE (notebook, name, version)
);
CREATE INDEX jobs_of_notebook ON jobs (notebook, number);
CREATE INDEX jobs_open ON jobs (number) WHERE ended IS NULL;
CREATE INDEX jobs_unsaved ON jobs (number) WHERE ended IS NOT NULL AND NOT saved;
CREATE TABLE briefs (number INTEGER PRIMARY KEY, spec BLOB NOT NULL, result BLOB);
CREATE TABLE specs (number INTEGER PRIMARY KEY, spec BLOB NOT NULL);
CREATE TABLE results (number INTEGER PRIMARY KEY, result BLOB NOT NULL);
CREATE TABLE outputs (
    job TEXT NOT NULL, seq INTEGER NOT NULL, time REAL NOT NULL, output BLOB NOT NULL,
    PRIMARY KEY (job, seq)
);
CREATE TABLE tails (job TEXT PRIMARY KEY, tail TEXT NOT NULL);
CREATE TABLE events (
    job TEXT NOT NULL, time REAL NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL,
    worker TEXT NOT NULL
);
CREATE INDEX events_of_job ON events (job);
CREATE TABLE frames (
    digest TEXT NOT NULL, job TEXT NOT NULL, named REAL NOT NULL, PRIMARY KEY (digest, job)
) WITHOUT ROWID;
CREATE INDEX frames_of_job ON frames (job);
"""

DAMAGE = (sqlite3.Error, ValueError, TypeError, KeyError)
"""What reading a damaged journal raises: SQLite itself, and what decodes texts and messages."""

LOCK_PATIENCE = 10.0
"""Seconds that SQLite waits for who has the journal locked, where nobody else waits meanwhile."""

BRIEF = 2.0
"""Seconds after which who waits for that is told, and a server that starts does not wait longer."""

_IN_ORDER = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_BUSY")
"""Errors of the system, which say nothing of the journal itself."""

_LONGEST_PATH = 500  # of SQLite's files, -journal and -wal included: 512

_MIGRATIONS: dict[int, str] = {
    1: f"{_MEMBERS} CREATE INDEX members_of_sweep ON members (sweep, member); {_CACHES}",
    2: _STORES,
    3: _SPANS,
}
"""For each older version, the statements that make the next one of it."""


def open_to_write(path: Path) -> sqlite3.Connection:
    """Open the journal, made or migrated if need be.

    Raises
    ------
    ServerError
        It is damaged, a newer version wrote it, or other users can get at it.
    """
    # Made here, so that nobody else can read it even for a moment; SQLite gives its
    # companions (-wal, -shm) the same mode.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        check_private_file(os.fstat(descriptor), path)
    finally:
        os.close(descriptor)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)  # its name, too, survives a loss of power
    finally:
        os.close(folder)
    connection = connect(path, "rw", BRIEF)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        # Checkpoints sync files, which an event loop has no time for: `saver` makes them.
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        version = _version(path, connection)
        while version < SCHEMA_VERSION:
            script = _MIGRATIONS[version] if version else _SCHEMA
            version = version + 1 if version else SCHEMA_VERSION
            connection.executescript(
                f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {version}; COMMIT;"
            )
    except BaseException as error:
        connection.close()
        if isinstance(error, DAMAGE):
            raise unreadable(path, error) from error
        raise
    return connection


def open_to_read(
    path: Path, patience: float = LOCK_PATIENCE, locked: Callable[[str], object] = lambda why: None
) -> sqlite3.Connection:
    """Open the journal read-only; a server may run or not, or have been killed.

    Parameters
    ----------
    path : Path
    patience : float
        Seconds that a question waits for another process that has it locked.
    locked : callable
        Called with a sentence when it is locked, after `BRIEF`, and goes on to be waited for.

    Raises
    ------
    ServerError
        It does not exist, is damaged, or a newer version wrote it.
    """
    if not path.is_file():
        raise ServerError(f"there is no journal {path}: no server has run there yet.")
    connection = None
    try:
        connection = connect(path, "ro", min(BRIEF, patience))
        try:
            version = _version(path, connection)
        except sqlite3.OperationalError as error:
            if not is_locked(error) or patience <= BRIEF:
                raise
            locked(f"the journal {path} is locked. {advice(error, path)} Waiting for it")
            _be_patient(connection, patience - BRIEF)
            version = _version(path, connection)
        _be_patient(connection, patience)
        if not version:
            raise ServerError(f"{path} is empty: no server has run there yet.")
        if version < _SWEEPS_SINCE:
            connection.execute(_MEMBERS.replace("TABLE", "TEMP TABLE"))
        if version < _STORES_SINCE:
            connection.executescript(_STORES.replace("TABLE", "TEMP TABLE"))
        if version < _SPANS_SINCE:
            connection.execute(_SPANS.replace("TABLE", "TEMP TABLE"))
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, DAMAGE):
            raise unreadable(path, error) from error
        raise
    return connection


def connect(path: Path, mode: str, patience: float = LOCK_PATIENCE) -> sqlite3.Connection:
    """Connect with transactions left to the caller; `mode` is SQLite's, ``ro`` or ``rw``.

    Every question waits `patience` seconds for another process that has the journal locked.
    """
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    try:
        return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=patience)
    except sqlite3.OperationalError as error:
        length = len(os.fsencode(path.absolute()))
        if length < _LONGEST_PATH:
            raise
        raise ServerError(
            f"the state folder {path.parent} has too long a name: SQLite opens no file whose path "
            f"has {length} bytes. Choose a shorter one ({STATE_VARIABLE})."
        ) from error


def is_locked(error: BaseException | None) -> bool:
    """Whether an error of SQLite's says that another process has the journal locked."""
    return str(getattr(error, "sqlite_errorname", "")).startswith("SQLITE_BUSY")


def _be_patient(connection: sqlite3.Connection, seconds: float) -> None:
    connection.execute(f"PRAGMA busy_timeout = {round(1000 * seconds)}")


def _version(path: Path, connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise ServerError(
            f"{path} was written by a newer dask_async_run (its schema is {version}, this one "
            f"knows {SCHEMA_VERSION}). Upgrade this one, or choose another state folder."
        )
    return version


def advice(error: Exception, path: Path) -> str:
    """Say what may help where a journal cannot be written."""
    if is_locked(error):
        named = ", ".join(_lockers(path))
        who = f" ({named})" if named else ""
        return f"Another process keeps it locked{who}: end that one, or wait for it, and try again."
    if not _opens_files():
        return too_many_files()
    return "Is there space left on its disk, and can it be written to?"


def _lockers(path: Path) -> list[str]:
    """Answer which other processes have a journal locked: nobody can write to it (Linux)."""
    inodes = set()
    for file in (path, path.with_name(f"{path.name}-shm")):
        with suppress(OSError):
            inodes.add(str(file.stat().st_ino))
    pids = set()
    with suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()  # 1: POSIX  ADVISORY  WRITE 4242 08:01:1234 120 120
            if len(words) > 5 and words[3] == "WRITE" and words[5].rpartition(":")[2] in inodes:
                pids.add(int(words[4]))
    found = []
    for pid in sorted(pids - {os.getpid()}):
        with suppress(OSError):
            found.append(f"{Path(f'/proc/{pid}/comm').read_text().strip()}, process {pid}")
    return found


def _opens_files() -> bool:
    """Whether this process may open one more file: SQLite does not tell."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        return False
    return True


def unreadable(path: Path, error: Exception) -> ServerError:
    """Answer the error that says so of a journal."""
    said = error.strerror if isinstance(error, OSError) else str(error)
    code = getattr(error, "sqlite_errorname", "")
    if code.startswith(_IN_ORDER) or not _opens_files():
        kind = LockedJournalError if is_locked(error) else ServerError
        return kind(f"the journal {path} cannot be used: {said}. {advice(error, path)}")
    return ServerError(
        f"the journal {path} cannot be read: {said or error}. Move it away, with the folder that "
        "it is in (its results are there), to start with an empty one."
    )
