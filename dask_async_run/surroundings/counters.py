"""Numbers by which libraries tell apart what they make: bokeh's ``p1001``, sympy's dummies.

A library counts for itself, in each process anew. If each cell began at the beginning, two figures
that two cells have made would have the same ids: of a row of both, only one is in the page.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dask_async_run.after_import import Change
from dask_async_run.surroundings.saver import Saver, Shell

_COUNTERS = (
    "bokeh.util.serialization:_simple_id",
    "sympy.core.symbol:Dummy._base_dummy_index",
    "sympy.core.symbol:Dummy._count",
    "sklearn.utils._repr_html.estimator:_CONTAINER_ID_COUNTER.count",
    "sklearn.utils._repr_html.estimator:_ESTIMATOR_ID_COUNTER.count",
    "control.iosys:InputOutputSystem._idCounter",
)
"""Module, and where the number is in it. It only grows."""

_APART = 100_000
"""How much is made in one cell, at most, for ids to stay apart that are made at the same time."""

_RANGE = "range"
"""Beside the numbers: in the how-manieth range of that many they are to be here."""

_coming: dict[str, int] = {}
"""Where to begin, also in modules that this process has not imported yet."""

_first: dict[str, int] = {}
"""Where modules began to count in this process, before it was told where to."""


def _find(key: str) -> tuple[Any, str] | None:
    """Answer what holds a number, and its name there; None if it is not, or not there."""
    module, path = key.split(":")
    holder: Any = sys.modules.get(module)
    *parts, name = path.split(".")
    for part in parts:
        holder = getattr(holder, part, None)
    return (holder, name) if type(getattr(holder, name, None)) is int else None


def _read(shell: Shell) -> dict[str, int] | None:
    places = {key: _find(key) for key in _COUNTERS}
    return {key: getattr(*place) for key, place in places.items() if place is not None} or None


def _write(values: Mapping[str, int], shell: Shell) -> None:
    number = values.get(_RANGE, 0)
    _coming.clear()
    _coming[_RANGE] = number
    _coming.update((key, values[key] + number * _APART) for key in _COUNTERS if key in values)
    begin_to_count()


def begin_to_count() -> None:
    """Have the modules that are here begin where they are to, whatever loading values has made."""
    for key in _COUNTERS:
        _begin(key)


def _begin(key: str) -> None:
    place = _find(key)
    if place is not None:
        alone = _first.setdefault(key, getattr(*place)) + _coming.get(_RANGE, 0) * _APART
        setattr(*place, _coming.get(key, alone))


def _merge(values: Mapping[str, int], shell: Shell) -> None:
    for key, value in values.items():
        place = _find(key)
        _coming[key] = max(value, _coming.get(key, 0) if place is None else getattr(*place))
        _begin(key)


@contextmanager
def uncounted() -> Iterator[None]:
    """Leave out what loading values counts: they have the ids that they were given when made."""
    before = _read(None) or {}
    try:
        yield
    finally:
        for key, value in before.items():
            if (place := _find(key)) is not None:
                setattr(*place, value)


def counting_on() -> dict[str, Change]:
    """Answer, of each module that counts, what has it begin where it is to, once it is imported."""

    def begin(module: types.ModuleType) -> None:
        for key in _COUNTERS:
            if key.partition(":")[0] == module.__name__:
                _begin(key)

    return {key.partition(":")[0]: begin for key in _COUNTERS}


def apart(found: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Have the `number`-th of the jobs that run side by side count in a range of its own.

    Parameters
    ----------
    found : mapping
        What `read` answered of all surroundings.
    number : int
        From 0: that one goes on where the notebook is.
    """
    return {**found, COUNTERS.name: {**found.get(COUNTERS.name, {}), _RANGE: number}}


# Early: loading some values makes models, and drops their ids.
COUNTERS = Saver("counters", True, _read, _write, merge=_merge)
