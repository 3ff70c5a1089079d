"""Dask's collections: graphs with a name that says what they compute.

Two of one name are the same computation, so the name tells a change (``x[0] = 5``) from
what a collection notes about itself when it is used. Its graph, which may be large, is
not looked through.
"""

from __future__ import annotations

from typing import Any

from dask_async_run.namespace.instances import plain_state, put_plain_state
from dask_async_run.namespace.kinds import Kind, Undo, per_class


@per_class
def is_collection(cls: type) -> bool:
    """Whether instances are collections of Dask's own."""
    hooks = ("__dask_graph__", "__dask_tokenize__")
    return cls.__module__.partition(".")[0] == "dask" and all(hasattr(cls, h) for h in hooks)


def _name(obj: Any) -> Any:
    return type(obj), obj.__dask_tokenize__()


def _set(obj: Any, state: Any) -> Undo:
    old = plain_state(obj)
    put_plain_state(obj, *state)
    return lambda: put_plain_state(obj, *old)


COLLECTION = Kind(
    "dask collection",
    lambda o: (),
    _name,
    lambda o, s: bool(_name(o) == s),
    lambda o, s: plain_state(o),
    _set,
)
