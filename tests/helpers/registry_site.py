"""A Dask cluster with a registry, for tests of the registry."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import dask
from distributed import Client, LocalCluster

import scripted
from dask_async_run.job import JobSpec, JobView, State
from dask_async_run.registry import SyncRegistry
from dask_async_run.scheduler.plugin import NAME, RegistryHost, RegistryPlugin


class Site:
    """A cluster in this process, over tcp, with a registry on `folder` and a client.

    Parameters
    ----------
    folder : Path
        The state folder; None: the plugin's own choice.
    options
        Of `LocalCluster`.
    """

    def __init__(self, folder: Path | None, run: Any = scripted.play, **options: Any) -> None:
        defaults = {
            "processes": False,
            "protocol": "tcp://",
            "n_workers": 2,
            "threads_per_worker": 1,
        }
        # A nanny that takes longer to start its worker again, as on a loaded machine, is
        # given up by its cluster.
        self._config = dask.config.set({"distributed.deploy.lost-worker-timeout": "120s"})
        self.cluster = LocalCluster(
            host="127.0.0.1", dashboard_address=":0", **{**defaults, **options}
        )
        self._nannies = bool(options.get("processes"))
        self.client = Client(self.cluster)
        try:
            self.client.register_plugin(scripted.Stopper())
            self.client.register_plugin(RegistryPlugin(str(folder) if folder else None, run))
        except BaseException:
            self.close()
            raise
        self.registry = SyncRegistry(self.client)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        # distributed (2026.8) cannot close a nanny that is starting its worker again.
        if self._nannies:
            with suppress(TimeoutError):
                self.client.wait_for_workers(len(self.cluster.workers), timeout=30)
        # A worker whose listener stops just when a connection has come leaves that one open
        # (distributed 2026.8): the registry, which asks workers, ends before they do.
        registry = self.scheduler.plugins.get(NAME)
        if registry is not None:
            self.cluster.sync(registry.close)
        self.client.close()
        self.cluster.close()
        self._config.__exit__(None, None, None)

    @property
    def scheduler(self) -> Any:
        return self.cluster.scheduler

    @property
    def host(self) -> RegistryHost:
        host: RegistryHost = self.scheduler.extensions[NAME]
        return host

    def submit(self, name: str = "job", *steps: str, **options: Any) -> JobSpec:
        spec = scripted.job_spec(name, *steps, **options)
        self.registry.create(spec)
        return spec

    def ended(self, *specs: JobSpec, within: float = 90.0) -> list[JobView]:
        """Views of the jobs, in this order, when all have ended."""
        views = {v.id: v for v in self.registry.wait([s.id for s in specs], within)}
        late = [v.name for v in views.values() if not State(v.state).terminal]
        assert not late, f"not ended within {within} s: {late}"
        return [views[s.id] for s in specs]

    def ends(self, *specs: JobSpec, within: float = 90.0) -> list[tuple[str, str]]:
        """State and reason of the jobs, in this order, when all have ended."""
        return [(v.state, v.reason) for v in self.ended(*specs, within=within)]
