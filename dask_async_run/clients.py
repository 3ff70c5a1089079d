"""The Dask clients that are made here."""

from __future__ import annotations

from typing import Any

import distributed

from dask_async_run.greeting import patient


class Client(distributed.Client):
    """A ``distributed.Client`` that also connects while others cancel tasks; see `greeting`."""

    _ensure_connected: Any = patient(distributed.Client._ensure_connected)
