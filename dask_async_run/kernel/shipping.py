"""Shipping: this package reaches a cluster that does not have it, with what it needs there.

Everything here runs in the kernel, in the thread that connects.
"""

from __future__ import annotations

import functools
import io
import sys
import sysconfig
import zipfile
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from distributed import Client
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dask_async_run.courier import ON_SCHEDULER, ON_WORKERS, PACKAGE, Courier, Sent
from dask_async_run.errors import ServerError
from dask_async_run.kernel.preflight import (
    ALWAYS,
    Facts,
    able,
    differences,
    distributions,
    other_pythons,
    refusal,
)

OWN = "dask-async-run"
DISTRIBUTIONS = {"IPython": "ipython", "platformdirs": "platformdirs", "xxhash": "xxhash"}
"""Where the modules that are needed there come from."""

_NOT_SENT = {"__pycache__", "tests", "test"}
_BINARY = (".so", ".pyd", ".dylib")


class Cluster:
    """A cluster that somebody else runs: what it has, what is not the same there.

    Parameters
    ----------
    client : Client
        A synchronous one.

    Attributes
    ----------
    sent : list of str
        The distributions that `install` has brought there, without the needs of their own.
    useless : str
        Which other Pythons it found on which workers: these get no cells.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.sent: list[str] = []
        self.useless = ""
        self._compared: set[str] = set()

    def install(self) -> None:
        """Install registry and cells, and bring what is missing for that.

        Workers that join later get it too. What is there already stays.

        Raises
        ------
        ServerError
            It has another Python, or something cannot be brought there; nothing was installed.
        """
        here = Facts.here()
        scheduler, everywhere = self._ask(())
        if reason := refusal(here, scheduler, everywhere):
            raise ServerError(reason)
        self.useless = other_pythons(here, everywhere)
        workers = able(here, everywhere)
        everybody = {"the scheduler": scheduler, **workers}
        missing = {name for facts in everybody.values() for name in facts.missing}
        # No workers yet: those that come may lack anything.
        likely = missing if workers else missing | DISTRIBUTIONS.keys()
        platforms = {facts.platform for facts in everybody.values()}
        parcel, unsendable = pack(
            frozenset(likely - {PACKAGE}), foreign=platforms != {sysconfig.get_platform()}
        )
        if names := sorted(missing & unsendable.keys()):
            raise ServerError(
                f"the cluster lacks {', '.join(names)}, and it cannot be sent along: "
                f"{'; '.join(unsendable[name] for name in names)}. Nothing was installed. Have it "
                f"installed there: pip install {' '.join(DISTRIBUTIONS[name] for name in names)}"
            )
        from dask_async_run.scheduler.plugin import RegistryPlugin

        bring: Any = Sent("bring")
        self.client.run_on_scheduler(bring, parcel, ON_SCHEDULER)
        self.client.register_plugin(RegistryPlugin())
        self.client.register_plugin(Courier(parcel, list(sys.version_info[:2])))
        self.sent = sorted(OWN if name == PACKAGE else DISTRIBUTIONS[name] for name in missing)

    def remarks(self, modules: Iterable[str]) -> list[str]:
        """Say what of the distributions of some top-level modules is not the same there.

        Each is asked for once only, and so told once.
        """
        new = {*ALWAYS, *distributions(modules)} - self._compared
        if not new:
            return []
        self._compared |= new
        here = Facts.here(new)
        return differences(here, able(here, self._ask(new)[1]))

    def _ask(self, names: Iterable[str]) -> tuple[Facts, dict[str, Facts]]:
        """Ask scheduler and workers what they have; nothing of this package need be there."""
        facts: Any = Sent("facts")
        wanted = sorted(names)
        scheduler = self.client.run_on_scheduler(facts, wanted, ON_SCHEDULER)
        answers = self.client.run(facts, wanted, ON_WORKERS, on_error="ignore")
        return Facts.of(scheduler), {who: Facts.of(found) for who, found in answers.items()}


@functools.lru_cache(maxsize=2)
def pack(modules: frozenset[str], foreign: bool) -> tuple[bytes, dict[str, str]]:
    """Pack this package, and distributions with what they require.

    Parameters
    ----------
    modules : frozenset of str
        Of `DISTRIBUTIONS`.
    foreign : bool
        Whether the files go to another kind of machine, where compiled code does not run.

    Returns
    -------
    parcel : bytes
        A zip file, to be put on ``sys.path``.
    unsendable : dict of str to str
        Modules that could not be packed, and why.
    """
    files = dict(_own_files())
    unsendable: dict[str, str] = {}
    for module in sorted(modules):
        try:
            for distribution in _closure(DISTRIBUTIONS[module], but=_dasks_own()):
                files |= _files_of(distribution, foreign)
        except (metadata.PackageNotFoundError, ValueError, OSError) as error:
            unsendable[module] = str(error)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, path in sorted(files.items()):
            archive.write(path, name)
    return buffer.getvalue(), unsendable


def _own_files() -> Iterator[tuple[str, Path]]:
    top = Path(__file__).parents[1]
    for path in top.rglob("*.py"):
        yield f"{PACKAGE}/{path.relative_to(top).as_posix()}", path
    # So that it has a version there, as if it were installed.
    for file in metadata.distribution(OWN).files or ():
        if file.name == "METADATA":
            yield str(file), Path(str(file.locate()))


def _closure(name: str, but: frozenset[str] = frozenset()) -> list[metadata.Distribution]:
    """Answer a distribution and all that it requires, `but` some."""
    found: dict[str, metadata.Distribution] = {}
    pending = [name]
    while pending:
        name = canonicalize_name(pending.pop())
        if name in found or name in but:
            continue
        found[name] = metadata.distribution(name)
        needs = (Requirement(text) for text in found[name].requires or ())
        pending += [
            need.name
            for need in needs
            if need.marker is None or need.marker.evaluate({"extra": ""})
        ]
    return list(found.values())


@functools.cache
def _dasks_own() -> frozenset[str]:
    """Answer what every cluster has: Dask, and what that requires."""
    return frozenset(canonicalize_name(each.name) for each in _closure("distributed"))


def _files_of(distribution: metadata.Distribution, foreign: bool) -> dict[str, Path]:
    files = {}
    for file in distribution.files or ():
        path = Path(str(file.locate()))
        if ".." in file.parts or _NOT_SENT & set(file.parts) or file.suffix == ".pyi":
            continue  # a script in bin, bytecode, types: nothing that runs
        if foreign and file.suffix in _BINARY:
            raise ValueError(f"{distribution.name} has code that is compiled for this machine")
        files[str(file)] = path
    if not any(name.endswith(".py") for name in files):
        raise ValueError(f"the files of {distribution.name} are not known here")
    return files
