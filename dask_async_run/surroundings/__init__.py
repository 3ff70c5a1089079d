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
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from dask_async_run.surroundings.counters import (
    COUNTERS,
    apart,
    begin_to_count,
    counting_on,
    uncounted,
)
from dask_async_run.surroundings.figures import (
    FIGURES,
    left_open,
    open_figures,
    place_figures,
    shows,
    undrawn,
    unopened,
)
from dask_async_run.surroundings.hooks import HOOKS
from dask_async_run.surroundings.libraries import LIBRARIES
from dask_async_run.surroundings.logs import HANDLERS, LEVELS, handlers_in
from dask_async_run.surroundings.patches import PATCHES, mentioned
from dask_async_run.surroundings.prints import unheard
from dask_async_run.surroundings.process import (
    PROCESS,
    RELOADED,
    WARNINGS,
    path_entries,
    working_folder,
)
from dask_async_run.surroundings.saver import Saver, Shell
from dask_async_run.surroundings.settings import SETTINGS
from dask_async_run.surroundings.shell import (
    ERROR,
    HISTORY,
    SHELL,
    SOURCES,
    STAND_IN,
    STORE,
    asks_for_error,
    asks_for_history,
    asks_for_store,
    future_flags,
    hide_stand_in,
    magics_in,
    sources,
)
from dask_async_run.surroundings.versions import environment, note

__all__ = [
    "COUNTERS",
    "RELOADED",
    "ROWS",
    "SAVERS",
    "STAND_IN",
    "apart",
    "begin_to_count",
    "changes",
    "compared",
    "counting_on",
    "environment",
    "freshen",
    "future_flags",
    "hide_stand_in",
    "inherit",
    "left_open",
    "merge",
    "narrow",
    "note",
    "open_figures",
    "path_entries",
    "place",
    "random_states",
    "read",
    "shows",
    "sources",
    "state",
    "uncounted",
    "undrawn",
    "unheard",
    "unopened",
    "working_folder",
    "write",
]

SAVERS: tuple[Saver, ...] = (
    *PROCESS,
    *LIBRARIES,
    FIGURES,
    *SETTINGS,
    PATCHES,
    *SHELL,
    *HOOKS,
    COUNTERS,
    LEVELS,
    HANDLERS,
    WARNINGS,
)


_EARLY = frozenset(saver.name for saver in SAVERS if saver.early)

ROWS = ("random", "numpy.random")
"""The savers of random numbers of which a process has one row."""


def random_states() -> dict[str, Any]:
    """Answer what `read` does of `ROWS`."""
    found = {saver.name: saver.read(None) for saver in SAVERS if saver.name in ROWS}
    return {name: state for name, state in found.items() if state is not None}


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
            value = _readable(saver, saver.read, shell)
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


def _readable(saver: Saver, read: Callable[[Shell], Any], shell: Shell) -> Any:
    """Read a piece of state; None, and a remark, of a library that is not what it was."""
    try:
        return read(shell)
    except Exception as error:  # noqa: BLE001 - a stub, a patch: nobody's code to mend here
        reason = f"{type(error).__name__}: {error}"
        print(f"The state of {saver.name} is left alone: {reason}", file=sys.stderr)
        return None


def place(found: Mapping[str, Any]) -> list[Any]:
    """Put what came with some surroundings where it was; answer what a cell may change of them."""
    return [*place_figures(found), *handlers_in(found), *magics_in(found)]


def freshen() -> None:
    """Give a forked process random states of its own; a kernel's may replace them."""
    random.seed()
    numpy_random = sys.modules.get("numpy.random")  # where it is not, it will be fresh
    if numpy_random is not None:
        numpy_random.seed()


def state(shell: Shell, known: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """Answer everything that `changes` compares, early and late.

    Parameters
    ----------
    shell : InteractiveShell or None
    known : mapping
        A part of the answer that need not be found out.
    """
    found = dict(known)
    for saver in SAVERS:
        if saver.name in known:
            continue
        value = _readable(saver, saver.state or saver.read, shell)
        if value is not None:
            found[saver.name] = value
    return found


def changes(before: Mapping[str, Any], shell: Shell) -> dict[str, Any]:
    """Answer what is different now from what `state` answered before, for `merge`."""
    return compared(before, state(shell))


def compared(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Answer what is different between two answers of `state`, for `merge`."""
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


def merge(found: Mapping[str, Any], shell: Shell) -> dict[str, Exception]:
    """Bring into this process what `changes` found in another one.

    What is about a library that is not imported here is passed over.

    Returns
    -------
    dict of str to Exception
        Which of it this process refuses, and why: the rest has been brought all the same.
    """
    refused: dict[str, Exception] = {}
    for saver in SAVERS:
        if saver.name in found and (not saver.module or saver.module in sys.modules):
            try:
                (saver.merge or saver.write)(found[saver.name], shell)
            except Exception as error:  # noqa: BLE001 - what a library makes of a setting
                refused[saver.name] = error
    return refused


def has_early(found: Mapping[str, Any]) -> bool:
    """Whether some surroundings are early, at least in part."""
    return not _EARLY.isdisjoint(found)


def inherit(
    changed: Mapping[str, Any],
    submitted: Mapping[str, Any],
    own: Mapping[str, Any],
    shell: Shell,
    early: bool,
) -> None:
    """Bring in what an earlier job changed, for one that builds on it.

    Parameters
    ----------
    changed : mapping
        What `changes` found there.
    submitted, own : mapping
        What `read` answered when that job, and when this one was submitted: what the
        kernel changed in between counts more.
    early : bool
        Which of the surroundings.
    """
    if not early and SOURCES.name in submitted:
        # What it was sent, and handed on, has no definition in this one's inputs.
        merge({SOURCES.name: submitted[SOURCES.name]}, shell)
    refused = merge(
        {
            saver.name: changed[saver.name]
            for saver in SAVERS
            if saver.early is early
            and saver.name in changed
            and saver is not RELOADED  # here they were imported after that cell had run
            and (
                saver.piecemeal
                or saver.name not in own
                or _same(submitted.get(saver.name), own[saver.name])
            )
        },
        shell,
    )
    for error in refused.values():
        raise error


def narrow(found: dict[str, Any], words: Iterable[str]) -> dict[str, Any]:
    """Leave out of what `read` answered what code without those `words` cannot notice."""
    if not asks_for_history(words):
        found = {name: value for name, value in found.items() if name != HISTORY.name}
    if not asks_for_error(words):
        found = {name: value for name, value in found.items() if name != ERROR.name}
    if not asks_for_store(words):
        found = {name: value for name, value in found.items() if name != STORE.name}
    if not shows(words):
        found = {name: value for name, value in found.items() if name != FIGURES.name}
    patches = found.get(PATCHES.name)
    return found if patches is None else found | {PATCHES.name: mentioned(patches, words)}


def _same(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # noqa: BLE001 - values of options that do not compare
        return False
