"""What the walk says of each kind of object, of Python's own kinds."""

from __future__ import annotations

import array
import builtins
import collections
import copyreg
import dataclasses
import datetime
import decimal
import fractions
import functools
import inspect
import io
import logging
import pathlib
import random
import re
import sys
import types
import typing
import uuid
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .code import function_node, text_of_code
from .walk import Node, atom, short

if TYPE_CHECKING:
    from .walk import Walk

VALUES = (
    datetime.date,
    datetime.time,
    datetime.timedelta,
    datetime.tzinfo,
    decimal.Decimal,
    fractions.Fraction,
    pathlib.PurePath,
    range,
    slice,
    re.Pattern,
    uuid.UUID,
    types.GenericAlias,
    types.UnionType,
)
"""Immutable values whose identity nobody relies on."""

OPAQUE = (
    "IPython",
    "_thread",
    "asyncio",
    "concurrent",
    "dask",
    "dask_async_run",
    "distributed",
    "ipykernel",
    "multiprocessing",
    "socket",
    "sqlite3",
    "threading",
    "traitlets",
    "zmq",
)
"""Packages whose instances lead to the whole process; only their type is told."""

_NOT_OF_A_CLASS = frozenset(
    "__dict__ __weakref__ __module__ __doc__ __qualname__ __firstlineno__ __static_attributes__ "
    "__annotate_func__ __annotations_cache__ _abc_impl __abstractmethods__ __slotnames__".split()
)


def name_of(kind: Any) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def importable(value: Any) -> str:
    """Where a class or function is found by import; empty if it isn't, or in the notebook."""
    module = getattr(value, "__module__", None)
    name = getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module == "__main__":
        return ""
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return f"{module}.{name}" if found is value else ""


def singleton(value: Any) -> str:
    """Where `value` is a global of the module of its type, as ``dataclasses.MISSING`` is."""
    module = sys.modules.get(type(value).__module__)
    if module is None or type(value).__module__ == "__main__":
        return ""
    for name, found in list(vars(module).items()):
        if found is value:
            return f"{module.__name__}.{name}"
    return ""


def class_node(value: type) -> Node:
    where = importable(value)
    if where:
        return Node(f"class {where}")
    if value.__module__ != "__main__":
        return Node(f"class {name_of(value)}, made at run time")
    label = f"class {name_of(value)} doc {value.__doc__!r}"
    if abstract := getattr(value, "__abstractmethods__", None):
        label += f" abstract {sorted(abstract)}"
    children: list[tuple[str, Any]] = [
        (f".__bases__[{i}]", base) for i, base in enumerate(value.__bases__)
    ]
    if type(value) is not type:
        children.append((".__class__", type(value)))
    held = {k: v for k, v in vars(value).items() if k not in _NOT_OF_A_CLASS}
    children += [(f".{name}", held[name]) for name in sorted(held)]
    return Node(label, children)


def _of_the_notebook(kind: type) -> bool:
    """Whether a class was made by a ``class`` statement, and can't be imported."""
    heap = bool(kind.__flags__ & 1 << 9)
    return heap and (kind.__module__ == "__main__" or not (importable(kind) or _builtin(kind)))


def _builtin(kind: type) -> bool:
    return kind.__module__ in sys.builtin_module_names


def slots_of(value: Any) -> list[tuple[str, Any]]:
    found = []
    for kind in type(value).__mro__:
        names = vars(kind).get("__slots__", ())
        for name in (names,) if isinstance(names, str) else tuple(names):
            if name in ("__dict__", "__weakref__"):
                continue
            if name.startswith("__") and not name.endswith("__"):
                name = f"_{kind.__name__.lstrip('_')}{name}"
            member = vars(kind).get(name)
            if isinstance(member, types.MemberDescriptorType):
                try:
                    found.append((f".{name}", member.__get__(value)))
                except AttributeError:
                    found.append((f".{name}", "(unset)"))
    return found


def attributes(value: Any) -> list[tuple[str, Any]]:
    """What an instance holds in ``__dict__`` and slots, and its class if that is a notebook's."""
    held_in = sorted(getattr(value, "__dict__", {}).items())
    if type(value).__module__.startswith("pandas."):
        # What pandas has computed and keeps: it would compute the same again.
        held_in = [(name, held) for name, held in held_in if name != "_cache"]
    children = [(f".{name}", held) for name, held in held_in]
    children += slots_of(value)
    if _of_the_notebook(type(value)):
        children.append((".__class__", type(value)))
    return children


def container_node(value: Any, walk: Walk) -> Node | None:
    """Lists, tuples, dicts, sets, deques, and the classes derived from them."""
    plain = type(value) in (list, tuple, dict, set, frozenset, collections.deque)
    label = name_of(type(value)).removeprefix("builtins.")
    children = [] if plain else attributes(value)
    if type(value).__module__ != "__main__":
        # A library's own bookkeeping: some of it does not survive a pickle, and means nothing.
        children = [(edge, held) for edge, held in children if not edge.startswith("._")]
    if isinstance(value, collections.defaultdict):
        children.append((".default_factory", value.default_factory))
    if isinstance(value, collections.deque):
        label += f" maxlen {value.maxlen}"
    if isinstance(value, dict):
        # An OrderedDict has an order of its own.
        base: Any = collections.OrderedDict if isinstance(value, collections.OrderedDict) else dict
        items = list(base.items(value))
        keys = [atom(key) for key, _ in items]
        children += [
            (f"[{short(key, 80)}]" if key is not None else f".value({i})", item[1])
            for i, (key, item) in enumerate(zip(keys, items, strict=True))
        ]
        children += [
            (f".key({i})", item[0])
            for i, (key, item) in enumerate(zip(keys, items, strict=True))
            if key is None
        ]
        order = short(", ".join("?" if key is None else key for key in keys))
        return Node(f"{label} of {len(items)}: {order}", children)
    if isinstance(value, (set, frozenset)):
        kind: Any = set if isinstance(value, set) else frozenset
        elements = sorted(kind.__iter__(value), key=walk.key_of)
    elif isinstance(value, (list, tuple, collections.deque)):
        kind = next(k for k in (list, tuple, collections.deque) if isinstance(value, k))
        elements = list(kind.__iter__(value))
    else:
        return None
    texts = [atom(element) for element in elements]
    if None not in texts:
        return Node(f"{label} of {len(texts)}: {short(', '.join(map(str, texts)))}", children)
    children += [(f"[{i}]", element) for i, element in enumerate(elements)]
    return Node(f"{label} of {len(elements)}", children)


def _property(value: Any) -> Node:
    return Node("property", [(f".{n}", getattr(value, n)) for n in ("fget", "fset", "fdel")])


def _partial(value: Any) -> Node:
    return Node("partial", [(".func", value.func), (".args", value.args), (".kw", value.keywords)])


def _lru_cache(value: Any) -> Node:
    if where := importable(value):
        return Node(f"lru_cache {where}")  # a library's: what it holds is its own business
    held = [(f".{name}", attribute) for name, attribute in sorted(vars(value).items())]
    return Node(f"lru_cache {value.cache_info()}", held)


def _cell(value: Any) -> Node:
    try:
        return Node("cell", [(".contents", value.cell_contents)])
    except ValueError:
        return Node("empty cell")


def _generator(value: Any) -> Node:
    frame = value.gi_frame
    if frame is None:
        return Node("finished generator")
    held = [(f" local {name}", local) for name, local in sorted(frame.f_locals.items())]
    return Node(f"generator {value.gi_code.co_name} at {frame.f_lasti}", held)


def _error(value: BaseException) -> Node:
    held = [(edge, held) for edge, held in attributes(value) if edge != "._render_traceback_"]
    children = [(".args", value.args), (".__cause__", value.__cause__), *held]
    return Node(f"exception {name_of(type(value))}", children)


def _file(value: Any) -> Node:
    try:
        where = "closed" if value.closed else f"at {value.tell()}"
    except OSError:  # a pipe, or a text file that is being iterated over
        where = "somewhere"
    return Node(f"file {getattr(value, 'name', '')} {getattr(value, 'mode', '')} {where}")


_SIMPLE: list[tuple[Any, Callable[[Any], Node]]] = [
    (type, class_node),
    (types.ModuleType, lambda v: Node(f"module {v.__name__}")),
    (types.MethodType, lambda v: Node("method", [(".func", v.__func__), (".self", v.__self__)])),
    (types.CodeType, lambda v: Node(f"code {text_of_code(v)}")),
    (types.CellType, _cell),
    (types.MappingProxyType, lambda v: Node("mappingproxy", [(".dict", dict(v))])),
    (types.GeneratorType, _generator),
    (
        (types.CoroutineType, types.AsyncGeneratorType, types.FrameType, types.TracebackType),
        lambda v: Node(name_of(type(v))),
    ),
    (property, _property),
    ((staticmethod, classmethod), lambda v: Node(type(v).__name__, [(".func", v.__func__)])),
    (functools.partial, _partial),
    (functools._lru_cache_wrapper, _lru_cache),
    (random.Random, lambda v: Node(f"Random {short(repr(v.getstate()), 80)}")),
    (array.array, lambda v: Node(f"array {v.typecode} {short(repr(v.tolist()))}")),
    (memoryview, lambda v: Node(f"memoryview {v.format} {v.shape}", [(".obj", v.obj)])),
    ((io.StringIO, io.BytesIO), lambda v: Node(f"{type(v)} {v.tell()} {v.getvalue()!r}")),
    (io.IOBase, _file),
    (BaseException, _error),
    (logging.Logger, lambda v: Node(f"logger {v.name} level {v.level}")),
    (
        (weakref.WeakKeyDictionary, weakref.WeakValueDictionary),
        lambda v: Node(name_of(type(v)), [(".items", list(v.items()))]),
    ),
    (weakref.WeakSet, lambda v: Node("WeakSet", [(".items", list(v))])),
    (weakref.ref, lambda v: Node("weakref", [(".referent", v())])),
    (typing.TypeVar, lambda v: Node(f"TypeVar {v}")),
    (dataclasses.Field, lambda v: Node("field", slots_of(v))),
]


def _mutable_bytes(value: bytearray) -> Node:
    return Node(f"bytearray of {len(value)}: {short(repr(bytes(value)))}", attributes(value))


def node_of(value: Any, walk: Walk, path: str) -> Node:
    """Describe one object."""
    from .science import science_node

    if isinstance(value, types.FunctionType):
        where = importable(value)
        return Node(f"function {where}") if where else function_node(value, walk.namespace)
    for kind, describe in _SIMPLE:
        if isinstance(value, kind):
            return describe(value)
    if isinstance(value, VALUES) or type(value).__module__ == "typing":
        return Node(walk.plain(f"{type(value).__name__} {value!r}"), tracked=False)
    if isinstance(value, bytearray):
        return _mutable_bytes(value)
    if value is vars(builtins):
        return Node("the builtins")
    if type(value).__name__ in ("dict_keys", "dict_values", "dict_items"):
        return Node(type(value).__name__, [(".mapping", dict(value.mapping))])
    found = science_node(value, walk, path) or container_node(value, walk)
    if found is not None:
        return found
    if isinstance(value, (types.BuiltinFunctionType, types.MethodWrapperType)):
        holder = value.__self__
        if holder is None or isinstance(holder, types.ModuleType):
            return Node(f"builtin {value.__module__}.{value.__qualname__}")
        return Node(f"builtin method {value.__name__}", [(".self", holder)])
    if isinstance(value, float):
        return Node("nan" if type(value) is float else f"{name_of(type(value))} {value + 0.0!r}")
    return instance_node(value)


def instance_node(value: Any) -> Node:
    """Any other instance: by its attributes, or by how it says that it is rebuilt."""
    kind: Any = type(value)
    label = f"{name_of(kind)} object"
    if kind.__module__.split(".")[0] in OPAQUE:
        return Node(f"{label}, not looked into")
    if where := singleton(value):
        return Node(where)
    builtin: tuple[Any, ...] = (int, str, bytes, complex)
    extra = [(".value", base(value)) for base in builtin if isinstance(value, base)]
    plain = (
        kind.__reduce_ex__ is object.__reduce_ex__
        and kind.__reduce__ is object.__reduce__
        and not isinstance(getattr(kind, "__getstate__", None), types.FunctionType)
        and kind not in copyreg.dispatch_table
        and hasattr(value, "__dict__")
    )
    if plain or _of_the_notebook(kind):
        return Node(label, [*extra, *attributes(value)])
    try:
        reducer = copyreg.dispatch_table.get(kind)
        made = reducer(value) if reducer else value.__reduce_ex__(4)
    except Exception:
        return Node(f"{label}, not picklable", attributes(value))
    if isinstance(made, str):
        return Node(f"{label} {made}")
    return Node(label, [*extra, *_of_reduction(made)])


def _of_reduction(made: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    names = ("rebuilt by", "from", "state", "items", "pairs")
    for name, part in zip(names, made, strict=False):
        if part is not None:
            yield f" {name}", list(part) if inspect.isgenerator(part) else part
