"""Finds the living server of a name, or starts it: in a process that outlives us.

Two starters at the same moment: both want the lock ``starting``; the second gets it
when the first one's server is ready, and finds that. A starter that is killed drops
the lock while its server goes on starting: the next one sees the lock ``alive`` held
without a connection file, and waits for either to change. The same state comes about
while a server stops, which removes its connection file first and drops ``alive``
last.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from dask_async_run.errors import ServerError
from dask_async_run.folders import DEFAULT_SERVER, STATE_VARIABLE, private_folder, state_folder
from dask_async_run.server import connection as connections
from dask_async_run.server import log, reaper
from dask_async_run.server.connection import Connection, Files
from dask_async_run.server.handshake import Listener
from dask_async_run.server.locks import held, locked
from dask_async_run.server.options import IDLE_TIMEOUT, Options, server_environment

START_TIMEOUT = 180.0
"""Seconds that a server may take until a task has run on it."""

_HEALING = 6.0
"""Seconds in which a living server puts its connection file right."""

_POLL = 0.05


def ensure_server(
    name: str = DEFAULT_SERVER,
    workers: int | None = None,
    memory_limit: str | None = None,
    dashboard: bool = True,
    idle_timeout: float = IDLE_TIMEOUT,
    timeout: float = START_TIMEOUT,
    disk_limit: str | None = None,
) -> tuple[Connection, bool]:
    """Return the connection of the living server called `name`, started if need be.

    Blocks, and may be called from any thread of any process of this user, also from
    several at once. An interrupt (``KeyboardInterrupt``) ends a server that is not
    yet ready.

    Parameters
    ----------
    name, workers, memory_limit, dashboard, idle_timeout, disk_limit
        As in `Options`. A server that lives already keeps its own.
    timeout : float
        Seconds that all of this may take.

    Returns
    -------
    connection : Connection
        A task has run on its cluster.
    started : bool
        False if it was there already.

    Raises
    ------
    ServerError
        An option makes no sense; a folder or file cannot be trusted or written to;
        the server did not start (the text ends with what it logged); the living one
        runs on another machine or in another Python environment.
    """
    require_posix()
    options = Options(name, workers, memory_limit, dashboard, idle_timeout, disk_limit).checked()
    files = Files.of(name)
    files.make_folder()
    deadline = time.monotonic() + timeout
    with locked(files.starting, timeout, f"another process that starts the server {name!r}"):
        there = wait_for_living(files, deadline)
        if there is not None:
            return usable(there), False
        connections.remove(files)
        return _start(options, files, deadline)


def require_posix() -> None:
    """Raise if this is Windows.

    Raises
    ------
    ServerError
        It is.
    """
    if sys.platform == "win32":
        raise ServerError(
            "a server cannot run on Windows: cells are forked. Use the Windows Subsystem for "
            "Linux (WSL), or connect to a Dask cluster that runs elsewhere."
        )


def wait_for_living(files: Files, deadline: float) -> Connection | None:
    """Return the living server's connection; None as soon as no server lives.

    Waits for a server that is starting or stopping, and for one that has not yet
    noticed that somebody damaged its connection file.

    Raises
    ------
    ServerError
        Neither came about in time.
    """
    problem: ServerError | None = None
    healing = time.monotonic() + _HEALING
    while held(files.alive):
        try:
            if (there := connections.find(files.name)) is not None:
                return there
        except ServerError as error:
            problem = error
            if time.monotonic() > healing:
                raise
        if time.monotonic() > deadline:
            raise problem or ServerError(
                f"the server {files.name!r} is starting or stopping, and does not get it done. "
                f"End it: dask-async-run stop --force --name {files.name}",
                str(log.path(state_folder(files.name))),
            )
        time.sleep(_POLL)
    return None


def usable(there: Connection) -> Connection:
    """Return `there` if cells run there as they would in this process.

    Raises
    ------
    ServerError
        It runs on another machine, or in another Python environment.
    """
    if connections.elsewhere(there):
        raise ServerError(
            f"the server {there.name!r} runs on the machine {there.host}, not on this one "
            f"({connections.host()}), which shares the folder of its connection file. Use it "
            f"there, stop it there (dask-async-run stop --name {there.name}), or start one of "
            "another name here (--name)."
        )
    here = (".".join(map(str, sys.version_info[:2])), os.path.realpath(sys.prefix))
    if (there.python.rsplit(".", 1)[0], os.path.realpath(there.prefix)) != here:
        raise ServerError(
            f"the server {there.name!r} runs in another environment, Python {there.python} of "
            f"{there.prefix}; this is Python {here[0]} of {sys.prefix}. Stop it (dask-async-run "
            f"stop --name {there.name}), or start one of another name (--name)."
        )
    return there


def _start(options: Options, files: Files, deadline: float) -> tuple[Connection, bool]:
    state = private_folder(state_folder(options.name), STATE_VARIABLE)
    begun = log.size(state)
    reading, writing = os.pipe()
    listener = Listener(reading)
    try:
        try:
            _spawn(options, state, writing, deadline)
        finally:
            os.close(writing)
        return _listen(listener, files, state, begun, deadline)
    finally:
        listener.close()


def _spawn(options: Options, state: Path, pipe: int, deadline: float) -> None:
    """Run the command that becomes the server; see `detach` in `server.main`.

    By its path and with ``-P``: a ``random.py`` in the notebook's folder is nothing
    to the server, and the package is found there as it was found here.
    """
    main = Path(__file__).parents[1] / "__main__.py"
    command = [sys.executable, "-P", str(main), "server", *options.arguments()]
    begun = log.size(state)
    output = log.open_log(state)
    try:
        # Returns at once: the command forks and ends.
        code = subprocess.run(
            [*command, "--detached", str(pipe)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[pipe],
            start_new_session=True,
            cwd=_working_folder(),
            env=server_environment(),
            timeout=max(1.0, deadline - time.monotonic()),
        ).returncode
    except subprocess.TimeoutExpired:
        raise ServerError(
            f"the server cannot be started: {sys.executable} does not get going."
        ) from None
    except OSError as error:
        raise ServerError(
            f"the server cannot be started: {sys.executable}: {error.strerror or error}."
        ) from error
    finally:
        os.close(output)
    if code != 0:
        raise ServerError(
            f"the server cannot be started: {sys.executable} ended with code {code}. "
            f"{_said(state, begun)}",
            str(log.path(state)),
        )


def _listen(
    listener: Listener, files: Files, state: Path, begun: int, deadline: float
) -> tuple[Connection, bool]:
    pid: int | None = None
    problem = ""
    try:
        while (message := listener.next(deadline)) is not None:
            pid = message.get("pid", pid)
            # Another server has the state folder. Either its runtime folder was emptied, and
            # it is about to put its files back (see `heal`), or its starter was killed.
            if message.get("busy") and (there := _healed(files, deadline)) is not None:
                return usable(there), False
            problem = message.get("error", problem)
            if message.get("ready"):
                connection = connections.find(files.name)
                if connection is None:
                    break
                return connection, True
        _await_end(files)
        problem = problem or (
            f"the server {files.name!r} ended while it started. {_said(state, begun)}"
        )
        raise ServerError(problem, str(log.path(state)))
    except TimeoutError:
        _end(pid)
        raise ServerError(
            f"the server {files.name!r} was not ready in time, and was ended. "
            f"{_said(state, begun)}",
            str(log.path(state)),
        ) from None
    except KeyboardInterrupt:
        _end(pid)
        raise


def _await_end(files: Files) -> None:
    """Wait until a process that has closed its pipe has closed its locks too."""
    deadline = time.monotonic() + 5.0
    while held(files.alive) and time.monotonic() < deadline:
        time.sleep(_POLL)


def _healed(files: Files, deadline: float) -> Connection | None:
    """The server that was there first, as soon as it can be found."""
    patience = time.monotonic() + _HEALING
    while time.monotonic() < patience:
        if (there := wait_for_living(files, deadline)) is not None:
            return there
        time.sleep(_POLL)
    return None


def _said(state: Path, begun: int) -> str:
    lines = log.last_lines(state, begun)
    return f"It last said:\n\n{lines}\n\n" if lines else "It said nothing."


def _end(pid: int | None) -> None:
    if pid is not None:
        reaper.end_tree(reaper.tree(pid), timeout=5.0)


def _working_folder() -> str:
    """A folder that stays: the notebook's own may be removed or unmounted."""
    home = Path.home()
    return str(home) if os.access(home, os.R_OK | os.X_OK) else "/"
