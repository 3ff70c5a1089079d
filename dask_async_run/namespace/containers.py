"""Kinds of containers, and of what has children but cannot change."""

from __future__ import annotations

import collections
import functools
import gc
import types
from collections.abc import Callable, Iterable
from dataclasses import replace
from operator import is_
from typing import Any

from dask_async_run.namespace import order
from dask_async_run.namespace.attributed import with_attributes
from dask_async_run.namespace.kinds import ATOMS, Kind, NotInPlace, Undo, same_items

_Pairs = dict[Any, Any] | list[tuple[Any, Any]]


def _replace_list(obj: Any, items: list[Any]) -> Undo:
    old = list(list.__iter__(obj))
    list.__setitem__(obj, slice(None), items)
    return lambda: list.__setitem__(obj, slice(None), old)


def _replace_dict(obj: Any, items: _Pairs) -> Undo:
    # dict's own methods: a subclass may have other ideas.
    old = _pairs(obj)
    fill = _fill_ordered if isinstance(obj, collections.OrderedDict) else _fill
    fill(obj, items)
    return lambda: fill(obj, old)


def _fill(obj: Any, items: _Pairs) -> None:
    dict.clear(obj)
    dict.update(obj, items)


def _fill_ordered(obj: Any, items: _Pairs) -> None:
    collections.OrderedDict.clear(obj)
    for key, value in items.items() if isinstance(items, dict) else items:
        collections.OrderedDict.__setitem__(obj, key, value)


def _pairs(obj: Any) -> _Pairs:
    """Answer what a dict holds, in its order: as a dict if no key's hash is the user's code."""
    if isinstance(obj, collections.OrderedDict) or not ATOMS.issuperset(map(type, dict.keys(obj))):
        return _items(obj)
    return obj.copy() if type(obj) is dict else dict(dict.items(obj))  # a subclass has own ideas


def _base_method(obj: Any, name: str) -> Any:
    base = collections.OrderedDict if isinstance(obj, collections.OrderedDict) else dict
    return getattr(base, name)


def _items(obj: Any) -> list[tuple[Any, Any]]:
    # An OrderedDict keeps an order of its own.
    return list(_base_method(obj, "items")(obj))


def _dict_snapshot(obj: Any) -> Any:
    if type(obj) is dict and ATOMS.issuperset(map(type, obj)):
        return obj.copy()  # as `_pairs` says, sooner
    pairs = _pairs(obj)
    return pairs if type(pairs) is dict else ([k for k, _ in pairs], [v for _, v in pairs])


def _dict_unchanged(obj: Any, snapshot: Any) -> bool:
    if type(snapshot) is type(obj) is dict:
        return (
            len(snapshot) == len(obj)
            and all(map(is_, snapshot, obj))
            and all(map(is_, snapshot.values(), obj.values()))
        )
    keys, values = (snapshot, snapshot.values()) if type(snapshot) is dict else snapshot
    return (
        len(keys) == dict.__len__(obj)
        and all(map(is_, keys, _base_method(obj, "keys")(obj)))
        and all(map(is_, values, _base_method(obj, "values")(obj)))
    )


def _dict_children(obj: Any) -> Iterable[Any]:
    if ATOMS.issuperset(map(type, dict.keys(obj))):
        return list(dict.values(obj))
    return [*dict.keys(obj), *dict.values(obj)]


def _set_unchanged(obj: Any, snapshot: Any) -> bool:
    items = set.__iter__(obj)
    return set.__len__(obj) == len(snapshot) and set(map(id, items)) == set(map(id, snapshot))


def _set_state(obj: Any) -> order.Recipe:
    return order.recipe(obj) or ([], _in_set(obj))


def _replace_set(obj: Any, items: order.Recipe | list[Any]) -> Undo:
    old = _set_state(obj)
    order.fill(obj, items if isinstance(items, tuple) else ([], items))
    return lambda: order.fill(obj, old)


def _replace_bytes(obj: Any, data: bytes) -> Undo:
    old = bytes(obj)
    bytearray.__setitem__(obj, slice(None), data)
    return lambda: bytearray.__setitem__(obj, slice(None), old)


def _replace_deque(obj: Any, items: list[Any]) -> Undo:
    deque = collections.deque
    old = _in_deque(obj)

    def fill(new: list[Any]) -> None:
        deque.clear(obj)
        deque.extend(obj, new)

    fill(items)
    return lambda: fill(old)


def _in_list(obj: Any) -> list[Any]:
    return list(list.__iter__(obj))


def _in_set(obj: Any) -> list[Any]:
    return list(set.__iter__(obj))


def _in_deque(obj: Any) -> list[Any]:
    return list(collections.deque.__iter__(obj))


LIST = Kind(
    "list",
    list,
    list,
    lambda o, s: same_items(s, list.__iter__(o)),
    lambda o, s: list(o),
    _replace_list,
)
DICT = Kind(
    "dict",
    _dict_children,
    _dict_snapshot,
    _dict_unchanged,
    lambda o, s: _pairs(o),
    _replace_dict,
)
SET = Kind("set", list, set, _set_unchanged, lambda o, s: _set_state(o), _replace_set)
BYTEARRAY = Kind(
    "bytearray",
    lambda o: (),
    bytes,
    lambda o, s: bytes(o) == s,
    lambda o, s: bytes(o),
    _replace_bytes,
)
DEQUE = Kind(
    "deque",
    _in_deque,
    _in_deque,
    lambda o, s: same_items(s, _in_deque(o)),
    lambda o, s: _in_deque(o),
    _replace_deque,
)
_OWN_LIST = replace(LIST, children=_in_list, snapshot=_in_list, state=lambda o, s: _in_list(o))
_OWN_SET = replace(SET, children=_in_set, snapshot=_in_set)

COMMONEST: dict[type, Kind] = {list: LIST, dict: DICT, set: SET}
"""Kinds of what there may be hundreds of thousands of: nobody asks further what these are."""
CONTAINERS: list[tuple[type, Kind]] = [
    (list, _OWN_LIST),
    (dict, DICT),
    (set, _OWN_SET),
    (bytearray, BYTEARRAY),
    (collections.deque, DEQUE),
]


def immutable(name: str, children: Callable[[Any], Iterable[Any]]) -> Kind:
    def never(obj: Any, state: Any) -> Undo:
        raise NotInPlace(f"a {name} cannot change")

    return Kind(name, children, lambda o: None, lambda o, s: True, lambda o, s: None, never)


LEAF = immutable("leaf", lambda o: ())
DICT_VIEWS: dict[type, str] = {
    type(getattr(mapping, name)()): name
    for mapping in (dict[Any, Any](), collections.OrderedDict[Any, Any]())
    for name in ("keys", "values", "items")
}
"""Types of what ``d.keys()`` and its like answer, and the name of the method."""
VIEW = immutable("view", lambda o: (o.obj,))
"""A pandas object that looks at another one, and remembers what it has computed."""
IMMUTABLE: dict[type, Kind] = {
    tuple: immutable("tuple", lambda o: o),
    frozenset: immutable("frozenset", lambda o: o),
    types.MethodType: immutable("method", lambda o: (o.__self__, o.__func__)),
    functools.partial: with_attributes(
        immutable("partial", lambda o: (o.func, *o.args, *o.keywords.values()))
    ),
    property: immutable("property", lambda o: (o.fget, o.fset, o.fdel)),
    classmethod: immutable("classmethod", lambda o: (o.__func__,)),
    staticmethod: immutable("staticmethod", lambda o: (o.__func__,)),
    types.MappingProxyType: immutable("mappingproxy", gc.get_referents),
    **dict.fromkeys(DICT_VIEWS, immutable("dict view", gc.get_referents)),
    functools.cached_property: immutable("cached_property", lambda o: (o.func,)),
    types.BuiltinMethodType: immutable("method", lambda o: (o.__self__,)),
    zip: immutable("zip", lambda o: o.__reduce__()[1]),
    map: immutable("map", lambda o: o.__reduce__()[1]),
    filter: immutable("filter", lambda o: o.__reduce__()[1]),
}
