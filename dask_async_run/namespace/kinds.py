"""Kinds of objects: what one holds, whether it changed, how to change it in place.

An object's *own state* is what it is made of, its *children* not included: the
references in a list, the attributes of an instance, the bytes of an array. A
change is found and applied object by object, so a list that holds a changed
list is itself unchanged.

=============  ==========================================================
transparent    its own state is references that can be compared by identity:
               containers, instances of Python classes, functions, classes,
               cells of closures
opaque         arrays, pandas objects, random generators, iterators and all
               other C objects: compared by fingerprint
immutable      has children perhaps, but no change: tuples, methods, partials
atoms          not even looked at: numbers, text, modules, library functions
=============  ==========================================================
"""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import fractions
import functools
import operator
import pathlib
import re
import sys
import types
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from dask_async_run.namespace import caches
from dask_async_run.namespace.pickling import by_reference

Undo = Callable[[], None]


class NotInPlace(Exception):
    """This object cannot be given its new state in place: it must be rebound."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How to deal with one kind of object.

    Parameters
    ----------
    children : callable(obj) -> iterable
        The objects that it refers to.
    snapshot : callable(obj) -> object
        Its own state now. Holds references, so that identities stay comparable.
    unchanged : callable(obj, snapshot) -> bool
        Whether the own state still is the snapshot.
    state : callable(obj, snapshot or None) -> object
        A picklable form of the own state (without snapshot: all of it); may
        raise `NotInPlace`.
    apply : callable(obj, state) -> Undo
        Give an object of this kind that state, in place.
    """

    name: str
    children: Callable[[Any], Iterable[Any]]
    snapshot: Callable[[Any], Any]
    unchanged: Callable[[Any, Any], bool]
    state: Callable[[Any, Any], Any]
    apply: Callable[[Any, Any], Undo]


def same_items(old: list[Any], new: Iterable[Any]) -> bool:
    """Whether two sequences hold the same objects (``is``) in the same order."""
    new = list(new)
    return len(old) == len(new) and all(map(operator.is_, old, new))


# -- containers --------------------------------------------------------------


def _replace_list(obj: Any, items: list[Any]) -> Undo:
    old = list(list.__iter__(obj))
    list.__setitem__(obj, slice(None), items)
    return lambda: list.__setitem__(obj, slice(None), old)


def _refill(obj: Any, add: Callable[[Any], Any], new: Any, old: Any) -> Undo:
    obj.clear()
    add(new)

    def undo() -> None:
        obj.clear()
        add(old)

    return undo


def _replace_dict(obj: Any, items: list[tuple[Any, Any]]) -> Undo:
    # dict's own methods: a subclass may have other ideas.
    clear = _base_method(obj, "clear")
    assign = _base_method(obj, "__setitem__")
    old = list(dict.items(obj))

    def fill(pairs: list[tuple[Any, Any]]) -> None:
        clear(obj)
        for key, value in pairs:
            assign(obj, key, value)

    fill(items)
    return lambda: fill(old)


def _base_method(obj: Any, name: str) -> Any:
    base = collections.OrderedDict if isinstance(obj, collections.OrderedDict) else dict
    return getattr(base, name)


def _dict_children(obj: Any) -> Iterable[Any]:
    return [*dict.keys(obj), *dict.values(obj)]


def _set_unchanged(obj: Any, snapshot: Any) -> bool:
    return len(obj) == len(snapshot) and set(map(id, obj)) == set(map(id, snapshot))


def _replace_set(obj: Any, items: list[Any]) -> Undo:
    old = list(obj)

    def fill(new: list[Any]) -> None:
        set.clear(obj)
        set.update(obj, new)

    fill(items)
    return lambda: fill(old)


def _replace_bytes(obj: Any, data: bytes) -> Undo:
    old = bytes(obj)
    bytearray.__setitem__(obj, slice(None), data)
    return lambda: bytearray.__setitem__(obj, slice(None), old)


def _replace_deque(obj: Any, items: list[Any]) -> Undo:
    deque = collections.deque
    old = list(obj)

    def fill(new: list[Any]) -> None:
        deque.clear(obj)
        deque.extend(obj, new)

    fill(items)
    return lambda: fill(old)


LIST = Kind(
    "list", list, list, lambda o, s: same_items(s, list.__iter__(o)), lambda o, s: list(o), _replace_list
)
DICT = Kind(
    "dict",
    _dict_children,
    lambda o: (list(dict.keys(o)), list(dict.values(o))),
    lambda o, s: same_items(s[0], dict.keys(o)) and same_items(s[1], dict.values(o)),
    lambda o, s: list(dict.items(o)),
    _replace_dict,
)
SET = Kind("set", list, set, _set_unchanged, lambda o, s: list(o), _replace_set)
BYTEARRAY = Kind(
    "bytearray", lambda o: (), bytes, lambda o, s: bytes(o) == s, lambda o, s: bytes(o), _replace_bytes
)
DEQUE = Kind(
    "deque", list, list, lambda o, s: same_items(s, o), lambda o, s: list(o), _replace_deque
)

_CONTAINERS: list[tuple[type, Kind]] = [
    (list, LIST),
    (dict, DICT),
    (set, SET),
    (bytearray, BYTEARRAY),
    (collections.deque, DEQUE),
]

# -- immutable ---------------------------------------------------------------


def _immutable(name: str, children: Callable[[Any], Iterable[Any]]) -> Kind:
    def never(obj: Any, state: Any) -> Undo:
        raise NotInPlace(f"a {name} cannot change")

    return Kind(name, children, lambda o: None, lambda o, s: True, lambda o, s: None, never)


LEAF = _immutable("leaf", lambda o: ())
_IMMUTABLE: dict[type, Kind] = {
    tuple: _immutable("tuple", lambda o: o),
    frozenset: _immutable("frozenset", lambda o: o),
    types.MethodType: _immutable("method", lambda o: (o.__self__, o.__func__)),
    functools.partial: _immutable("partial", lambda o: (o.func, *o.args, *o.keywords.values())),
    property: _immutable("property", lambda o: (o.fget, o.fset, o.fdel)),
    classmethod: _immutable("classmethod", lambda o: (o.__func__,)),
    staticmethod: _immutable("staticmethod", lambda o: (o.__func__,)),
    types.MappingProxyType: _immutable("mappingproxy", lambda o: list(o.values())),
    zip: _immutable("zip", lambda o: o.__reduce__()[1]),
    map: _immutable("map", lambda o: o.__reduce__()[1]),
    filter: _immutable("filter", lambda o: o.__reduce__()[1]),
}

ATOMS: frozenset[type] = frozenset(
    {int, float, complex, bool, str, bytes, type(None), type(...), type(NotImplemented), range, slice}
    | {types.ModuleType, types.BuiltinFunctionType, types.CodeType, types.GenericAlias}
    | {types.MethodDescriptorType, types.WrapperDescriptorType, types.GetSetDescriptorType}
    | {types.MemberDescriptorType}
)
"""Types whose instances have neither children nor changes."""

_IMMUTABLE_BASES: tuple[type, ...] = (
    datetime.date,
    datetime.time,
    datetime.timedelta,
    datetime.tzinfo,
    decimal.Decimal,
    fractions.Fraction,
    enum.Enum,
    pathlib.PurePath,
    re.Pattern,
    uuid.UUID,
)


def _library_immutables() -> tuple[type, ...]:
    """Answer immutable types of libraries, as far as they are imported here."""
    found = []
    for module, name in (
        ("numpy", "generic"),
        ("numpy", "dtype"),
        ("numpy", "ufunc"),
        ("sympy.core.basic", "Basic"),
        ("pyarrow", "DataType"),
        ("pyarrow", "Array"),
        ("pyarrow", "Table"),
    ):
        kind = getattr(sys.modules.get(module), name, None)
        if isinstance(kind, type):
            found.append(kind)
    return tuple(found)


# -- cells, functions, classes ----------------------------------------------

_EMPTY = "an empty cell"


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

_FUNCTION_SLOTS = ("__code__", "__defaults__", "__kwdefaults__", "__name__", "__qualname__", "__doc__")


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
        *(o.__defaults__ or ()),
        *(o.__kwdefaults__ or {}).values(),
        *o.__dict__.values(),
    ],
    _function_snapshot,
    _function_unchanged,
    _function_state,
    _set_function,
)

_CLASS_INTERNALS = {"__dict__", "__weakref__", "_abc_impl", "__abstractmethods__", "__orig_bases__"}


def _class_vars(cls: type) -> dict[str, Any]:
    return {k: v for k, v in vars(cls).items() if k not in _CLASS_INTERNALS}


def _class_unchanged(cls: type, snapshot: Any) -> bool:
    now = _class_vars(cls)
    return now.keys() == snapshot.keys() and all(now[k] is snapshot[k] for k in now)


def _class_state(cls: type, snapshot: Any) -> Any:
    now = _class_vars(cls)
    before = snapshot or {}
    changed = {k: v for k, v in now.items() if k not in before or before[k] is not v}
    return changed, [k for k in before if k not in now]


def _set_class(cls: type, state: Any) -> Undo:
    before = _class_vars(cls)
    changed, deleted = state

    def put(new: dict[str, Any], gone: Iterable[str]) -> None:
        for name, value in new.items():
            setattr(cls, name, value)
        for name in gone:
            if name in vars(cls):
                delattr(cls, name)

    put(changed, deleted)
    touched = [*changed, *deleted]
    return lambda: put(
        {k: before[k] for k in touched if k in before}, [k for k in touched if k not in before]
    )


CLASS = Kind(
    "class",
    lambda o: [*_class_vars(o).values(), *o.__bases__],
    _class_vars,
    _class_unchanged,
    _class_state,
    _set_class,
)

# -- caches --------------------------------------------------------------------


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

# -- instances ------------------------------------------------------------------

_PLAIN_BASES: set[type] = {object, list, dict, set, bytearray, collections.deque}
_PLAIN_BASES |= {collections.OrderedDict, collections.defaultdict}
_HEAP_TYPE = 1 << 9


@functools.lru_cache(maxsize=4096)
def _is_plain(cls: type) -> bool:
    """Whether instances are attributes plus perhaps a known container, no C state."""
    for base in cls.__mro__:
        if base in _PLAIN_BASES:
            continue
        # A heap type may still be written in C; Python classes alone have both.
        if not base.__flags__ & _HEAP_TYPE or "__module__" not in base.__dict__:
            return False
        if base.__dict__.get("__dict__") is None and not hasattr(base, "__slots__"):
            if not any("__dict__" in b.__dict__ for b in cls.__mro__):
                return False
    return True


@functools.lru_cache(maxsize=4096)
def _slots(cls: type) -> tuple[tuple[type, str], ...]:
    """Answer (class, mangled name) of all slots of a class."""
    found = []
    for base in cls.__mro__:
        for name, value in vars(base).items():
            if type(value) is types.MemberDescriptorType and value.__objclass__ is base:
                found.append((base, name))
    return tuple(found)


@functools.lru_cache(maxsize=4096)
def _container(cls: type) -> Kind | None:
    return next((kind for base, kind in _CONTAINERS if issubclass(cls, base)), None)


@functools.lru_cache(maxsize=4096)
def pickles_its_own_way(cls: type) -> bool:
    """Whether a class says itself how its instances are pickled."""
    hooks = ("__reduce__", "__reduce_ex__", "__setstate__", "__getstate__")
    own = [base for base in cls.__mro__ if base not in _PLAIN_BASES]
    return any(hook in vars(base) for base in own for hook in hooks)


def _slot_values(obj: Any) -> dict[tuple[type, str], Any]:
    values = {}
    for base, name in _slots(type(obj)):
        try:
            values[base, name] = vars(base)[name].__get__(obj)
        except AttributeError:
            continue
    return values


def _attributes(obj: Any) -> dict[str, Any]:
    return getattr(obj, "__dict__", None) or {}


def _instance_children(obj: Any) -> Iterable[Any]:
    container = _container(type(obj))
    inner = container.children(obj) if container else ()
    factory = [obj.default_factory] if isinstance(obj, collections.defaultdict) else []
    return [*_attributes(obj).values(), *_slot_values(obj).values(), *factory, *inner, type(obj)]


def _instance_snapshot(obj: Any) -> Any:
    attributes, slots = _attributes(obj), _slot_values(obj)
    container = _container(type(obj))
    own = [type(obj), *attributes.values(), *slots.values()]
    if isinstance(obj, collections.defaultdict):
        own.append(obj.default_factory)
    names = (list(attributes), list(slots))
    return own, names, container.snapshot(obj) if container else None


def _instance_unchanged(obj: Any, snapshot: Any) -> bool:
    own, names, inner = _instance_snapshot(obj)
    container = _container(type(obj))
    return (
        names == snapshot[1]
        and same_items(snapshot[0], own)
        and (container is None or container.unchanged(obj, snapshot[2]))
    )


def _instance_state(obj: Any, snapshot: Any) -> Any:
    """State by the class's own pickling where it has one, else attribute by attribute."""
    if pickles_its_own_way(type(obj)):
        return "build", _built_state(obj)
    container = _container(type(obj))
    slots = [(_slots(type(obj)).index(key), value) for key, value in _slot_values(obj).items()]
    inner = container.state(obj, None) if container else None
    factory = obj.default_factory if isinstance(obj, collections.defaultdict) else None
    return "plain", (type(obj), dict(_attributes(obj)), slots, inner, factory)


def _set_instance(obj: Any, state: Any) -> Undo:
    how, value = state
    if how == "build":
        return _build(obj, value)
    cls, attributes, slots, inner, factory = value
    old = _instance_state_plain(obj)
    _put_instance(obj, cls, attributes, slots, inner, factory)
    return lambda: _put_instance(obj, *old)


def _instance_state_plain(obj: Any) -> Any:
    container = _container(type(obj))
    slots = [(_slots(type(obj)).index(key), value) for key, value in _slot_values(obj).items()]
    inner = container.state(obj, None) if container else None
    factory = obj.default_factory if isinstance(obj, collections.defaultdict) else None
    return type(obj), dict(_attributes(obj)), slots, inner, factory


def _put_instance(
    obj: Any, cls: type, attributes: dict[str, Any], slots: Any, inner: Any, factory: Any
) -> None:
    if type(obj) is not cls:
        obj.__class__ = cls
    if hasattr(obj, "__dict__"):
        obj.__dict__.clear()
        obj.__dict__.update(attributes)
    filled = dict(slots)
    for index, (base, name) in enumerate(_slots(cls)):
        descriptor = vars(base)[name]
        if index in filled:
            descriptor.__set__(obj, filled[index])
        else:
            try:
                descriptor.__delete__(obj)
            except AttributeError:
                pass
    container = _container(cls)
    if container is not None:
        container.apply(obj, inner)
    if isinstance(obj, collections.defaultdict):
        obj.default_factory = factory


# -- what pickles its own way: restored as unpickling would, onto the object ----


def _built_state(obj: Any) -> Any:
    """Answer (state, list items, dict items) as ``__reduce_ex__`` gives them."""
    reduced = obj.__reduce_ex__(5)
    if not isinstance(reduced, tuple):
        raise NotInPlace("it is known by name only")
    state, items, pairs = (*reduced[2:], None, None, None)[:3]
    if len(reduced) > 5 and reduced[5] is not None:
        raise NotInPlace("it restores its state with a function of its own")
    return state, list(items) if items else None, list(pairs) if pairs else None


def _build(obj: Any, built: Any) -> Undo:
    """Do to `obj` what the BUILD, APPENDS and SETITEMS opcodes do to a new object."""
    state, items, pairs = built
    old_attributes = dict(_attributes(obj))
    old_slots = _slot_values(obj)
    container = _container(type(obj))
    old_inner = container.state(obj, None) if container else None

    def undo() -> None:
        if hasattr(obj, "__dict__"):
            obj.__dict__.clear()
            obj.__dict__.update(old_attributes)
        for (base, name), value in old_slots.items():
            vars(base)[name].__set__(obj, value)
        if container is not None:
            container.apply(obj, old_inner)

    try:
        _build_now(obj, state, items, pairs, container)
    except BaseException:
        undo()
        raise
    return undo


def _build_now(obj: Any, state: Any, items: Any, pairs: Any, container: Kind | None) -> None:
    if container is not None:
        container.apply(obj, items or pairs or [])
    if state is None:
        return
    if hasattr(obj, "__setstate__"):
        # New objects start empty; what the state leaves out must not survive.
        if hasattr(obj, "__dict__"):
            obj.__dict__.clear()
        obj.__setstate__(state)
        return
    attributes, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
    if hasattr(obj, "__dict__"):
        obj.__dict__.clear()
        obj.__dict__.update(attributes or {})
    for name, value in (slots or {}).items():
        setattr(obj, name, value)


INSTANCE = Kind(
    "instance",
    _instance_children,
    _instance_snapshot,
    _instance_unchanged,
    _instance_state,
    _set_instance,
)


def kind_of(obj: Any) -> Kind | None:
    """Answer the kind of an object; None for an atom."""
    from dask_async_run.namespace import opaque

    cls = type(obj)
    if cls in ATOMS:
        return None
    exact = _EXACT.get(cls)
    if exact is not None:
        return exact
    if cls is types.FunctionType or isinstance(obj, type) or cls is caches.LruCache:
        if _known_by_name(obj):
            return None
        if isinstance(obj, type):
            return CLASS
        return FUNCTION if cls is types.FunctionType else LRU_CACHE
    if isinstance(obj, _IMMUTABLE_BASES) or isinstance(obj, _library_immutables()):
        return LEAF
    special = opaque.special_kind(obj)
    if special is not None:
        return special
    if isinstance(obj, tuple):
        return _IMMUTABLE[tuple] if not hasattr(obj, "__dict__") else INSTANCE_TUPLE
    if _is_plain(cls):
        return INSTANCE
    return opaque.OPAQUE


INSTANCE_TUPLE = Kind(
    "tuple with attributes",
    lambda o: [*o, *vars(o).values()],
    lambda o: (list(vars(o)), list(vars(o).values())),
    lambda o, s: s[0] == list(vars(o)) and same_items(s[1], vars(o).values()),
    lambda o, s: list(vars(o).items()),
    lambda o, state: _refill(vars(o), vars(o).update, state, dict(vars(o))),
)

_EXACT: dict[type, Kind] = dict(_CONTAINERS) | _IMMUTABLE | {types.CellType: CELL}


def _known_by_name(obj: Any) -> bool:
    try:
        return by_reference(obj)
    except Exception:  # an object with a hostile __getattr__
        return False
