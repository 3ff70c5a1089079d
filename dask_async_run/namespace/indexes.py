"""Indexes of pandas: what they hold never changes, what they are called may.

What an index has found out about itself (whether it is unique, where a label is) it keeps, and
would find out again: that is no change, and does not travel.
"""

from __future__ import annotations

import sys
from typing import Any

from dask_async_run.namespace.kinds import ATOMS, Kind, Undo

State = tuple[list[Any], Any]
"""Names, and the frequency where that can be set."""


def is_index(obj: Any) -> bool:
    """Whether an object is an index of one of pandas' own classes."""
    base = getattr(sys.modules.get("pandas"), "Index", None)
    return isinstance(base, type) and isinstance(obj, base) and _is_pandas(type(obj))


def _is_pandas(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == "pandas"


def axes_of(frame: Any) -> list[Any]:
    """Answer the indexes of a frame or a series, the very objects."""
    return list(getattr(frame._mgr, "axes", ()))


def keep_axes(copy: Any, frame: Any) -> Any:
    """Give a shallow copy of a frame the very indexes of the original, as `axes_of` answers."""
    if axes := axes_of(frame):
        copy._mgr.axes = axes
    return copy


def _children(index: Any) -> list[Any]:
    if index.nlevels > 1 or index.dtype != object:
        return []
    return [item for item in index.array if type(item) not in ATOMS]


def _has_frequency(index: Any) -> bool:
    return isinstance(index, (_type("DatetimeIndex"), _type("TimedeltaIndex")))


def _type(name: str) -> type:
    found: type = getattr(sys.modules["pandas"], name)
    return found


def _state(index: Any, snapshot: Any = None) -> State:
    return list(index.names), index.freq if _has_frequency(index) else None


def _unchanged(index: Any, snapshot: State) -> bool:
    return bool(_state(index) == snapshot)


def _apply(index: Any, state: State) -> Undo:
    def put(state: State) -> None:
        names, frequency = state
        index.names = names
        if _has_frequency(index) and index.freq != frequency:
            index.freq = frequency

    before = _state(index)
    put(state)
    return lambda: put(before)


INDEX = Kind("index", _children, _state, _unchanged, _state, _apply)
