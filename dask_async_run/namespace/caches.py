"""``functools.lru_cache`` of notebook functions, with what is in it.

The C object offers no way to read or set its entries. They are read from the
dict that the garbage collector shows, and put back by *replay*: the wrapped
function is given, for a moment, a code object that answers the recorded
results, and the wrapper is called with the recorded arguments, so that entries,
``hits`` and ``misses`` come out as they were, and nothing of the user's runs.

The result of a bounded cache lies in a link object, read at the offset that a
cache of known contents was found to have it (`_calibrate`). Where any of this
fails, the cache travels empty: a cache is allowed to forget.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import types
import warnings
from typing import Any

LruCache: type = type(functools.lru_cache(lambda: None))

MAX_HITS = 2_000_000
"""Hits beyond this are not replayed; the count is then too low."""

Entry = tuple[tuple[Any, ...], dict[str, Any], Any]
"""Arguments, keyword arguments and result of a cached call."""


def _cache_dict(wrapper: Any) -> dict[Any, Any] | None:
    """Answer the wrapper's own dict of entries."""
    size = wrapper.cache_info().currsize
    for held in gc.get_referents(wrapper):
        if type(held) is dict and held is not wrapper.__dict__ and len(held) == size:
            return held
    return None


@functools.cache
def _calibrate() -> tuple[Any, int | None]:
    """Answer the mark between positional and keyword arguments, and the link's offset."""
    result = object()

    @functools.lru_cache(maxsize=4)
    def probe(**kwargs: Any) -> object:
        return result

    probe(a=1)
    entries = _cache_dict(probe) or {}
    for key, link in entries.items():
        mark = key[0]
        words = link.__sizeof__() // ctypes.sizeof(ctypes.c_void_p)
        for word in range(2, words):
            offset = word * ctypes.sizeof(ctypes.c_void_p)
            if ctypes.c_void_p.from_address(id(link) + offset).value == id(result):
                return mark, offset
        return mark, None
    return None, None


def _call_of(key: Any, typed: bool) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Turn a cache key back into arguments, as ``functools._make_key`` made it."""
    if type(key) is not tuple:
        return (key,), {}
    mark, _ = _calibrate()
    at = next((i for i, part in enumerate(key) if part is mark), None)
    if at is None:
        count = len(key) // 2 if typed else len(key)
        return key[:count], {}
    rest = key[at + 1 :]
    # With types: one type for each positional and each keyword argument at the end.
    pairs = (len(rest) - at) // 3 if typed else len(rest) // 2
    return key[:at], {rest[2 * i]: rest[2 * i + 1] for i in range(pairs)}


def read_entries(wrapper: Any) -> list[Entry]:
    """Answer what a cache holds, oldest first; empty where it can't be read."""
    entries = _cache_dict(wrapper)
    parameters = wrapper.cache_parameters()
    if not entries:
        return []
    if parameters["maxsize"] is None:
        results = dict(entries)
    else:
        _, offset = _calibrate()
        if offset is None:
            return []
        results = {
            key: ctypes.cast(
                ctypes.c_void_p.from_address(id(link) + offset).value or 0, ctypes.py_object
            ).value
            for key, link in entries.items()
        }
    return [(*_call_of(key, parameters["typed"]), value) for key, value in results.items()]


State = tuple[dict[str, Any], list[Entry], int, int]
"""Attributes, entries, hits and misses of a cache."""


def read_state(wrapper: Any) -> State:
    """Answer all of a cache that can change."""
    made_with_it = ("__wrapped__", "cache_parameters")
    attributes = {k: v for k, v in wrapper.__dict__.items() if k not in made_with_it}
    info = wrapper.cache_info()
    return attributes, read_entries(wrapper), info.hits, info.misses


def reduce_lru_cache(wrapper: Any) -> Any:
    """Reduce a cache for the pickler: function and parameters, then its state."""
    parameters = wrapper.cache_parameters()
    made = (wrapper.__wrapped__, parameters["maxsize"], parameters["typed"])
    return make_lru_cache, made, read_state(wrapper), None, None, set_lru_state


def make_lru_cache(function: Any, maxsize: int | None, typed: bool) -> Any:
    return functools.lru_cache(maxsize, typed)(function)


def set_lru_state(wrapper: Any, state: State) -> None:
    """Make a cache as `read_state` found it, without running its function."""
    attributes, entries, hits, misses = state
    wrapper.__dict__.update(attributes)
    function = wrapper.__wrapped__
    wrapper.cache_clear()
    if not isinstance(function, types.FunctionType):
        return
    answers: list[Any] = []
    original = function.__code__
    try:
        function.__code__ = _replay_code(function, answers)
        for number in range(min(misses - len(entries), MAX_HITS)):
            answers.append(_MissError())
            try:
                wrapper(_MissError, number)
            except _MissError:
                pass
        for args, kwargs, value in entries:
            answers.append(value)
            wrapper(*args, **kwargs)
        if entries:
            args, kwargs, _ = entries[-1]
            for _ in range(min(hits, MAX_HITS)):
                wrapper(*args, **kwargs)
    finally:
        function.__code__ = original


class _MissError(Exception):
    """Raised for a recorded call that left no entry."""


def _replay_code(function: types.FunctionType, answers: list[Any]) -> types.CodeType:
    """Compile code that answers from a list and fits the function's closure."""
    free = function.__code__.co_freevars
    lines = ["def outer():"]
    lines += [f"    {name} = None" for name in free]
    lines += ["    def replay(*args, **kwargs):"]
    lines += [f"        if 0: {name}" for name in free]
    lines += ["        return 'answer'()", "    return replay"]
    scope: dict[str, Any] = {}
    with warnings.catch_warnings():
        # 'answer'() stands for a call of the constant that is put in its place below.
        warnings.simplefilter("ignore", SyntaxWarning)
        exec("\n".join(lines), scope)  # names of free variables are all that is put in
    code: types.CodeType = scope["outer"]().__code__

    def answer() -> Any:
        value = answers.pop()
        if type(value) is _MissError:
            raise value
        return value

    consts = tuple(answer if const == "answer" else const for const in code.co_consts)
    return code.replace(co_consts=consts)
