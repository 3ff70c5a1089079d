"""Objects of Python's own library that pickle refuses, or takes apart from what they share.

Streams call the ``make_`` functions.
"""

from __future__ import annotations

import collections
import datetime
import decimal
import functools
import gc
import itertools
import operator
import random
import re
import struct
import types
from collections.abc import Callable
from typing import Any

from cloudpickle import cloudpickle as _cp

from dask_async_run.namespace import files, generators, handlers, hints, parts, views, weak
from dask_async_run.namespace.containers import DICT_VIEWS
from dask_async_run.namespace.named import is_current_context


def make_cell() -> types.CellType:
    return types.CellType()


def set_cell(cell: types.CellType, contents: tuple[Any]) -> None:
    (cell.cell_contents,) = contents


def make_match(pattern: re.Pattern[str], args: tuple[Any, ...], span: tuple[int, int]) -> Any:
    """Find a match again: patterns are deterministic."""
    for match in pattern.finditer(*args):
        if match.span() == span:
            return match
    return pattern.match(args[0], span[0], span[1])


def make_cached_property(function: Any, name: str | None) -> Any:
    made: Any = functools.cached_property(function)
    made.attrname = name
    return made


_FILENAME = 10
"""Place of ``co_filename`` among the arguments of ``types.CodeType``."""


def _reduce_code(code: types.CodeType) -> Any:
    # From 3.1.3 on cloudpickle leaves out where code was written, which tracebacks,
    # `inspect.getsource` and `help` need.
    maker, args = _cp._code_reduce(code)
    return maker, (*args[:_FILENAME], code.co_filename, *args[_FILENAME + 1 :])


def _reduce_cell(cell: types.CellType) -> Any:
    try:
        contents = cell.cell_contents
    except ValueError:
        return make_cell, ()
    # In a tuple: a state of None is no state, and the cell would stay empty.
    return make_cell, (), (contents,), None, None, set_cell


def _reduce_match(match: re.Match[str]) -> Any:
    return make_match, (match.re, (match.string, match.pos, match.endpos), match.span())


_DAY = datetime.date(2000, 1, 1)


def make_week(year: int, week: int, day: int) -> Any:
    """Make a date of an ISO calendar, which Python pickles as a bare tuple."""
    return datetime.date.fromisocalendar(year, week, day).isocalendar()


def _reduce_week(date: Any) -> Any:
    return make_week, tuple(date)


def _reduce_pattern(pattern: re.Pattern[str]) -> Any:
    if pattern.pattern is None:  # what `re.Scanner` has put together
        raise TypeError("cannot pickle a pattern that was not made of a text")
    return NotImplemented


def _reduce_scanner(scanner: Any) -> Any:
    return re.Scanner, (scanner.lexicon, scanner.scanner.flags)  # type: ignore[attr-defined]


def _reduce_context(context: decimal.Context) -> Any:
    # The current one is everybody's own; how it is set the surroundings say.
    return (decimal.getcontext, ()) if is_current_context(context) else NotImplemented


def _reduce_cached_property(value: Any) -> Any:
    # Up to Python 3.11 it holds a lock.
    return make_cached_property, (value.func, value.attrname)


def _reduce_proxy(proxy: types.MappingProxyType[Any, Any]) -> Any:
    # A view of a dict that others change (`registry` of a singledispatch
    # function) stays one; what shows a class's attributes is a copy.
    (shown,) = gc.get_referents(proxy)
    alive = type(shown) is dict and "__module__" not in shown
    return types.MappingProxyType, (shown if alive else dict(proxy),)


# A dict's own ways: a subclass may have others.
_WALKS: tuple[Callable[[Any, Any], Any], ...] = (
    lambda base, walked: base.__iter__(walked),
    lambda base, walked: base.__reversed__(walked),
    lambda base, walked: iter(base.values(walked)),
    lambda base, walked: iter(base.items(walked)),
    lambda base, walked: reversed(base.values(walked)),
    lambda base, walked: reversed(base.items(walked)),
)
_DICT_ITERATORS: dict[type, int] = {type(walk(dict, {})): n for n, walk in enumerate(_WALKS)}
_ORDERED_ITERATOR: type = type(iter(collections.OrderedDict()))


def _base_of(walked: dict[Any, Any]) -> type:
    return collections.OrderedDict if isinstance(walked, collections.OrderedDict) else dict


def make_dict_iterator(kind: int, walked: dict[Any, Any], done: int) -> Any:
    """Build an iterator over a dict, so many items in."""
    iterator = _WALKS[kind](_base_of(walked), walked)
    collections.deque(itertools.islice(iterator, done), maxlen=0)
    return iterator


def _reduce_dict_iterator(iterator: Any) -> Any:
    # Python's own way makes it an iterator over a list of what is left.
    left = operator.length_hint(iterator)
    walked = next((d for d in gc.get_referents(iterator) if isinstance(d, dict)), None)
    if not left or walked is None:
        return NotImplemented
    return make_dict_iterator, (_DICT_ITERATORS[type(iterator)], walked, len(walked) - left)


def _reduce_ordered_iterator(iterator: Any) -> Any:
    """As above; whether it walks keys, values or pairs is only seen at what is left of them."""
    left = iterator.__reduce__()[1][0]
    ordered = collections.OrderedDict
    walked = next((d for d in gc.get_referents(iterator) if isinstance(d, ordered)), None)
    if not left or walked is None:
        return NotImplemented
    done = len(walked) - len(left)
    for kind, walk in enumerate(_WALKS):
        theirs = list(itertools.islice(walk(ordered, walked), done, None))
        if all(map(_same_step, theirs, left)):
            return make_dict_iterator, (kind, walked, done)
    return NotImplemented


def _same_step(one: Any, other: Any) -> bool:
    pairs = type(one) is type(other) is tuple and len(one) == len(other) == 2
    return one is other or (pairs and one[0] is other[0] and one[1] is other[1])


def make_dict_view(name: str, viewed: dict[Any, Any]) -> Any:
    """Build a view of a dict: what somebody puts into that is seen in it."""
    return getattr(_base_of(viewed), name)(viewed)


def _reduce_dict_view(view: Any) -> Any:
    # cloudpickle's own way makes it a view of another dict.
    (viewed,) = gc.get_referents(view)
    return make_dict_view, (DICT_VIEWS[type(view)], viewed)


_GROUP = type(next(itertools.groupby((0,)))[1])


def make_spent_group() -> Any:
    """Build a group that `itertools.groupby` has gone past: what a loop leaves behind."""
    groups = itertools.groupby((0, 1))
    _, group = next(groups)
    next(groups)
    return group


def _reduce_group(group: Any) -> Any:
    reduced = group.__reduce__()
    return (make_spent_group, ()) if reduced[0] is iter else reduced


def _reduce_builtin(function: Any) -> Any:
    reduced = handlers.reduce_method(function)
    return parts.reduce_builtin(function) if reduced is NotImplemented else reduced


_KEY = type(functools.cmp_to_key(lambda one, other: 0))


def make_key(compare: Any, of: tuple[Any, ...]) -> Any:
    """Make what `functools.cmp_to_key` answers, or what that makes of an object."""
    key: Any = functools.cmp_to_key(compare)
    return key(*of) if of else key


def _reduce_key(key: Any) -> Any:
    compare = next(part for part in gc.get_referents(key) if part is not _KEY)
    try:
        return make_key, (compare, (key.obj,))
    except AttributeError:
        return make_key, (compare, ())


REDUCERS: dict[type, Callable[[Any], Any]] = {
    types.CellType: _reduce_cell,
    types.CodeType: _reduce_code,
    types.GetSetDescriptorType: parts.reduce_descriptor,
    types.MemberDescriptorType: parts.reduce_descriptor,
    types.BuiltinFunctionType: _reduce_builtin,
    types.MethodType: handlers.reduce_method,
    re.Match: _reduce_match,
    type(_DAY.isocalendar()): _reduce_week,
    memoryview: views.reduce_memoryview,
    re.Pattern: _reduce_pattern,
    re.Scanner: _reduce_scanner,  # type: ignore[attr-defined]
    random.SystemRandom: lambda _: (random.SystemRandom, ()),
    _KEY: _reduce_key,
    struct.Struct: lambda layout: (struct.Struct, (layout.format,)),
    decimal.Context: _reduce_context,
    functools.cached_property: _reduce_cached_property,
    types.MappingProxyType: _reduce_proxy,
    _GROUP: _reduce_group,
    **dict.fromkeys(_DICT_ITERATORS, _reduce_dict_iterator),
    _ORDERED_ITERATOR: _reduce_ordered_iterator,
    **dict.fromkeys(DICT_VIEWS, _reduce_dict_view),
    **dict.fromkeys(generators.TYPES, generators.reduce_generator),
    **files.REDUCERS,
    **hints.REDUCERS,
    **weak.REDUCERS,
}
"""By type: what `pickle.Pickler.reducer_override` answers for an object of it."""
