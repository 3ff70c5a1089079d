"""Callbacks of matplotlib: what is called when somebody clicks, draws or sets a limit.

Its own way of pickling leaves out the notebook's functions, and gives the next one another number.
What ties its parts together goes along. A figure's window connects functions of its own: these
are made anew with it, and left alone.
"""

from __future__ import annotations

import functools
import itertools
import types
from collections.abc import Callable, Iterable
from typing import Any

from dask_async_run.namespace.kinds import Kind, Undo, per_class

Entry = tuple[str, int, Any]
"""A signal, the number by which it is disconnected, and what is called."""


@per_class
def is_registry(cls: type) -> bool:
    """Whether a class is the one that holds matplotlib's callbacks."""
    return (cls.__module__, cls.__qualname__) == ("matplotlib.cbook", "CallbackRegistry")


def _entries(registry: Any) -> list[Entry]:
    found = []
    for signal, proxies in registry.callbacks.items():
        for number, proxy in proxies.items():
            function = proxy()
            kept = number in registry._pickled_cids or _ties(registry, function)
            if function is not None and (kept or _is_notebooks(function)):
                found.append((signal, number, function))
    return found


def _ties(registry: Any, function: Any) -> bool:
    """Whether a callback ties one part of a figure to another: a colorbar to its image."""
    is_windows = "draw_event" in (getattr(registry, "_signals", None) or ())
    owner = type(getattr(function, "__self__", None)).__module__ or ""
    return not is_windows and owner.partition(".")[0] in ("matplotlib", "mpl_toolkits")


def _is_notebooks(function: Any) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    kind = function if isinstance(function, types.FunctionType) else type(function)
    if isinstance(function, types.MethodType):
        kind = type(function.__self__)
    return kind.__module__ == "__main__"


def _next(registry: Any) -> int:
    (number, *_) = registry._cid_gen.__reduce__()[1]
    return int(number)


def _parts(function: Any) -> list[Any]:
    """Answer the objects that a function is: a method is another one each time."""
    bound = isinstance(function, types.MethodType)
    return [function.__self__, function.__func__] if bound else [function]


def _flat(entries: Iterable[Entry]) -> list[Any]:
    return [part for _, _, function in entries for part in _parts(function)]


def _snapshot(registry: Any) -> Any:
    entries = _entries(registry)
    return [entry[:2] for entry in entries], _flat(entries), _next(registry)


def _unchanged(registry: Any, snapshot: Any) -> bool:
    names, functions, number = _snapshot(registry)
    same = (names, number) == (snapshot[0], snapshot[2]) and len(functions) == len(snapshot[1])
    return same and all(one is other for one, other in zip(functions, snapshot[1], strict=True))


def _state(registry: Any, snapshot: Any = None) -> Any:
    return _entries(registry), set(registry._pickled_cids), _next(registry)


def _connect(registry: Any, entries: Iterable[Entry], number: int) -> None:
    for signal, own, function in entries:
        registry._cid_gen = itertools.count(own)
        registry.connect(signal, function)
    registry._cid_gen = itertools.count(number)


def _apply(registry: Any, state: Any) -> Undo:
    before = _state(registry)

    def put(entries: list[Entry], kept: set[int], number: int) -> None:
        there = {number: function for _, number, function in _entries(registry)}
        wanted = {number: function for _, number, function in entries}
        for own, function in there.items():
            if own not in wanted or wanted[own] != function:
                registry.disconnect(own)
        new = [entry for entry in entries if there.get(entry[1]) != entry[2]]
        registry._pickled_cids = set(kept)
        _connect(registry, new, number)

    put(*state)
    return lambda: put(*before)


CALLBACKS = Kind(
    "callbacks",
    lambda registry: _flat(_entries(registry)),
    _snapshot,
    _unchanged,
    _state,
    _apply,
)


def reduce_registry(registry: Any, travels: Callable[[Any], bool]) -> Any:
    """Reduce a registry with those callbacks that are the notebook's and can travel."""
    entries, kept, number = _state(registry)
    entries = [e for e in entries if e[1] in kept or _ties(registry, e[2]) or travels(e[2])]
    empty: dict[str, Any] = {signal: {} for signal in registry.callbacks}
    plain = {**vars(registry), "callbacks": empty, "_func_cid_map": None, "_cid_gen": number}
    cls = type(registry)
    return cls.__new__, (cls,), (plain, entries), None, None, set_registry


def set_registry(registry: Any, state: Any) -> None:
    """Give a registry its state, and its callbacks with their numbers."""
    plain, entries = state
    number = plain["_cid_gen"]
    registry.__setstate__(dict(plain))
    _connect(registry, entries, number)
