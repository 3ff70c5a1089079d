"""How a process becomes a server: ``python -m dask_async_run server``."""

from __future__ import annotations

import logging
import os
import sys

from dask_async_run.errors import ServerError
from dask_async_run.server import connection as connections
from dask_async_run.server import launch
from dask_async_run.server.connection import Connection, Files
from dask_async_run.server.handshake import Speaker
from dask_async_run.server.locks import Lock
from dask_async_run.server.options import Options

logger = logging.getLogger(__name__)


def foreground(options: Options) -> None:
    """Be a server in this process, with the log on the terminal, until told to stop.

    Raises
    ------
    ServerError
        One of that name lives already, or this one cannot start.
    """
    from dask_async_run.server import process

    launch.require_posix()
    options = options.checked()
    files = Files.of(options.name)
    files.make_folder()
    starting = Lock(files.starting)
    if not starting.acquire(launch.START_TIMEOUT):
        raise ServerError(f"another process is starting the server {options.name!r}.")
    try:
        there = connections.find(options.name)
        if there is not None:
            raise ServerError(
                f"the server {options.name!r} runs already (process {there.pid}). Stop it first "
                f"(dask-async-run stop --name {options.name}), or choose another --name."
            )
        connections.remove(files)

        def ready(connection: Connection) -> None:
            starting.release()
            print(_welcome(connection), file=sys.stderr, flush=True)

        _configure_log()
        process.run(options, ready)
    finally:
        starting.release()


def detached(options: Options, pipe: int) -> int:
    """Be a server that its starter is no longer the parent of; returns the exit code.

    The starter (`launch`) has given us a session of our own. One more fork: a kernel
    would keep us as a child, to be ended with its process tree, and as a zombie.
    """
    if os.fork() > 0:
        os._exit(0)
    speaker = Speaker(pipe)
    speaker.say(pid=os.getpid())
    _configure_log()
    from dask_async_run.server import process

    def ready(connection: Connection) -> None:
        speaker.say(ready=True)
        speaker.close()  # else it stays open until the end, which it then tells

    try:
        process.run(options.checked(), ready)
    except ServerError as error:
        logger.error("%s", error)
        speaker.say(error=error.problem, busy=isinstance(error, process.BusyError))
        return 1
    except BaseException as error:
        logger.exception("The server failed")
        speaker.say(error=f"the server {options.name!r} could not start: {_in_short(error)}.")
        return 1
    return 0


def _in_short(error: BaseException) -> str:
    """Answer an error and what first led to it, without their tracebacks.

    Those between say less: Dask tells that "Nanny failed to start", asyncio that it timed out.
    """
    chain = [error]
    while (before := _before(chain[-1])) is not None and before not in chain:
        chain.append(before)
    told = [str(e).strip().rstrip(".") or type(e).__name__ for e in (chain[0], chain[-1])]
    return " (since: ".join(dict.fromkeys(told)) + ")" * (len(set(told)) - 1)


def _before(error: BaseException) -> BaseException | None:
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _welcome(connection: Connection) -> str:
    link = connection.dashboard_link
    dashboard = f", dashboard {link}" if link else ""
    return (
        f"Server {connection.name!r} is ready: {connection.workers} workers{dashboard}. "
        "Ctrl-C stops it."
    )


def _configure_log() -> None:
    """Log of this package on standard error, in the form of Dask's own lines."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s - %(name)s - %(levelname)s - %(message)s"))
    ours = logging.getLogger("dask_async_run")
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    ours.propagate = False
