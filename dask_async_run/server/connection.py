"""The connection file: how a kernel, or the command, finds a living server.

Written by the server once a task has run on its cluster, and removed by it when it
stops. A file without a living server beside it is stale, which its lock tells (see
`locks`): no pid is asked, so that neither a reboot nor a reused pid deceives.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dask_async_run import __version__
from dask_async_run.errors import ServerError
from dask_async_run.folders import (
    RUNTIME_VARIABLE,
    check_private_file,
    check_private_folder,
    private_folder,
    runtime_folder,
    server_name,
)
from dask_async_run.server import door
from dask_async_run.server.locks import held, holder

_LARGEST = 1 << 20
"""Bytes; a connection file has about 6,000."""

_KINDS: dict[str, Any] = {
    **dict.fromkeys(
        ("name", "address", "state_folder", "host", "version", "python", "prefix", "door"), str
    ),
    **dict.fromkeys(("pid", "workers"), int),
    "started": (int, float),
    "tls": dict,
}


@dataclass(frozen=True, slots=True)
class Connection:
    """What one needs to reach a server.

    Parameters
    ----------
    name : str
        The server's name.
    address : str
        The scheduler's, ``tls://127.0.0.1:port``.
    dashboard : str or None
        Web address of the dashboard on `host`; behind a door, see `dashboard_link`.
    pid : int
        The server process on `host`.
    started : float
        Seconds since the epoch.
    state_folder : str
        Its journal, frames and log.
    host : str
        The machine it runs on, for people: its addresses only mean something there.
    tls : dict
        PEM texts ``ca``, ``cert`` and ``key``. Never shown, logged or sent.
    version : str
        Of this package, in the server.
    python : str
        Of the server, ``3.11.7``.
    prefix : str
        The Python environment that the server, and so every cell, runs in.
    workers : int
        How many cells run side by side.
    door : str
        The secret behind the dashboard's door. Never shown, logged or sent.
    """

    name: str
    address: str
    dashboard: str | None
    pid: int
    started: float
    state_folder: str
    host: str
    tls: dict[str, str] = field(repr=False)
    version: str
    python: str
    prefix: str
    workers: int
    door: str = field(repr=False)

    @property
    def dashboard_link(self) -> str | None:
        """Web address of the dashboard, which opens its door for some minutes from now on.

        It is the one that Dask's configuration makes of it, as for a proxy, in the process that
        asks: a notebook may have set it, or have a hub's variables, after the server began.
        """
        return door.link(_configured(self.dashboard), self.door) if self.dashboard else None

    def security(self) -> Any:
        """The credentials as a `distributed.Security`, for a ``Client``."""
        from dask_async_run.credentials import made  # here: it takes a second to import

        return made(
            require_encryption=True,
            tls_ca_file=self.tls["ca"],
            tls_client_cert=self.tls["cert"],
            tls_client_key=self.tls["key"],
        )

    @property
    def log(self) -> str:
        """Path of the log that a detached server writes."""
        return str(Path(self.state_folder) / "server.log")


def _configured(address: str) -> str:
    """Answer what Dask's configuration makes of the dashboard's own address.

    As ``distributed.utils.format_dashboard_link``, which takes a second to import.
    """
    import dask.config  # here: not every command shows a link

    template = dask.config.get("distributed.dashboard.link", None)
    if template is None:
        return address
    parts = urlsplit(address)
    known = {"scheme": parts.scheme, "host": parts.hostname, "port": parts.port}
    try:
        return str(template.format(**{**os.environ, **known}))
    except KeyError:
        # It names a variable, as a hub's, that this environment does not have.
        return address


@dataclass(frozen=True, slots=True)
class Files:
    """The files of the server called `name` in the runtime folder.

    Three: `connection`; `alive`, locked by the server as long as it lives;
    `starting`, locked by whoever is about to start one.
    """

    name: str
    folder: Path

    @classmethod
    def of(cls, name: str) -> Files:
        """Where they lie; nothing is created."""
        return cls(server_name(name), runtime_folder())

    def make_folder(self) -> None:
        private_folder(self.folder, RUNTIME_VARIABLE)

    @property
    def connection(self) -> Path:
        return self.folder / f"{self.name}.json"

    @property
    def alive(self) -> Path:
        return self.folder / f"{self.name}.alive"

    @property
    def starting(self) -> Path:
        return self.folder / f"{self.name}.lock"


def find(name: str) -> Connection | None:
    """Connection of the living server called `name`, or None if none is ready.

    Raises
    ------
    ServerError
        Its folder or file cannot be trusted or read; see `read`.
    """
    files = Files.of(name)
    while True:
        connection = read(files)
        if connection is None or not held(files.alive):
            return None
        # A file of a dead server is removed before the next one takes the lock (see
        # `launch`), so a file that is the same before and after we saw the lock held
        # is the holder's.
        if read(files) == connection:
            return connection


def names() -> list[str]:
    """Names of the servers that have a connection file, stale or not."""
    return sorted(path.stem for path in runtime_folder().glob("*.json"))


def write(files: Files, connection: Connection) -> None:
    """Write `connection` aside with mode 0600, then rename it into place."""
    fd, aside = tempfile.mkstemp(prefix=f".{files.name}-", dir=files.folder)
    try:
        with os.fdopen(fd, "w") as stream:
            json.dump(asdict(connection), stream, indent=1)
        Path(aside).replace(files.connection)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


def remove(files: Files) -> None:
    """Remove the connection file, whatever it holds.

    Raises
    ------
    ServerError
        It cannot be removed: it is a folder.
    """
    try:
        files.connection.unlink(missing_ok=True)
    except OSError as error:
        raise ServerError(
            f"the connection file {files.connection} cannot be removed: "
            f"{error.strerror or error}. Move it away and try again."
        ) from error


def read(files: Files) -> Connection | None:
    """Read the connection file; None if there is none. Says nothing about life.

    Raises
    ------
    ServerError
        File or folder belongs to somebody else or is open to others, or the file
        does not hold a connection.
    """
    path = files.connection
    try:
        check_private_folder(files.folder)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ServerError(
            f"the connection file {path} cannot be read: {error.strerror or error}. Remove it: a "
            "living server writes it anew within seconds."
        ) from error
    try:
        check_private_file(os.fstat(fd), path)
        with os.fdopen(fd, "rb", closefd=False) as stream:
            text = stream.read(_LARGEST)
    finally:
        os.close(fd)
    try:
        return _checked(json.loads(text))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ServerError(
            f"the connection file {path} is damaged ({error}). Remove it: a living server writes "
            "it anew within seconds."
        ) from error


def _checked(message: Any) -> Connection:
    if not isinstance(message, Mapping):
        raise TypeError("it holds no object")
    known = {f.name for f in fields(Connection)}
    kept = {key: value for key, value in message.items() if key in known}
    writer = kept.get("version")
    if isinstance(writer, str) and writer != __version__ and _KINDS.keys() - kept.keys():
        raise ServerError(
            f"the server {kept.get('name', '')!r} was started by dask_async_run {writer}, and this "
            f"is {__version__}. Stop it (dask-async-run stop --force) and start it again: finished "
            "jobs are kept."
        )
    for key, kind in _KINDS.items():
        if not isinstance(kept[key], kind) or not kept[key]:
            raise TypeError(f"{key!r} is not what it should be")
    if any(not isinstance(kept["tls"].get(part), str) for part in ("ca", "cert", "key")):
        raise TypeError("it holds no credentials")
    return Connection(**kept)


def elsewhere(connection: Connection) -> bool:
    """Whether its living server runs where this process cannot see it.

    On another machine, or in another container, which shares the folder. Not told by
    the machine's name: a laptop's changes with the network it is in.
    """
    alive = Files.of(connection.name).alive
    deadline = time.monotonic() + _DYING
    while True:
        # First: a process that is gone by now has given its lock back by now.
        dying = _dying(connection.pid)
        if holder(alive) == connection.pid or not held(alive):
            return False
        if not dying or time.monotonic() > deadline:
            return True
        time.sleep(0.02)


def wait_for_the_end(connection: Connection) -> None:
    """Wait until a server that does not answer any more is gone, some seconds at most.

    Its lock tells, not its process: a process that was killed is seen without open files
    a moment before the system has let go of its locks.
    """
    deadline = time.monotonic() + _DYING
    while find(connection.name) == connection and time.monotonic() < deadline:
        time.sleep(0.02)


_DYING = 10.0
"""Seconds that the system takes at most to clear away a process that was killed."""


def _dying(pid: int) -> bool:
    """Whether a process of this machine was killed and still holds its locks.

    Its memory goes first, so it has no command line any more, then its files.
    """
    import psutil  # here: only this asks

    try:
        process = psutil.Process(pid)
        ended = process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        # Linux's own threads, which never had one, are the children of process 2.
        return ended or (not process.cmdline() and process.ppid() not in (0, 2))
    except psutil.Error:
        return False


def host() -> str:
    """Name of this machine, for people."""
    return socket.gethostname()
