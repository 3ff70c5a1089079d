"""The memory of pandas objects, which arrays may show (``df.values``).

A frame that a cell changed gets the memory that came back, as a rule. Where the cell wrote to the
memory that there was (``df.loc[0, "a"] = 9``), and an array shows that here, it is written to.
"""

from __future__ import annotations

import functools
import sys
import types
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

from dask_async_run.namespace.kinds import Undo, same_items
from dask_async_run.namespace.managers import copies_on_write
from dask_async_run.namespace.sharing import SharedMemory, make_view


def _blocks(manager: Any) -> Sequence[Any]:
    return getattr(manager, "blocks", ())


def array_in(values: Any) -> Any:
    """Answer the numpy array that a block's values are or consist of, None if it is no such."""
    array = getattr(values, "_ndarray", values)  # dates, categories
    return array if type(array) is sys.modules["numpy"].ndarray else None


Memory = tuple[weakref.ref[Any], tuple[Any, ...]]
"""What has some memory, and where in it an array lies, and how."""


def memory_of(manager: Any) -> list[Memory | None]:
    """Answer the memory that a pandas object keeps its numbers in, and keep none from going."""
    return [_memory(array_in(block.values)) for block in _blocks(manager)]


def _memory(values: Any) -> Memory | None:
    if values is None:
        return None
    try:
        root = weakref.ref(SharedMemory.root(values))
    except TypeError:  # a buffer of some other kind
        return None
    return root, (values.ctypes.data, values.shape, values.strides, values.dtype)


def written_in_place(manager: Any, before: Sequence[Memory | None]) -> tuple[tuple[int, int], ...]:
    """Answer the numbers that arrays had before which are still there, and those that they have.

    They may be other objects on the same memory.
    """
    found = [_there(memory) for memory in memory_of(manager)]
    now = {there: number for number, there in enumerate(found) if there is not None}
    places = ((number, now.get(_there(memory) or ())) for number, memory in enumerate(before))
    return tuple((was, number) for was, number in places if number is not None)


def _there(memory: Memory | None) -> tuple[Any, ...] | None:
    root = memory[0]() if memory is not None else None
    return (id(root), *memory[1]) if memory is not None and root is not None else None


def show_what_was_written(manager: Any, new: Any, written: Iterable[tuple[int, int]]) -> Undo:
    """Have what shows the memory of a pandas object show what a cell wrote to it.

    Parameters
    ----------
    manager, new : manager of blocks
        What it has, and what it will have: arrays that somebody sees are kept.
    written : iterable of (int, int)
        Arrays that the cell wrote to, or left alone; as of `written_in_place`.
    """
    mine, its = list(_blocks(manager)), list(_blocks(new))
    kept: list[tuple[Any, Any]] = []
    left: list[Any] = []
    before = list(its)
    for was, now in written:
        if was >= len(mine) or now >= len(its) or not _alike(mine[was], its[now]):
            continue
        shown, others = _is_shown(mine[was]), mine[was].refs.has_reference()
        if (shown or others) and _same(mine[was], its[now]):
            its[now] = _on_memory_of(mine[was], its[now])
            left.append(mine[was])
        elif shown and _is_own(mine[was]):
            array = array_in(mine[was].values)
            kept.append((array, array.copy()))
            array[...] = array_in(its[now].values)
            values = its[now].values
            values = array if values is array_in(values) else values._from_backing_data(array)
            refs = its[now].refs if its[now].refs.has_reference() else None
            its[now] = its[now].make_block_same_class(values, refs=refs)
    if its != before:
        new.blocks = tuple(its)

    def undo() -> None:
        for values, old in kept:
            values[...] = old
        for block in left:
            block.refs.add_reference(block)

    return undo


def _alike(mine: Any, its: Any) -> bool:
    one, other = array_in(mine.values), array_in(its.values)
    return (
        one is not None
        and other is not None
        and mine.values.dtype == its.values.dtype
        and (one.dtype, one.shape) == (other.dtype, other.shape)
    )


def _same(mine: Any, its: Any) -> bool:
    """Whether a cell has written nothing to some memory."""
    one, other = array_in(mine.values), array_in(its.values)
    if one.dtype.hasobject:
        return same_items(one.ravel().tolist(), other.ravel().tolist())
    return _equal(one, other)


def _on_memory_of(mine: Any, its: Any) -> Any:
    """Answer a block with the memory that there is, and all who have that, or had the new one."""
    moving = its.refs is not mine.refs and its.refs.has_reference()
    for held in list(its.refs.referenced_blocks) if moving else ():
        other = held()
        if other is not None and other is not its and hasattr(other, "mgr_locs"):
            mine.refs.add_reference(other)
            other.refs = mine.refs
    # What is remembered of an earlier job may keep it from going.
    held = [other for other in mine.refs.referenced_blocks if other() is not mine]
    mine.refs.referenced_blocks = held
    return its.make_block_same_class(mine.values, refs=mine.refs)


def make_view_of_frame(
    frame: Any,
    number: int,
    there: tuple[int, tuple[Any, ...]],
    changed: bool,
    root: Any,
    offset: int,
    view: tuple[Any, ...],
) -> Any:
    """Build an array on the memory of a frame, or on one of its own where that is another one here.

    Parameters
    ----------
    frame : DataFrame or Series
    number : int
        Which of its blocks.
    there : tuple
        How many bytes behind the start of the block's array the array begins, and that array's
        shape, strides and dtype.
    changed : bool
        Whether the frame will get a new state, which has `root` where nobody sees its memory.
    root : ndarray
        What holds the same numbers.
    offset : int
        How many bytes behind the start of `root` it begins.
    view : tuple
        Its shape, strides, dtype and class, and whether it is writeable.
    """
    shape, strides, dtype, cls, writeable = view
    own = make_view(root, offset, shape, strides, dtype, cls, writeable)
    mine = _blocks(frame._mgr)[number : number + 1]
    if not mine or array_in(mine[0].values) is None:
        return own
    if changed and not (_is_shown(mine[0]) and _is_own(mine[0])):
        return own
    values = array_in(mine[0].values)
    place, layout = there
    if (values.shape, values.strides, values.dtype) != layout:
        return own
    whole = SharedMemory.root(values)
    if not whole.flags.forc or not values.flags.writeable:
        return own
    place += values.ctypes.data - whole.ctypes.data
    shown = make_view(whole, place, shape, strides, dtype, cls, writeable)
    return shown if changed or _equal(shown, own) else own


def _equal(one: Any, other: Any) -> bool:
    equal_nan = one.dtype.kind in "fcmM"
    return bool(sys.modules["numpy"].array_equal(one, other, equal_nan=equal_nan))


def _is_own(block: Any) -> bool:
    return bool(array_in(block.values).flags.writeable) and not _is_anothers(block)


def _is_anothers(block: Any) -> bool:
    """Whether pandas, which writes to no other frame's memory, would have made a copy of it."""
    refs = getattr(block, "refs", None)
    return refs is not None and copies_on_write() and bool(refs.has_reference())


def _is_shown(block: Any) -> bool:
    """Whether somebody has an array on a block's memory."""
    return _references(block) > _references_of_its_own()


def _references(block: Any) -> int:
    root = SharedMemory.root(array_in(block.values))
    return sys.getrefcount(root)


@functools.cache
def _references_of_its_own() -> int:
    """Answer how many there are to memory that a block alone has; Pythons count differently."""
    import numpy as np

    return _references(types.SimpleNamespace(values=np.empty(1)))
