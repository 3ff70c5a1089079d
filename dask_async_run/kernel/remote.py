"""Dask's futures and clients in a kernel that is connected to their cluster."""

from __future__ import annotations

import sys
from typing import Any

from distributed import Client
from distributed.client import default_client, ensure_default_client

from dask_async_run.remote import RemoteObjects, address_of


class KernelsObjects(RemoteObjects):
    """Futures and clients as they arrive in a kernel.

    The session's client is not the notebook's default one: a ``compute()`` there would wait
    for slots behind cells. It becomes that when the first future arrives, if there is no
    other, since what is made of futures can only be computed where they are.

    Parameters
    ----------
    client : Client
        The session's.
    """

    def __init__(self, client: Client) -> None:
        super().__init__(lambda: client)

    def client(self) -> Any:
        """Answer the notebook's default client if it is of this cluster, else the session's."""
        ours = self._connect()
        try:
            default = default_client()
        except ValueError:
            ensure_default_client(ours)
            print(
                f"Dask in this notebook uses the cluster at {address_of(ours)} from now on: "
                "something that arrived refers to it.",
                file=sys.stderr,
            )
            return ours
        return default if self.id_of(default) == self.id_of(ours) else ours
