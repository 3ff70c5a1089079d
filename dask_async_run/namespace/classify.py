"""Which kind an object is of."""

from __future__ import annotations

import builtins
import datetime
import decimal
import enum
import fractions
import logging
import pathlib
import random
import re
import struct
import sys
import types
import uuid
from collections.abc import Iterable
from typing import Any

from dask_async_run.namespace import archives, beside, caches, files, generators, opaque, weak
from dask_async_run.namespace.attributed import is_attributed, with_attributes
from dask_async_run.namespace.callbacks import CALLBACKS, is_registry
from dask_async_run.namespace.containers import (
    COMMONEST,
    CONTAINERS,
    IMMUTABLE,
    LEAF,
    VIEW,
)
from dask_async_run.namespace.definitions import CELL, CLASS, FUNCTION, LRU_CACHE
from dask_async_run.namespace.elements import ELEMENT, is_element
from dask_async_run.namespace.instances import (
    INSTANCE,
    INSTANCE_TUPLE,
    is_plain,
    pickles_its_own_way,
)
from dask_async_run.namespace.kinds import ATOMS, Kind, per_class
from dask_async_run.namespace.lazy import COLLECTION, is_collection
from dask_async_run.namespace.named import goes_by_name
from dask_async_run.namespace.pickling import by_reference
from dask_async_run.namespace.remote import remote_types
from dask_async_run.namespace.rows import ROW, is_row
from dask_async_run.namespace.sharing import is_masked, mapped_root
from dask_async_run.namespace.views import MEMORYVIEW

_IMMUTABLE_BASES: tuple[type, ...] = (
    datetime.date,
    datetime.time,
    datetime.timedelta,
    datetime.tzinfo,
    decimal.Decimal,
    fractions.Fraction,
    enum.Enum,
    logging.Logger,
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


_EXACT: dict[type, Kind] = (
    dict(CONTAINERS) | COMMONEST | weak.KINDS | IMMUTABLE | {types.CellType: CELL}
)
_EXACT |= {memoryview: MEMORYVIEW, struct.Struct: LEAF, random.SystemRandom: LEAF}
_EXACT |= dict.fromkeys(generators.TYPES, generators.GENERATOR_KIND)
_EXACT |= dict.fromkeys(files.TYPES, files.FILE)


def kind_of(obj: Any) -> Kind | None:
    """Answer the kind of an object; None for an atom."""
    cls = type(obj)
    if cls in ATOMS:
        return None
    if cls is types.ModuleType:
        return beside.MODULE if beside.keeps_state(obj) else None
    exact = _EXACT.get(cls)
    if exact is not None:
        # len is a method of a module, [].append is one of a list.
        if cls is types.BuiltinMethodType and isinstance(
            obj.__self__, (types.ModuleType, type, type(None))
        ):
            return None
        return exact
    if cls is types.FunctionType or isinstance(obj, type) or cls is caches.LruCache:
        if _known_by_name(obj):
            return beside.PART if beside.is_from_beside(obj) else None
        if isinstance(obj, type):
            return CLASS
        return FUNCTION if cls is types.FunctionType else LRU_CACHE
    if _is_of_notebooks_own(cls):
        return INSTANCE
    if archives.is_bag(cls):  # first: it answers no question about itself
        return LEAF
    if goes_by_name(obj):
        return None
    if is_row(obj):
        return ROW
    if isinstance(obj, (*_IMMUTABLE_BASES, *_library_immutables(), *remote_types())):
        return _with_its_attributes(LEAF, cls)
    numpy = sys.modules.get("numpy")
    array = numpy is not None and isinstance(obj, numpy.ndarray) and not is_masked(obj)
    if array and mapped_root(obj) is not None:
        return LEAF  # what changes is the file, which is the kernel's too
    if _is_view(type(obj)):
        return VIEW
    if is_registry(cls):
        return CALLBACKS
    if is_element(cls):
        return ELEMENT
    if is_collection(type(obj)):
        return COLLECTION
    special = opaque.special_kind(obj)
    if special is not None:
        return _with_its_attributes(special, cls)
    if isinstance(obj, tuple):
        return IMMUTABLE[tuple] if not hasattr(obj, "__dict__") else INSTANCE_TUPLE
    if is_plain(cls):
        return opaque.OPAQUE if _wraps(obj, cls) else INSTANCE
    return _with_its_attributes(opaque.OPAQUE, cls)


@per_class
def _is_of_notebooks_own(cls: type) -> bool:
    """Whether a class has no bases but a notebook's: there are many objects of such a one."""
    *bases, _ = cls.__mro__
    ours = all(base.__module__ == "__main__" for base in bases)
    return ours and type(cls) is type and is_plain(cls)


def _with_its_attributes(kind: Kind, cls: type) -> Kind:
    return with_attributes(kind) if is_attributed(cls) else kind


def children_of(obj: Any) -> Iterable[Any]:
    """Answer the objects that an object refers to; of an atom none."""
    kind = kind_of(obj)
    return () if kind is None else kind.children(obj)


@per_class
def _is_view(cls: type) -> bool:
    """Whether a class is pandas' for ``df.groupby(...)``, ``df.rolling(...)`` and their like."""
    for module, name in (
        ("pandas.core.groupby.groupby", "BaseGroupBy"),
        ("pandas.core.window.rolling", "BaseWindow"),
    ):
        base = getattr(sys.modules.get(module), name, None)
        if isinstance(base, type) and issubclass(cls, base) and cls.__module__ != "__main__":
            return True
    return False


def _wraps(obj: Any, cls: type) -> bool:
    """Whether a library's object is the shell of one in C that has no pickle of its own.

    A picture of PIL, a frame of polars: what changes is inside the C object, and only
    the shell knows how to tell it.
    """
    if cls.__module__ == "__main__" or not pickles_its_own_way(cls):
        return False
    values = [*(getattr(obj, "__dict__", None) or {}).values()]
    for base in cls.__mro__:
        for name, member in vars(base).items():
            if type(member) is types.MemberDescriptorType:
                values.append(getattr(obj, name, None))
    return any(_is_bare(type(value)) for value in values)


@per_class
def _is_bare(cls: type) -> bool:
    """Whether a class is written in C, of no module that it can be found in."""
    if cls in ATOMS or cls in _EXACT or cls.__module__ not in ("builtins", "ctypes"):
        return False
    return getattr(builtins, cls.__name__, None) is not cls and cls not in _PYTHONS


_PYTHONS = frozenset(kind for kind in vars(types).values() if isinstance(kind, type))


def _known_by_name(obj: Any) -> bool:
    try:
        return by_reference(obj)
    except Exception:  # noqa: BLE001 - an object with a hostile __getattr__
        return False
