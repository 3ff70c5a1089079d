"""The Dask data that jobs refer to, kept on the cluster as long as they are.

To Dask's scheduler, a job is one more client that wants some keys, as a published dataset
is. It forgets this when it ends, and so the data: nothing of it is on record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

ARRIVAL = 5.0
"""Seconds that a key may take to be known: futures and calls come by different ways."""

_CLIENT = "dask-async-run-job-"


class KeptKeys:
    """What the jobs of one scheduler refer to.

    Parameters
    ----------
    scheduler : Scheduler
    """

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler

    async def keep(self, job: str, keys: Iterable[Any]) -> list[Any]:
        """Keep keys for a job; answer those that the cluster does not have."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + ARRIVAL
        wanted = list(keys)
        tasks = self._scheduler.tasks
        while True:
            missing = [key for key in wanted if key not in tasks]
            if not missing or loop.time() > deadline:
                break
            await asyncio.sleep(0.01)  # Dask tells nobody of a new key
        there = [key for key in wanted if key in tasks]
        if there:
            self._scheduler.client_desires_keys(keys=there, client=_CLIENT + job)
        return missing

    def release(self, job: str) -> None:
        """Let go of what a job refers to."""
        client = _CLIENT + job
        state = self._scheduler.clients.get(client)
        if state is not None:
            keys = [task.key for task in state.wants_what]
            self._scheduler.client_releases_keys(keys=keys, client=client)
            del self._scheduler.clients[client]

    def keys(self) -> list[Any]:
        """Answer all that is kept, and is there."""
        return [
            task.key
            for name, client in self._scheduler.clients.items()
            if name.startswith(_CLIENT)
            for task in client.wants_what
            if task.key in self._scheduler.tasks
        ]
