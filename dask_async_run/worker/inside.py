"""Dask inside a cell: whatever asks for a client finds the cluster that the cell runs on.

A cell process is no Dask worker, so Dask's own functions would find nothing in it. They
are told where the cluster is when `distributed` is imported, which a cell that does not
use Dask never does; a connection is made when one of them is asked for a client.

The cell's Dask task has a slot of its worker, which the work that the cell waits for may
need. So before the first client connects, `on_use` gives the slot back: what lets a task
wait for others there (`worker_client`, `secede`) has nothing left to do here.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dask_async_run.after_import import AfterImport, Change
from dask_async_run.greeting import patient


class WayToDask:
    """How this process reaches the cluster.

    Parameters
    ----------
    address : str
        The scheduler's.
    security : bytes
        A pickled ``distributed.Security``.
    on_use : callable
        Called once, before the first client connects; from any thread.
    """

    def __init__(self, address: str, security: bytes, on_use: Callable[[], object]) -> None:
        self._address = address
        self._security = security
        self._on_use: Callable[[], object] | None = on_use
        self._lock = threading.RLock()
        self._client: Any = None
        self._objects: Any = None

    @property
    def unused(self) -> bool:
        """Whether no client has been asked for."""
        return self._on_use is not None

    def client(self) -> Any:
        """Answer a connected client: this process's, made when it is first asked for."""
        with self._lock:
            if self._client is None or self._client.status != "running":
                self._client = importlib.import_module("distributed").Client()
            return self._client

    # --- as a `namespace.remote.Cluster` ---

    def key_of(self, future: Any) -> Any:
        return self._remote().key_of(future)

    def check(self, client: Any) -> None:
        self._remote().check(client)

    def future(self, key: Any) -> Any:
        return self._remote().future(key)

    def keep(self, job: str, keys: list[Any]) -> None:
        """Have the data of the futures in a job's result outlive this process."""
        importlib.import_module("dask_async_run.registry").SyncRegistry(self.client()).keep(
            job, keys
        )

    def _remote(self) -> Any:
        # Here, since it imports Dask.
        if self._objects is None:
            self._objects = importlib.import_module("dask_async_run.remote").RemoteObjects(
                self.client
            )
        return self._objects

    # --- what is told to Dask ---

    def change_client(self, module: Any) -> None:
        """Change the module ``distributed.client``."""
        find, make = module.default_client, module.Client.__init__
        module.Client._ensure_connected = patient(module.Client._ensure_connected)
        named = inspect.signature(make).parameters

        @functools.wraps(find)
        def default_client(c: Any = None) -> Any:
            try:
                return find(c)
            except ValueError:  # there is none yet
                return self.client()

        @functools.wraps(make)
        def start(client: Any, address: Any = None, *rest: Any, **options: Any) -> None:
            file = options.get("scheduler_file")
            # Other options are those of a cluster that it is to start in this process.
            if address is None and not rest and not file and options.keys() <= named.keys():
                address = self._address
            if address == self._address and not rest and options.get("security") is None:
                options["security"] = pickle.loads(self._security)
            if file or isinstance(address, str):
                self._use()
            make(client, address, *rest, **options)

        module.default_client = default_client
        module.Client.__init__ = start

    def change_package(self, package: Any) -> None:
        """Change the package ``distributed``, once all of it is imported."""

        @contextmanager
        def worker_client(timeout: Any = None, separate_thread: bool = True) -> Iterator[Any]:
            yield package.get_client(timeout=timeout)

        def nothing(adjust: bool = True) -> None:
            """Do nothing: a cell that uses Dask has given its slot back."""

        for name, module, function in (
            ("worker_client", "worker_client", worker_client),
            ("secede", "worker", nothing),
            ("rejoin", "threadpoolexecutor", nothing),
        ):
            setattr(sys.modules[f"distributed.{module}"], name, function)
            setattr(package, name, function)

    def _use(self) -> None:
        with self._lock:
            on_use, self._on_use = self._on_use, None
        if on_use is not None:
            on_use()


def open_way(address: str, security: bytes, on_use: Callable[[], object]) -> WayToDask:
    """Have Dask find the cluster in this process, from now on; parameters as `WayToDask`."""
    way = WayToDask(address, security, on_use)
    changes: dict[str, Change] = {
        "distributed.client": way.change_client,
        "distributed": way.change_package,
    }
    for name, change in changes.items():
        if name in sys.modules:
            change(sys.modules[name])
    sys.meta_path.insert(0, AfterImport(changes))
    return way
