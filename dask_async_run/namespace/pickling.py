"""The pickler of namespaces: cloudpickle's, with five differences (and `unpickling`).

1. A function whose globals are *the namespace* is pickled with a reference to
   the namespace instead of a frozen copy of its globals, and is rebuilt on the
   namespace of the side that loads it. The code objects met on the way are
   reported, so that capture can add the names that they read to its work list.
2. The cells of closures are objects of their own: two functions that share a
   variable still share it afterwards. (cloudpickle makes fresh cells for each
   function: ``get, set = make_counter()`` come apart.)
3. Loading never resets the attributes of a class that this process already has,
   unless asked to.
4. Objects can be *seeds*: they are written as a token and loaded as whatever
   the loading side has for that token, which is how what went in comes back as
   the same object.
5. Code keeps the name of its file, by which a traceback finds its lines:
   cloudpickle since 3.1.3 calls every file ``<dynamic-code>``.

Numpy arrays that share memory are handled by `sharing`.

Some internals of cloudpickle are used (``_class_reduce``, ``_function_getstate``
and the like); ``tests/namespace/test_pickling.py`` notices when they change.
"""

from __future__ import annotations

import copyreg
import gc
import pickle
import re
import struct
import sys
import types
import weakref
from collections.abc import Callable, Container, Mapping
from typing import Any

import cloudpickle
from cloudpickle import cloudpickle as _cp

from dask_async_run.namespace import (
    archives,
    attributed,
    beside,
    blocks,
    caches,
    cursors,
    derived,
    enums,
    expressions,
    handlers,
    keys,
    making,
    managers,
    modules,
    parts,
    threads,
    ufuncs,
    weak,
)
from dask_async_run.namespace.callbacks import is_registry, reduce_registry
from dask_async_run.namespace.charts import is_chart, reduce_chart
from dask_async_run.namespace.elements import is_element, reduce_element
from dask_async_run.namespace.flat import FLAT, FlatWriter
from dask_async_run.namespace.kinds import ATOMS, per_class
from dask_async_run.namespace.loops import is_loop, is_this_loop, loop_of_this_process
from dask_async_run.namespace.named import (
    find_shells_part,
    find_singleton,
    library_name,
    question,
    shells_parts,
)
from dask_async_run.namespace.pictures import is_drawing, is_film, reduce_drawing, reduce_film
from dask_async_run.namespace.raised import (
    as_exceptions,
    asks,
    given_up,
    refuse_what_was_given_up,
)
from dask_async_run.namespace.remote import Key, reduce_remote, remote_types
from dask_async_run.namespace.rows import is_row, take_row
from dask_async_run.namespace.sharing import (
    SharedMemory,
    holder_of,
    is_masked,
    is_plain_subclass,
    make_masked,
    make_own_array,
    make_view,
    mapped_root,
    reduce_array,
    reduce_dtype,
    reduce_mapped,
    reduce_objects,
    reduce_over,
)
from dask_async_run.namespace.standard import REDUCERS
from dask_async_run.namespace.tensors import Storages, reduce_tensor, tensor_types
from dask_async_run.namespace.texts import reduce_texts
from dask_async_run.namespace.transforms import is_transform, reduce_transform
from dask_async_run.namespace.unpickling import (
    loading_namespace,
    make_class,
    make_function,
    make_own_dict,
    set_class_state,
    set_function_state,
    set_plain_state,
)

Buffer = Any
"""Anything with the buffer protocol."""

IN_BAND = 64 * 1024
"""Buffers of fewer bytes than this stay in the stream: a frame is a file."""


class NamespaceReference:
    """Stands in a stream for the namespace of the side that loads it."""

    def __reduce__(self) -> tuple[Callable[[], Any], tuple[()]]:
        return loading_namespace, ()


@per_class
def _reducer_of_library(kind: type) -> Callable[[Any], Any] | None:
    found = (m.reducer(kind) for m in (archives, cursors, expressions, handlers, threads))
    return next((reducer for reducer in found if reducer is not None), None)


@per_class
def _guards_attributes(cls: type) -> bool:
    """Whether a class has attribute access of its own, and default pickling.

    ``def __getattr__(self, name): return self._data[name]`` never ends for an
    instance without attributes, which is asked for its ``__setstate__``.
    """
    own = [vars(base) for base in cls.__mro__ if base.__module__ == "__main__"]
    guards = ("__getattr__", "__getattribute__", "__setattr__")
    hooks = ("__reduce__", "__reduce_ex__", "__setstate__", "__getstate__")
    guarded = any(name in names for names in own for name in guards) or (
        # A library's, too: the calls that a `unittest.mock.Mock` has noted.
        isinstance(getattr(cls, "__getattr__", None), types.FunctionType)
        and cls not in copyreg.dispatch_table
    )
    return guarded and not any(
        hook in vars(base) for base in cls.__mro__ if base is not object for hook in hooks
    )


@per_class
def _reduces_itself(cls: type) -> bool:
    """Whether a class of the notebook says by which functions its instances are made again."""
    return any(
        base.__module__ == "__main__" and not {"__reduce__", "__reduce_ex__"}.isdisjoint(vars(base))
        for base in cls.__mro__
    )


def _reduce_guarded(obj: Any) -> Any:
    reduced = object.__reduce_ex__(obj, 5)
    return (*(*reduced, None, None, None)[:5], set_plain_state)


_CONSTANTS = (
    ("builtins", "__dict__"),
    ("numpy", "nan"),
    ("argparse", "SUPPRESS"),
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


def _in_order(kind: type, state: Any) -> Any:
    """Answer cloudpickle's state of a class, which it sorts, in the order of the class."""
    attributes, slots = state
    attributes.pop("__slotnames__", None)  # copyreg's note, made by pickling an instance
    # cloudpickle leaves out what a base class has too: only as long as that has it.
    inherited = {
        name
        for name, value in vars(kind).items()
        if name not in attributes
        and any(vars(base).get(name, _NOTHING) is value for base in kind.__mro__[1:])
    }
    own = {n: v for n, v in vars(kind).items() if n in inherited - _OF_EVERY_CLASS} | attributes
    ordered = {name: own[name] for name in vars(kind) if name in own}
    return ordered | own, slots


_NOTHING: Any = object()
_OF_EVERY_CLASS = {"__module__", "__doc__", "__dict__", "__weakref__", "__slots__", "_abc_impl"}


_MAKING = re.escape(pickle.EMPTY_SET + pickle.MEMOIZE)
_NEW_SET = re.compile(_MAKING + rb"(?<![JMjr]" + _MAKING + rb")")
"""The operations that make one, as far as they are not a part of a number."""
_HEAP_TYPE = 1 << 9


def by_reference(obj: Any) -> bool:
    """Whether an attribute of an importable module names exactly this object.

    A function of the notebook that took a library's name with its place is none:
    ``math.factorial = debug(math.factorial)``, with ``functools.wraps``.
    """
    if parts.is_notebooks(obj):
        return False
    known = _cp._lookup_module_and_qualname(obj) is not None
    return known or modules.package_with(obj) is not None


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


def _unregistered(names: dict[str, Any]) -> types.ModuleType | None:
    """Answer the module that has such globals, and that nobody has registered."""
    if not isinstance(names.get("__name__"), str):
        return None
    holders = (held for held in gc.get_referrers(names) if type(held) is types.ModuleType)
    return next((m for m in holders if m.__dict__ is names and modules.is_made_here(m)), None)


def _reduce_loop(loop: Any) -> Any:
    if not is_this_loop(loop):
        raise TypeError("cannot pickle an event loop of one's own")
    return loop_of_this_process, ()


def _through_module(obj: Any) -> Any:
    """By name, as an attribute of its module where that goes with its own values."""
    module = sys.modules.get(obj.__module__) if isinstance(obj.__module__, str) else None
    if module is None or not modules.is_beside(module):
        return NotImplemented
    return making.get_attribute, (module, obj.__qualname__)


class Null:
    def write(self, data: bytes) -> int:
        return len(data)


class NamespacePickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Writes values of a namespace; each `dump` continues the same memo.

    Nothing of Python is called for numbers, texts and built-in containers, so these are
    written at the speed of C; `meets_constants` says whether that was good enough.

    Parameters
    ----------
    namespace : dict
        The namespace: functions whose ``__globals__`` is this very dict refer
        to it.
    buffer_callback : callable or None
        As in `pickle.Pickler`: falsy answers keep a buffer out of the stream.
    on_code : callable or None
        Called with the code object of each function of the namespace.
    on_class : callable or None
        Called with each class of the namespace.
    on_file : callable or None
        Called with the name of each file that a traceback shows lines of.
    shared : SharedMemory or None
        Where arrays are noted.
    known_globals : container of int
        ``id`` of dicts that the user has: functions whose globals they are
        (``exec(code, scope)``) refer to them.
    on_remade : callable or None
        Called before an object that functions of the notebook are called for when it is loaded.

    Attributes
    ----------
    mapped : list of numpy.memmap
        Those that were written so far: their files are shared, not copied.
    futures : list
        Keys of the Dask futures that were written so far.
    databases : list
        SQLite connections, cursors and rows that were written so far.
    modules : list
        Those that were written so far.
    sets : bool
        An instance of a subclass of `set` was written.
    left_out : dict of str to str
        Values of modules beside the notebook that can't be pickled, and why.
    """

    def __init__(
        self,
        file: Any,
        namespace: dict[str, Any],
        buffer_callback: Callable[[pickle.PickleBuffer], Any] | None = None,
        on_code: Callable[[types.FunctionType], None] | None = None,
        on_class: Callable[[type], None] | None = None,
        on_file: Callable[[str], object] | None = None,
        shared: SharedMemory | None = None,
        known_globals: Container[int] = (),
        on_remade: Callable[[], None] | None = None,
    ) -> None:
        self._classes: list[type] = []
        super().__init__(file, protocol=5, buffer_callback=buffer_callback)
        self._known_globals = known_globals
        self._namespace = namespace
        self._reference = NamespaceReference()
        self._on_code = on_code
        self._on_class = on_class
        self._on_file = on_file
        self._on_remade = on_remade
        self._shells_parts = shells_parts()
        self._shared = shared
        self.mapped: list[Any] = []
        self.databases: list[Any] = []
        self.modules: list[types.ModuleType] = []
        self.sets = False
        self.left_out: dict[str, str] = {}
        self._within: tuple[Any, ...] = ()
        numpy = sys.modules.get("numpy")
        self._array_types: tuple[type, ...] = ()
        if shared is not None and numpy is not None:
            self._array_types = (numpy.ndarray,)
        self._dtype_type: tuple[type, ...] = () if numpy is None else (numpy.dtype,)
        pandas = sys.modules.get("pandas")
        self._pandas_types: tuple[type, ...] = ()
        self._index_type: tuple[type, ...] = ()
        if shared is not None and hasattr(pandas, "DataFrame"):
            self._pandas_types = (pandas.DataFrame, pandas.Series)  # type: ignore[union-attr]
            self._index_type = (pandas.Index,)  # type: ignore[union-attr]
        self._text_dtype = getattr(pandas, "StringDtype", None)
        self._tensor_types = tensor_types()
        self._storages = Storages()
        self._remote_types = remote_types()
        self.futures: list[Key] = []

    @asks
    def dump(self, obj: Any) -> None:
        """Write one more object.

        Raises
        ------
        RecursionError
            As `deeply` wants it; cloudpickle's own `dump` raises another error.
        """
        try:
            with as_exceptions():
                pickle.Pickler.dump(self, obj)
        finally:
            # Python notes in a class how its instances are pickled; the notebook did not ask.
            for kind in self._classes:
                if "__slotnames__" in vars(kind):
                    type.__delattr__(kind, "__slotnames__")

    def may_have_sets(self, stream: bytes) -> bool:
        """Whether a set was written; `stream` is what came of it."""
        return self.sets or _NEW_SET.search(stream) is not None

    def has_own_hashes(self) -> bool:
        """Whether a class was written whose instances have a hash of the notebook's."""
        return any(map(keys.hashes_its_own_way, self._classes))

    def reducer_override(self, obj: Any) -> Any:
        if given_up:
            refuse_what_was_given_up(obj)
        kind = type(obj)
        if kind is types.FunctionType:
            return self._reduce_function(obj)
        if kind in weak.PROXIES:  # which would be asked what they are, and may stand for nothing
            return weak.reduce_proxy(obj)
        if isinstance(obj, type):
            if obj.__flags__ & _HEAP_TYPE and obj.__module__ == "__main__":
                self._classes.append(obj)
                if self._on_class is not None:
                    self._on_class(obj)
            return self._reduce_class(obj)
        if kind in self._tensor_types:
            return reduce_tensor(obj, self._storages)
        if kind in self._remote_types:
            return reduce_remote(obj, self.futures)
        place = library_name(obj)
        if place is not None:
            return find_singleton, place
        part = self._shells_parts.get(id(obj))
        if part is not None:
            return find_shells_part, part
        if kind is types.MethodType and (place := question(obj)) is not None:
            return find_singleton, place
        reducer = REDUCERS.get(kind) or _reducer_of_library(kind)
        if reducer is not None:
            if kind.__module__ == "sqlite3":
                self.databases.append(obj)
            return reducer(obj)
        if issubclass(kind, set):
            self.sets = True
        if kind is caches.LruCache and not by_reference(obj):
            return caches.reduce_lru_cache(obj)
        if self._pandas_types and isinstance(obj, self._pandas_types):
            self._shared.of_pandas(managers.arrays_of_frame(obj))  # type: ignore[union-attr]
            return making.reduce_pandas(obj)
        elif self._index_type and isinstance(obj, self._index_type):
            self._shared.of_pandas(managers.arrays_of_index(obj))  # type: ignore[union-attr]
            return managers.reduce_index(obj, self._shared)
        elif self._pandas_types and (of_manager := managers.reducer(kind)) is not None:
            return of_manager(obj, self._shared)
        elif self._array_types and isinstance(obj, self._array_types):
            return self._reduce_array(obj)
        elif isinstance(obj, self._dtype_type):
            return reduce_dtype(obj)
        elif self._array_types and is_row(obj):
            array = self._shared.array_of(obj)  # type: ignore[union-attr]
            return NotImplemented if array is None else (take_row, (array,))
        elif kind is self._text_dtype and obj.na_value is sys.modules["numpy"].nan:
            return making.make_text_dtype, (obj.storage,)
        elif isinstance(obj, dict) and getattr(obj, "__dict__", None) is obj:
            pairs: Any = obj
            return make_own_dict, (kind,), None, None, iter(dict.items(pairs))
        elif kind is types.ModuleType:
            return self._reduce_module(obj)
        elif kind is weakref.finalize:
            return self._reduce_finaliser(obj)
        elif making.remembers(obj):
            return making.reduce_without_memory(obj)
        elif is_chart(kind):
            return reduce_chart(obj)
        elif is_drawing(kind):
            return reduce_drawing(obj)
        elif is_film(obj):
            return reduce_film(obj)
        elif making.is_plotly_figure(obj):  # a widget
            return making.reduce_plotly_figure(obj)
        elif making.is_soup(obj):
            return making.reduce_soup(obj)
        elif making.is_curried(kind):
            return making.reduce_curried(obj)
        elif making.refuses_as_patsys(kind):
            return self._reduce_patsys(obj)
        elif is_element(kind):
            return reduce_element(obj)
        elif is_registry(kind):
            return self._reduce_callbacks(obj)
        elif is_transform(kind):
            return reduce_transform(obj)
        elif is_loop(kind):
            return _reduce_loop(obj)
        elif (stream := handlers.standard_stream(obj)) is not None:
            return getattr, (sys, stream)
        elif making.needs_own_way(kind):
            if self._on_file is not None and isinstance(obj, BaseException):
                for file in making.files_of(obj):
                    self._on_file(file)
            return making.reduce_instance(obj)
        elif making.needs_arguments(kind):
            return making.reduce_bare(obj)
        elif attributed.is_attributed(kind) and (own := attributed.reduce_attributed(obj)):
            return own
        elif self._shared is not None and making.shares_attributes(obj):
            return making.reduce_sharing(obj)
        elif _guards_attributes(kind):
            return _reduce_guarded(obj)
        elif ufuncs.is_of_python(obj):
            return ufuncs.reduce_ufunc(obj)
        elif (reduced := derived.reduce_derived(obj)) is not None:
            return reduced
        if self._on_remade is not None and _reduces_itself(kind):
            self._on_remade()
        return NotImplemented

    def _reduce_function(self, function: types.FunctionType) -> Any:
        if (teed := handlers.teed_stream(function)) is not None:
            return handlers.find_method, (teed, "write")
        made_here = _made_here(function)
        ours = function.__globals__ is self._namespace
        if made_here is None and not ours and _cp._should_pickle_by_reference(function):
            return _through_module(function)
        state, slots = _cp._function_getstate(function)
        del slots["__closure__"]
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
        elif (unnamed := _unregistered(function.__globals__)) is not None:
            slots["__globals__"] = {}
            where = GlobalsOf(unnamed)
        else:
            where = self._function_getnewargs(function)[1]
        if self._on_code is not None:
            self._on_code(function)
        made = (function.__code__, where, function.__closure__)
        return make_function, made, (state, slots), None, None, set_function_state

    def _reduce_module(self, module: types.ModuleType) -> Any:
        """By name; what nobody could import, or what has values of its own, with those."""
        self.modules.append(module)
        if not beside.keeps_state(module):
            return NotImplemented
        if modules.is_made_here(module):
            registered = sys.modules.get(module.__name__) is module
            made: Any = modules.make_module, (module.__name__, registered)
        else:
            made = modules.find_module, (module.__name__, module.__file__)
        if module in self._within:
            return made
        values = {}
        for name, value in beside.own_values(module).items():
            why = self._why_not(value, module)
            if why is None:
                values[name] = value
            else:
                self.left_out[f"{module.__name__}.{name}"] = why
        return *made, values, None, None, modules.set_module_state

    def _reduce_finaliser(self, finaliser: Any) -> Any:
        alive = finaliser.peek()
        if alive is None or finaliser in self._within or self._why_not(alive, finaliser):
            return weak.make_finaliser, ()
        return weak.make_finaliser, (*alive, finaliser.atexit)

    def _reduce_callbacks(self, registry: Any) -> Any:
        def travels(function: Any) -> bool:
            why = self._why_not(function, registry) if registry not in self._within else None
            if why is not None:
                self.left_out[f"the callback {getattr(function, '__name__', function)}"] = why
            return why is None

        return reduce_registry(registry, travels)

    def _reduce_patsys(self, obj: Any) -> Any:
        """Reduce an object of patsy, which refuses; where it looks names up is the namespace."""
        attributes = dict(vars(obj))
        if isinstance(spaces := attributes.get("_namespaces"), list):
            attributes["_namespaces"] = [
                self._reference if space is self._namespace else space for space in spaces
            ]
        return making.make_bare, (type(obj),), attributes, None, None, set_plain_state

    def _why_not(self, value: Any, part_of: Any) -> str | None:
        """Answer why something can't go along, without which its whole can."""
        if type(value) in ATOMS:
            return None
        probe = NamespacePickler(Null(), self._namespace, buffer_callback=lambda buffer: None)
        probe._within = (*self._within, part_of)
        try:
            probe.dump(value)
        except RecursionError:
            raise  # `deeply` tries again
        except Exception as error:  # noqa: BLE001 - a user's __reduce__ may raise anything
            return f"{type(error).__name__}: {error}"
        return None

    @staticmethod
    def _reduce_class(kind: type) -> Any:
        if (package := modules.package_with(kind)) is not None:
            return making.get_attribute, (package, kind.__qualname__)
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
        kind = type(array)
        if is_masked(array):
            numbers = self._shared.numbers(array)  # type: ignore[union-attr]
            state = dict(vars(array)), None
            return make_masked, (numbers, kind), state, None, None, set_plain_state
        if (root := mapped_root(array)) is not None:
            self.mapped.append(root)
            return reduce_mapped(array, root)
        shared: SharedMemory = self._shared  # type: ignore[assignment]
        if (made_of := shared.on_frame(array)) is not None:
            return blocks.make_view_of_frame, made_of
        root = shared.seen(array)
        holder = None if root is not None or shared.is_private(array) else holder_of(array)
        if holder is not None:
            return reduce_over(array, holder)
        if root is None and kind is self._array_types[0] and array.dtype.kind == "O":
            texts = reduce_texts(array)
            return reduce_objects(array) if texts is NotImplemented else texts
        attributes: tuple[Any, ...] = ()
        has_own = kind.__module__ == "__main__" or kind.__name__ == "recarray"
        own: dict[str, Any] = {}
        if (has_own or is_plain_subclass(kind)) and not array.dtype.hasobject:
            # numpy's own way leaves out what a class, or somebody, gave it.
            own = dict(vars(array))
        if own and not has_own:
            own = {name: v for name, v in own.items() if self._why_not(v, array) is None}
        if own:
            attributes = (own, None), None, None, set_plain_state
        if root is None and attributes:
            return make_own_array, (shared.numbers_of(array), kind), *attributes
        if root is None:
            return reduce_array(array)
        start = root.__array_interface__["data"][0]
        offset = array.__array_interface__["data"][0] - start
        made = (root, offset, array.shape, array.strides, array.dtype, type(array))
        return make_view, (*made, array.flags.writeable), *attributes


def meets_constants(stream: bytes) -> bool:
    """Whether something written by a `NamespacePickler` may hold one of `constants`.

    It was written by its value then, and is to be written again by a `SeededPickler`.
    """
    return any(trace in stream for trace in map(_trace, constants().values()))


def _trace(place: tuple[str, str]) -> bytes:
    """Answer a part of what a constant is written as; it is a number, a text or a dict."""
    value = getattr(sys.modules[place[0]], place[1])
    if type(value) is float:
        return pickle.BINFLOAT + struct.pack(">d", value)
    # The other one is the dict of the builtins: that is in it, and hardly in anything else.
    return value.encode() if isinstance(value, str) else b"__build_class__"


class SeededPickler(NamespacePickler):
    """A `NamespacePickler` that writes seeds as tokens, and `constants` by their names.

    Every object costs it a call of Python's.

    Parameters
    ----------
    seeds : mapping of int to token
        ``id(obj)`` of each seed to its token, or `FLAT`; the caller keeps the objects alive.

    Attributes
    ----------
    flats : FlatWriter
    """

    def __init__(
        self, file: Any, namespace: dict[str, Any], seeds: Mapping[int, Any], **kwargs: Any
    ):
        self._tokens = {**constants(), **seeds}
        self.flats = FlatWriter()
        super().__init__(file, namespace, **kwargs)

    def persistent_id(self, obj: Any) -> Any:
        token = self._tokens.get(id(obj))
        return self.flats.token(obj) if token is FLAT else token
