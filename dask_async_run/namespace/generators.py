"""The kind of generators and coroutines.

One that has not begun is a call that can be made again, a function and its arguments, and
one that has ended is nothing but its end. A generator that is half-way through is taken
apart (`suspended`); where that is not possible it stays where it is, and the user is told.
"""

from __future__ import annotations

import dis
import inspect
import types
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dask_async_run.namespace.kinds import Kind, NotInPlace, Undo, same_items
from dask_async_run.namespace.suspended import (
    Suspended,
    check_of,
    function_of,
    make_suspended,
    resume,
    take_apart,
)

BEGUN = "begun"
ENDED = "ended"
REPLACED = "replaced"
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
    """Reduce a generator, or a coroutine that has not begun or has ended.

    Raises
    ------
    TypeError
        It is half-way through, and cannot be taken apart there.
    """
    prefix, state = _PREFIXES[type(obj)], progress(obj)
    names = (obj.__name__, obj.__qualname__)
    if state == ENDED:
        return make_ended, (prefix, names)
    what = type(obj).__name__
    if state == BEGUN:
        at = _where(obj)
        made = (at.function, at.place, at.slots, len(at.stack), names, check_of(at.function))
        return make_suspended, made, (at.values, at.stack), None, None, resume
    function = function_of(obj)
    if function is None:
        raise TypeError(f"cannot pickle {what!r} object")
    return make_unbegun, (function, *_arguments(obj), names)


def _where(obj: Any) -> Suspended:
    """Take apart one that has begun."""
    if type(obj) is not types.GeneratorType:
        what = type(obj).__name__
        raise TypeError(f"cannot pickle a {what!r} object that is half-way through")
    return take_apart(obj)


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
    state = progress(obj)
    if state == UNBEGUN:
        args, kwargs = _arguments(obj)
        return (function_of(obj), *args, *kwargs.values())
    if state == BEGUN:
        try:
            at = _where(obj)
        except TypeError:
            return ()
        return (at.function, *at.values, *at.stack)
    return ()


@dataclass(frozen=True, slots=True)
class _Standing:
    """How far a generator is; `held` is None if it can't be told what it has."""

    progress: str
    place: int = 0
    held: list[Any] | None = None
    ends_quietly: bool = True


def _snapshot(obj: Any) -> _Standing:
    state = progress(obj)
    if state != BEGUN:
        return _Standing(state)
    try:
        at = _where(obj)
    except TypeError:
        return _Standing(state)
    return _Standing(state, at.place, [*at.values, *at.stack], _ends_quietly(obj))


def _unchanged(obj: Any, snapshot: _Standing) -> bool:
    now = _snapshot(obj)
    if now.progress != BEGUN or snapshot.progress != BEGUN:
        return now.progress == snapshot.progress
    if now.held is None or snapshot.held is None or now.place != snapshot.place:
        return False
    return same_items(snapshot.held, now.held)


def _guarded(code: types.CodeType, place: int) -> bool:
    """Whether code of its own runs if a generator that stands there is ended: a `finally`."""
    entries = dis._parse_exception_table(code)  # type: ignore[attr-defined]
    return any(entry.start <= place < entry.end for entry in entries)


def _ends_quietly(obj: Any) -> bool:
    """Whether ending it runs none of its code."""
    if progress(obj) == ENDED:
        return True
    frame = getattr(obj, "gi_frame", None)
    if frame is None or _guarded(frame.f_code, frame.f_lasti):
        return False
    inner = obj.gi_yieldfrom
    return inner is None or (type(inner) is types.GeneratorType and _ends_quietly(inner))


def _state(obj: Any, snapshot: _Standing | None) -> str:
    if progress(obj) != ENDED:
        raise NotInPlace("a generator cannot be moved to another place")
    if snapshot is not None and not snapshot.ends_quietly:
        raise NotInPlace("a generator that does something at its end cannot be ended twice")
    return ENDED


_replaced: list[Any] = []
"""Generators that another one has taken the place of, and that must not end by themselves.

What they do then, the other one has done or will do.
"""


def keep_from_ending(copies: Iterable[Any], used: bool) -> None:
    """Have no copy of a generator do at its end what the generator itself does.

    A coroutine that has not begun says that nobody awaited it: it is closed, unless the
    notebook may have got one of the copies.
    """
    for obj in copies:
        if type(obj) not in TYPES:
            continue
        if progress(obj) == UNBEGUN and not used:
            obj.close()
        elif progress(obj) == BEGUN and not _ends_quietly(obj):
            _replaced.append(obj)


def is_replacement(state: Any) -> bool:
    """Whether a state says that a generator has another one in its place."""
    return isinstance(state, str) and state == REPLACED


def is_replaced(referrer: Any) -> bool:
    """Whether it is through `referrer` that replaced generators are kept from ending."""
    return referrer is _replaced


def _apply(obj: Any, state: str) -> Undo:
    begun = progress(obj) == BEGUN
    if begun and not _ends_quietly(obj):
        if state == ENDED:
            raise NotInPlace("it has begun here")
        _replaced.append(obj)
    elif state == ENDED:
        # No code is run by that. What is done last cannot fail, and can therefore stay
        # without a way back.
        obj.close()
    return lambda: None


GENERATOR_KIND = Kind("generator", _children, _snapshot, _unchanged, _state, _apply)
