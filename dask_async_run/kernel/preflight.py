"""The preflight: whether a cluster's Python and packages are those of the notebook.

Values travel as pickles, and functions as bytecode: what the two ends have to have in common
is Python's minor version, and should be the versions of the packages that are used.
"""

from __future__ import annotations

import functools
import sys
import sysconfig
import types
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Self

ALWAYS = ("cloudpickle", "dask", "dask-async-run", "distributed", "ipython")
"""Distributions that are compared whatever the notebook uses."""


@dataclass(frozen=True)
class Facts:
    """What one process has.

    Parameters
    ----------
    python : tuple of int
        Major, minor, micro.
    implementation, platform : str
        As ``cpython``, ``linux-x86_64``.
    versions : dict of str to str
        Of the distributions that were asked for and are installed.
    missing : tuple of str
        Modules that this package needs there and that are not there.
    """

    python: tuple[int, ...]
    implementation: str = "cpython"
    platform: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> Self:
        """Make it of what `courier.facts` answers."""
        lists = {"python": tuple(message["python"]), "missing": tuple(message["missing"])}
        return cls(**{**message, **lists})

    @classmethod
    def here(cls, distributions: Iterable[str] = ()) -> Self:
        """Answer this process's."""
        found = {name: version for name in distributions if (version := installed(name))}
        here = sys.implementation.name, sysconfig.get_platform()
        return cls(tuple(sys.version_info[:3]), *here, found)


def able(here: Facts, workers: Mapping[str, Facts]) -> dict[str, Facts]:
    """Answer the workers that can run cells of this Python."""
    return {who: facts for who, facts in workers.items() if _kind(facts) == _kind(here)}


def other_pythons(here: Facts, there: Mapping[str, Facts]) -> str:
    """Say which Pythons that are not this one are where; empty if there are none."""
    others = there.keys() - able(here, there).keys()
    by_kind = _grouped({who: _python(there[who]) for who in there if who in others})
    return "; ".join(f"{kind} on {_people(who)}" for kind, who in by_kind.items())


def refusal(here: Facts, scheduler: Facts, workers: Mapping[str, Facts]) -> str:
    """Say why no cell of this Python can run there; empty if one can, on some worker."""
    if _kind(scheduler) == _kind(here) and (able(here, workers) or not workers):
        return ""
    told = other_pythons(here, {"the scheduler": scheduler, **workers})
    return (
        f"this notebook's Python is {_python(here)}, the cluster's is another one: {told}. "
        "Functions and classes travel as bytecode, which only the same minor version "
        "understands. Nothing was installed there. Start the cluster with this Python, or this "
        "kernel with the cluster's."
    )


def differences(here: Facts, workers: Mapping[str, Facts]) -> list[str]:
    """Say which distributions that are `here` the workers have in other versions, or not at all.

    Returns
    -------
    list of str
        One for each, as ``numpy 2.0.1 (here 2.3.0)``, ``pandas missing (here 2.2.3)``.
    """
    told = []
    for name, version in sorted(here.versions.items()):
        found = {who: facts.versions.get(name, "missing") for who, facts in workers.items()}
        for other, who in _grouped(found).items():
            if other != version:
                where = "" if len(who) == len(workers) else f" on {_people(who)}"
                told.append(f"{name} {other}{where} (here {version})")
    return told


def distributions(modules: Iterable[str]) -> set[str]:
    """Answer the distributions that top-level modules come from; not the standard library's."""
    known = _origins()
    return {origin for name in modules for origin in known.get(name, ())}


def in_use(values: Iterable[Any]) -> set[str]:
    """Answer the top-level modules that values are, or are made of."""
    found = set()
    for value in values:
        is_module = isinstance(value, types.ModuleType)
        name = value.__name__ if is_module else getattr(type(value), "__module__", None)
        if not is_module and isinstance(value, (type, types.FunctionType)):
            name = value.__module__
        if isinstance(name, str):
            found.add(name.partition(".")[0])
    return found - sys.stdlib_module_names - {"__main__"}


def installed(distribution: str) -> str:
    """Answer a distribution's version here; empty if it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


@functools.cache
def _origins() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def _kind(facts: Facts) -> tuple[str, tuple[int, ...]]:
    return facts.implementation, facts.python[:2]


def _python(facts: Facts) -> str:
    version = ".".join(map(str, facts.python))
    return version if facts.implementation == "cpython" else f"{facts.implementation} {version}"


def _grouped(values: Mapping[str, str]) -> dict[str, list[str]]:
    """Answer who has each value."""
    grouped = defaultdict(list)
    for who, value in values.items():
        grouped[value].append(who)
    return dict(sorted(grouped.items()))


def _people(who: list[str]) -> str:
    return who[0] if len(who) == 1 else f"{who[0]} and {len(who) - 1} more"
