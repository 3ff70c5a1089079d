"""The courier: brings this package to a scheduler or a worker that does not have it.

It goes there as source text and runs before anything of this package can be imported,
perhaps under another Python: so it imports nothing of it, and its messages are built-in
types. What it brings lies in a folder of its own at the end of ``sys.path``: whatever the
cluster has of its own comes first.
"""

from __future__ import annotations

import asyncio
import atexit
import importlib
import importlib.util
import inspect
import io
import logging
import shutil
import sys
import sysconfig
import tempfile
import zipfile
from importlib import metadata
from typing import Any

from distributed.diagnostics.plugin import WorkerPlugin

PACKAGE = "dask_async_run"

logger = logging.getLogger("distributed.dask_async_run")

ON_SCHEDULER = [PACKAGE, "platformdirs", "xxhash"]
ON_WORKERS = [PACKAGE, "IPython", "xxhash"]
"""Modules that have to be there, and that Dask does not bring along."""


class Sent:
    """A function or class of this module that pickles as this module's source text.

    Parameters
    ----------
    name : str
    *arguments
        If there are any: it is called with them where it is unpickled.
    """

    def __init__(self, name: str, *arguments: Any) -> None:
        self.name = name
        self.arguments = arguments

    def __reduce__(self) -> tuple[Any, ...]:
        found = f"scope[{self.name!r}]" + ("(*arguments)" if self.arguments else "")
        scope = {"__name__": "dask_async_run_courier"}
        known = {"source": _source(), "scope": scope, "arguments": self.arguments}
        return eval, (f"exec(source, scope) or {found}", known)


def facts(distributions: list[str], modules: list[str]) -> dict[str, Any]:
    """Say what Python this process has, and what of some packages.

    Nothing is imported for it.

    Returns
    -------
    dict
        ``python`` (three numbers), ``implementation``, ``platform``; ``versions``: those of
        the distributions that are installed; ``missing``: the modules that are not found.
    """
    versions = {}
    for name in distributions:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            pass
    return {
        "python": list(sys.version_info[:3]),
        "implementation": sys.implementation.name,
        "platform": sysconfig.get_platform(),
        "versions": versions,
        "missing": [name for name in modules if not _found(name)],
    }


def bring(parcel: bytes, modules: list[str]) -> None:
    """Make this package importable in a scheduler's process; as `unpack`."""
    unpack(parcel, None, modules)


class Courier(WorkerPlugin):  # type: ignore[misc,unused-ignore]
    """Makes a worker able to run cells: brings the package, then adds its `CellPlugin`.

    Parameters
    ----------
    parcel : bytes
        A zip file; see `dask_async_run.kernel.shipping`.
    python : list of int
        Major and minor version of the Python that the jobs come from.
    """

    name = "dask-async-run-package"
    idempotent = True

    def __init__(self, parcel: bytes, python: list[int]) -> None:
        self.parcel = parcel
        self.python = python

    def __reduce__(self) -> Any:
        return Sent("Courier", self.parcel, self.python).__reduce__()

    async def setup(self, worker: Any) -> None:
        """Bring what is missing to this worker; one that cannot run cells goes on without."""
        if list(sys.version_info[:2]) != self.python:
            here, there = (".".join(map(str, v)) for v in (sys.version_info[:2], self.python))
            logger.warning(
                "this worker gets no cells of notebooks: its Python is %s, theirs is %s",
                here,
                there,
            )
            return
        await asyncio.to_thread(unpack, self.parcel, worker.local_directory, ON_WORKERS)
        self.parcel = b""
        module = await asyncio.to_thread(importlib.import_module, f"{PACKAGE}.worker.plugin")
        plugin = module.CellPlugin()
        if plugin.name not in worker.plugins:
            await worker.plugin_add(plugin=plugin, name=plugin.name)


def unpack(parcel: bytes, folder: str | None, modules: list[str]) -> None:
    """Make importable what this process does not have.

    Parameters
    ----------
    parcel : bytes
    folder : str or None
        Where; somebody removes it. None: a temporary folder that this process removes.
    modules : list of str
        That have to be importable afterwards.

    Raises
    ------
    RuntimeError
        One of them is neither here nor in the parcel.
    """
    if not all(map(_found, modules)):
        made = tempfile.mkdtemp(prefix="dask-async-run-", dir=folder)
        if folder is None:
            atexit.register(shutil.rmtree, made, ignore_errors=True)
        with zipfile.ZipFile(io.BytesIO(parcel)) as archive:
            archive.extractall(made)
        sys.path.append(made)
        importlib.invalidate_caches()
    missing = [name for name in modules if not _found(name)]
    if missing:
        raise RuntimeError(f"{', '.join(missing)} cannot be imported here, and was not sent along")


def _found(module: str) -> bool:
    return module in sys.modules or importlib.util.find_spec(module) is not None


def _source() -> str:
    return inspect.getsource(sys.modules[__name__])
