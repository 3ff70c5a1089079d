"""Metrics of jobs for Prometheus, where the scheduler tells Dask's own: at ``/metrics``."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from dask_async_run.job import State
from dask_async_run.scheduler.registry import JobRegistry

logger = logging.getLogger(__name__)


class JobMetrics:
    """What Prometheus asks for, counted when it asks; members of sweeps are no jobs here.

    Parameters
    ----------
    registry : JobRegistry
    """

    def __init__(self, registry: JobRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        records = list(self._registry.machine.records.values())
        states = Counter(record.state for record in records if not record.sweep)
        jobs = GaugeMetricFamily(
            "dask_async_run_jobs", "Jobs that have not ended, by state", labels=["state"]
        )
        for state in (State.PENDING, State.RUNNING):
            jobs.add_metric([str(state)], states[state])
        yield jobs
        ended = CounterMetricFamily(
            "dask_async_run_jobs_ended",
            "Jobs that have ended since the scheduler started, by state",
            labels=["state"],
        )
        for state in State:
            if state.terminal:
                ended.add_metric([str(state)], self._registry.ended[state])
        yield ended
        running = [r.id for r in records if r.state is State.RUNNING and r.worker]
        yield GaugeMetricFamily(
            "dask_async_run_cells", "Cells that run, members of sweeps too", value=len(running)
        )
        live = [self._registry.live[job] for job in running if job in self._registry.live]
        yield GaugeMetricFamily(
            "dask_async_run_cells_memory_bytes",
            "Memory that the processes of running cells use",
            value=sum(each.memory for each in live),
        )
        yield GaugeMetricFamily(
            "dask_async_run_cells_cpu_percent",
            "CPU time that the processes of running cells use, 100 for a whole core",
            value=sum(each.cpu for each in live),
        )


def told(registry: JobRegistry) -> Callable[[], None]:
    """Tell Prometheus of jobs, if it is told of Dask; answer what ends that."""
    if "distributed.http.scheduler.prometheus.core" not in sys.modules:
        return lambda: None
    from prometheus_client import REGISTRY

    metrics = JobMetrics(registry)
    try:
        REGISTRY.register(metrics)
    except ValueError as error:  # another scheduler of this process has registered its own
        logger.info("no metrics of jobs: %s", error)
        return lambda: None

    def end() -> None:
        with suppress(KeyError):
            REGISTRY.unregister(metrics)

    return end
