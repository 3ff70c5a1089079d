"""The Dask clients that are made here."""

from __future__ import annotations

from types import MethodType
from typing import Any

from distributed import Client

from dask_async_run.greeting import patient

_ensure_connected = patient(Client._ensure_connected)


def make_client(*args: Any, **options: Any) -> Client:
    """Make a ``distributed.Client`` that also connects while others cancel tasks.

    It is one like others, of that very class, since a notebook gets to see it. Parameters and
    errors are those of ``distributed.Client``; see `greeting` for what is different.
    """
    client: Client = Client.__new__(Client)
    vars(client)["_ensure_connected"] = MethodType(_ensure_connected, client)
    Client.__init__(client, *args, **options)
    return client
