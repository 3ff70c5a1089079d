"""The event loop of a process, as it is meant by what an asyncio lock or queue remembers of it.

An ``asyncio.Semaphore`` that was waited for belongs to the loop it was waited for in. A
notebook has one loop, so that its locks, events and queues go on to work in later cells:
in a stream that loop stands for the one of the process that loads it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any

from dask_async_run.namespace.kinds import per_class

_own: list[tuple[int, asyncio.AbstractEventLoop]] = []
"""The process that made a loop here, and the loop; a fork needs another one."""


def loop_of_this_process() -> asyncio.AbstractEventLoop:
    """Answer the loop that runs here, or the one that a cell will run in."""
    known = _known()
    if known is None:
        known = _made_quietly()
        _own[:] = [(os.getpid(), known)]
    return known


def _known() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        pass
    if not _own or _own[0][0] != os.getpid() or _own[0][1].is_closed():
        return None
    return _own[0][1]


def _made_quietly() -> asyncio.AbstractEventLoop:
    # The notebook may have asked for all that is logged. In a kernel there is a loop already.
    logger = logging.getLogger("asyncio")
    disabled, logger.disabled = logger.disabled, True
    try:
        return asyncio.new_event_loop()
    finally:
        logger.disabled = disabled


@per_class
def is_loop(cls: type) -> bool:
    """Whether objects of a class are event loops."""
    return issubclass(cls, asyncio.AbstractEventLoop)


def is_this_loop(obj: Any) -> bool:
    """Whether an object is the loop of this process."""
    return is_loop(type(obj)) and obj is _known()
