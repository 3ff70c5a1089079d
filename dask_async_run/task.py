"""The Dask task of a job, as the scheduler hands it out and a worker unpickles it.

Light, and knows the worker's side only by name: so the scheduler can name the task
without importing what runs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def run_cell(job: str) -> Any:
    """Run a job's cell; in a task thread of a Dask worker.

    Parameters
    ----------
    job : str
        Id of the job. The task may run although the job has been cancelled, or has
        run already: whether the cell runs is decided by the registry, which the task
        asks (`Registry.claim`).
    """
    return import_module("dask_async_run.worker.task").run_cell(job)
