"""Attributes of objects whose base class does not know of them.

``class Day(datetime.date)``, and ``day.note = "holiday"``: a library's class that says itself how
its instances are pickled leaves out what a notebook's class adds to them, and what such an
object is may never change while its attributes do.
"""

from __future__ import annotations

import enum
import sys
from contextlib import suppress
from functools import cache
from typing import Any

from dask_async_run.namespace.kinds import Kind, NotInPlace, Undo, per_class, same_items

_REDUCERS = ("__reduce__", "__reduce_ex__")
_HOOKS = (*_REDUCERS, "__getstate__", "__setstate__", "__getnewargs__", "__getnewargs_ex__")


@per_class
def is_attributed(cls: type) -> bool:
    """Whether a notebook's class adds attributes to a base that pickles its own way."""
    if cls.__module__ != "__main__" or not cls.__dictoffset__:
        return False
    arrays = getattr(sys.modules.get("numpy"), "ndarray", ())
    if issubclass(cls, (enum.Enum, type, BaseException, arrays or enum.Enum)):
        return False
    mine = (base for base in cls.__mro__ if base.__module__ == "__main__")
    if any(hook in vars(base) for base in mine for hook in _HOOKS):
        return False
    return any(getattr(cls, hook) is not getattr(object, hook) for hook in _REDUCERS)


# -- pickled ----------------------------------------------------------------------------


def reduce_attributed(obj: Any) -> Any:
    """Reduce an object that `is_attributed` with its attributes; None if its own way has them."""
    attributes, cls = vars(obj), type(obj)
    if not attributes and not _makes_its_own_way(cls):
        return None
    reduced = obj.__reduce_ex__(5)
    if len(reduced) < 2 or not isinstance(reduced, tuple):
        return None
    maker, args, state, items, pairs = (*reduced, None, None, None)[:5]
    generator = getattr(sys.modules.get("numpy.random"), "Generator", None)
    if generator is not None and issubclass(cls, generator):
        maker, args, state = make_by_base, (generator, cls, (obj.bit_generator,)), None
    elif maker is cls and _makes_its_own_way(cls):
        maker, args = make_by_base, (_base(cls), cls, args)
    if any(_tells(part, attributes) for part in (state if isinstance(state, tuple) else [state])):
        return None
    return maker, args, (state, dict(attributes)), items, pairs, set_attributed


@per_class
def _base(cls: type) -> type:
    """Answer the first class of the MRO that the notebook did not define."""
    return next(base for base in cls.__mro__ if base.__module__ != "__main__")


@per_class
def _makes_its_own_way(cls: type) -> bool:
    """Whether the notebook's class may want other arguments than its base."""
    mine = cls.__mro__[: cls.__mro__.index(_base(cls))]
    return any(hook in vars(base) for base in mine for hook in ("__new__", "__init__"))


def make_by_base(base: Any, cls: type, args: tuple[Any, ...]) -> Any:
    """Make an instance of a notebook's class without running that class's own methods."""
    obj = base.__new__(cls, *args)
    if base.__init__ is not object.__init__:
        base.__init__(obj, *args)
    return obj


def _tells(state: Any, attributes: dict[str, Any]) -> bool:
    return isinstance(state, dict) and state.keys() >= attributes.keys()


def set_attributed(obj: Any, states: tuple[Any, dict[str, Any]]) -> None:
    """Give an object the state that its base knows, and its attributes."""
    state, attributes = states
    if not hasattr(obj, "__dict__"):
        made = type(obj).__qualname__
        raise TypeError(f"its base makes a {made} of it again, which has none of its attributes")
    if state is not None:
        obj.__setstate__(state)
    vars(obj).update(attributes)


# -- what changes of it -------------------------------------------------------------------

_AS_IT_WAS = "as it was"


@cache
def with_attributes(kind: Kind) -> Kind:
    """Answer the kind of objects that are of a kind, and have attributes."""

    def snapshot(obj: Any) -> Any:
        return kind.snapshot(obj), list(vars(obj)), list(vars(obj).values())

    def unchanged(obj: Any, before: Any) -> bool:
        own, names, values = before
        same = names == list(vars(obj)) and same_items(values, vars(obj).values())
        return same and kind.unchanged(obj, own)

    def state(obj: Any, before: Any) -> Any:
        own = _AS_IT_WAS
        if before is None:
            with suppress(NotInPlace):  # what it is never changes
                own = kind.state(obj, None)
        elif not kind.unchanged(obj, before[0]):
            own = kind.state(obj, before[0])
        return own, dict(vars(obj))

    def apply(obj: Any, new: Any) -> Undo:
        own, attributes = new
        old = dict(vars(obj))
        as_it_was = isinstance(own, str) and own == _AS_IT_WAS
        undo_own = None if as_it_was else kind.apply(obj, own)

        def put(attributes: dict[str, Any]) -> None:
            vars(obj).clear()
            vars(obj).update(attributes)

        def undo() -> None:
            if undo_own is not None:
                undo_own()
            put(old)

        put(attributes)
        return undo

    return Kind(
        f"{kind.name} with attributes",
        lambda obj: [*kind.children(obj), *vars(obj).values()],
        snapshot,
        unchanged,
        state,
        apply,
    )
