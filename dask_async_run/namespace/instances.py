"""The kind of instances of Python classes: attributes, slots, perhaps a container inside."""

from __future__ import annotations

import collections
import copyreg
import threading
import types
from collections.abc import Collection, Iterable
from typing import Any

from dask_async_run.namespace.containers import CONTAINERS
from dask_async_run.namespace.kinds import ATOMS, Kind, NotInPlace, Undo, per_class, same_items
from dask_async_run.namespace.transforms import is_transform, without_addresses

_PLAIN_BASES: set[type] = {object, list, dict, set, bytearray, collections.deque}
_PLAIN_BASES |= {collections.OrderedDict, collections.defaultdict}
# What such an object is never changes, its attributes may: a text of Beautiful Soup's has its place
# in a document, and a fingerprint of each text would be one of all of it.
_PLAIN_BASES |= {str, bytes, int, float, complex}
_PLAIN_BASES |= {threading.local}  # whose attributes are those of the thread that asks
_HEAP_TYPE = 1 << 9


@per_class
def is_plain(cls: type) -> bool:
    """Whether instances are attributes plus perhaps a known container, no C state."""
    for base in cls.__mro__:
        if base in _PLAIN_BASES:
            continue
        if not base.__flags__ & _HEAP_TYPE or _is_written_in_c(base):
            return False
    return True


_C_DESCRIPTORS = (
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.ClassMethodDescriptorType,
)


def _is_written_in_c(cls: type) -> bool:
    """Whether a heap type was made by C code, by what no ``class`` statement makes."""
    slots = vars(cls).get("__slots__", ())
    for name, value in vars(cls).items():
        if getattr(value, "__objclass__", None) is cls:
            if isinstance(value, _C_DESCRIPTORS):
                return True
            if type(value) is types.GetSetDescriptorType and name not in _OF_PYTHON:
                return True
            if type(value) is types.MemberDescriptorType and not slots:
                return True
        if name == "__new__" and type(value) is types.BuiltinMethodType:
            return value.__self__ is cls  # not one that was assigned
    return False


_OF_PYTHON = ("__dict__", "__weakref__")


@per_class
def _slots(cls: type) -> tuple[tuple[type, str], ...]:
    """Answer (class, mangled name) of all slots of a class."""
    found = []
    for base in cls.__mro__:
        if base in _PLAIN_BASES:
            continue  # `complex.real`
        for name, value in vars(base).items():
            if type(value) is types.MemberDescriptorType and value.__objclass__ is base:
                found.append((base, name))
    return tuple(found)


@per_class
def _container(cls: type) -> Kind | None:
    return next((kind for base, kind in CONTAINERS if issubclass(cls, base)), None)


@per_class
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
    links = [obj.__cause__, obj.__context__] if isinstance(obj, BaseException) else []
    own = [*_attributes(obj).values(), *_slot_values(obj).values(), *links]
    return [*own, *factory, *inner, type(obj)]


@per_class
def _is_drawn(cls: type) -> bool:
    """Whether a class is matplotlib's, or inherits from one that is."""
    return any((base.__module__ or "").partition(".")[0] == "matplotlib" for base in cls.__mro__)


@per_class
def _computed(cls: type) -> frozenset[str]:
    """Answer names of attributes that a class computes once: `functools.cached_property`.

    That, and what others call so, gives way to the instance's attribute of its name.
    """
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        found |= vars(base)
    return frozenset(name for name, value in found.items() if _gives_way(type(value)))


def _gives_way(kind: type) -> bool:
    if kind in ATOMS or issubclass(kind, (types.FunctionType, staticmethod, classmethod)):
        return False
    return hasattr(kind, "__get__") and not hasattr(kind, "__set__")


def snapshots(obj: Any, copy: Any) -> tuple[Any, Any]:
    """Answer what two instances are, but for what the first one has computed and kept since.

    To put it into a set may do that (``__hash__``): it is as it was.
    """
    since = _computed(type(obj)) & (_attributes(obj).keys() - _attributes(copy).keys())
    return _instance_snapshot(obj, since), _instance_snapshot(copy)


def _instance_snapshot(obj: Any, left_out: Collection[str] = ()) -> Any:
    attributes, slots = _attributes(obj), _slot_values(obj)
    if left_out:
        attributes = {name: value for name, value in attributes.items() if name not in left_out}
    if "_stale" in attributes and _is_drawn(type(obj)):
        # A kernel draws figures whenever it is idle.
        attributes = {name: value for name, value in attributes.items() if name != "_stale"}
    container = _container(type(obj))
    own = [type(obj), *attributes.values(), *slots.values()]
    if isinstance(obj, collections.defaultdict):
        own.append(obj.default_factory)
    names = (list(attributes), list(slots))
    return own, names, container.snapshot(obj) if container else None


def _instance_unchanged(obj: Any, snapshot: Any) -> bool:
    own, names, _ = _instance_snapshot(obj)
    container = _container(type(obj))
    return (
        names == snapshot[1]
        and same_items(snapshot[0], own)
        and (container is None or container.unchanged(obj, snapshot[2]))
    )


def _instance_state(obj: Any, snapshot: Any) -> Any:
    """What changed, attribute by attribute; without a snapshot, the way the class pickles.

    Attribute by attribute even where the class has a way of its own: what it leaves
    out (a lock) is not touched then, and stays the same object.
    """
    if snapshot is not None:
        return "changes", _instance_changes(obj, snapshot)
    if pickles_its_own_way(type(obj)):
        built = built_state(obj)
        if any(part is not None for part in built):
            return "build", built
        maker = obj.__reduce_ex__(5)[0]
        if maker is copyreg.__newobj__:  # type: ignore[attr-defined]
            return "build", built
        if maker is not type(obj):
            raise NotInPlace("it is made by a function")
        # All is in the arguments of its class (Counter): attribute by attribute, then.
    return "plain", plain_state(obj)


def _instance_changes(obj: Any, snapshot: Any) -> Any:
    own, (names, _), _ = snapshot
    before = dict(zip(names, own[1:], strict=False))
    now = _attributes(obj)
    changed = {n: v for n, v in now.items() if n not in before or before[n] is not v}
    cls, _, slots, inner, factory = plain_state(obj)
    container = _container(cls)
    if container is not None and container.unchanged(obj, snapshot[2]):
        inner = None
    return cls, changed, [n for n in before if n not in now], slots, inner, factory


def _set_instance(obj: Any, state: Any) -> Undo:
    how, value = state
    if how == "build":
        return build(obj, value)
    old = plain_state(obj)
    if how == "changes":
        cls, changed, deleted, slots, inner, factory = value
        attributes = {n: v for n, v in _attributes(obj).items() if n not in deleted} | changed
        value = cls, attributes, slots, old[3] if inner is None else inner, factory
    try:
        put_plain_state(obj, *value)
    except BaseException:
        put_plain_state(obj, *old)
        raise
    return lambda: put_plain_state(obj, *old)


def plain_state(obj: Any) -> Any:
    """Answer an instance's class, attributes, slots and what container it is, as they are."""
    container = _container(type(obj))
    slots = [(_slots(type(obj)).index(key), value) for key, value in _slot_values(obj).items()]
    inner = container.state(obj, None) if container else None
    factory = obj.default_factory if isinstance(obj, collections.defaultdict) else None
    return type(obj), dict(_attributes(obj)), slots, inner, factory


def put_plain_state(
    obj: Any, cls: type, attributes: dict[str, Any], slots: Any, inner: Any, factory: Any
) -> None:
    """Give an instance what `plain_state` has answered."""
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


def built_state(obj: Any) -> Any:
    """Answer (state, list items, dict items) as ``__reduce_ex__`` gives them."""
    reduced = obj.__reduce_ex__(5)
    if not isinstance(reduced, tuple):
        raise NotInPlace("it is known by name only")
    state, items, pairs = (*reduced[2:], None, None, None)[:3]
    if len(reduced) > 5 and reduced[5] is not None:
        raise NotInPlace("it restores its state with a function of its own")
    if is_transform(type(obj)):
        state = without_addresses(state)
    return state, list(items) if items else None, list(pairs) if pairs else None


def build(obj: Any, built: Any) -> Undo:
    """Do to `obj` what the BUILD, APPENDS and SETITEMS opcodes do to a new object."""
    state, items, pairs = built
    old_attributes = dict(_attributes(obj))
    old_slots = _slot_values(obj) if is_plain(type(obj)) else {}
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
    if hasattr(type(obj), "__setstate__"):
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


def _set_tuple_attributes(obj: Any, items: list[tuple[str, Any]]) -> Undo:
    attributes = vars(obj)
    old = dict(attributes)

    def put(new: dict[str, Any]) -> None:
        attributes.clear()
        attributes.update(new)

    put(dict(items))
    return lambda: put(old)


INSTANCE_TUPLE = Kind(
    "tuple with attributes",
    lambda o: [*o, *vars(o).values()],
    lambda o: (list(vars(o)), list(vars(o).values())),
    lambda o, s: s[0] == list(vars(o)) and same_items(s[1], vars(o).values()),
    lambda o, s: list(vars(o).items()),
    _set_tuple_attributes,
)
