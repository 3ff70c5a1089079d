"""The kind of generators and coroutines: as long as they have not begun, or have ended.

Python cannot copy a suspended frame. But one that has not begun is a call that can be
made again, a function and its arguments, and one that has ended is nothing but its end;
and beginning and ending is most of what cells do with them. One that is half-way through
stays where it is, and the user is told.
"""

from __future__ import annotations

import gc
import inspect
import types
from typing import Any

from dask_async_run.namespace.kinds import Kind, NotInPlace, Undo

BEGUN = "begun"
ENDED = "ended"
UNBEGUN = "unbegun"

_PREFIXES = {types.GeneratorType: "gi", types.CoroutineType: "cr"}

TYPES = frozenset(_PREFIXES)


def progress(obj: Any) -> str:
    """Answer how far a generator or a coroutine is."""
    prefix = _PREFIXES[type(obj)]
    frame = getattr(obj, f"{prefix}_frame")
    if frame is None:
        return ENDED
    states = (inspect.GEN_CREATED, inspect.CORO_CREATED)
    asked = inspect.getgeneratorstate if prefix == "gi" else inspect.getcoroutinestate
    return UNBEGUN if asked(obj) in states else BEGUN


def make_unbegun(
    function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], names: tuple[str, str]
) -> Any:
    """Make the call again; nothing of the function's body is run by that."""
    made = function(*args, **kwargs)
    made.__name__, made.__qualname__ = names
    return made


def _nothing() -> Any:
    yield


async def _nothing_to_wait_for() -> None:
    pass


def make_ended(prefix: str, names: tuple[str, str]) -> Any:
    """Make one that has ended."""
    made: Any = _nothing() if prefix == "gi" else _nothing_to_wait_for()
    made.close()
    made.__name__, made.__qualname__ = names
    return made


def reduce_generator(obj: Any) -> Any:
    """Reduce one that has not begun or has ended.

    Raises
    ------
    TypeError
        It is half-way through.
    """
    prefix, state = _PREFIXES[type(obj)], progress(obj)
    names = (obj.__name__, obj.__qualname__)
    if state == ENDED:
        return make_ended, (prefix, names)
    what = type(obj).__name__
    if state == BEGUN:
        raise TypeError(f"cannot pickle a {what!r} object that is half-way through")
    function = _function(obj)
    if function is None:
        raise TypeError(f"cannot pickle {what!r} object")
    return make_unbegun, (function, *_arguments(obj), names)


def _function(obj: Any) -> types.FunctionType | None:
    """Find the function whose call this is: its frame refers to it."""
    code = getattr(obj, f"{_PREFIXES[type(obj)]}_code")
    for part in gc.get_referents(obj):
        if type(part) is types.FunctionType and part.__code__ is code:
            return part
    return None


def _arguments(obj: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    prefix = _PREFIXES[type(obj)]
    code: types.CodeType = getattr(obj, f"{prefix}_code")
    values = dict(getattr(obj, f"{prefix}_frame").f_locals)
    names = list(code.co_varnames)
    positional, names = names[: code.co_argcount], names[code.co_argcount :]
    keywords, names = names[: code.co_kwonlyargcount], names[code.co_kwonlyargcount :]
    args = [values[name] for name in positional]
    kwargs = {name: values[name] for name in keywords}
    if code.co_flags & inspect.CO_VARARGS:
        args += values[names.pop(0)]
    if code.co_flags & inspect.CO_VARKEYWORDS:
        kwargs |= values[names.pop(0)]
    return tuple(args), kwargs


def _children(obj: Any) -> tuple[Any, ...]:
    if progress(obj) != UNBEGUN:
        return ()
    args, kwargs = _arguments(obj)
    return (_function(obj), *args, *kwargs.values())


def _state(obj: Any, snapshot: Any) -> str:
    now = progress(obj)
    if now != ENDED:
        raise NotInPlace("a generator cannot be moved to the middle")
    return now


def _apply(obj: Any, state: str) -> Undo:
    if progress(obj) == BEGUN:
        raise NotInPlace("it has begun here")
    # Of one that has not begun no code is run by that. What is done last cannot fail, and
    # can therefore stay without a way back.
    obj.close()
    return lambda: None


GENERATOR_KIND = Kind(
    "generator",
    _children,
    progress,
    lambda obj, snapshot: progress(obj) == snapshot != BEGUN,
    _state,
    _apply,
)
