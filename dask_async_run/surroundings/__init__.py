"""What surrounds a cell: working folder, paths, environment, random states, options.

A list of small *savers*. Each one reads a piece of state as plain values where
the cell was written, gives it to the cell process, and brings back what the
cell changed of it. A saver whose library is not imported costs nothing and
sends nothing; the cell process does not import a library for it either, except
where the state says that it was imported.

Shared by kernel and cell process; the shell (an ``InteractiveShell`` or None) is
an argument.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping
from typing import Any

from dask_async_run.surroundings.libraries import LIBRARIES
from dask_async_run.surroundings.process import PROCESS, WARNINGS
from dask_async_run.surroundings.saver import Saver, Shell
from dask_async_run.surroundings.shell import SHELL, future_flags, sources

__all__ = [
    "SAVERS",
    "changes",
    "freshen",
    "future_flags",
    "merge",
    "read",
    "sources",
    "state",
    "write",
]

SAVERS: tuple[Saver, ...] = (*PROCESS, *LIBRARIES, *SHELL, WARNINGS)


def read(shell: Shell, early: bool) -> dict[str, Any]:
    """Answer the early or the late surroundings of this process.

    Parameters
    ----------
    shell : InteractiveShell or None
    early : bool
    """
    found = {}
    for saver in SAVERS:
        if saver.early is early:
            value = saver.read(shell)
            if value is not None:
                found[saver.name] = value
    return found


def write(found: Mapping[str, Any], shell: Shell) -> None:
    """Give this process the surroundings that `read` answered in another one.

    Libraries that they are about are imported.
    """
    for saver in SAVERS:
        if saver.name in found:
            saver.write(found[saver.name], shell)


def freshen() -> None:
    """Give a forked process random states of its own; a kernel's may replace them."""
    random.seed()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()


def state(shell: Shell) -> dict[str, Any]:
    """Answer everything that `changes` compares, early and late."""
    found = {}
    for saver in SAVERS:
        value = (saver.state or saver.read)(shell)
        if value is not None:
            found[saver.name] = value
    return found


def changes(before: Mapping[str, Any], shell: Shell) -> dict[str, Any]:
    """Answer what is different now from what `state` answered before, for `merge`."""
    now = state(shell)
    found = {}
    for saver in SAVERS:
        if saver.name not in now:
            continue
        value = now[saver.name]
        if saver.name not in before:
            found[saver.name] = value
        elif not _same(before[saver.name], value):
            change = saver.difference or (lambda _, after: after)
            found[saver.name] = change(before[saver.name], value)
    return found


def merge(found: Mapping[str, Any], shell: Shell) -> None:
    """Bring into this process what `changes` found in another one.

    What is about a library that is not imported here is passed over.
    """
    for saver in SAVERS:
        if saver.name in found and (not saver.module or saver.module in sys.modules):
            (saver.merge or saver.write)(found[saver.name], shell)


def _same(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # noqa: BLE001 - values of options that do not compare
        return False
