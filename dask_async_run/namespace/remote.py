"""What stands for something on a Dask cluster: futures, and clients.

They travel as what they stand for: a future as its key, a client as the cluster's client
of whoever loads it. So a persisted collection, which is made of futures, is the same data
wherever it arrives. Who knows the cluster says so with `on_cluster`; elsewhere, and for
those of another cluster, they can't be pickled.

Dask is only looked for in ``sys.modules``: who has not imported it has no futures.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

Key = Any
"""Dask's: a text, a number, or a tuple of these."""


class Cluster(Protocol):
    """What knows the cluster."""

    def key_of(self, future: Any) -> Key:
        """Answer a future's key.

        Raises
        ------
        NotOfClusterError
        """

    def check(self, client: Any) -> None:
        """Raise `NotOfClusterError` if a client is another cluster's, or closed."""

    def future(self, key: Key) -> Any:
        """Answer the future of a key here.

        Raises
        ------
        LookupError
            The cluster does not have it any more.
        """

    def client(self) -> Any:
        """Answer the client here."""


class NotOfClusterError(TypeError):
    """A future or a client is not of the cluster that the cell runs on.

    Attributes
    ----------
    advice : str
        What to do about it.
    """

    advice = (
        "Take its result instead (x.compute(), or x.result()), or connect to its cluster with "
        "%async_run_server ADDRESS."
    )


_cluster: ContextVar[Cluster | None] = ContextVar("cluster", default=None)


@contextmanager
def on_cluster(cluster: Cluster) -> Iterator[None]:
    """Have futures and clients that are pickled and loaded inside of it be this cluster's."""
    token = _cluster.set(cluster)
    try:
        yield
    finally:
        _cluster.reset(token)


def remote_types() -> tuple[type, ...]:
    """Answer Dask's classes of futures and of clients."""
    client = sys.modules.get("distributed.client")
    if not hasattr(client, "Future") or not hasattr(client, "Client"):
        return ()  # not imported, or just being imported
    return (client.Future, client.Client)  # type: ignore[union-attr]


def reduce_remote(obj: Any, keys: list[Key]) -> Any:
    """Answer how a future or client is pickled; a future's key is added to `keys`."""
    cluster = _cluster.get()
    if cluster is None:
        raise NotOfClusterError(f"no cluster is known here that this {type(obj).__name__} is of")
    if type(obj) is not remote_types()[0]:
        cluster.check(obj)
        return make_client, ()
    key = cluster.key_of(obj)
    keys.append(key)
    return make_future, (key,)


def make_future(key: Key) -> Any:
    return _here("future").future(key)


def make_client() -> Any:
    return _here("client").client()


def _here(what: str) -> Cluster:
    cluster = _cluster.get()
    if cluster is None:
        raise pickle.UnpicklingError(
            f"it is a {what} of the Dask cluster, which only means something in a notebook that "
            "is connected to it"
        )
    return cluster
