"""Kinds of opaque objects: arrays, pandas objects, random generators, all else in C.

Their own state can't be compared by identity; a fingerprint tells whether it
changed. How they are changed in place is different for each.
"""

from __future__ import annotations

import array
import io
import itertools
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import prod
from typing import Any

from dask_async_run.namespace import patches
from dask_async_run.namespace.blocks import memory_of, show_what_was_written, written_in_place
from dask_async_run.namespace.charts import CHART_PART, chart_kind, is_chart, is_part
from dask_async_run.namespace.conditions import quietly
from dask_async_run.namespace.cursors import database_kind
from dask_async_run.namespace.digests import Fingerprint, KnownBuffers, fingerprint
from dask_async_run.namespace.files import held_by_csv
from dask_async_run.namespace.indexes import INDEX, axes_of, is_index, keep_axes
from dask_async_run.namespace.instances import build, built_state
from dask_async_run.namespace.iterators import (
    ENDED,
    ITERATOR,
    can_be_ended,
    end,
    is_iterator,
    parts_of_iterator,
)
from dask_async_run.namespace.kinds import ATOMS, Kind, NotInPlace, Undo, same_items
from dask_async_run.namespace.making import own_attributes, with_own_attributes
from dask_async_run.namespace.patches import Patch
from dask_async_run.namespace.pickling import SeededPickler
from dask_async_run.namespace.pictures import (
    DRAWING,
    FILM,
    is_drawing,
    is_film,
    is_picture,
    picture_kind,
)
from dask_async_run.namespace.sharing import (
    SharedMemory,
    is_masked,
    is_plain_subclass,
    masked_parts,
    pickles_as_array,
)
from dask_async_run.namespace.tensors import is_dense, tensor_kind, tensor_types
from dask_async_run.namespace.unpickling import NamespaceUnpickler

_context: ContextVar[tuple[dict[str, Any], KnownBuffers, bool]] = ContextVar("fingerprinting")


@contextmanager
def fingerprinting(
    namespace: dict[str, Any], known: KnownBuffers, by_identity: bool = False
) -> Iterator[None]:
    """Set what fingerprints are taken with, for all kinds used inside of it."""
    token = _context.set((namespace, known, by_identity))
    try:
        with quietly():
            yield
    finally:
        _context.reset(token)


class _Unknown:
    """A fingerprint that could not be taken: equal to nothing, so always "changed"."""

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]


def is_unknown(snapshot: Any) -> bool:
    """Whether the own state of an object could not be told when it was looked at."""
    first = snapshot[0] if isinstance(snapshot, tuple) and snapshot else snapshot
    return isinstance(first, _Unknown)


def _fingerprint(value: Any) -> Fingerprint | _Unknown:
    try:
        return fingerprint(value, *_context.get())
    except Exception:  # noqa: BLE001 - whatever a user's __reduce__ raises
        return _Unknown()


def same_fingerprint(one: Any, other: Any) -> bool:
    """Whether two values have equal fingerprints."""
    return bool(_fingerprint(one) == _fingerprint(other))


def same_after_a_trip(one: Any, other: Any) -> bool:
    """Whether copies of two values have equal fingerprints.

    A pickle tells which parts are one object: two equal texts of which one was
    interned pickle in other ways until both have been loaded.
    """
    try:
        return same_fingerprint(_copy(one), _copy(other))
    except Exception:  # noqa: BLE001 - whatever a user's __setstate__ raises
        return False


def _copy(value: Any) -> Any:
    namespace, *_ = _context.get()
    file = io.BytesIO()
    SeededPickler(file, namespace, {}).dump(value)
    file.seek(0)
    return NamespaceUnpickler(file, namespace, keep_classes=True).load()


def _equal(obj: Any, snapshot: Any) -> bool:
    return bool(_fingerprint(obj) == snapshot)


def _none(obj: Any) -> tuple[Any, ...]:
    return ()


# -- numpy ---------------------------------------------------------------------


def _array_snapshot(obj: Any) -> Any:
    if not obj.flags.writeable and not _some_base_is_writeable(obj):
        return None
    if not obj.flags.writeable and obj.nbytes > SharedMemory.root(obj).nbytes:
        return None  # `sliding_window_view`: of what it shows many times that array tells
    return obj.shape, obj.dtype, _contents(obj), obj.flags.writeable


def _contents(obj: Any) -> Any:
    # Strides say how an array lies in memory, and are others in a copy of it.
    return _fingerprint(obj if obj.flags.forc else obj.copy())


def _some_base_is_writeable(obj: Any) -> bool:
    base = obj.base
    while isinstance(base, type(obj)):
        if base.flags.writeable:
            return True
        base = base.base
    return False


def _array_unchanged(obj: Any, snapshot: Any) -> bool:
    if snapshot is None:
        return not obj.flags.writeable
    same = (obj.shape, obj.dtype, obj.flags.writeable) == (*snapshot[:2], snapshot[3])
    return same and bool(_contents(obj) == snapshot[2])


def _array_state(obj: Any, snapshot: Any) -> Any:
    if snapshot is not None and (obj.dtype != snapshot[1] or obj.size != prod(snapshot[0])):
        raise NotInPlace("its size or dtype changed")
    # A view is another object, so it is written out and not as a token.
    return obj.view(), obj.flags.writeable


def _set_array(obj: Any, state: Any) -> Undo:
    array, writeable = state
    if isinstance(array, Patch):
        return _patch_array(obj, array, writeable)
    if obj.dtype != array.dtype or obj.size != array.size:
        raise NotInPlace("its size or dtype is another one here")
    old = _plainly(obj).copy(), obj.flags.writeable

    def put(values: Any, writeable: bool) -> None:
        if obj.shape != values.shape:
            _reshape(obj, values.shape)
        _make_writeable(obj)
        sys.modules["numpy"].ndarray.__setitem__(obj, ..., values)  # not a subclass's own
        if not writeable:
            obj.flags.writeable = False

    put(array, writeable)
    return lambda: put(*old)


def _patch_array(obj: Any, patch: Patch, writeable: bool) -> Undo:
    was_writeable = obj.flags.writeable

    def put(patch: Patch, writeable: bool) -> Patch:
        _make_writeable(obj)
        old = patches.apply(obj, patch)
        if not writeable:
            obj.flags.writeable = False
        return old

    old = put(patch, writeable)

    def undo() -> None:
        put(old, was_writeable)

    return undo


def _make_writeable(obj: Any) -> None:
    if not obj.flags.writeable:
        try:
            obj.flags.writeable = True
        except ValueError:
            raise NotInPlace("it is read-only here") from None


def _reshape(obj: Any, shape: tuple[int, ...]) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            obj.shape = shape
    except AttributeError as error:
        raise NotInPlace("its memory cannot be seen in the new shape") from error


def _plainly(obj: Any) -> Any:
    """Answer an array without what a subclass adds, on the same memory."""
    return obj.view(sys.modules["numpy"].ndarray)


ARRAY = Kind("array", _none, _array_snapshot, _array_unchanged, _array_state, _set_array)


def _is_own_array(cls: type) -> bool:
    """Whether a class is an array that is pickled as one, with its attributes."""
    numpy = sys.modules["numpy"]
    if not issubclass(cls, numpy.ndarray):
        return False
    own = cls.__module__ == "__main__" or cls is numpy.recarray
    return pickles_as_array(cls) if own else is_plain_subclass(cls)


def _own_array_snapshot(obj: Any) -> Any:
    attributes = vars(obj)
    return _array_snapshot(_plainly(obj)), list(attributes), list(attributes.values())


def _own_array_unchanged(obj: Any, snapshot: Any) -> bool:
    numbers, names, values = snapshot
    return (
        names == list(vars(obj))
        and same_items(values, vars(obj).values())
        and _array_unchanged(_plainly(obj), numbers)
    )


def _own_array_state(obj: Any, snapshot: Any) -> Any:
    numbers = None if snapshot is None else snapshot[0]
    return *_array_state(_plainly(obj), numbers), dict(vars(obj))


def _set_own_array(obj: Any, state: Any) -> Undo:
    array, writeable, attributes = state
    before = dict(vars(obj))
    undo_numbers = _set_array(obj, (array, writeable))

    def put(attributes: dict[str, Any]) -> None:
        vars(obj).clear()
        vars(obj).update(attributes)

    def undo() -> None:
        undo_numbers()
        put(before)

    put(attributes)
    return undo


OWN_ARRAY = Kind(
    "array with attributes",
    lambda o: list(vars(o).values()),
    _own_array_snapshot,
    _own_array_unchanged,
    _own_array_state,
    _set_own_array,
)


_OF_MASKED = frozenset(
    ("_mask", "_hardmask", "_sharedmask", "_fill_value", "_isfield", "_baseclass", "_basedict")
)


def _masked_attributes(obj: Any) -> dict[str, Any]:
    """Answer what a notebook's class, or somebody, gave a masked array."""
    return {name: value for name, value in vars(obj).items() if name not in _OF_MASKED}


def _masked_snapshot(obj: Any) -> Any:
    own = _masked_attributes(obj)
    settings = _fingerprint(_masked_settings(obj))
    return obj.shape, obj.dtype, obj._mask, settings, list(own), list(own.values())


def _masked_unchanged(obj: Any, snapshot: Any) -> bool:
    own = _masked_attributes(obj)
    return (
        (obj.shape, obj.dtype) == snapshot[:2]
        and obj._mask is snapshot[2]
        and _equal(_masked_settings(obj), snapshot[3])
        and list(own) == snapshot[4]
        and same_items(snapshot[5], own.values())
    )


def _masked_settings(obj: Any) -> tuple[Any, ...]:
    return obj._hardmask, obj._sharedmask, obj.fill_value


def _masked_state(obj: Any, snapshot: Any) -> Any:
    if snapshot is not None and (obj.shape, obj.dtype) != snapshot[:2]:
        raise NotInPlace("its shape or dtype changed")
    return obj._mask, _masked_settings(obj), _masked_attributes(obj)


def _set_masked(obj: Any, state: Any) -> Undo:
    def put(mask: Any, settings: Any, attributes: dict[str, Any]) -> None:
        for name in _masked_attributes(obj).keys() - attributes.keys():
            del vars(obj)[name]
        vars(obj).update(attributes)
        obj._mask = mask
        obj._hardmask, obj._sharedmask, obj.fill_value = settings

    old = _masked_state(obj, None)
    put(*state)
    return lambda: put(*old)


MASKED = Kind(
    "masked array",
    lambda o: [*masked_parts(o), *_masked_attributes(o).values()],
    _masked_snapshot,
    _masked_unchanged,
    _masked_state,
    _set_masked,
)
"""What its numbers and its mask are, those arrays tell themselves."""


def _set_object_array(obj: Any, items: Any) -> Undo:
    if obj.size != len(items):
        raise NotInPlace("its size is another one here")
    old, writeable = list(obj.flat), obj.flags.writeable

    def put(new: list[Any]) -> None:
        _make_writeable(obj)
        for index, item in enumerate(new):
            obj.flat[index] = item
        if not writeable:
            obj.flags.writeable = False

    put(items)
    return lambda: put(old)


def _object_array_state(obj: Any, snapshot: Any) -> Any:
    if snapshot is not None and obj.shape != snapshot[0]:
        raise NotInPlace("its shape changed")
    return list(obj.flat)


OBJECT_ARRAY = Kind(
    "array of objects",
    lambda o: list(o.flat),
    lambda o: (o.shape, list(o.flat)),
    lambda o, s: o.shape == s[0] and same_items(s[1], o.flat),
    _object_array_state,
    _set_object_array,
)

# -- pandas ----------------------------------------------------------------------


def _set_pandas(obj: Any, state: Any) -> Undo:
    def put(manager: Any, attrs: Any, metadata: dict[str, Any], own: dict[str, Any]) -> None:
        object.__setattr__(obj, "_mgr", manager)
        object.__setattr__(obj, "_attrs", attrs)
        for name in own_attributes(obj).keys() - own:
            object.__delattr__(obj, name)
        vars(obj).update(own)
        for name, value in metadata.items():
            object.__setattr__(obj, name, value)
        for cache in ("_clear_item_cache", "_reset_cacher"):
            reset = getattr(obj, cache, None)
            if reset is not None:
                reset()

    def parts(of: Any) -> tuple[Any, Any, dict[str, Any], dict[str, Any]]:
        metadata = {n: getattr(of, n, None) for n in of._metadata}
        return of._mgr, of.attrs, metadata, own_attributes(of)

    state, written = state if isinstance(state, tuple) else (state, ())  # of earlier versions
    if type(obj) is not type(state):
        raise NotInPlace("its type is another one here")
    old = parts(obj)
    undo = show_what_was_written(obj._mgr, state._mgr, written)
    put(*parts(state))

    def back() -> None:
        undo()
        put(*old)

    return back


def _pandas_snapshot(obj: Any) -> Any:
    return _fingerprint(obj), memory_of(obj._mgr)


def _pandas_state(obj: Any, snapshot: Any) -> Any:
    written = () if snapshot is None else written_in_place(obj._mgr, snapshot[1])
    copy = keep_axes(with_own_attributes(obj.copy(deep=False), obj), obj)
    object.__setattr__(copy, "_attrs", obj.attrs)  # the very dict, and not a copy
    return copy, written


def _pandas_children(obj: Any) -> list[Any]:
    """Answer the ``attrs``, the indexes, and what columns of objects hold but for texts."""
    found = [obj.attrs, *axes_of(obj)]
    for column in getattr(obj._mgr, "arrays", ()):
        if getattr(column, "dtype", None) == object:  # noqa: E721 - a dtype
            items = column.ravel().tolist()
            if not ATOMS.issuperset(map(type, items)):
                found += [item for item in items if type(item) not in ATOMS]
    return found


PANDAS = Kind(
    "pandas",
    _pandas_children,
    _pandas_snapshot,
    lambda o, s: _equal(o, s[0]),
    _pandas_state,
    _set_pandas,
)

# -- what has a getter and a setter for all of its state ---------------------------


def _by_accessors(name: str, get: Callable[[Any], Any], put: Callable[[Any, Any], Any]) -> Kind:
    def apply(obj: Any, state: Any) -> Undo:
        old = get(obj)
        put(obj, state)
        return lambda: put(obj, old)

    return Kind(
        name,
        _none,
        lambda o: _fingerprint(get(o)),
        lambda o, s: _equal(get(o), s),
        lambda o, s: get(o),
        apply,
    )


def _put_array(obj: Any, state: Any) -> None:
    obj[:] = state


def _put_buffer(obj: Any, state: Any) -> None:
    contents, position = state
    obj.seek(0)
    obj.truncate()
    obj.write(contents)
    obj.seek(position)


BUFFER = _by_accessors("buffer", lambda o: (o.getvalue(), o.tell()), _put_buffer)
RANDOM = _by_accessors("random", lambda o: o.getstate(), lambda o, s: o.setstate(s))
GENERATOR = _by_accessors(
    "random generator",
    lambda o: o.bit_generator.state,
    lambda o, s: setattr(o.bit_generator, "state", s),
)
BIT_GENERATOR = _by_accessors(
    "bit generator", lambda o: o.state, lambda o, s: setattr(o, "state", s)
)
RANDOM_STATE = _by_accessors(
    "random state", lambda o: o.get_state(legacy=False), lambda o, s: o.set_state(s)
)
PLAIN_ARRAY = _by_accessors("array.array", lambda o: o[:], _put_array)

TENSOR = tensor_kind(_fingerprint)
CHART = chart_kind(_fingerprint)

# -- everything else ------------------------------------------------------------------


def _made_from(obj: Any) -> Any:
    """Fingerprint of what an object is made from: this can't be changed in place."""
    try:
        reduced = obj.__reduce_ex__(5)
    except Exception:  # noqa: BLE001 - whatever a user's __reduce__ raises
        return _Unknown()
    return _fingerprint(reduced[:2]) if isinstance(reduced, tuple) else reduced


def _opaque_snapshot(obj: Any) -> Any:
    return _fingerprint(obj), _made_from(obj)


def _opaque_state(obj: Any, snapshot: Any) -> Any:
    if snapshot is not None and _made_from(obj) != snapshot[1]:
        raise NotInPlace(f"a {type(obj).__name__} cannot be changed in place")
    if not (hasattr(obj, "__setstate__") or hasattr(obj, "__dict__")):
        raise NotInPlace(f"a {type(obj).__name__} cannot be changed in place")
    built = built_state(obj)
    if snapshot is not None and built == (None, None, None):
        # It has changed, and building it with nothing would leave it there as it was.
        if not can_be_ended(obj):
            raise NotInPlace(f"a {type(obj).__name__} cannot be changed in place")
        return ENDED
    return built


def _set_opaque(obj: Any, state: Any) -> Undo:
    return end(obj) if state == ENDED else build(obj, state)


def _opaque_children(obj: Any) -> list[Any]:
    if type(obj).__module__ == itertools.__name__:
        return parts_of_iterator(obj)
    if (held := held_by_csv(obj)) is not None:
        return held
    links = [obj.__cause__, obj.__context__] if isinstance(obj, BaseException) else []
    attributes = getattr(obj, "__dict__", None)
    # Some objects have any attribute that they are asked for.
    return [*(attributes.values() if isinstance(attributes, dict) else ()), *links]


OPAQUE = Kind(
    "opaque",
    _opaque_children,
    _opaque_snapshot,
    lambda o, s: _equal(o, s[0]),
    _opaque_state,
    _set_opaque,
)


PICTURE = picture_kind(OPAQUE)

BY_FINGERPRINT = (OPAQUE, PICTURE)
"""Kinds whose snapshots may differ for equal values."""


def _is_own_random(cls: type) -> bool:
    """Whether a class is a notebook's that leaves to `random.Random` what its state is."""
    hooks = ("getstate", "setstate", "__reduce__", "__getstate__", "__setstate__")
    same = all(getattr(cls, hook) is getattr(random.Random, hook) for hook in hooks)
    return same and cls.__module__ == "__main__"


def special_kind(obj: Any) -> Kind | None:
    """Answer the kind of an object that a library has a special way for, if any."""
    cls = type(obj)
    if is_iterator(cls):
        return ITERATOR
    if cls is array.array:
        return PLAIN_ARRAY
    if cls is random.Random or (issubclass(cls, random.Random) and _is_own_random(cls)):
        return RANDOM
    if cls in (io.StringIO, io.BytesIO) and not obj.closed:
        return BUFFER
    if (kind := database_kind(cls)) is not None:
        return kind
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        arrays = numpy.ndarray, numpy.matrix, numpy.memmap
        if cls in arrays or (cls is numpy.recarray and obj.dtype.hasobject):
            return OBJECT_ARRAY if obj.dtype == object else ARRAY
        if is_masked(obj):
            return MASKED
        if _is_own_array(cls) and not obj.dtype.hasobject:
            return OWN_ARRAY
    # numpy imports it when somebody first asks: then it has a state, which a cell may change.
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        if isinstance(obj, numpy_random.Generator):
            return GENERATOR
        if isinstance(obj, numpy_random.BitGenerator):
            return BIT_GENERATOR
        if cls is numpy_random.RandomState:
            return RANDOM_STATE
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(obj, (pandas.DataFrame, pandas.Series)):
        return PANDAS
    if is_index(obj):
        return INDEX
    if is_picture(cls):
        return PICTURE
    if is_film(obj):
        return FILM
    if is_drawing(cls):
        return DRAWING
    if is_chart(cls):
        return CHART_PART if is_part(obj) else CHART
    if cls in tensor_types() and is_dense(obj):
        return TENSOR
    return None
