"""The unpickler of namespaces, and what their streams call: functions and classes of notebooks.

Loading never resets the attributes of a class that this process already has, unless asked to:
cloudpickle sets a class attribute that was changed meanwhile back to its old value.
"""

from __future__ import annotations

import pickle
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from cloudpickle import cloudpickle as _cp

from dask_async_run.namespace import enums, modules, standard, weak
from dask_async_run.namespace.conditions import quietly
from dask_async_run.namespace.flat import FlatReader

T = TypeVar("T")


def loading_namespace() -> dict[str, Any]:
    """Answer the namespace being loaded into; `NamespaceUnpickler` replaces it."""
    raise pickle.UnpicklingError("this stream can only be loaded into a namespace")


def recall(token: Any) -> Any:
    """Answer the object of a token; `NamespaceUnpickler` replaces it."""
    raise pickle.UnpicklingError(f"this stream refers to {token!r}, which is not here")


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


def known_classes() -> set[type]:
    """Answer the classes of notebooks that this process has sent or got."""
    with _cp._DYNAMIC_CLASS_TRACKER_LOCK:
        return set(_cp._DYNAMIC_CLASS_TRACKER_BY_CLASS)


def set_class_state(cls: type, state: Any) -> None:
    """Give a class its attributes; `NamespaceUnpickler` may skip it."""
    attributes, slots, *members = state
    registered = attributes.get("_abc_impl") or ()
    attributes = {name: value for name, value in attributes.items() if name != "_abc_impl"}
    # Enums get their attributes when they are made and would refuse them a second time.
    _cp._class_setstate(cls, (attributes, slots))
    if members:
        enums.set_members(cls, members[0])
    if registered:
        _register(cls, registered)


def _register(cls: Any, subclasses: Iterable[type]) -> None:
    """Have an abstract class know its virtual subclasses, without asking the notebook about them.

    A ``__subclasshook__`` reads names that are not there yet.
    """
    asked = [k for k in cls.__mro__ if k.__module__ == "__main__" and _HOOK in vars(k)]
    hooks = [(kind, vars(kind)[_HOOK]) for kind in asked]
    try:
        for kind, _ in hooks:
            type.__delattr__(kind, _HOOK)
        for subclass in subclasses:
            cls.register(subclass)
    finally:
        for kind, hook in hooks:
            type.__setattr__(kind, _HOOK, hook)


_HOOK = "__subclasshook__"


_SET_VALUES = modules.__name__, modules.set_module_state.__name__
_MAKE_FINALISER = weak.__name__, weak.make_finaliser.__name__
_FORMERLY = __name__.replace("unpickling", "pickling")
"""Where streams of earlier versions say that what they call is."""
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
    keep_modules : bool
        The same of modules beside the notebook.
    finalisers : bool
        Load a `weakref.finalize` as one that is still to be called. Else it is spent: that
        a copy of an object goes must not do what is to be done when the object does.

    Attributes
    ----------
    flats : FlatReader
    recalled : set of int
        ``id`` of what was there for a token that a call asked for; it is kept alive.
    """

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
        buffers: Iterable[Any] = (),
        resolve: Callable[[Any], Any] | None = None,
        keep_classes: bool = False,
        keep_modules: bool = False,
        finalisers: bool = False,
    ) -> None:
        super().__init__(file, buffers=buffers)
        self._finalisers = finalisers
        self._known_modules = set(sys.modules.values()) if keep_modules else set()
        self._namespace = namespace
        self._resolve = resolve
        self._keep_classes = keep_classes
        self._known_classes: set[type] = set()
        self.flats = FlatReader()
        self.recalled: set[int] = set()

    def load(self) -> Any:
        """Load one more object, with a frame of the namespace below it.

        What a library runs while its objects are loaded may look up names where it
        believes that it was called from: patsy evaluates a formula again.
        """
        return self.below(super().load)

    def below(self, load: Callable[[], T]) -> T:
        """Call what loads with a frame of the namespace below it."""
        return eval(_LOAD, self._namespace, {"load": load})  # type: ignore[no-any-return]

    def sets_values(self, function: Any) -> bool:
        """Whether a function of the stream is the one that gives a module its values."""
        return function in (modules.set_module_state, self._set_new_modules_values)

    def find_class(self, module: str, name: str) -> Any:
        if module == _FORMERLY:
            module = standard.__name__ if hasattr(standard, name) else __name__
        if module == __name__:
            if name == "loading_namespace":
                return lambda: self._namespace
            if name == "recall":
                return self._recall
            if name == "make_class" and self._keep_classes:
                return self._find_or_make_class
            if name == "set_class_state" and self._keep_classes:
                return self._set_new_class_state
        if not self._finalisers and (module, name) == _MAKE_FINALISER:
            return lambda *unused: weak.make_finaliser()
        if self._known_modules and (module, name) == _SET_VALUES:
            return self._set_new_modules_values
        return super().find_class(module, name)

    def persistent_load(self, token: Any) -> Any:
        if self._resolve is not None and type(token[0]) is int and len(token) == 2:
            return self._resolve(token)  # the most of them, by far
        match token:
            case (str() as module, name):
                return getattr(modules.find_module(module), name)
            case (None | memoryview() | bytes() | bytearray() as data, number):
                return self.flats.load(data, number)
        if self._resolve is None:
            raise pickle.UnpicklingError(f"this stream refers to {token!r}, which is not here")
        match token:
            case (section, index, "vars"):
                return vars(self._resolve((section, index)))
        return self._resolve(token)

    def _recall(self, token: Any) -> Any:
        obj = self.persistent_load(token)
        self.recalled.add(id(obj))
        return obj

    def _find_or_make_class(self, maker: Callable[..., type], args: tuple[Any, ...]) -> type:
        # The tracker id comes before an unused argument and the qualified name.
        with _cp._DYNAMIC_CLASS_TRACKER_LOCK:
            known = _cp._DYNAMIC_CLASS_TRACKER_BY_ID.get(args[-3])
        if known is not None:
            self._known_classes.add(known)
            return known  # type: ignore[no-any-return]
        return make_class(maker, args)

    def _set_new_modules_values(self, module: types.ModuleType, values: Any) -> None:
        if module not in self._known_modules:
            modules.set_module_state(module, values)

    def _set_new_class_state(self, cls: type, state: Any) -> None:
        if cls not in self._known_classes:
            set_class_state(cls, state)
