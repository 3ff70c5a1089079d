"""The kind of iterators: they are changed in place by advancing them."""

from __future__ import annotations

import asyncio
import collections
import collections.abc
import functools
import itertools
import logging
import operator
import queue
import random
import re
import sys
import types
from typing import Any

from dask_async_run.namespace.conditions import quietly
from dask_async_run.namespace.kinds import Kind, NotInPlace, Undo

_ITERABLES: tuple[Any, ...] = ([], (), "", "é", b"", bytearray(), {}, set(), range(0))
_ITERABLES += ({}.values(), {}.items(), range(1 << 70))
_ORDERED: type = type(iter(collections.OrderedDict()))
_SIMPLE_ITERATORS: frozenset[type] = frozenset(
    {type(iter(value)) for value in _ITERABLES} | {type(reversed([])), type(reversed({})), _ORDERED}
)

_EXHAUSTED = None


def _position(iterator: Any) -> int | None:
    """Answer how far an iterator is, up to a constant; None when exhausted."""
    if type(iterator) is itertools.count:
        with quietly():
            start, step = (*iterator.__reduce__()[1], 1)[:2]
        return int(start / step)
    if type(iterator) is itertools.cycle:
        return _place_in_cycle(iterator)
    reduced = iterator.__reduce__()
    if type(iterator) is enumerate:
        return int(reduced[1][1])
    if len(reduced) > 2 and isinstance(reduced[2], int):
        # Lists are iterated from the end backwards by reversed().
        return -reduced[2] if type(iterator) is type(reversed([])) else reduced[2]
    ordered = type(iterator) is _ORDERED  # which does not tell how many are left
    left = len(reduced[1][0]) if ordered else operator.length_hint(iterator)
    return -left if left else _EXHAUSTED


def _place_in_cycle(iterator: Any) -> int | None:
    """Answer how many items a cycle has given, whole rounds after the first one aside."""
    with quietly():
        _, (inner,), (saved, complete) = iterator.__reduce__()
    if not complete:
        return len(saved)
    # Where a round ends the next one begins.
    at = len(saved) - operator.length_hint(inner)
    return len(saved) + at % len(saved) if saved else _EXHAUSTED


def _iterator_children(iterator: Any) -> tuple[Any, ...]:
    if type(iterator) is itertools.count:
        return ()
    if type(iterator) in (itertools.cycle, enumerate) and not _runs_code(iterator):
        return ()  # what is inside is advanced with it
    with quietly():
        return tuple(iterator.__reduce__()[1])


def inner(iterator: Any) -> Any:
    """Answer the iterator that advancing one advances with it; None for others."""
    if type(iterator) not in (enumerate, itertools.cycle):
        return None
    with quietly():
        return iterator.__reduce__()[1][0]


def _has_ended(iterator: Any) -> bool:
    """Whether an iterator has found its end: it stays there, also if its list grows."""
    return type(iterator) in _SIMPLE_ITERATORS and _position(iterator) is _EXHAUSTED


def _runs_code(iterator: Any) -> bool:
    """Whether advancing it would call a function of the user, a second time.

    A generator inside has to be run again: nothing else brings it to where it is.
    """
    within = inner(iterator)
    known = _SIMPLE_ITERATORS | {itertools.count, types.GeneratorType}
    return within is not None and type(within) not in known


def _iterator_state(iterator: Any, snapshot: Any) -> Any:
    if _runs_code(iterator):
        raise NotInPlace("it would have to call a function again")
    position = _position(iterator)
    if position is _EXHAUSTED or _has_ended(inner(iterator)):
        return "exhaust", 0
    if type(iterator) is itertools.cycle and snapshot is not None and position < snapshot:
        with quietly():
            position += len(iterator.__reduce__()[2][0])
    if snapshot is _EXHAUSTED or position < snapshot:
        raise NotInPlace("an iterator cannot go back")
    return "advance", position - snapshot


def _advance(iterator: Any, state: Any) -> Undo:
    how, count = state
    steps = iterator if how == "exhaust" else itertools.islice(iterator, count)
    collections.deque(steps, maxlen=0)
    return lambda: None


_MATCHES = type(re.finditer("", ""))
_SCANNER = type(re.compile("").scanner(""))  # type: ignore[attr-defined]


def matches_left(iterator: Any) -> Any:
    """Answer an iterator over what is left of ``re.finditer``, which cannot be pickled.

    The old one is at its end then. None where it is something else.
    """
    if type(iterator) is not _MATCHES:
        return None
    function = (*iterator.__reduce__()[1], None)[0]
    if type(getattr(function, "__self__", None)) is not _SCANNER:
        return None
    # Of the same type: what it calls until there is None is `next`.
    return iter(functools.partial(next, iter(list(iterator)), None), None)


ENDED = "ended"
"""The state of an iterator that is pickled without one once it has ended."""


def parts_of_iterator(iterator: Any) -> list[Any]:
    """Answer what an iterator of `itertools` goes on with, which may be others' as well.

    An iterator over a list of the notebook's, say, that somebody appends to. As it is pickled:
    the collector shows tuples, too, in which places are empty.
    """
    try:
        with quietly():
            _, args, *rest = iterator.__reduce__()
    except TypeError:  # `pairwise` cannot be pickled
        return []
    state = rest[0] if rest and isinstance(rest[0], tuple) else ()
    return [*args, *state]


def can_be_ended(iterator: Any) -> bool:
    """Whether `end` can bring an iterator to its end."""
    return type(iterator) is itertools.chain


def end(chain: Any) -> Undo:
    """Bring a chain to its end without walking what is left of its parts."""
    with quietly():
        _, _, *before = chain.__reduce__()
    chain.__setstate__((iter(()),))
    next(chain, None)
    return lambda: chain.__setstate__(before[0]) if before else None


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
    return cls in _SIMPLE_ITERATORS or cls in (enumerate, itertools.count, itertools.cycle)


_UNCHANGING = (type, types.ModuleType, type(None), logging.Logger)


def draws_for_all(obj: Any) -> bool:
    """Whether an object is what draws for ``random`` or ``numpy.random`` themselves."""
    legacy = getattr(sys.modules.get("numpy.random.mtrand"), "_rand", None)
    return obj is getattr(random, "_inst", None) or (legacy is not None and obj is legacy)


_QUEUES: tuple[type, ...] = (queue.Queue, queue.SimpleQueue, asyncio.Queue)


def moves_on(value: Any) -> bool:
    """Whether a value is another one each time that it is used.

    Iterators, random generators, queues; and methods of objects, which may change these. Not those
    of the random numbers that a process has one row of (``from random import choice``): that they
    move on is known otherwise, and makes nobody wait.
    """
    kind = type(value)
    if kind in (types.MethodType, types.BuiltinMethodType):
        return not (isinstance(value.__self__, _UNCHANGING) or draws_for_all(value.__self__))
    return (
        issubclass(kind, (collections.abc.Iterator, *_QUEUES))
        or isinstance(value, random.Random)
        or ((kind.__module__ or "").startswith("numpy.random") and hasattr(kind, "standard_normal"))
    )
