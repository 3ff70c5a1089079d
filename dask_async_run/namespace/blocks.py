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

from dask_async_run.namespace.kinds import Undo
from dask_async_run.namespace.sharing import SharedMemory


def _blocks(manager: Any) -> Sequence[Any]:
    return getattr(manager, "blocks", ())


def _is_array(values: Any) -> bool:
    return type(values) is sys.modules["numpy"].ndarray and not values.dtype.hasobject


Memory = tuple[weakref.ref[Any], tuple[Any, ...]]
"""What has some memory, and where in it an array lies, and how."""


def memory_of(manager: Any) -> list[Memory | None]:
    """Answer the memory that a pandas object keeps its numbers in, and keep none from going."""
    return [_memory(block.values) for block in _blocks(manager)]


def _memory(values: Any) -> Memory | None:
    if not _is_array(values):
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
    for was, now in written:
        if was >= len(mine) or now >= len(its) or not _fits(mine[was], its[now]):
            continue
        if _is_shown(mine[was]):
            values = mine[was].values
            kept.append((values, values.copy()))
            values[...] = its[now].values
            its[now] = its[now].make_block_same_class(values)
    if kept:
        new.blocks = tuple(its)

    def undo() -> None:
        for values, before in kept:
            values[...] = before

    return undo


def _fits(mine: Any, its: Any) -> bool:
    one, other = mine.values, its.values
    return (
        _is_array(one)
        and type(other) is type(one)
        and (one.dtype, one.shape) == (other.dtype, other.shape)
        and one.flags.writeable
        and not _is_anothers(mine)
    )


def _is_anothers(block: Any) -> bool:
    """Whether pandas, which writes to no other frame's memory, would have made a copy of it."""
    refs = getattr(block, "refs", None)
    return refs is not None and _copies_on_write() and bool(refs.has_reference())


def _copies_on_write() -> bool:
    """Whether a change of a frame is seen in no other one: always, from pandas 3 on."""
    pandas = sys.modules["pandas"]
    if int(pandas.__version__.partition(".")[0]) >= 3:
        return True
    try:
        return pandas.get_option("mode.copy_on_write") is True
    except Exception:  # noqa: BLE001 - there was no such option
        return False


def _is_shown(block: Any) -> bool:
    """Whether somebody has an array on a block's memory."""
    return _references(block) > _references_of_its_own()


def _references(block: Any) -> int:
    root = SharedMemory.root(block.values)
    return sys.getrefcount(root)


@functools.cache
def _references_of_its_own() -> int:
    """Answer how many there are to memory that a block alone has; Pythons count differently."""
    import numpy as np

    return _references(types.SimpleNamespace(values=np.empty(1)))
