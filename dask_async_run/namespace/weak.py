"""Weak references in streams, and the containers and finalisers that are made of them.

What they lead to goes along: here somebody else holds it. What the cell does to them, and to
what they lead to, comes back like any other change.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

from dask_async_run.namespace.containers import immutable
from dask_async_run.namespace.kinds import Kind, NotInPlace, Undo


class Gone:
    """What is gone as soon as it is made."""


# -- references -------------------------------------------------------------------------------


def make_dead_reference() -> weakref.ReferenceType[Any]:
    """Make a weak reference whose target is gone."""
    return weakref.ref(Gone())


def _reduce_reference(reference: weakref.ReferenceType[Any]) -> Any:
    target = reference()
    if target is None:
        return make_dead_reference, ()
    callback: Any = reference.__callback__
    return weakref.ref, (target,) if callback is None else (target, callback)


def _reduce_method(reference: weakref.WeakMethod[Any]) -> Any:
    method = reference()
    return (make_dead_reference, ()) if method is None else (weakref.WeakMethod, (method,))


def make_dead_proxy() -> Any:
    """Make a proxy of what is gone."""
    return weakref.proxy(Gone())


def behind(proxy: Any) -> Any:
    """Answer what a proxy stands for, None if that is gone."""
    try:
        # A proxy hands everything on, and a method knows whose it is.
        return proxy.__dir__.__self__
    except ReferenceError:
        return None


def reduce_proxy(proxy: Any) -> Any:
    target = behind(proxy)
    return (make_dead_proxy, ()) if target is None else (weakref.proxy, (target,))


# -- containers: what they hold is looked at while it is alive ----------------------------------


def _reduce_dict(value: Any) -> Any:
    return type(value), (dict(value),)


def _replace(obj: Any, items: list[Any]) -> Undo:
    old = _items(obj)

    def fill(new: list[Any]) -> None:
        obj.clear()
        obj.update(new)

    fill(items)
    return lambda: fill(old)


def _items(obj: Any) -> list[Any]:
    return list(obj) if isinstance(obj, weakref.WeakSet) else list(obj.items())


def _contents(obj: Any) -> list[Any]:
    items = _items(obj)
    return items if isinstance(obj, weakref.WeakSet) else [part for pair in items for part in pair]


_CONTAINER = Kind(
    "weak container",
    _contents,
    _contents,
    lambda o, s: set(map(id, s)) == set(map(id, _contents(o))),
    lambda o, s: _items(o),
    _replace,
)

# -- finalisers -----------------------------------------------------------------------------------


def make_finaliser(
    obj: Any = None,
    function: Any = None,
    args: tuple[Any, ...] = (),
    keywords: Mapping[str, Any] | None = None,
    atexit: bool = True,
) -> Any:
    """Make a `weakref.finalize`; without an object one that has done its work."""
    if obj is None:
        return object.__new__(weakref.finalize)
    made: Any = weakref.finalize(obj, function, *args, **(keywords or {}))
    made.atexit = atexit
    return made


def _set_finaliser(finaliser: Any, alive: bool) -> Undo:
    if alive and not finaliser.alive:
        raise NotInPlace("it has done its work here")
    atexit = finaliser.atexit
    known = None if alive else finaliser.detach()

    def undo() -> None:
        if known is not None:
            obj, function, args, keywords = known
            finaliser.__init__(obj, function, *args, **keywords)
            finaliser.atexit = atexit

    return undo


FINALISER = Kind(
    "finaliser",
    lambda finaliser: finaliser.peek() or (),
    lambda finaliser: finaliser.alive,
    lambda finaliser, snapshot: bool(finaliser.alive == snapshot),
    lambda finaliser, snapshot: finaliser.alive,
    _set_finaliser,
)

PROXIES = (weakref.ProxyType, weakref.CallableProxyType)
REDUCERS: dict[type, Callable[[Any], Any]] = {
    weakref.ref: _reduce_reference,
    weakref.WeakMethod: _reduce_method,
    weakref.WeakKeyDictionary: _reduce_dict,
    weakref.WeakValueDictionary: _reduce_dict,
}
KINDS: dict[type, Kind] = {
    weakref.ref: immutable("weak reference", lambda o: (o(),)),
    weakref.WeakMethod: immutable("weak reference", lambda o: (o(),)),
    **dict.fromkeys(PROXIES, immutable("weak proxy", lambda proxy: (behind(proxy),))),
    weakref.WeakKeyDictionary: _CONTAINER,
    weakref.WeakValueDictionary: _CONTAINER,
    weakref.WeakSet: _CONTAINER,
    weakref.finalize: FINALISER,
}
