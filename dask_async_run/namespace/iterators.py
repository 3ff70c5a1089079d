"""The kind of iterators: they are changed in place by advancing them."""

from __future__ import annotations

import collections
import itertools
import operator
from typing import Any

from dask_async_run.namespace.kinds import Kind, NotInPlace, Undo
from dask_async_run.namespace.pickling import quietly

_ITERABLES: tuple[Any, ...] = ([], (), "", "é", b"", bytearray(), {}, set(), range(0))
_ITERABLES += ({}.values(), {}.items(), range(1 << 70))
_SIMPLE_ITERATORS: frozenset[type] = frozenset(
    {type(iter(value)) for value in _ITERABLES} | {type(reversed([])), type(reversed({}))}
)

_EXHAUSTED = None


def _position(iterator: Any) -> int | None:
    """Answer how far an iterator is, up to a constant; None when exhausted."""
    if type(iterator) is itertools.count:
        with quietly():
            start, step = (*iterator.__reduce__()[1], 1)[:2]
        return int(start / step)
    reduced = iterator.__reduce__()
    if type(iterator) is enumerate:
        return int(reduced[1][1])
    if len(reduced) > 2 and isinstance(reduced[2], int):
        # Lists are iterated from the end backwards by reversed().
        return -reduced[2] if type(iterator) is type(reversed([])) else reduced[2]
    left = operator.length_hint(iterator)
    return -left if left else _EXHAUSTED


def _iterator_children(iterator: Any) -> tuple[Any, ...]:
    if type(iterator) in (itertools.count, enumerate):
        return ()
    return tuple(iterator.__reduce__()[1])


def _iterator_state(iterator: Any, snapshot: Any) -> Any:
    position = _position(iterator)
    if position is _EXHAUSTED:
        return "exhaust", 0
    if snapshot is _EXHAUSTED or position < snapshot:
        raise NotInPlace("an iterator cannot go back")
    return "advance", position - snapshot


def _advance(iterator: Any, state: Any) -> Undo:
    how, count = state
    steps = iterator if how == "exhaust" else itertools.islice(iterator, count)
    collections.deque(steps, maxlen=0)
    return lambda: None


ITERATOR = Kind(
    "iterator",
    _iterator_children,
    _position,
    lambda o, s: _position(o) == s,
    _iterator_state,
    _advance,
)


def is_iterator(cls: type) -> bool:
    """Whether instances of a type are iterators whose position is known."""
    return cls in _SIMPLE_ITERATORS or cls is enumerate or cls is itertools.count
