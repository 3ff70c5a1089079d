"""Numpy arrays that share memory, in a stream."""

from __future__ import annotations

import mmap
import pickle
import sys
from array import array as PlainArray  # noqa: N812 - `array` is what all else here is called
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from dask_async_run.namespace.kinds import per_class
from dask_async_run.namespace.managers import arrays_of_frame, copies_on_write
from dask_async_run.namespace.views import address, is_released


def make_view(
    root: Any,
    offset: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    dtype: Any,
    cls: type,
    writeable: bool,
) -> Any:
    """Build an array on the memory of `root`, `offset` bytes behind its start."""
    import numpy as np
    from numpy.lib.stride_tricks import as_strided

    whole = root if root.flags.c_contiguous else root.T
    if dtype.hasobject:  # which no buffer may be
        view = as_strided(whole.reshape(-1)[offset // dtype.itemsize :], shape, strides)
    else:
        view = np.ndarray(shape, dtype, whole, offset, strides)
    if not writeable:
        view.flags.writeable = False
    if cls is np.memmap:
        mapped = make_own_array(view, cls)
        vars(mapped).update(vars(root))
        return mapped
    return view if cls is np.ndarray else make_own_array(view, cls)


def make_over(
    holder: Any,
    offset: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    dtype: Any,
    writeable: bool,
) -> Any:
    """Build an array on the memory of a `bytearray` or an `array.array`."""
    import numpy as np

    array: Any = np.ndarray(shape, dtype, memoryview(holder), offset, strides)
    array.flags.writeable = writeable
    return array


def holder_of(array: Any) -> Any:
    """Answer the `bytearray` or the `array.array` whose memory an array shows, or None."""
    if type(array) is not sys.modules["numpy"].ndarray or not array.nbytes:
        return None
    base = SharedMemory.root(array).base
    holder = base.obj if type(base) is memoryview and not is_released(base) else base
    return holder if type(holder) in (bytearray, PlainArray) else None


def reduce_over(array: Any, holder: Any) -> Any:
    """Reduce an array of which `holder_of` answers something."""
    start = address(memoryview(holder)) or 0
    offset = array.__array_interface__["data"][0] - start
    made = (holder, offset, array.shape, array.strides, array.dtype, array.flags.writeable)
    return make_over, made


@per_class
def is_plain_subclass(cls: type) -> bool:
    """Whether a library's class is an array with attributes, which numpy's pickling leaves out.

    One that has a pickling of its own knows what else belongs to it.
    """
    ndarray = sys.modules["numpy"].ndarray
    return (
        issubclass(cls, ndarray)
        and cls.__module__.partition(".")[0] not in ("numpy", "__main__")
        and pickles_as_array(cls)
    )


def pickles_as_array(cls: type) -> bool:
    """Whether a subclass of numpy's array has room for attributes, and numpy's pickling."""
    ndarray = sys.modules["numpy"].ndarray
    return bool(cls.__dictoffset__) and all(
        getattr(cls, name, None) is getattr(ndarray, name)
        for name in ("__reduce__", "__reduce_ex__", "__setstate__")
    )


def make_own_array(array: Any, cls: type) -> Any:
    """Build an instance of an array class with attributes, which follow as its state."""
    import numpy as np

    # Without the class's own ``__new__``, and without its ``__array_finalize__`` having a say.
    return np.ndarray.__new__(cls, array.shape, array.dtype, array, 0, array.strides)


def make_array(buffer: Any, dtype: Any, shape: tuple[int, ...], order: str, copied: bool) -> Any:
    """Build an array that is nobody's view: numpy's own way makes one of an array it hides.

    What came in the stream is copied, so that ``array.base is None`` as it was; a mapped
    frame is not, and is then what `base` shows.
    """
    import numpy as np

    make: Any = np.ndarray
    array = make(shape, dtype, buffer, order=order)
    if not copied or not isinstance(buffer, (bytes, bytearray)):
        return array
    owner = array.copy(order)
    owner.flags.writeable = array.flags.writeable
    return owner


def make_apart(array: Any, writeable: bool) -> Any:
    """Build a view that covers a whole array: what was strided lies in another way now."""
    view = array[...]
    view.flags.writeable = writeable
    return view


def make_memmap(
    filename: str, mode: str, dtype: Any, offset: int, shape: tuple[int, ...], order: Any
) -> Any:
    """Map a file again, as it is now: ``w+`` would empty it."""
    import numpy as np

    array = np.memmap(filename, dtype, "r" if mode == "r" else "r+", offset, shape, order)
    array.mode = mode
    return array


def mapped_root(array: Any) -> Any:
    """Answer the `numpy.memmap` of a file whose memory an array shows, or None.

    Only one whose changes go to the file; ``mode="c"`` is an array like others.
    """
    root = SharedMemory.root(array)
    if type(root).__name__ != "memmap" or type(root.base) is not mmap.mmap:
        return None
    return root if root.filename is not None and root.mode in ("r", "r+", "w+") else None


def reduce_mapped(array: Any, root: Any) -> Any:
    """Reduce an array that a file holds: the file is everybody's, and may be huge."""
    if array is root:
        root.flush()
        order = "C" if root.flags.c_contiguous else "F"
        name = str(root.filename)
        return make_memmap, (name, root.mode, root.dtype, root.offset, root.shape, order)
    start = root.__array_interface__["data"][0]
    offset = array.__array_interface__["data"][0] - start
    made = (root, offset, array.shape, array.strides, array.dtype, type(array))
    return make_view, (*made, array.flags.writeable)


def reduce_objects(array: Any) -> Any:
    """Reduce an array of objects, which is made before they are.

    Numpy's own way gives it its shape together with them. A view of it that is among them, at any
    depth, would be made of an array without any memory.
    """
    if array.ndim == 0 or not array.flags.forc:
        return NotImplemented
    order = "C" if array.flags.c_contiguous else "F"
    items = array.ravel(order).tolist()
    return make_objects, (array.shape, order), items, None, None, fill_objects


def make_objects(shape: tuple[int, ...], order: Any) -> Any:
    """Build an array for objects, which has none yet."""
    import numpy as np

    return np.empty(shape, object, order)


def fill_objects(array: Any, items: list[Any]) -> None:
    """Put the objects of an array where they were."""
    import numpy as np

    order: Any = "C" if array.flags.c_contiguous else "F"
    array.reshape(-1, order=order)[...] = np.fromiter(items, object, len(items))


def reduce_array(array: Any) -> Any:
    """Reduce an array of numbers, strided ones without their gaps; `copy` as `pickle` has it."""
    if type(array).__name__ != "ndarray" or array.dtype.hasobject or array.ndim == 0:
        return NotImplemented
    if not array.flags.forc:
        return make_apart, (array.copy(), array.flags.writeable)
    own = array.base is None or is_masked(array.base)
    if not own and isinstance(array.base, type(array)):
        return NotImplemented
    order = "C" if array.flags.c_contiguous else "F"
    # Dates and times are no buffers, but their bytes are.
    plain = array.view("i8") if array.dtype.kind in "mM" else array
    try:
        buffer = pickle.PickleBuffer(plain)
    except ValueError:  # fields of dates, say
        return NotImplemented
    return make_array, (buffer, array.dtype, array.shape, order, own)


def reduce_dtype(dtype: Any) -> Any:
    """Reduce a dtype; one of those of which there is one in numpy, to that.

    Numpy's own way makes another one. An array that has it is another one, too, where it is asked
    for as what it is: ``np.asarray(x, dtype=float) is x``, as libraries do with all that they get.
    """
    numpy: Any = sys.modules["numpy"]
    if dtype.isbuiltin == 1 and numpy.dtype(dtype.char) is dtype:
        return numpy.dtype, (dtype.char,)
    return NotImplemented


def is_masked(array: Any) -> bool:
    """Whether an array is one of `numpy.ma`'s, which is two: one of numbers, and its mask.

    Of a notebook's class, too, if that leaves it to `numpy.ma` how it is pickled.
    """
    masked = getattr(sys.modules.get("numpy.ma"), "MaskedArray", None)
    kind = type(array)
    if kind is masked or masked is None:
        return kind is masked
    if kind.__module__ != "__main__" or not issubclass(kind, masked):
        return False
    return all(getattr(kind, hook) is getattr(masked, hook) for hook in _PICKLING)


_PICKLING = ("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__")


def make_masked(data: Any, cls: type) -> Any:
    """Build a masked array on the memory of an array; all that it has besides follows."""
    import numpy as np

    masked = data.view(np.ma.MaskedArray)
    # Without the ``__array_finalize__`` of a notebook's class having a say.
    return masked if cls is np.ma.MaskedArray else make_own_array(masked, cls)


def masked_parts(array: Any) -> list[Any]:
    """Answer the arrays that a masked one is made of, as far as they are objects."""
    kind = sys.modules["numpy"].ndarray
    return [part for part in (array.base, array._mask) if isinstance(part, kind)]


_GAPS = 4
"""A strided array goes as it lies if its memory is at most this many times larger."""


def owners_of(objects: Iterable[Any]) -> dict[int, Any]:
    """Answer the arrays whose memory others of some objects are views of, by their ``id``."""
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return {}
    objects = list(objects)
    # One look at each type: as a rule there are a few, of a great many objects.
    kinds = {kind for kind in set(map(type, objects)) if issubclass(kind, numpy.ndarray)}
    found = {}
    for obj in objects if kinds else ():
        if type(obj) in kinds:
            root = SharedMemory.root(obj)
            if root is not obj:
                found[id(root)] = root
    return found


class SharedMemory:
    """Which numpy arrays of a stream share memory with one another.

    Numpy pickles each view as an array of its own. A first dump reports every
    array here; where two of them overlap, a second one writes both as views of
    the array that owns the memory. Of pandas objects the arrays are left out
    unless others than pandas have their memory, too: each copies before it
    writes to what another one has.
    """

    def __init__(self) -> None:
        self.shared: set[int] = set()
        self._owners: dict[int, Any] = {}
        self._groups: dict[int, dict[int, Any]] = {}
        self._private: set[int] = set()
        self._of_pandas: set[int] = set()
        self._frames: dict[int, dict[int, Any]] = {}
        self._mixed: dict[int, Any] = {}
        self._on_frames: dict[int, tuple[Any, int, Any, bool]] = {}
        self._places: dict[int, tuple[Any, int]] = {}
        self._states: set[int] = set()
        self._having: dict[int, set[int]] = {}
        self._strided: set[int] = set()
        self._plain: dict[int, Any] = {}

    def numbers(self, masked: Any) -> Any:
        """Answer the array of numbers that a masked array is made of.

        Where it is none of another one's, it has no such object: then that is made once.
        """
        base = masked.base
        plain = sys.modules["numpy"].ndarray
        if type(base) is plain and base.__array_interface__ == masked.__array_interface__:
            return base
        return self._plain.setdefault(id(masked), masked.view(plain))

    def numbers_of(self, array: Any) -> Any:
        """Answer an array without what its class adds, to write it out as."""
        made = self._plain.setdefault(id(array), array.view(sys.modules["numpy"].ndarray))
        self.by_value(made)
        return made

    def array_of(self, row: Any) -> Any:
        """Answer an array of nothing but a row, on its memory; None if that is the row's own."""
        root = self.root(row)
        contiguous = root is not row and (root.flags.c_contiguous or root.flags.f_contiguous)
        if not contiguous or (root.dtype.hasobject and root.dtype != row.dtype):
            return None
        if id(row) not in self._plain:
            start = root.__array_interface__["data"][0]
            offset = row.__array_interface__["data"][0] - start
            plain, step = sys.modules["numpy"].ndarray, (row.dtype.itemsize,)
            made = root, offset, (1,), step, row.dtype, plain, row.flags.writeable
            self._plain[id(row)] = make_view(*made)
        return self._plain[id(row)]

    def is_private(self, array: Any) -> bool:
        """Whether an array is to be written out, or is of pandas."""
        return id(array) in self._private or id(array) in self._of_pandas

    @staticmethod
    def root(array: Any) -> Any:
        """Answer the array that owns `array`'s memory, perhaps itself."""
        kind = sys.modules["numpy"].ndarray
        while True:
            base = array.base
            if type(base).__name__ == "DummyArray":  # `as_strided`, `sliding_window_view`
                base = base.base
            if not isinstance(base, kind):
                return array
            array = base

    def of_pandas(self, arrays: Iterable[Any]) -> None:
        """Note arrays that a pandas object is made of."""
        self._of_pandas.update(map(id, arrays))

    def frame(self, frame: Any, number: int, block: Any, changed: bool) -> None:
        """Note a block of a frame that the other side has.

        Parameters
        ----------
        number : int
            The block's place there.
        changed : bool
            The frame's new state comes with the stream.
        """
        array = getattr(block.values, "_ndarray", block.values)
        self._on_frames.setdefault(id(self.root(array)), (frame, number, array, changed))
        if not changed:
            self._places.setdefault(id(block.refs), (frame, number))

    def state_of_frame(self, state: Any) -> None:
        """Note that a frame is the new state of one that the other side has."""
        self._states.update(map(id, arrays_of_frame(state)))

    def place_of(self, refs: Any) -> tuple[Any, int] | None:
        """Answer the block of a frame of the other side that some count is about."""
        return self._places.get(id(refs))

    def has(self, refs: Any, holder: Any) -> None:
        """Note what of the stream has the memory that a count is about."""
        self._having.setdefault(id(refs), set()).add(id(holder))

    def others_have(self, refs: Any, living: int) -> bool:
        """Whether some memory, of which others show what is written to it, has more holders."""
        return bool(self._mixed) and living > len(self._having.get(id(refs), ()))

    def on_frame(self, array: Any) -> tuple[Any, ...] | None:
        """Answer how an array is made that shows the memory of a frame of the other side."""
        root = self.root(array)
        if id(root) not in self._on_frames or id(root) in self._owners:
            return None
        if id(array) in self._private or id(array) in self._states or array.dtype.hasobject:
            return None
        of_pandas = id(array) in self._of_pandas
        if type(array).__name__ not in ("ndarray", "matrix") or (of_pandas and copies_on_write()):
            return None
        frame, number, values, changed = self._on_frames[id(root)]
        if not of_pandas:
            self._groups.setdefault(id(root), {})[id(array)] = array
        root = self._mixed.get(id(root), root)
        if array is root or not root.flags.forc:
            return None
        if not changed:
            self.by_value(root)
        start = array.__array_interface__["data"][0]
        there = (
            start - values.__array_interface__["data"][0],
            (values.shape, values.strides, values.dtype),
        )
        offset = start - root.__array_interface__["data"][0]
        view = array.shape, array.strides, array.dtype, type(array), array.flags.writeable
        return frame, number, there, changed, root, offset, view

    def by_value(self, array: Any) -> None:
        """Write this array out, whatever it shares memory with."""
        self._private.add(id(array))

    def owner(self, obj: Any) -> None:
        """Note an array that the other side has: views of its memory become views of it."""
        numpy = sys.modules.get("numpy")
        if numpy is None or not issubclass(type(obj), numpy.ndarray) or not obj.flags.forc:
            return
        if type(obj) is not numpy.ndarray and type(obj).__module__ != "__main__":
            return
        root = self.root(obj)
        # What is strided on the other side was loaded as a view (`make_apart`); there,
        # offsets in it mean something else.
        loaded_as_it_lies = obj is root or not root.flags.owndata
        if loaded_as_it_lies and obj.nbytes == root.nbytes and obj.nbytes:
            self._owners.setdefault(id(root), obj)

    def seen(self, array: Any) -> Any:
        """Note an array; answer the root to write it as a view of, or None."""
        root = self.root(array)
        root = self._owners.get(id(root), root)
        if is_masked(root):
            root = self.numbers(root)
        if id(array) in self._private:
            return None
        if array.dtype.hasobject and not (array.dtype == root.dtype and type(array) is type(root)):
            return None
        named = type(array).__name__ in ("ndarray", "matrix", "recarray", "memmap")
        if not (named or type(array).__module__ == "__main__" or is_plain_subclass(type(array))):
            return None  # of other subclasses a view would lose what they add: a mask
        if id(array) in self._of_pandas:
            self._frames.setdefault(id(root), {})[id(array)] = array
            root = self._mixed.get(id(root))
            return root if root is not array else None
        self._groups.setdefault(id(root), {})[id(array)] = array
        if not array.flags.forc and root.nbytes <= _GAPS * array.nbytes:
            # As it lies: what is taken from it elsewhere is a view of the same memory.
            self._strided.add(id(root))
        if id(root) not in self.shared:
            return None
        root = self._mixed.get(id(root), root)
        if array is root or not (root.flags.c_contiguous or root.flags.f_contiguous):
            return None
        return root

    def found(self) -> bool:
        """Decide after a dump; True if arrays overlap and another dump is due."""
        before = len(self.shared), len(self._mixed)
        owners = {id(owner): owner for owner in self._owners.values()}
        for root_id, group in self._groups.items():
            arrays = list(group.values())
            owned = root_id in owners
            several = len(arrays) > 1 and _any_overlap(root_id, arrays)
            strided = root_id in self._strided
            if root_id not in self.shared and (owned or several or strided):
                self.shared.add(root_id)
        for root_id, frames in self._frames.items():
            plain, its = list(self._groups.get(root_id, {}).values()), list(frames.values())
            owner = owners.get(root_id)
            if root_id not in self._mixed and (
                owner is not None
                or (plain and _any_overlap(root_id, [*plain, *its]))
                or (len(its) > 1 and not copies_on_write() and _any_overlap(root_id, its))
            ):
                root = _covering([*its, *plain]) if owner is None else owner
                if root is not None:
                    self._mixed[root_id] = root
                    self.shared.add(root_id)
        return before != (len(self.shared), len(self._mixed))


def _any_overlap(root_id: int, arrays: list[Any]) -> bool:
    if any(id(array) == root_id for array in arrays):
        return True
    numpy = sys.modules["numpy"]
    bounds = getattr(numpy.lib, "array_utils", numpy).byte_bounds  # numpy 1 has it at the top
    spans = sorted(bounds(array) for array in arrays if array.size)
    return any(low < end for (_, end), (low, _) in pairwise(spans))


def _covering(arrays: list[Any]) -> Any:
    """Answer an array on whose memory all of some arrays of the same root lie, None if none is.

    One of them if possible: that of a frame's column may be a small part of the root.
    """
    numpy = sys.modules["numpy"]
    bounds = getattr(numpy.lib, "array_utils", numpy).byte_bounds
    spans = [bounds(array) for array in arrays]
    start, end = min(low for low, _ in spans), max(high for _, high in spans)
    for array, span in zip(arrays, spans, strict=True):
        if span == (start, end) and array.flags.forc and array.flags.writeable:
            return array
    root = SharedMemory.root(arrays[0])
    return root if root.flags.forc else None
