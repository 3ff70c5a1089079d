"""Talks to a living server, and stops it."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import psutil

from dask_async_run.errors import (
    AsyncRunError,
    FrameError,
    JobStateError,
    NoSuchJobError,
    ServerError,
    ServerGoneError,
    UnfinishedJobsError,
    not_again,
)
from dask_async_run.folders import DEFAULT_SERVER, check_private_folder
from dask_async_run.job import JobView
from dask_async_run.messages import unpack
from dask_async_run.server import connection as connections
from dask_async_run.server import reaper
from dask_async_run.server.connection import Connection, Files
from dask_async_run.server.locks import held, holder
from dask_async_run.sweeps import only_unfinished

T = TypeVar("T")

SILENT_AFTER = 2.0
"""Seconds without an answer after which somebody at a terminal is told."""

ANSWER_TIMEOUT = 10.0
"""Seconds after which a server that does not answer is said to hang."""

STOP_TIMEOUT = 60.0
"""Seconds that a server has to end in order; then its processes are killed."""

_POLL = 0.05

_LOOK = 0.5
"""Seconds between two looks whether a server that does not answer lives."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server says of itself.

    Parameters
    ----------
    stopping : bool
        It is about to end.
    unfinished : list of JobView
        Jobs that run or wait, of all notebooks.
    workers : int
        Workers that are there now.
    clients : int
        Kernels and other programs that are connected.
    seconds : float
        How long the answer took, connecting included.
    """

    stopping: bool
    unfinished: list[JobView]
    workers: int
    clients: int
    seconds: float


def _at_a_terminal(text: str) -> None:
    """Say what is waited for, to somebody at a terminal."""
    if sys.stderr.isatty():
        print(text, file=sys.stderr)


def ping(connection: Connection, timeout: float = ANSWER_TIMEOUT) -> Answer:
    """Ask the server how it is.

    Raises
    ------
    ServerError
        It does not answer within `timeout` seconds.
    """
    return _ask(connection, timeout, what="ping")


def stop_server(
    name: str = DEFAULT_SERVER,
    force: bool = False,
    timeout: float = STOP_TIMEOUT,
    agreed: Callable[[], object] = lambda: None,
    silent: Callable[[str], object] = _at_a_terminal,
) -> bool:
    """Stop the server called `name`; returns when none of its processes is left.

    Finished jobs stay in its state folder and are there after the next start; jobs
    that wait stay and run then.

    Parameters
    ----------
    name : str
        The server's name.
    force : bool
        Stop it even though jobs are unfinished (running cells are cancelled), or
        though it does not answer.
    timeout : float
        Seconds that it may take to end in order.
    agreed : callable
        Called when the server will surely end, and before it has.
    silent : callable
        Called with a sentence when it has not answered for `SILENT_AFTER`, and is waited for.

    Returns
    -------
    bool
        False if no server of that name lives.

    Raises
    ------
    UnfinishedJobsError
        There are, and not `force`.
    ServerError
        It does not answer, and not `force`; or it runs on another machine; or there is no telling
        whether it lives, since the runtime folder is not this user's alone.
    """
    files = Files.of(name)
    if not held(files.alive):
        with suppress(FileNotFoundError):
            check_private_folder(files.folder)
        return False
    pid = _holder(files)
    try:
        connection = connections.find(name)
    except ServerError:
        if not force:
            raise
        connection = None
    if pid is None:
        where = f"the machine {connection.host}" if connection else "another machine or container"
        raise ServerError(f"the server {name!r} runs on {where}: stop it there.")
    # Before it ends: afterwards nobody knows whose processes those were.
    processes = reaper.tree(pid)
    _request(name, pid, connection, force, silent)
    agreed()
    deadline = time.monotonic() + timeout
    while held(files.alive) and time.monotonic() < deadline:
        processes |= reaper.tree(pid)
        time.sleep(_POLL)
    if reaper.end_tree(psutil.wait_procs(processes, timeout=1.0)[1], timeout=5.0):
        raise ServerError(f"processes of the server {name!r} cannot be ended.")
    if not held(files.alive):
        connections.remove(files)
    return True


def _holder(files: Files) -> int | None:
    """Pid of the living server; None if it is not to be seen from here."""
    deadline = time.monotonic() + 1.0  # between taking the lock and saying so
    while (pid := holder(files.alive)) is None and time.monotonic() < deadline:
        time.sleep(_POLL)
    return pid


def _request(
    name: str,
    pid: int,
    connection: Connection | None,
    force: bool,
    silent: Callable[[str], object],
) -> None:
    """Ask by message, which tells what runs; by signal if that fails and `force`."""
    problem: ServerError | None = None
    if connection is not None:
        try:
            answer = _ask(connection, ANSWER_TIMEOUT, silent, what="stop", force=force)
        except ServerGoneError:
            return
        except ServerError as error:
            problem = error
        else:
            if not answer.stopping:
                jobs = [f"{job.label} ({job.state})" for job in answer.unfinished]
                raise UnfinishedJobsError(name, jobs)
            return
    if force:
        _terminate(pid)
    elif problem is not None:
        raise ServerError(f"{problem.problem} Stop it with --force.", problem.log)
    else:
        raise ServerError(
            f"the server {name!r} is starting or stopping. Try again, or stop it with --force."
        )


def _terminate(pid: int) -> None:
    try:
        process = psutil.Process(pid)
        process.terminate()
        process.resume()  # a stopped process does not see the signal
    except psutil.Error:
        pass


def cancel(connection: Connection, jobs: list[str]) -> dict[str, str]:
    """Cancel jobs; says for each id what was done.

    Raises
    ------
    ServerError
        The server does not answer.
    """
    from dask_async_run.registry import Registry  # here: imports distributed

    async def work(server: Any) -> dict[str, str]:
        return await Registry(server.async_run).cancel(jobs)

    return _talk(connection, ANSWER_TIMEOUT, work)


def forget(connection: Connection, jobs: list[str]) -> dict[str, str]:
    """Forget jobs that have ended, all that can be; says of those that stay why.

    They are asked for together, which may build on one another, then one by one, the last first.

    Raises
    ------
    ServerError
        The server does not answer.
    """
    from dask_async_run.registry import Registry  # here: imports distributed

    async def work(server: Any) -> dict[str, str]:
        registry = Registry(server.async_run)
        kept: dict[str, str] = {}
        with suppress(NoSuchJobError, JobStateError):
            await registry.forget(jobs)
            return kept
        for job in reversed(jobs):
            try:
                await registry.forget([job])
            except NoSuchJobError:
                continue  # somebody else has just forgotten it
            except JobStateError as error:
                kept[job] = str(error)
        return kept

    return _talk(connection, max(ANSWER_TIMEOUT, len(jobs) * 0.1), work)


def rerun(connection: Connection, jobs: list[str], failed: bool = False) -> list[JobView]:
    """Submit jobs again, each in the notebook that it was in; answers the new ones, in order.

    Parameters
    ----------
    failed : bool
        Of sweeps, only the members that did not finish.

    Raises
    ------
    ServerError
        The server does not answer.
    NoSuchJobError, JobStateError
        A job, or what it builds on, was forgotten, or an input is gone: those before it run again.
    """
    from dask_async_run.registry import Registry  # here: imports distributed

    async def work(server: Any) -> list[JobView]:
        registry = Registry(server.async_run)
        again = []
        for job in jobs:
            spec = await registry.spec(job)
            new = spec.again(spec.notebook)
            try:
                again.append(await registry.create(only_unfinished(new, job) if failed else new))
            except FrameError as error:
                raise not_again(spec.name, error) from error
        return again

    return _talk(connection, max(ANSWER_TIMEOUT, len(jobs) * 0.1), work)


def _ask(
    connection: Connection,
    timeout: float,
    silent: Callable[[str], object] = _at_a_terminal,
    **message: Any,
) -> Answer:
    """Call the server's handler; see `Server.answer`."""

    async def work(server: Any) -> Any:
        return await server.async_run_server(**message)

    import distributed.core  # noqa: F401  (its second is not the server's)

    begun = time.monotonic()
    reply = _talk(connection, timeout, work, silent)
    return Answer(
        stopping=reply["stopping"],
        unfinished=[JobView.from_message(view) for view in unpack(reply["unfinished"])],
        workers=reply["workers"],
        clients=reply["clients"],
        seconds=time.monotonic() - begun,
    )


def _talk(
    connection: Connection,
    timeout: float,
    work: Callable[[Any], Awaitable[T]],
    silent: Callable[[str], object] = _at_a_terminal,
) -> T:
    """Connect and return what `work` returns for Dask's rpc object of the scheduler.

    In a thread of its own, since a kernel's main thread has a running event loop. An interrupt
    does not wait for that thread.

    Raises
    ------
    ServerError
        It does not answer within `timeout` seconds, has gone meanwhile, or runs on another machine.
    """
    if connections.elsewhere(connection):
        raise ServerError(
            f"the server {connection.name!r} runs on the machine {connection.host}, not on this "
            f"one ({connections.host()}): ask there."
        )
    talking: Future[T] = Future()
    given_up: list[Callable[[], object]] = []

    async def talk() -> T:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        given_up.append(lambda: loop.call_soon_threadsafe(task.cancel))
        return await asyncio.wait_for(_connected(connection, work), timeout)

    def run() -> None:
        try:
            talking.set_result(asyncio.run(talk()))
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that waits
            talking.set_exception(error)

    threading.Thread(target=run, name="dask_async_run control", daemon=True).start()
    try:
        if not wait([talking], SILENT_AFTER).done:
            silent(
                f"the server {connection.name!r} has not answered for {SILENT_AFTER:.0f} s: it is "
                "busy, or was stopped. Waiting for it"
            )
        while not wait([talking], _LOOK).done and not _has_gone(connection):
            pass
        if not talking.done():
            raise _gone(connection)
        return talking.result()
    except (KeyboardInterrupt, ServerGoneError):
        # What was not sent yet to a server that stands still is not sent when it goes on.
        for give_up in given_up:
            with suppress(RuntimeError):  # the thread has just ended
                give_up()
        raise
    except AsyncRunError:
        raise
    except Exception as error:
        # What Dask raises of itself, and what it carries over from the server.
        if _has_gone(connection):
            raise _gone(connection) from error
        reason = str(error) or f"nothing came within {timeout:.0f} s"
        raise ServerError(
            f"the server {connection.name!r} (process {connection.pid}) does not answer: {reason}.",
            connection.log,
        ) from error


def _has_gone(connection: Connection) -> bool:
    return not held(Files.of(connection.name).alive)


def _gone(connection: Connection) -> ServerGoneError:
    return ServerGoneError(
        f"the server {connection.name!r} (process {connection.pid}) has gone: it died, or was "
        "stopped. Whether it did before what it was asked to do, 'dask-async-run jobs' tells; "
        "finished jobs are kept.",
        connection.log,
    )


async def _connected(connection: Connection, work: Callable[[Any], Awaitable[T]]) -> T:
    from distributed.core import rpc  # here: it takes a second to import

    arguments = connection.security().get_connection_args("client")
    async with rpc(connection.address, connection_args=arguments) as server:
        return await work(server)
