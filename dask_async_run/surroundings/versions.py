"""What a process runs with: its Python, and the packages that it has loaded."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any


@dataclass(slots=True)
class _Loaded:
    """What had been loaded at some time: how many modules, the last one, the packages."""

    count: int = 0
    last: str = ""
    packages: dict[str, str] = field(default_factory=dict)


_noted = _Loaded()
_GONE = 8
"""Modules that may have been removed since, before all are looked at again."""


def note() -> None:
    """Have `environment` look only at what is loaded from now on, in forks of this process too.

    Looking at each of thousands of modules copies its page in a fork. For a process in which
    no module is half loaded now, by another thread.
    """
    _noted.packages = _packages(sys.modules)
    _noted.count, _noted.last = len(sys.modules), next(reversed(sys.modules))


def environment() -> dict[str, Any]:
    """Answer this process's ``python``, ``platform`` and ``packages``: names and versions.

    Packages are those that are loaded and say which version they are. Nothing of theirs is
    run for that.
    """
    most = max(0, len(sys.modules) - _noted.count) + _GONE
    newest = list(islice(reversed(sys.modules), most))
    if _noted.last in newest:
        there = {name: v for name, v in _noted.packages.items() if name in sys.modules}
        packages = there | _packages(newest[: newest.index(_noted.last)])
    else:
        packages = _packages(sys.modules)
    return {
        "python": platform.python_version(),
        "platform": f"{sys.platform}-{platform.machine()}",
        "packages": dict(sorted(packages.items())),
    }


def _packages(names: Iterable[str]) -> dict[str, str]:
    packages = {}
    for name in list(names):
        if "." in name or name.startswith("_") or name in sys.stdlib_module_names:
            continue
        version = getattr(sys.modules.get(name), "__dict__", {}).get("__version__")
        if isinstance(version, str):
            packages[name] = version
    return packages
