"""Placement: why no worker of the cluster can take a task, for people."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from distributed.metrics import time

from dask_async_run.advice import out_of_files

SILENCE = 15.0
"""Seconds after which a worker is silent: Dask's tell of themselves every few seconds at most."""


def why_nowhere(
    wanted: Mapping[str, float],
    places: Collection[str],
    workers: Mapping[str, Mapping[str, float]],
) -> str:
    """Say what a task waits for.

    Parameters
    ----------
    wanted : dict of str to float
        The resources that it needs.
    places : collection of str
        The workers or hosts that it may run on; empty: any.
    workers : dict of str to dict of str to float
        Of the workers that it may run on by that: their address, and what each has in all.
    """
    if places and not workers:
        return f"waits for a worker: none is called {' or '.join(sorted(places))}"
    if not workers:
        return "waits for a worker: the cluster has none"
    lacking = [
        f"{name}={amount:g}"
        for name, amount in wanted.items()
        if all(has.get(name, 0) < amount for has in workers.values())
    ]
    if lacking:
        of_them = " of those named" if places else ""
        return f"waits for a worker{of_them} that offers {' and '.join(lacking)}: none does"
    if wanted and not any(
        all(has.get(name, 0) >= amount for name, amount in wanted.items())
        for has in workers.values()
    ):
        whole = ", ".join(f"{name}={amount:g}" for name, amount in wanted.items())
        return f"waits for a worker that offers all of {whole}: none does"
    return "waits for a worker: none takes tasks now, since they are paused or closing"


def waits_for(scheduler: Any, key: str | None, named: Collection[str] = ()) -> str:
    """Say what the task `key` of a Dask scheduler waits for; empty if for nothing.

    Parameters
    ----------
    named : collection of str
        By which the user has named workers.
    """
    task = scheduler.tasks.get(key)
    if task is not None and task.state == "queued":
        return "waits for a free slot"
    if (task is None or task.state == "processing") and (why := out_of_files()):
        # Nobody can connect: neither who submits tasks here, nor the worker that has this one.
        return f"waits for the server. {why}".rstrip(".")
    if task is not None and task.state == "processing":
        silent = time() - task.processing_on.last_seen
        if silent > SILENCE:
            where = task.processing_on.address
            return f"waits for its worker {where}, which has not been heard of for {silent:.0f} s"
    if task is None or task.state != "no-worker":
        return ""
    workers = {
        address: worker.resources
        for address, worker in scheduler.workers.items()
        if not task.worker_restrictions or address in task.worker_restrictions
    }
    return why_nowhere(task.resource_restrictions or {}, named, workers)
