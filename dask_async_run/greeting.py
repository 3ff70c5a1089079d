"""A scheduler's greeting, that comes together with what it tells all its clients.

A Dask client takes the first messages of a new connection for the greeting alone and fails with
an `AssertionError` where there is more than one (distributed 2026.8,
`Client._ensure_connected`). There is, wherever a task of anybody is cancelled in the moment of the
greeting: the scheduler tells every client of it. Nothing is wrong then, and the client
connects once more: under another id, since the scheduler is about to find that the one that it
greeted is gone. No Dask is imported here.
"""

from __future__ import annotations

import functools
import traceback
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

ATTEMPTS = 10

Connect = Callable[..., Awaitable[None]]


def patient(connect: Connect) -> Connect:
    """Have ``Client._ensure_connected`` try again when its greeting did not come alone.

    Raises
    ------
    OSError
        It never did.
    """

    @functools.wraps(connect)
    async def ensure_connected(client: Any, *args: Any, **options: Any) -> None:
        for _ in range(ATTEMPTS):
            try:
                return await connect(client, *args, **options)
            except AssertionError as error:
                _abort(error)
                given = client.id[: -len(str(uuid.UUID(int=0)))]
                client.id = f"{given}{uuid.uuid1()}"
        raise OSError(
            f"the scheduler's greeting came with other messages, {ATTEMPTS} times: it is very "
            "busy. Try again."
        )

    return ensure_connected


def _abort(error: AssertionError) -> None:
    """Close the connection that failed, of which nobody else knows: Dask would warn of it."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        comm = frame.f_locals.get("comm")
        if comm is not None:
            comm.abort()
