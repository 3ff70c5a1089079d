"""Kinds of what a notebook defines: functions, their closures' cells and caches, classes."""

from __future__ import annotations

import abc
import enum
import types
from collections.abc import Iterable
from typing import Any

from dask_async_run.namespace import caches, enums
from dask_async_run.namespace.kinds import Kind, NotInPlace, Undo, same_items


def _contents(cell: types.CellType) -> Any:
    try:
        return (cell.cell_contents,)
    except ValueError:
        return ()


def _set_contents(cell: types.CellType, contents: tuple[Any, ...]) -> Undo:
    old = _contents(cell)

    def put(new: tuple[Any, ...]) -> None:
        if new:
            cell.cell_contents = new[0]
        else:
            del cell.cell_contents

    put(contents)
    return lambda: put(old)


CELL = Kind(
    "cell",
    _contents,
    lambda o: list(_contents(o)),
    lambda o, s: same_items(s, _contents(o)),
    lambda o, s: _contents(o),
    _set_contents,
)

_FUNCTION_SLOTS = (
    "__code__",
    "__defaults__",
    "__kwdefaults__",
    "__name__",
    "__qualname__",
    "__doc__",
)


def _function_state(function: Any, snapshot: Any = None) -> Any:
    return {name: getattr(function, name) for name in _FUNCTION_SLOTS}, dict(function.__dict__)


def _function_snapshot(function: Any) -> Any:
    slots, attributes = _function_state(function)
    return list(slots.values()), list(attributes), list(attributes.values())


def _function_unchanged(function: Any, snapshot: Any) -> bool:
    now = _function_snapshot(function)
    return all(same_items(old, new) for old, new in zip(snapshot, now, strict=True))


def _set_function(function: Any, state: Any) -> Undo:
    old = _function_state(function)

    def put(new: Any) -> None:
        for name, value in new[0].items():
            setattr(function, name, value)
        function.__dict__.clear()
        function.__dict__.update(new[1])

    put(state)
    return lambda: put(old)


FUNCTION = Kind(
    "function",
    lambda o: [
        *(o.__closure__ or ()),
        *((o.__defaults__,) if o.__defaults__ else ()),
        *(o.__kwdefaults__ or {}).values(),
        *o.__dict__.values(),
    ],
    _function_snapshot,
    _function_unchanged,
    _function_state,
    _set_function,
)

_CLASS_INTERNALS = {"__dict__", "__weakref__", "_abc_impl", "__abstractmethods__", "__orig_bases__"}
_CLASS_INTERNALS |= {"__slotnames__"}


def _class_vars(cls: type) -> dict[str, Any]:
    if isinstance(cls, enum.EnumMeta):
        # Members, and what Python notes of them (combined flags, say), are not the user's to set.
        own = {n: v for n, v in vars(cls).items() if not (n.startswith("_") and n.endswith("_"))}
        plain = {n: v for n, v in own.items() if not isinstance(v, cls)}
        return plain | enums.attributes_of_members(cls)
    return {k: v for k, v in vars(cls).items() if k not in _CLASS_INTERNALS}


def _registered(cls: type) -> list[type]:
    """Answer the virtual subclasses of an abstract class."""
    if not isinstance(cls, abc.ABCMeta):
        return []
    found = (reference() for reference in abc._get_dump(cls)[0])  # type: ignore[attr-defined]
    return [kind for kind in found if kind is not None]


def _class_snapshot(cls: type) -> Any:
    return _class_vars(cls), _registered(cls), cls.__bases__


def _class_unchanged(cls: type, snapshot: Any) -> bool:
    now, registered, bases = _class_snapshot(cls)
    before, old, inherited = snapshot
    same = now.keys() == before.keys() and all(now[k] is before[k] for k in now)
    return same and set(registered) == set(old) and same_items(list(inherited), bases)


def _class_state(cls: type, snapshot: Any) -> Any:
    now, registered, bases = _class_snapshot(cls)
    before, old, inherited = snapshot or ({}, [], ())
    changed = {k: v for k, v in now.items() if k not in before or before[k] is not v}
    gone = [k for k in before if k not in now]
    others = () if same_items(list(inherited), bases) else bases
    return changed, gone, [kind for kind in registered if kind not in old], others


def _set_class(cls: type, state: Any) -> Undo:
    before, inherited = _class_vars(cls), cls.__bases__
    changed, deleted, registered, *more = state
    (bases,) = more or ((),)  # results of earlier versions have none
    if bases and not same_items(list(bases), inherited):
        _set_bases(cls, bases)
    members: Any = getattr(cls, "__members__", {})

    def put(new: dict[str, Any], gone: Iterable[str]) -> None:
        for name, value in new.items():
            member, dot, attribute = name.partition(".")
            if dot:
                vars(members[member])[attribute] = value
            else:
                setattr(cls, name, value)
        for name in gone:
            member, dot, attribute = name.partition(".")
            if dot:
                vars(members[member]).pop(attribute, None)
            elif name in vars(cls):
                delattr(cls, name)

    touched = [*changed, *deleted]

    def undo() -> None:
        if not same_items(list(inherited), cls.__bases__):
            cls.__bases__ = inherited
        put({k: before[k] for k in touched if k in before}, [k for k in touched if k not in before])

    try:
        put(changed, deleted)
    except BaseException:  # of a metaclass, for which it may be too late to go back, too
        undo()
        raise
    for kind in registered:  # for good: Python knows no way back
        cls.register(kind)  # type: ignore[attr-defined]
    return undo


def _set_bases(cls: type, bases: tuple[type, ...]) -> None:
    try:
        cls.__bases__ = bases
    except TypeError as error:  # another layout, or ``object`` alone is what it had
        raise NotInPlace("it cannot inherit from others here") from error


CLASS = Kind(
    "class",
    lambda o: [*_class_vars(o).values(), *enums.values_of_members(o), *o.__bases__],
    _class_snapshot,
    _class_unchanged,
    _class_state,
    _set_class,
)


def _set_cache(wrapper: Any, state: Any) -> Undo:
    old = caches.read_state(wrapper)
    caches.set_lru_state(wrapper, state)
    return lambda: caches.set_lru_state(wrapper, old)


def _cache_snapshot(wrapper: Any) -> Any:
    attributes, entries, hits, misses = caches.read_state(wrapper)
    return [*attributes.values(), *(value for _, _, value in entries)], (len(entries), hits, misses)


LRU_CACHE = Kind(
    "lru_cache",
    lambda o: [o.__wrapped__, *_cache_snapshot(o)[0]],
    _cache_snapshot,
    lambda o, s: same_items(s[0], (now := _cache_snapshot(o))[0]) and s[1] == now[1],
    lambda o, s: caches.read_state(o),
    _set_cache,
)
