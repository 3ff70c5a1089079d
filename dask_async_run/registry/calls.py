"""Calls of the registry: from a client or a worker to its scheduler, and what can go wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Self

from distributed import Client, Worker
from distributed.comm import CommClosedError

from dask_async_run import errors
from dask_async_run.messages import pack, unpack

CONNECTION_ERRORS = (OSError, TimeoutError, ValueError)
"""What Dask raises when a scheduler cannot be reached or goes away.

``ValueError`` is tornado's, when a connection is closed before TLS has begun on it.
"""

POLL = 25.0
"""Seconds that one call waits in the scheduler; longer waits are several calls."""

CONNECTING = 30.0
"""Seconds in which a scheduler that lives has to take a connection: Dask's own default."""

_NO_CONNECTION = "Timed out trying to connect"
"""How Dask's error begins when nothing was sent yet."""

PATIENCE = 60.0
"""Seconds after which a scheduler that is connected, but silent, is said to be so."""
_DYING = 1.0
"""Seconds for which a process is waited for whose connections have broken."""
_UNHURRIED = frozenset(
    ("write_frame", "read_frame", "complete_frame", "check_store", "recall", "restore")
)
"""What takes as long as a network, a store or a disk does."""

_UNCERTAIN = {
    "create": " Whether the job was submitted, %async_jobs tells then.",
    "cancel": " Whether the jobs are being stopped, %async_jobs tells then.",
    "forget": " Whether the jobs were forgotten, all of them or none, %async_jobs tells then.",
}
"""What may have been done or not, where the connection broke before the answer."""


class Calls:
    """The calls of one registry, asynchronous; what its operations are made of.

    Parameters
    ----------
    call : callable
        ``call(do=..., body=...)`` calls the scheduler's handler ``async_run``.
    patience : float or None
        Seconds that it may take to answer; None: for ever, where somebody's results depend on
        it. What a network, a store or a disk has to do takes as long as it takes.
    alive : callable or None
        As of `of_client`.

    Raises
    ------
    NoSuchJobError, JobStateError, FrameError
        Every method, as the operation says.
    ServerError
        Every method, when the scheduler cannot be reached, has no registry, or cannot
        write its journal.
    """

    def __init__(
        self,
        call: Callable[..., Awaitable[Any]],
        patience: float | None = None,
        alive: Callable[[], bool] | None = None,
    ) -> None:
        self._call = call
        self._patience = patience
        self._alive = alive

    @classmethod
    def of_client(
        cls, client: Client, patience: float = PATIENCE, alive: Callable[[], bool] | None = None
    ) -> Self:
        """Return the registry of a client's scheduler; for the client's event loop.

        `alive` tells, where that can be found out without asking it, whether the scheduler's
        process lives: then a connection that takes long is tried again, for `CONNECTING`.
        """

        async def call(**kwargs: Any) -> Any:
            until = time.monotonic() + CONNECTING
            while True:
                # Looked up at each call: a client that reconnects has another `scheduler`, and
                # one that is closed has none.
                if client.scheduler is None:
                    raise OSError("this client is closed")
                try:
                    return await client.scheduler.async_run(**kwargs)
                except OSError as error:
                    sent = not str(error).startswith(_NO_CONNECTION)
                    if sent or alive is None or time.monotonic() > until or not alive():
                        raise

        return cls(call, patience, alive)

    @classmethod
    def of_worker(cls, worker: Worker) -> Self:
        """Return the registry of a worker's scheduler; for the worker's event loop.

        A connection that takes long is tried again as long as the worker lives: a second call
        needs one of its own while the first waits for a scheduler that is at a standstill, and
        may be the one that tells what a cell has made. A worker is closed with its scheduler.
        """

        async def call(**kwargs: Any) -> Any:
            while True:
                try:
                    return await worker.scheduler.async_run(**kwargs)
                except OSError as error:
                    sent = not str(error).startswith(_NO_CONNECTION)
                    if sent or worker.status.name in ("closing", "closed", "failed"):
                        raise

        return cls(call)

    async def _ask_again(self, do: str, **arguments: Any) -> Any:
        """Ask; and once more if the connection broke, for what may be asked twice."""
        try:
            return await self._ask(do, **arguments)
        except errors.ServerError as error:
            if not isinstance(error.__cause__, CONNECTION_ERRORS):
                raise
        await asyncio.sleep(0.1)
        return await self._ask(do, **arguments)

    async def _ask(self, do: str, **arguments: Any) -> Any:
        body = pack(arguments)
        limit = None if self._patience is None or do in _UNHURRIED else self._patience
        if limit is not None:
            limit += arguments.get("wait") or arguments.get("timeout") or 0.0
        silence = asyncio.timeout(limit)
        try:
            async with silence:
                reply = await self._call(do=do, body=body)
        except CONNECTION_ERRORS as error:
            if silence.expired():
                raise errors.ServerError(
                    f"the scheduler has not answered for {limit:.0f} s, though it is connected. "
                    "Jobs go on; try again later."
                    + (" This one may have been submitted." if do == "create" else "")
                ) from None
            if await self._has_gone():
                raise errors.ServerGoneError(
                    "the server has gone: it died, or was stopped. Start it again with "
                    f"%async_run_server: finished jobs are kept.{_UNCERTAIN.get(do, '')}"
                ) from error
            broke = isinstance(error, CommClosedError)  # its text names our objects and sockets
            why = "the connection to it broke" if broke else f"{type(error).__name__}: {error}"
            raise errors.ServerError(
                f"the scheduler does not answer ({why}). Is the server still running? "
                "%async_run_server starts it or connects to it again."
                f"{_UNCERTAIN.get(do, '')}"
            ) from error
        if reply is None:  # what Dask answers for a handler that it does not have
            raise errors.ServerError(
                "this Dask scheduler keeps no registry of jobs. Connect to it with "
                "%async_run_server ADDRESS, which installs one."
            )
        message = unpack(reply)
        if "error" in message:
            name, args = message["error"]
            raise getattr(errors, name, errors.ServerError)(*args)
        return message["answer"]

    async def _has_gone(self) -> bool:
        """Whether the scheduler's process has ended; its connections may break a moment before."""
        if self._alive is None:
            return False
        until = time.monotonic() + _DYING
        while self._alive():
            if time.monotonic() > until:
                return False
            await asyncio.sleep(0.05)
        return True
