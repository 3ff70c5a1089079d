"""The client side of the registry: the only way to talk to it.

`Registry` is asynchronous, for event loops (a worker's, an asynchronous client's);
`SyncRegistry` is the same for a thread that may wait, as a kernel's main thread, where
an interrupt ends the wait and nothing else.
"""

from __future__ import annotations

from dask_async_run.registry.answers import (
    Claim,
    Endings,
    Outcome,
    Output,
    Outputs,
    Parent,
    Remains,
)
from dask_async_run.registry.calls import CONNECTION_ERRORS, PATIENCE, POLL
from dask_async_run.registry.operations import Registry
from dask_async_run.registry.sync import SyncRegistry, sync

__all__ = [
    "CONNECTION_ERRORS",
    "PATIENCE",
    "POLL",
    "Claim",
    "Endings",
    "Outcome",
    "Output",
    "Outputs",
    "Parent",
    "Registry",
    "Remains",
    "SyncRegistry",
    "sync",
]
