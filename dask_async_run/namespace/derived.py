"""Instances of classes that a library makes at run time, and pickles as ones of a base class.

A registry of pint has classes of its own, by which its quantities know it. What pint writes of
such a quantity has a class that anybody can import: it would be one of another registry.
"""

from __future__ import annotations

from typing import Any

from cloudpickle.cloudpickle import _lookup_module_and_qualname

from dask_async_run.namespace.instances import is_plain
from dask_async_run.namespace.kinds import per_class
from dask_async_run.namespace.making import make_bare
from dask_async_run.namespace.unpickling import set_plain_state


@per_class
def _may_lose_its_class(cls: type) -> bool:
    hooks = ("__reduce__", "__reduce_ex__")
    own_way = any(getattr(cls, hook) is not getattr(object, hook) for hook in hooks)
    if not own_way or cls.__module__ == "__main__" or not is_plain(cls):
        return False
    return _lookup_module_and_qualname(cls) is None


def loses_its_class(obj: Any, reduced: Any) -> bool:
    """Whether an object's own way of pickling, which is tried, makes one of another class.

    It is tried only where it names a base class instead of the class itself.

    Parameters
    ----------
    obj : object
    reduced : object
        What its ``__reduce_ex__`` has answered.
    """
    if not isinstance(reduced, tuple) or not isinstance(reduced[1], tuple):
        return False
    cls, (maker, args) = type(obj), reduced[:2]
    named = [arg for arg in args if isinstance(arg, type)]
    if cls in named or not any(base in named for base in cls.__mro__[1:]):
        return False
    try:
        return type(maker(*args)) is not cls
    except Exception:  # noqa: BLE001 - what it does not know (a unit), the other process may not
        return True


def reduce_derived(obj: Any) -> Any:
    """Reduce an object with its class and attributes, if its own way loses these."""
    if not _may_lose_its_class(type(obj)):
        return None
    if not loses_its_class(obj, obj.__reduce_ex__(5)):
        return None
    state = object.__getstate__(obj)
    return make_bare, (type(obj),), state, None, None, set_plain_state
