"""The pickler and unpickler of namespaces: cloudpickle's, with four differences.

1. A function whose globals are *the namespace* is pickled with a reference to
   the namespace instead of a frozen copy of its globals, and is rebuilt on the
   namespace of the side that loads it. The code objects met on the way are
   reported, so that capture can add the names that they read to its work list.
2. The cells of closures are objects of their own: two functions that share a
   variable still share it afterwards. (cloudpickle makes fresh cells for each
   function: ``get, set = make_counter()`` come apart.)
3. Loading never resets the attributes of a class that this process already has,
   unless asked to: cloudpickle sets a class attribute that was changed meanwhile
   back to its old value.
4. Objects can be *seeds*: they are written as a token and loaded as whatever
   the loading side has for that token, which is how what went in comes back as
   the same object.

Numpy arrays that share memory are handled by `sharing`.

Some internals of cloudpickle are used (``_class_reduce``, ``_function_getstate``
and the like); ``tests/namespace/test_pickling.py`` notices when they change.
"""

from __future__ import annotations

import contextvars
import functools
import gc
import io
import itertools
import os
import pickle
import re
import sys
import threading
import types
import warnings
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

import cloudpickle
from cloudpickle import cloudpickle as _cp

from dask_async_run.namespace import caches, enums, generators, making, modules
from dask_async_run.namespace.kinds import per_class
from dask_async_run.namespace.sharing import (
    SharedMemory,
    make_own_array,
    make_view,
    reduce_array,
)

T = TypeVar("T")

Buffer = Any
"""Anything with the buffer protocol."""

IN_BAND = 64 * 1024
"""Buffers of fewer bytes than this stay in the stream: a frame is a file."""


class NamespaceReference:
    """Stands in a stream for the namespace of the side that loads it."""

    def __reduce__(self) -> tuple[Callable[[], Any], tuple[()]]:
        return loading_namespace, ()


def loading_namespace() -> dict[str, Any]:
    """Answer the namespace being loaded into; `NamespaceUnpickler` replaces it."""
    raise pickle.UnpicklingError("this stream can only be loaded into a namespace")


# --------------------------------------------------------------------------
# What the streams call when they are loaded.


def make_function(
    code: types.CodeType, global_names: dict[str, Any], closure: tuple[types.CellType, ...] | None
) -> types.FunctionType:
    """Build a function without its attributes, which follow as its state."""
    return types.FunctionType(code, global_names, None, None, closure)


def set_function_state(function: types.FunctionType, state: tuple[Any, Any]) -> None:
    """Give a function its attributes, defaults, names and (foreign) globals."""
    attributes, slots = state
    function.__dict__.update(attributes)
    slots = dict(slots)
    slots.pop("_cloudpickle_submodules", None)
    function.__globals__.update(slots.pop("__globals__", {}))
    for name, value in slots.items():
        setattr(function, name, value)


def set_plain_state(obj: Any, state: Any) -> None:
    """Give an instance its attributes as the default would, its own access methods aside."""
    attributes, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
    if attributes:
        object.__getattribute__(obj, "__dict__").update(attributes)
    for name, value in (slots or {}).items():
        object.__setattr__(obj, name, value)


def make_own_dict(cls: Any) -> Any:
    """Build a dict that is its own ``__dict__``."""
    obj = cls.__new__(cls)
    object.__setattr__(obj, "__dict__", obj)
    return obj


def make_cell() -> types.CellType:
    return types.CellType()


def set_cell(cell: types.CellType, contents: tuple[Any]) -> None:
    (cell.cell_contents,) = contents


def make_class(maker: Callable[..., type], args: tuple[Any, ...]) -> type:
    """Build a notebook class, or find the one of the same identity.

    It was made before: what the notebook does when a class is made (register it,
    say) is in the state of what it did that to, and must not be done again.
    """
    *args, qualname = args  # type: ignore[assignment]
    if maker is not _cp._make_skeleton_class:
        return maker(*args)
    metas = [(kind, hook) for kind in args[0].__mro__ for hook in ("__new__", "__init__")]
    bases = {kind for base in args[2] for kind in getattr(base, "__mro__", ())}
    hooks = {
        (kind, hook): vars(kind)[hook]
        for kind, hook in [*metas, *((kind, "__init_subclass__") for kind in bases)]
        if kind.__module__ == "__main__" and hook in vars(kind)
    }
    try:
        for kind, hook in hooks:
            type.__delattr__(kind, hook)
        made: type = maker(*args)
        made.__qualname__ = qualname
        return made
    finally:
        for (kind, hook), function in hooks.items():
            type.__setattr__(kind, hook, function)


def set_class_state(cls: type, state: Any) -> None:
    """Give a class its attributes; `NamespaceUnpickler` may skip it."""
    attributes, slots, *members = state
    # cloudpickle's setter reads the dict of attributes and leaves it alone, but
    # enums get theirs when they are made and would refuse them a second time.
    _cp._class_setstate(cls, (attributes, slots))
    if members:
        enums.set_members(cls, members[0])


def make_match(pattern: re.Pattern[str], args: tuple[Any, ...], span: tuple[int, int]) -> Any:
    """Find a match again: patterns are deterministic."""
    for match in pattern.finditer(*args):
        if match.span() == span:
            return match
    return pattern.match(args[0], span[0], span[1])


def make_cached_property(function: Any, name: str | None) -> Any:
    made: Any = functools.cached_property(function)
    made.attrname = name
    return made


# --------------------------------------------------------------------------


def _reduce_cell(cell: types.CellType) -> Any:
    try:
        contents = cell.cell_contents
    except ValueError:
        return make_cell, ()
    # In a tuple: a state of None is no state, and the cell would stay empty.
    return make_cell, (), (contents,), None, None, set_cell


def _reduce_match(match: re.Match[str]) -> Any:
    return make_match, (match.re, (match.string, match.pos, match.endpos), match.span())


def make_closed_file(kind: type, name: Any, mode: str, encoding: str | None) -> Any:
    """Make a closed file: what ``with open(...) as file`` leaves behind."""
    opened = mode.replace("x", "w")
    if kind is io.FileIO:
        raw: Any = io.FileIO(os.devnull, opened)
    else:
        file: Any = open(os.devnull, opened, encoding=encoding)  # noqa: SIM115, PTH123
        raw = file.buffer.raw if kind is io.TextIOWrapper else file.raw
    raw.name = name
    if kind is io.FileIO:
        file = raw
    elif kind is io.TextIOWrapper:
        file.mode = mode
    file.close()
    return file


def _reduce_file(file: Any) -> Any:
    kind = type(file)
    if file.closed:
        mode = file.mode if kind is not io.BufferedRandom else file.raw.mode
        return make_closed_file, (kind, file.name, mode, getattr(file, "encoding", None))
    for name in ("stdout", "stderr"):
        if file is getattr(sys, name) or file is getattr(sys, f"__{name}__"):
            return getattr, (sys, name)
    # cloudpickle would read the file and send a StringIO: another type, and no
    # longer the file.
    raise TypeError("cannot pickle an open file")


def _reduce_memoryview(view: memoryview) -> Any:
    whole = memoryview(view.obj)
    if whole.nbytes == view.nbytes and whole.contiguous and whole.readonly == view.readonly:
        data: Any = view.obj  # the memory stays shared with it
    else:
        data = bytes(view) if view.readonly else bytearray(view)
    return _cast_memoryview, (data, view.format, view.shape)


def _cast_memoryview(data: Any, fmt: str, shape: tuple[int, ...]) -> memoryview:
    view = memoryview(data)
    if view.format == fmt and view.shape == shape:
        return view
    return view.cast("B").cast(fmt, shape)  # type: ignore[call-overload, no-any-return]


def _reduce_cached_property(value: Any) -> Any:
    # Up to Python 3.11 it holds a lock.
    return make_cached_property, (value.func, value.attrname)


def _reduce_weakref(reference: weakref.ReferenceType[Any]) -> Any:
    target = reference()
    if target is None:
        raise TypeError("cannot pickle a weak reference whose target is gone")
    callback: Any = reference.__callback__
    return weakref.ref, (target,) if callback is None else (target, callback)


def _reduce_weak_dict(value: Any) -> Any:
    return type(value), (dict(value),)


def _reduce_proxy(proxy: types.MappingProxyType[Any, Any]) -> Any:
    # A view of a dict that others change (`registry` of a singledispatch
    # function) stays one; what shows a class's attributes is a copy.
    (shown,) = gc.get_referents(proxy)
    alive = type(shown) is dict and "__module__" not in shown
    return types.MappingProxyType, (shown if alive else dict(proxy),)


_GROUP = type(next(itertools.groupby((0,)))[1])


def make_spent_group() -> Any:
    """Build a group that `itertools.groupby` has gone past: what a loop leaves behind."""
    groups = itertools.groupby((0, 1))
    _, group = next(groups)
    next(groups)
    return group


def _reduce_group(group: Any) -> Any:
    reduced = group.__reduce__()
    return (make_spent_group, ()) if reduced[0] is iter else reduced


_REDUCERS: dict[type, Callable[[Any], Any]] = {
    types.CellType: _reduce_cell,
    re.Match: _reduce_match,
    io.TextIOWrapper: _reduce_file,
    io.BufferedReader: _reduce_file,
    io.BufferedWriter: _reduce_file,
    io.BufferedRandom: _reduce_file,
    io.FileIO: _reduce_file,
    memoryview: _reduce_memoryview,
    functools.cached_property: _reduce_cached_property,
    weakref.ref: _reduce_weakref,
    weakref.WeakKeyDictionary: _reduce_weak_dict,
    weakref.WeakValueDictionary: _reduce_weak_dict,
    types.MappingProxyType: _reduce_proxy,
    _GROUP: _reduce_group,
    **dict.fromkeys(generators.TYPES, generators.reduce_generator),
}

_SINGLETONS = (
    ("os", "environ"),
    ("random", "_inst"),
    ("secrets", "_sysrand"),
    ("numpy.random.mtrand", "_rand"),
    ("matplotlib", "rcParams"),
    ("dataclasses", "MISSING"),
    ("dataclasses", "KW_ONLY"),
    ("dataclasses", "_HAS_DEFAULT_FACTORY"),
    ("dataclasses", "_EMPTY_METADATA"),
)
"""Libraries' objects that a notebook may have under a name of its own.

``from random import randint`` is a method of such an object: a copy of it would
not follow ``random.seed``. What of their state has to travel, surroundings do.
"""


def singletons() -> dict[int, tuple[str, str]]:
    """Answer ``id`` of the singletons of the libraries that are imported to their names."""
    found = {}
    for module, name in _SINGLETONS:
        obj = getattr(sys.modules.get(module), name, None)
        if obj is not None:
            found[id(obj)] = module, name
    return found


_SINGLETON_TYPES = frozenset({"os", "random", "numpy.random.mtrand", "matplotlib", "dataclasses"})
"""Modules of the types of `_SINGLETONS`."""


def named_in_libraries(namespace: Mapping[str, Any]) -> dict[int, tuple[str, str]]:
    """Answer ``id`` of a library's own objects that were imported by their names.

    ``from sympy import *`` binds ``QQ``: everybody's is the one of the library, and
    not everything that a library makes for itself can be made again from a pickle.
    """
    found = {}
    tables: dict[str, dict[int, str]] = {}
    for value in list(namespace.values()):
        words = modules.module_name(type(value)).split(".")
        if words[0] in ("", "builtins", "__main__") or isinstance(value, (type, types.ModuleType)):
            continue
        # ``from scipy.stats import norm``: as public as can be, whatever the notebook calls it.
        for count in range(1, len(words) + 1):
            module = ".".join(words[:count])
            library = sys.modules.get(module)
            if library is None or modules.is_beside(library):
                break
            if module not in tables:
                table = {id(v): n for n, v in vars(library).items() if not n.startswith("__")}
                tables[module] = table
            name = tables[module].get(id(value))
            if name is not None:
                found[id(value)] = module, name
                break
    return found


def shells_parts() -> dict[int, tuple[str, ...]]:
    """Answer ``id`` of the IPython shell and its formatters to where they are in it.

    ``ip = get_ipython()`` means the shell of the process that runs the code.
    """
    interactive = sys.modules.get("IPython.core.interactiveshell")
    if interactive is None or not interactive.InteractiveShell.initialized():
        return {}
    shell = interactive.InteractiveShell.instance()
    found: dict[int, tuple[str, ...]] = {id(shell): ()}
    for name in ("display_formatter", "display_pub", "displayhook", "events", "magics_manager"):
        found[id(getattr(shell, name))] = (name,)
    for mime, formatter in shell.display_formatter.formatters.items():
        found[id(formatter)] = ("display_formatter", mime)
    return found


def find_shells_part(*path: str) -> Any:
    """Answer the shell of this process, or a part of it."""
    interactive = modules.find_module("IPython.core.interactiveshell")
    found: Any = interactive.InteractiveShell.instance()
    if path:
        found = getattr(found, path[0])
    return found.formatters[path[1]] if path[1:] else found


def is_singleton(obj: Any) -> bool:
    """Whether an object is one of the `singletons`."""
    kind = type(obj)
    if kind.__module__ in _SINGLETON_TYPES and id(obj) in singletons():
        return True
    return "traitlets.config.configurable" in sys.modules and id(obj) in (
        shells_parts() if hasattr(kind, "class_traits") else ()
    )


@contextmanager
def quietly() -> Iterator[None]:
    """Say nothing of Python 3.14, which cannot pickle itertools objects; older ones can."""
    with warnings.catch_warnings():
        text = "Pickle, copy, and deepcopy support will be removed"
        warnings.filterwarnings("ignore", text, DeprecationWarning)
        yield


def find_singleton(module: str, name: str) -> Any:
    return getattr(modules.find_module(module), name)


@per_class
def _guards_attributes(cls: type) -> bool:
    """Whether a notebook class has attribute access of its own, and default pickling.

    ``def __getattr__(self, name): return self._data[name]`` never ends for an
    instance without attributes, which is asked for its ``__setstate__``.
    """
    own = [vars(base) for base in cls.__mro__ if base.__module__ == "__main__"]
    guards = ("__getattr__", "__getattribute__", "__setattr__")
    hooks = ("__reduce__", "__reduce_ex__", "__setstate__", "__getstate__")
    return any(name in names for names in own for name in guards) and not any(
        hook in vars(base) for base in cls.__mro__ if base is not object for hook in hooks
    )


def _reduce_guarded(obj: Any) -> Any:
    reduced = object.__reduce_ex__(obj, 5)
    return (*(*reduced, None, None, None)[:5], set_plain_state)


_CONSTANTS = (
    ("builtins", "__dict__"),
    ("numpy", "nan"),
    ("math", "nan"),
    ("math", "inf"),
    ("numpy", "inf"),
)
"""Values that are asked for with ``is`` (``nan in row``), or that everybody has."""


def constants() -> dict[int, tuple[str, str]]:
    """Answer tokens for the constants of the modules that are imported."""
    return {
        id(getattr(sys.modules[module], name)): (module, name)
        for module, name in _CONSTANTS
        if module in sys.modules
    }


def deeply(function: Callable[[], T]) -> T:
    """Call a function; again with a stack of a gigabyte if it recurses too deeply.

    The C pickler recurses where objects hang on one another, and a linked list of
    400 nodes is deeper than Python's limit of a thousand frames.
    """
    try:
        return function()
    except RecursionError:
        pass
    answers: list[Any] = []
    context = contextvars.copy_context()

    def call() -> None:
        try:
            answers.append((True, context.run(function)))
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            answers.append((False, error))

    limit, size = sys.getrecursionlimit(), threading.stack_size(_DEEP_STACK)
    sys.setrecursionlimit(max(limit, _DEEP_LIMIT))
    try:
        thread = threading.Thread(target=call, name="dask_async_run deep pickling")
        thread.start()
        thread.join()
    finally:
        threading.stack_size(size)
        sys.setrecursionlimit(limit)
    done, answer = answers[0]
    if not done:
        raise answer
    return answer  # type: ignore[no-any-return]


def _in_order(kind: type, state: Any) -> Any:
    """Answer cloudpickle's state of a class, which it sorts, in the order of the class."""
    attributes, slots = state
    attributes.pop("__slotnames__", None)  # copyreg's note, made by pickling an instance
    ordered = {name: attributes[name] for name in vars(kind) if name in attributes}
    return ordered | attributes, slots


_HEAP_TYPE = 1 << 9
_DEEP_STACK = 1 << 30
_DEEP_LIMIT = 200_000


def by_reference(obj: Any) -> bool:
    """Whether an attribute of an importable module names exactly this object."""
    return _cp._lookup_module_and_qualname(obj) is not None


class ModuleGlobals:
    """Stands in a stream for the globals of an importable module."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __reduce__(self) -> Any:
        return modules.module_globals, (self._module,)


class GlobalsOf:
    """Stands in a stream for the globals of a module that goes along."""

    def __init__(self, module: types.ModuleType) -> None:
        self._module = module

    def __reduce__(self) -> Any:
        return vars, (self._module,)


def _made_here(function: types.FunctionType) -> types.ModuleType | None:
    """Answer the module, made by the notebook and in no file, that a function is of."""
    name = function.__globals__.get("__name__")
    module = sys.modules.get(name) if isinstance(name, str) else None
    if module is None or module.__dict__ is not function.__globals__:
        return None
    return module if modules.is_made_here(module) else None


def _reduce_module(module: types.ModuleType) -> Any:
    """By name; what nobody could import, or what has values of its own, with those."""
    if modules.is_made_here(module):
        registered = sys.modules.get(module.__name__) is module
        values = {k: v for k, v in vars(module).items() if k not in _OF_EVERY_MODULE}
        made = (module.__name__, registered)
        return modules.make_module, made, values, None, None, modules.set_module_state
    if modules.is_beside(module) and sys.modules.get(module.__name__) is module:
        values = modules.own_values(module)
        named = (module.__name__, module.__file__)
        return modules.find_module, named, values, None, None, modules.set_module_state
    return NotImplemented


_OF_EVERY_MODULE = ("__builtins__", "__loader__", "__spec__", "__name__")


def _through_module(obj: Any) -> Any:
    """By name, as an attribute of its module where that goes with its own values."""
    module = sys.modules.get(obj.__module__) if isinstance(obj.__module__, str) else None
    if module is None or not modules.is_beside(module):
        return NotImplemented
    return making.get_attribute, (module, obj.__qualname__)


class NamespacePickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Writes values of a namespace; each `dump` continues the same memo.

    Parameters
    ----------
    namespace : dict
        The namespace: functions whose ``__globals__`` is this very dict refer
        to it.
    buffer_callback : callable or None
        As in `pickle.Pickler`: falsy answers keep a buffer out of the stream.
    on_code : callable or None
        Called with the code object of each function of the namespace.
    shared : SharedMemory or None
        Where arrays are noted.
    known_globals : collection of int
        ``id`` of dicts that the user has: functions whose globals they are
        (``exec(code, scope)``) refer to them.
    named : mapping of int to (module, name), or None
        What `named_in_libraries` answered.
    """

    def __init__(
        self,
        file: Any,
        namespace: dict[str, Any],
        buffer_callback: Callable[[pickle.PickleBuffer], Any] | None = None,
        on_code: Callable[[types.FunctionType], None] | None = None,
        shared: SharedMemory | None = None,
        known_globals: Collection[int] = (),
        named: Mapping[int, tuple[str, str]] | None = None,
    ) -> None:
        self._constants: Mapping[int, Any] = constants()
        self._classes: list[type] = []
        super().__init__(file, protocol=5, buffer_callback=buffer_callback)
        self._known_globals = known_globals
        self._namespace = namespace
        self._reference = NamespaceReference()
        self._on_code = on_code
        self._singletons = singletons() | dict(named or {})
        self._shells_parts = shells_parts()
        self._shared = shared
        numpy = sys.modules.get("numpy")
        self._array_types: tuple[type, ...] = ()
        if shared is not None and numpy is not None:
            self._array_types = (numpy.ndarray,)
        pandas = sys.modules.get("pandas")
        self._pandas_types: tuple[type, ...] = ()
        if shared is not None and hasattr(pandas, "DataFrame"):
            self._pandas_types = (pandas.DataFrame, pandas.Series)  # type: ignore[union-attr]

    def dump(self, obj: Any) -> None:
        """Write one more object.

        Raises
        ------
        RecursionError
            As `deeply` wants it; cloudpickle's own `dump` raises another error.
        """
        try:
            pickle.Pickler.dump(self, obj)
        finally:
            # Python notes in a class how its instances are pickled; the notebook did not ask.
            for kind in self._classes:
                if "__slotnames__" in vars(kind):
                    type.__delattr__(kind, "__slotnames__")

    def persistent_id(self, obj: Any) -> Any:
        return self._constants.get(id(obj))

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is types.FunctionType:
            return self._reduce_function(obj)
        if isinstance(obj, type):
            if obj.__flags__ & _HEAP_TYPE and obj.__module__ == "__main__":
                self._classes.append(obj)
            return self._reduce_class(obj)
        singleton = self._singletons.get(id(obj))
        if singleton is not None:
            return find_singleton, singleton
        part = self._shells_parts.get(id(obj))
        if part is not None:
            return find_shells_part, part
        reducer = _REDUCERS.get(kind)
        if reducer is not None:
            return reducer(obj)
        if kind is caches.LruCache and not by_reference(obj):
            return caches.reduce_lru_cache(obj)
        if self._pandas_types and isinstance(obj, self._pandas_types):
            self._shared.keep_private(obj)  # type: ignore[union-attr]
        elif self._array_types and isinstance(obj, self._array_types):
            return self._reduce_array(obj)
        elif isinstance(obj, dict) and getattr(obj, "__dict__", None) is obj:
            pairs: Any = obj
            return make_own_dict, (kind,), None, None, iter(dict.items(pairs))
        elif kind is types.ModuleType:
            return _reduce_module(obj)
        elif making.needs_own_way(kind):
            return making.reduce_instance(obj)
        elif making.needs_arguments(kind):
            return making.reduce_bare(obj)
        elif _guards_attributes(kind):
            return _reduce_guarded(obj)
        return NotImplemented

    def _reduce_function(self, function: types.FunctionType) -> Any:
        made_here = _made_here(function)
        if made_here is None and _cp._should_pickle_by_reference(function):
            return _through_module(function)
        state, slots = _cp._function_getstate(function)
        del slots["__closure__"]
        ours = function.__globals__ is self._namespace
        if ours:
            slots["__globals__"] = {}
            slots["_cloudpickle_submodules"] = []
            where: Any = self._reference
        elif made_here is not None:
            slots["__globals__"] = {}
            where = GlobalsOf(made_here)
        elif (module := modules.globals_owner(function.__globals__)) is not None:
            slots["__globals__"] = {}
            where = ModuleGlobals(module)
        elif id(function.__globals__) in self._known_globals:
            slots["__globals__"] = {}
            where = function.__globals__
        else:
            where = self._function_getnewargs(function)[1]
        if self._on_code is not None:
            self._on_code(function)
        made = (function.__code__, where, function.__closure__)
        return make_function, made, (state, slots), None, None, set_function_state

    @staticmethod
    def _reduce_class(kind: type) -> Any:
        reduced = _cp._class_reduce(kind)
        if isinstance(reduced, tuple) and len(reduced) == 6:
            if not kind.__flags__ & _HEAP_TYPE:
                if (unnamed := making.reduce_type(kind)) is not None:
                    return unnamed
                raise pickle.PicklingError(f"the type {kind.__name__!r} has no name to find it by")
            maker, args, state = reduced[:3]
            state = _in_order(kind, state)
            if maker is _cp._make_skeleton_enum:
                args, state = enums.with_members(kind, args, state)
            slotted = "__slots__" in vars(kind) and not issubclass(kind, tuple)
            if maker is _cp._make_skeleton_class and slotted:
                # Slots exist from the start or not at all.
                args[3]["__slots__"] = kind.__slots__  # type: ignore[attr-defined]
                for name, value in vars(kind).items():
                    if type(value) is types.MemberDescriptorType:
                        state[0].pop(name, None)  # also those of private names
            made = (maker, (*args, kind.__qualname__))
            return make_class, made, state, None, None, set_class_state
        return _through_module(kind) if reduced is NotImplemented else reduced

    def _reduce_array(self, array: Any) -> Any:
        root = self._shared.seen(array)  # type: ignore[union-attr]
        kind = type(array)
        attributes: tuple[Any, ...] = ()
        if kind.__module__ == "__main__" and vars(array) and not array.dtype.hasobject:
            # numpy's own way leaves the attributes out that a notebook's class has.
            attributes = (dict(vars(array)), None), None, None, set_plain_state
        if root is None and attributes:
            return make_own_array, (array.view(self._array_types[0]), kind), *attributes
        if root is None:
            return reduce_array(array)
        start = root.__array_interface__["data"][0]
        offset = array.__array_interface__["data"][0] - start
        made = (root, offset, array.shape, array.strides, array.dtype, type(array))
        return make_view, (*made, array.flags.writeable), *attributes


class SeededPickler(NamespacePickler):
    """A `NamespacePickler` that writes seeds as tokens.

    Parameters
    ----------
    seeds : mapping of int to token
        ``id(obj)`` of each seed to its token; the caller keeps the objects alive.
    """

    def __init__(
        self, file: Any, namespace: dict[str, Any], seeds: Mapping[int, Any], **kwargs: Any
    ):
        super().__init__(file, namespace, **kwargs)
        self._constants = {**self._constants, **seeds}


_LOAD = compile("load()", "<unpickling>", "eval")


class NamespaceUnpickler(pickle.Unpickler):
    """Loads a stream into a namespace; each `load` continues the same memo.

    Parameters
    ----------
    file : binary file
    namespace : dict
        What functions get as their globals.
    buffers : iterable of buffers
        The stream's frames, in order.
    resolve : callable or None
        Answers the object for a seed's token.
    keep_classes : bool
        Leave classes that this process already has as they are now. A kernel
        wants that, a fresh cell process does not care.
    """

    _OURS: ClassVar[str] = __name__

    @contextmanager
    def lending(self) -> Iterator[Callable[[str, Any], None]]:
        """Answer a function that gives the namespace a name while the rest is loaded.

        A user's ``__setstate__`` or ``__hash__`` is run by loading, and may read
        names that come with it. Names that are there already are left alone.
        """
        lent: list[str] = []

        def lend(name: str, value: Any) -> None:
            if name not in self._namespace:
                self._namespace[name] = value
                lent.append(name)

        try:
            with quietly():
                yield lend
        finally:
            for name in lent:
                self._namespace.pop(name, None)

    def __init__(
        self,
        file: Any,
        namespace: dict[str, Any],
        buffers: Iterable[Buffer] = (),
        resolve: Callable[[Any], Any] | None = None,
        keep_classes: bool = False,
    ) -> None:
        super().__init__(file, buffers=buffers)
        self._namespace = namespace
        self._resolve = resolve
        self._keep_classes = keep_classes
        self._known_classes: set[type] = set()

    def load(self) -> Any:
        """Load one more object, with a frame of the namespace below it.

        What a library runs while its objects are loaded may look up names where it
        believes that it was called from: patsy evaluates a formula again.
        """
        return eval(_LOAD, self._namespace, {"load": super().load})

    def find_class(self, module: str, name: str) -> Any:
        if module == self._OURS:
            if name == "loading_namespace":
                return lambda: self._namespace
            if name == "make_class" and self._keep_classes:
                return self._find_or_make_class
            if name == "set_class_state" and self._keep_classes:
                return self._set_new_class_state
        return super().find_class(module, name)

    def persistent_load(self, token: Any) -> Any:
        if isinstance(token[0], str):
            return getattr(modules.find_module(token[0]), token[1])
        if self._resolve is None:
            raise pickle.UnpicklingError(f"this stream refers to {token!r}, which is not here")
        return self._resolve(token)

    def _find_or_make_class(self, maker: Callable[..., type], args: tuple[Any, ...]) -> type:
        # The tracker id comes before an unused argument and the qualified name.
        with _cp._DYNAMIC_CLASS_TRACKER_LOCK:
            known = _cp._DYNAMIC_CLASS_TRACKER_BY_ID.get(args[-3])
        if known is not None:
            self._known_classes.add(known)
            return known  # type: ignore[no-any-return]
        return make_class(maker, args)

    def _set_new_class_state(self, cls: type, state: Any) -> None:
        if cls not in self._known_classes:
            set_class_state(cls, state)
