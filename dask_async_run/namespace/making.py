"""Instances whose default pickling would run the user's code, or lose something.

Unpickling calls ``cls.__new__`` and, for what a container holds, the object's own
``append`` or ``__setitem__``; an exception is made by calling its class. Here the
object is made by the built-in type that is underneath, and filled by its methods.
"""

from __future__ import annotations

import collections
import copyreg
import inspect
import sys
import types
from collections.abc import Iterator
from dataclasses import astuple
from operator import attrgetter
from typing import Any

from dask_async_run.namespace.kinds import per_class
from dask_async_run.namespace.modules import module_name
from dask_async_run.namespace.tracebacks import Entry, entries_of, make_traceback

_CONTAINERS: tuple[type, ...] = (
    collections.OrderedDict,
    collections.defaultdict,
    collections.Counter,
    dict,
    list,
    set,
    collections.deque,
)
_HOOKS: tuple[str, ...] = (
    "__reduce__",
    "__reduce_ex__",
    "__getstate__",
    "__setstate__",
    "__getnewargs__",
)
_HOOKS += ("__getnewargs_ex__",)
_HEAP_TYPE = 1 << 9
_FILLING: dict[type, tuple[str, ...]] = {
    collections.OrderedDict: ("__setitem__",),
    collections.defaultdict: ("__setitem__",),
    dict: ("__setitem__",),
    list: ("append", "extend"),
}
"""The methods by which unpickling fills containers."""
_CALLED = {collections.OrderedDict, collections.defaultdict, collections.deque, set}
"""Containers whose own pickling has their class called again."""


def _mine(cls: type) -> list[type]:
    return [base for base in cls.__mro__ if base.__module__ == "__main__"]


@per_class
def needs_own_way(cls: type) -> bool:
    """Whether instances of a class are made here and not by their default pickling."""
    if issubclass(cls, BaseException):
        return not any(hook in vars(base) for base in _mine(cls) for hook in _HOOKS)
    if issubclass(cls, collections.Counter):
        return _is_bare_counter(cls)
    mine = _mine(cls)
    if not mine:
        return _fills_its_own_way(cls)
    if any(hook in vars(base) for base in mine for hook in _HOOKS):
        return False
    base = _underneath(cls)
    if base in _CONTAINERS:
        return True
    return base is object and any("__new__" in vars(kind) for kind in mine)


def _is_bare_counter(cls: type) -> bool:
    """Whether a class is derived from Counter, whose own way leaves attributes out."""
    own = cls.__mro__[: cls.__mro__.index(collections.Counter)]
    return bool(own) and not any(hook in vars(base) for base in own for hook in _HOOKS)


def _fills_its_own_way(cls: type) -> bool:
    """Whether a library's container is made or filled by a method that wants more than it gets.

    Unpickling sets attributes last: bokeh's ``ColumnDataSource.data`` cannot be loaded. And it
    calls classes of some containers without their own arguments, and forgets the attributes of
    a defaultdict: openpyxl's workbooks cannot be loaded.
    """
    base = _underneath_container(cls)
    if base is object or cls is base:
        return False
    own = [kind for kind in cls.__mro__ if kind.__flags__ & _HEAP_TYPE and kind is not base]
    if not own or any(hook in vars(kind) for kind in own for hook in _HOOKS):
        return False
    if base in _CALLED and any("__init__" in vars(kind) for kind in own):
        return True
    return base in _FILLING and any(
        getattr(cls, name) is not getattr(base, name) for name in _FILLING[base]
    )


@per_class
def _underneath(cls: type) -> type:
    """Answer the first class of the MRO that the notebook did not define."""
    return next(base for base in cls.__mro__ if base.__module__ != "__main__")


def shares_attributes(obj: Any) -> bool:
    """Whether somebody else holds the very ``__dict__`` of a notebook's instance.

    Another instance (``self.__dict__ = self._shared``), or who asked for ``vars(obj)``.
    """
    if not _may_share(type(obj)):
        return False
    attributes = obj.__dict__
    return type(attributes) is dict and sys.getrefcount(attributes) > _ALONE


@per_class
def _may_share(cls: type) -> bool:
    bases = [base for base in cls.__mro__ if base is not object]
    own_way = any(hook in vars(base) for base in bases for hook in _HOOKS)
    return bool(_mine(cls)) and not own_way and bool(cls.__dictoffset__)


def reduce_sharing(obj: Any) -> Any:
    """Reduce an instance of which `shares_attributes` holds: its ``__dict__`` is an object."""
    maker, args, state, *rest = obj.__reduce_ex__(5)
    slots = state[1] if isinstance(state, tuple) else None
    return maker, args, (obj.__dict__, slots), *rest, set_sharing


def set_sharing(obj: Any, state: Any) -> None:
    """Give an instance a ``__dict__`` that others may have too."""
    attributes, slots = state
    object.__setattr__(obj, "__dict__", attributes)
    for name, value in (slots or {}).items():
        object.__setattr__(obj, name, value)


class _Alone:
    pass


def _count() -> int:
    alone = _Alone()
    attributes = alone.__dict__
    return sys.getrefcount(attributes)


_ALONE = _count()
"""References to the ``__dict__`` of an instance that shares it with nobody."""


@per_class
def needs_arguments(cls: type) -> bool:
    """Whether default pickling of a library's class fails: its ``__new__`` wants arguments."""
    new: Any = cls.__new__
    if not isinstance(new, types.FunctionType) or _mine(cls):
        return False
    if any(getattr(cls, name) is not getattr(object, name) for name in _HOOKS[:2]):
        return False
    if hasattr(cls, "__getnewargs__") or hasattr(cls, "__getnewargs_ex__"):
        return False
    if cls in copyreg.dispatch_table:
        return False
    try:
        inspect.signature(new).bind(cls)
    except TypeError:
        pass
    else:
        return False
    return all(kind is object or kind.__flags__ & _HEAP_TYPE for kind in cls.__mro__)


@per_class
def refuses_as_patsys(cls: type) -> bool:
    """Whether a class is one of patsy's: what fits a formula (statsmodels) holds such objects."""
    return module_name(cls).startswith("patsy.") and any(
        "__getstate__" in vars(base) for base in cls.__mro__ if base is not object
    )


def reduce_bare(obj: Any) -> Any:
    """Reduce an instance of a class that `needs_arguments`."""
    _, _, *rest = obj.__reduce_ex__(2)
    return make_bare, (type(obj),), *rest


def make_bare(cls: type) -> Any:
    """Make an instance without attributes, whatever the class's own ``__new__`` wants."""
    return object.__new__(cls)


def reduce_instance(obj: Any) -> Any:
    """Reduce an instance of a class that `needs_own_way`."""
    cls = type(obj)
    attributes = dict(getattr(obj, "__dict__", None) or {})
    slots = {}
    for base in _mine(cls) or cls.__mro__:
        for name, member in vars(base).items():
            if type(member) is types.MemberDescriptorType and base.__flags__ & _HEAP_TYPE:
                try:
                    slots[name] = member.__get__(obj)
                except AttributeError:
                    continue
    if isinstance(obj, BaseException):
        links = (obj.__cause__, obj.__context__, obj.__suppress_context__)
        where = obj.__traceback__
        lines = None if where is None else [astuple(entry) for entry in entries_of(where)]
        state: Any = (attributes, slots, links, lines)
        return make_exception, (cls, obj.args, _arguments(obj)), state, None, None, set_exception
    contents: Any = None
    if isinstance(obj, collections.deque):
        contents = list(collections.deque.__iter__(obj)), obj.maxlen
    elif isinstance(obj, collections.OrderedDict):
        contents = list(collections.OrderedDict.items(obj)), None
    elif isinstance(obj, dict):
        # Not getattr: a class's own __getattr__ may raise what it likes.
        factory = obj.default_factory if isinstance(obj, collections.defaultdict) else None
        contents = list(dict.items(obj)), factory
    elif isinstance(obj, (list, set)):
        contents = list(_underneath_container(cls).__iter__(obj)), None
    return make_instance, (cls,), (attributes, slots, contents), None, None, set_instance


def _underneath_container(cls: type) -> Any:
    return next((base for base in _CONTAINERS if issubclass(cls, base)), object)


def make_instance(cls: type) -> Any:
    """Make an empty instance without running the class's own ``__new__``."""
    return _underneath_container(cls).__new__(cls)


def set_instance(obj: Any, state: Any) -> None:
    """Fill an instance without running its class's own methods."""
    attributes, slots, contents = state
    _set_attributes(obj, attributes, slots)
    if contents is None:
        return
    items, extra = contents
    base = _underneath_container(type(obj))
    if base is collections.deque:
        collections.deque.__init__(obj, items, extra)
    elif base is list:
        list.extend(obj, items)
    elif base is set:
        set.update(obj, items)
    else:
        if base is collections.defaultdict:
            obj.default_factory = extra
        for key, value in items:
            base.__setitem__(obj, key, value)


def _set_attributes(obj: Any, attributes: dict[str, Any], slots: dict[str, Any]) -> None:
    if attributes:
        object.__getattribute__(obj, "__dict__").update(attributes)
    for name, value in slots.items():
        object.__setattr__(obj, name, value)


def _arguments(error: BaseException) -> tuple[Any, ...]:
    """Answer the arguments that the built-in exception underneath was made with."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno, error.strerror, error.filename, None, error.filename2
    return error.args


def make_exception(cls: type[BaseException], args: tuple[Any, ...], made_with: Any) -> Any:
    """Make an exception without running its class's own ``__init__``."""
    base: Any = next(kind for kind in cls.__mro__ if not kind.__flags__ & _HEAP_TYPE)
    error = base.__new__(cls, *made_with)
    try:
        base.__init__(error, *made_with)
    except TypeError:
        pass  # a class that gave its base other arguments than it kept
    error.args = args
    return error


def files_of(error: BaseException) -> Iterator[str]:
    """Answer the files that an exception's traceback shows lines of."""
    traceback = error.__traceback__
    while traceback is not None:
        yield traceback.tb_frame.f_code.co_filename
        traceback = traceback.tb_next


def set_exception(error: BaseException, state: Any) -> None:
    """Give an exception its attributes, cause and context, and a traceback of the same lines."""
    attributes, slots, (cause, context, suppress), *lines = state
    _set_attributes(error, attributes, slots)
    error.__cause__, error.__context__ = cause, context
    error.__suppress_context__ = suppress
    if lines and lines[0] is not None:
        error.__traceback__ = make_traceback([Entry(*entry) for entry in lines[0]])


@per_class
def is_curried(cls: type) -> bool:
    """Whether a class is toolz's for a function that waits for more arguments."""
    bases = ((module_name(base).partition(".")[0], base.__name__) for base in cls.__mro__)
    return any(module in ("toolz", "cytoolz") and name == "curry" for module, name in bases)


def reduce_curried(obj: Any) -> Any:
    """Reduce a curried function of the notebook, which toolz names: it has to go along."""
    maker, state = obj.__reduce__()
    if isinstance(state[1], str) and state[1].startswith("__main__:"):
        return maker, (state[0], obj.func, *state[2:-1], None)
    return maker, state


def get_attribute(owner: Any, path: str) -> Any:
    """Answer an attribute by its dotted path."""
    return attrgetter(path)(owner)


def own_attributes(frame: Any) -> dict[str, Any]:
    """Answer the attributes that somebody gave a pandas object: ``df.note = "raw"``."""
    cls = type(frame)
    return {
        name: value
        for name, value in vars(frame).items()
        if not name.startswith("_") and not hasattr(cls, name)
    }


def with_own_attributes(frame: Any, original: Any) -> Any:
    vars(frame).update(own_attributes(original))
    return frame


def reduce_pandas(frame: Any) -> Any:
    """Reduce a pandas object with what somebody gave it, which pandas' own way leaves out."""
    own = own_attributes(frame)
    reduced: tuple[Any, ...] = frame.__reduce_ex__(5) if own or frame.attrs else ()
    if len(reduced) < 3 or not isinstance(reduced[2], dict):
        return NotImplemented
    state = reduced[2] | own
    if "attrs" in state:
        state["_attrs"] = state.pop("attrs")  # under this name pandas does not copy it
    return *reduced[:2], state, *reduced[3:]


def is_soup(obj: Any) -> bool:
    """Whether an object is a document of Beautiful Soup's, whose own way parses its text again.

    Every tag and text of it would be another one then than those that the notebook has names for.
    """
    kind = getattr(sys.modules.get("bs4"), "BeautifulSoup", None)
    return kind is not None and isinstance(obj, kind) and type(obj).__module__ != "__main__"


def reduce_soup(soup: Any) -> Any:
    """Reduce a document of Beautiful Soup's with the very tags that it consists of."""
    attributes = dict(vars(soup))
    attributes.pop("_most_recent_element", None)  # its own way leaves it out, too
    builder = attributes.get("builder")
    if builder is not None and not builder.picklable:
        attributes["builder"] = type(builder)
    return make_bare, (type(soup),), attributes, None, None, set_soup


def set_soup(soup: Any, attributes: dict[str, Any]) -> None:
    """Give a document of Beautiful Soup's its tags, and what parses more if it cannot travel."""
    vars(soup).update(attributes)
    if isinstance(soup.builder, type):
        soup.builder = soup.builder()


def remembers(obj: Any) -> bool:
    """Whether an array of pandas (of dates) keeps what it has found out about itself."""
    return (
        (type(obj).__module__ or "").partition(".")[0] == "pandas"  # sympy makes some without
        and hasattr(obj, "_ndarray")
        and "_cache" in getattr(obj, "__dict__", ())
    )


def reduce_without_memory(obj: Any) -> Any:
    """Reduce such an array without that: it would find out the same, and has not changed by it."""
    function, arguments, state = obj.__reduce__()
    kept = {name: value for name, value in state[-1].items() if name != "_cache"}
    return function, arguments, (*state[:-1], kept) if kept else state[:-1]


def is_plotly_figure(obj: Any) -> bool:
    """Whether an object is a figure of plotly's, which makes itself of its parts, sorted."""
    kind = getattr(sys.modules.get("plotly.basedatatypes"), "BaseFigure", None)
    return kind is not None and isinstance(obj, kind)


def reduce_plotly_figure(figure: Any) -> Any:
    """Reduce a figure of plotly's with the order of its parts."""
    maker, (parts, *rest) = figure.__reduce__()
    return maker, (parts, *rest), parts, None, None, set_order_of_parts


def set_order_of_parts(figure: Any, parts: dict[str, Any]) -> None:
    """Give what a figure of plotly's is made of the order that it had."""
    put_in_order(figure._layout, parts["layout"])
    put_in_order(figure._data, parts["data"])


def put_in_order(part: Any, model: Any) -> None:
    """Give dicts the order of others, which plotly sorts."""
    if isinstance(part, dict) and isinstance(model, dict):
        ordered = {key: part[key] for key in model if key in part} | part
        part.clear()
        part.update(ordered)
        for key in part.keys() & model.keys():
            put_in_order(part[key], model[key])
    elif isinstance(part, (list, tuple)) and isinstance(model, (list, tuple)):
        for one, other in zip(part, model, strict=False):
            put_in_order(one, other)


def make_text_dtype(storage: str) -> Any:
    """Make pandas' dtype of texts, whose missing value is the ``nan`` that everybody has."""
    import numpy as np
    import pandas as pd

    return pd.StringDtype(storage, na_value=np.nan)


_ITERABLES: tuple[Any, ...] = ([], (), "", b"", bytearray(), {}, set(), range(0))
_SAMPLES: dict[type, Any] = {type(iter(value)): value for value in _ITERABLES}
"""Types that no module has under a name, and something whose iterator is of that type."""


def type_of_iterator(value: Any) -> type:
    return type(iter(value))


def reduce_type(kind: type) -> Any:
    """Reduce the type of an iterator; None for other types."""
    return (type_of_iterator, (_SAMPLES[kind],)) if kind in _SAMPLES else None
