"""Futures and clients of one Dask cluster, in a kernel or a cell process.

What a job's inputs and its result refer to on the cluster is kept there for the job, by
the registry, until it is forgotten (`Registry.keep`): so a future can be made of its key in
another process, though whoever had it first is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from distributed import Client, Future

from dask_async_run.namespace.remote import Key, NotOfClusterError
from dask_async_run.registry import SyncRegistry


class RemoteObjects:
    """A `namespace.remote.Cluster`.

    Parameters
    ----------
    connect : callable
        Answers this process's client of the cluster, a synchronous one.
    """

    def __init__(self, connect: Callable[[], Client]) -> None:
        self._connect = connect
        self._kept: frozenset[Key] = frozenset()
        self._ids: WeakKeyDictionary[Client, str] = WeakKeyDictionary()

    def key_of(self, future: Any) -> Key:
        owner = future.client
        if owner is None or owner.status not in ("running", "connecting"):
            raise NotOfClusterError("its client is closed, so its data is gone")
        self.check(owner)
        if future.cancelled():
            raise NotOfClusterError("it was cancelled, or its data is lost")
        return future.key

    def check(self, client: Any) -> None:
        if client.status != "running":
            raise NotOfClusterError("this client is closed")
        if self.id_of(client) != self.id_of(self._connect()):
            raise NotOfClusterError(
                f"it is of the Dask cluster at {address_of(client)}, and the cell runs on the one "
                f"at {address_of(self._connect())}"
            )

    def future(self, key: Key) -> Any:
        if key not in self._kept:
            self._kept = frozenset(SyncRegistry(self._connect()).kept())
        if key not in self._kept:
            raise LookupError(
                f"the cluster does not have {key!r} any more: it was restarted, or the data was "
                "cancelled"
            )
        client = self.client()
        future: Future[Any] = Future(key, client)
        # Else the scheduler would not tell this client of it, nor keep it for it.
        client._send_to_scheduler({"op": "client-desires-keys", "keys": [key]})
        return future

    def client(self) -> Any:
        return self._connect()

    def id_of(self, client: Client) -> str:
        """Answer what its scheduler, and no other one, is called."""
        if client not in self._ids:
            self._ids[client] = client.scheduler_info()["id"]
        return self._ids[client]


def address_of(client: Client) -> str:
    """Answer its scheduler's address."""
    return str(client.scheduler.address) if client.scheduler is not None else "?"
