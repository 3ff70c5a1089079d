"""All operations of the registry, as the scheduler has them."""

from __future__ import annotations

from dask_async_run.registry.cell_calls import CellCalls
from dask_async_run.registry.frame_calls import FrameCalls
from dask_async_run.registry.job_calls import JobCalls


class Registry(JobCalls, CellCalls, FrameCalls):
    """The registry's operations, asynchronous; parameters and errors are those of `Calls`."""
