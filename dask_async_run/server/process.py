"""The server process: a Dask cluster, its registry, and an orderly end.

Everything here runs in the server's own process, in the main thread's event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import platform
import shutil
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from dask_async_run import __version__
from dask_async_run.errors import ServerError
from dask_async_run.folders import (
    STATE_VARIABLE,
    check_spelling,
    private_folder,
    state_folder,
)
from dask_async_run.job import State
from dask_async_run.messages import pack
from dask_async_run.server import cluster as clusters
from dask_async_run.server import connection as connections
from dask_async_run.server import door, log, reaper
from dask_async_run.server.connection import Connection, Files
from dask_async_run.server.locks import Lock
from dask_async_run.server.options import Options

logger = logging.getLogger("dask_async_run.server")

TICK = 2.0
"""Seconds between two looks at whether all is well."""

CANCEL_TIMEOUT = 15.0
"""Seconds that running cells have to end when the server stops by force."""

CLOSE_TIMEOUT = 20.0
"""Seconds that the cluster has to close before its processes are killed."""

LINGER = 5.0
"""Seconds that Python has to end when the server has ended."""

LOCK_TIMEOUT = 5.0
"""Seconds to wait for the locks of a server that is just ending."""


def run(options: Options, ready: Callable[[Connection], None]) -> None:
    """Be the server called ``options.name`` until it is told to stop.

    Parameters
    ----------
    options : Options
        As returned by `Options.checked`.
    ready : callable
        Called once, when a task has run and the connection file is written.

    Raises
    ------
    BusyError
        Another server uses the same folders.
    ServerError
        They cannot be used: no space left, a folder where a file should be.

    Notes
    -----
    This process is expected to end then: it holds its locks until it does.
    """
    files = Files.of(options.name)
    files.make_folder()
    state = private_folder(state_folder(options.name), STATE_VARIABLE)
    check_spelling(state, STATE_VARIABLE)
    try:
        alive = _lock(files, state)
        reaper.become_subreaper()
        asyncio.run(Server(options, files, state, alive).run(ready))
    except OSError as error:
        if error.filename is None and not isinstance(error, PermissionError):
            raise
        where = f" ({error.filename})" if error.filename is not None else ""
        raise ServerError(
            f"the server cannot use its folders: {error.strerror or error}{where}. Make room "
            "there, or move away what is in the way, and start again."
        ) from error


class BusyError(ServerError):
    """Another living server has this state folder."""


def _lock(files: Files, state: Path) -> Lock:
    """Take both locks: the state folder's (one owner of the journal), and ``alive``.

    In this order: a server whose runtime folder was emptied takes ``alive`` again
    (`Server.heal`), and who waits for its state folder must not be in its way.
    """
    owner, alive = Lock(state / "server.lock"), Lock(files.alive)
    for lock in (owner, alive):
        if not lock.acquire(LOCK_TIMEOUT):
            raise BusyError(
                f"another server uses {lock.path.parent}. Stop it first: "
                f"dask-async-run stop --name {files.name}"
            )
        lock.write(f"{os.getpid()}\n")
    return alive


class Server:
    """One server's life, in one event loop.

    Parameters
    ----------
    options : Options
        With `workers` filled in.
    files : Files
        In the runtime folder.
    state : Path
        The state folder.
    alive : Lock
        Held.
    """

    def __init__(self, options: Options, files: Files, state: Path, alive: Lock) -> None:
        self.options = options
        self.files = files
        self.state = state
        self.alive = alive
        self.cluster: Any = None
        self.registry: Any = None
        self.connection: Connection | None = None
        self._stop = asyncio.Event()
        self._why = ""
        self._idle_since: float | None = None

    # -- life ---------------------------------------------------------------

    async def run(self, ready: Callable[[Connection], None]) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup wants it
                loop.add_signal_handler(number, self._signalled, number)
        try:
            if await self._until_stopped(self._start()):
                assert self.connection is not None
                ready(self.connection)
                await self._until_stopped(self._watch())
        finally:
            await self._close()

    async def _until_stopped(self, work: Any) -> bool:
        """Run `work`; False if told to stop before it was done."""
        working = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if working.done():
            working.result()
            return True
        working.cancel()
        await asyncio.wait({working}, timeout=CLOSE_TIMEOUT)
        return False

    def _signalled(self, number: signal.Signals) -> None:
        if self._stop.is_set() and number == signal.SIGINT:
            # The second Ctrl-C: whoever sits there does not want to wait.
            reaper.end_descendants()
            os._exit(1)
        self.stop(f"got {number.name}")

    def stop(self, why: str) -> None:
        """End as soon as possible; running cells are cancelled first."""
        logger.info("Stopping: %s", why)
        self._why = self._why or why
        self._stop.set()

    async def _start(self) -> None:
        from dask_async_run.credentials import made
        from dask_async_run.registry import Registry

        started = time.time()
        security = made()
        self.cluster = clusters.make_cluster(self.options, self.state, security)
        secret = door.new_secret()
        await clusters.start(self.cluster, self.state, secret, self.options)
        scheduler = self.cluster.scheduler
        self.registry = Registry(self._call)
        scheduler.handlers["async_run_server"] = self.answer
        self.connection = Connection(
            name=self.options.name,
            address=scheduler.address,
            dashboard=clusters.dashboard_address(self.cluster) if self.options.dashboard else None,
            pid=os.getpid(),
            started=started,
            state_folder=str(self.state),
            host=connections.host(),
            tls={
                "ca": security.tls_ca_file,
                "cert": security.tls_client_cert,
                "key": security.tls_client_key,
            },
            version=__version__,
            python=platform.python_version(),
            prefix=sys.prefix,
            workers=self.options.workers or 1,
            door=secret,
        )
        connections.write(self.files, self.connection)
        logger.info(
            "Server %r of %d workers is ready at %s after %.1f s",
            self.options.name,
            self.options.workers,
            scheduler.address,
            time.time() - started,
        )

    async def _close(self) -> None:
        # First, so that no kernel connects any more; who looks for a server now waits for
        # the lock.
        with contextlib.suppress(ServerError):  # said by whoever looks for a server next
            connections.remove(self.files)
        if self.cluster is not None:
            if self.registry is not None and clusters.lives(self.cluster):
                await _attempt("Running cells", self._stop_cells(), CANCEL_TIMEOUT + 5)
            await _attempt("The cluster", clusters.close(self.cluster), CLOSE_TIMEOUT)
        reaper.end_descendants()
        shutil.rmtree(clusters.scratch_of(self.state), ignore_errors=True)
        logger.info("Server %r has ended: %s", self.options.name, self._why or "could not start")
        _end_soon()

    # -- jobs ---------------------------------------------------------------

    async def _call(self, **message: Any) -> Any:
        """Call the registry as a client does, but without the way through a socket."""
        return await self.cluster.scheduler.handlers["async_run"](**message)

    async def _stop_cells(self) -> None:
        """Cancel what runs, so that it ends in order; what waits is left as it is."""
        await self.registry.stopping(lose=False)
        running = [job.id for job in await self.registry.jobs(states=[State.RUNNING])]
        if running:
            await self.registry.cancel(running)
            await self.registry.wait(running, CANCEL_TIMEOUT)
        await self.registry.stopping()

    async def answer(self, what: str, force: bool = False) -> dict[str, Any]:
        """Comm handler ``async_run_server`` of the scheduler: see `control`.

        Parameters
        ----------
        what : {"ping", "stop"}
            ``stop`` refuses, naming them, while there are unfinished jobs.
        force : bool
            Stop all the same.
        """
        jobs = await self.registry.jobs(states=[State.PENDING, State.RUNNING])
        if what == "stop" and (force or not jobs):
            # Nothing was awaited since the registry answered: no job has come meanwhile.
            self.stop("asked to")
        return {
            "stopping": self._stop.is_set(),
            "unfinished": pack([replace(job, source="").to_message() for job in jobs]),
            "workers": len(self.cluster.scheduler.workers),
            "clients": (await self.registry.idle())["clients"],
        }

    # -- watching -----------------------------------------------------------

    async def _watch(self) -> None:
        tick = min(TICK, self.options.idle_timeout / 4 or TICK)
        while not self._stop.is_set():
            await asyncio.sleep(tick)
            try:
                await self._look()
            except Exception:  # whatever it is, cells run on
                logger.exception("Something is wrong with the server")

    async def _look(self) -> None:
        if not clusters.lives(self.cluster):
            self.stop("somebody shut the scheduler down")
            return
        self.heal()
        if self.state.is_dir():  # the registry makes it anew, if somebody deletes it
            with contextlib.suppress(OSError, ServerError):
                clusters.scratch_of(self.state).mkdir(mode=0o700, exist_ok=True)
                log.make_anew(self.state)
        log.trim(self.state)
        reaper.end_orphans()
        clusters.replace_dead_nannies(self.cluster, self.options.workers or 1)
        if await self._idle():
            self.stop(f"idle for {self.options.idle_timeout:.0f} s")

    def heal(self) -> None:
        """Put back what somebody removed from the runtime folder, or damaged there."""
        try:
            if not self.alive.in_place():
                self.files.make_folder()
                connections.remove(self.files)
                again = Lock(self.files.alive)
                if not again.acquire():
                    return  # somebody is looking at it just now
                again.write(f"{os.getpid()}\n")
                self.alive.release()
                self.alive = again
            if connections.read(self.files) == self.connection:
                return
        except ServerError as error:
            logger.warning("%s", error)
        except OSError:
            logger.warning("The runtime folder %s", self.files.folder, exc_info=True)
            return
        assert self.connection is not None
        logger.warning("The connection file was not as it should be; it is written anew")
        with contextlib.suppress(OSError, ServerError):
            connections.write(self.files, self.connection)

    async def _idle(self) -> bool:
        if not self.options.idle_timeout:
            return False
        counts = await self.registry.idle()
        if counts["unfinished"] or counts["clients"]:
            self._idle_since = None
            return False
        now = time.monotonic()
        self._idle_since = self._idle_since or now
        return now - self._idle_since >= self.options.idle_timeout


def _end_soon() -> None:
    """End this process even if some thread keeps Python from ending.

    The ordinary way first: multiprocessing removes its semaphores from shared memory.
    """
    ending = threading.Timer(LINGER, os._exit, [1])
    ending.daemon = True
    ending.start()


async def _attempt(what: str, work: Awaitable[Any], seconds: float) -> None:
    """Await `work`, which the end of the server does not depend on."""
    try:
        await asyncio.wait_for(work, seconds)
    except Exception:  # whatever it is, the processes go
        logger.warning("%s did not end in order", what, exc_info=True)
