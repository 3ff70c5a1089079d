"""Managers in streams: what pandas objects keep their numbers in, and who else has that.

Pandas counts which of its objects have the same memory, and copies it before it writes to what
another one has (copy-on-write). Its own way of pickling leaves the count out: of two objects
that have one array, a write to one would be seen in the other.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from dask_async_run.namespace.kinds import per_class
from dask_async_run.namespace.modules import module_name

_INTERNALS = "pandas._libs.internals"


def is_internal(obj: Any) -> bool:
    """Whether an object is what pandas objects consist of: also a tuple of such, or their state."""
    if type(obj) is dict:
        obj = obj.get("_mgr")
    while type(obj) is tuple and obj:
        obj = obj[0]
    return is_internal_class(type(obj))


@per_class
def is_internal_class(cls: type) -> bool:
    """Whether instances of a class are what pandas objects consist of."""
    return module_name(cls).startswith((_INTERNALS, "pandas.core.internals"))


def copies_on_write() -> bool:
    """Whether a change of a frame is seen in no other one: always, from pandas 3 on."""
    pandas = sys.modules["pandas"]
    if int(pandas.__version__.partition(".")[0]) >= 3:
        return True
    try:
        return pandas.get_option("mode.copy_on_write") is True
    except Exception:  # noqa: BLE001 - there was no such option
        return False


def arrays_of(values: Any) -> Iterator[Any]:
    """Yield the numpy arrays that one of pandas' arrays consists of: itself, if it is one."""
    numpy = sys.modules["numpy"]
    if isinstance(values, numpy.ndarray):
        yield values
        return
    for name in ("_ndarray", "_data", "_mask"):
        if isinstance(part := getattr(values, name, None), numpy.ndarray):
            yield part


def arrays_of_frame(frame: Any) -> Iterator[Any]:
    """Yield the numpy arrays that a frame or a series keeps its numbers in."""
    for values in getattr(getattr(frame, "_mgr", None), "arrays", None) or ():
        yield from arrays_of(values)


def arrays_of_index(index: Any) -> Iterator[Any]:
    """Yield the numpy arrays that an index keeps its labels in; a range has none."""
    return arrays_of(vars(index).get("_data"))


@per_class
def reducer(kind: type) -> Callable[[Any, Any], Any] | None:
    """Answer how an object of a class is reduced, if that is about who has the same memory.

    Returns
    -------
    callable(object, SharedMemory) or None
    """
    if not module_name(kind).startswith("pandas."):
        return None
    if kind.__name__ == "BlockValuesRefs":
        return _reduce_refs
    if hasattr(kind, "_mgr_locs") and hasattr(kind, "refs"):
        return _reduce_block
    if kind.__name__ == "SingleBlockManager":
        return _reduce_manager
    return None


def make_refs(others: bool) -> Any:
    """Build the count of who has some memory; `others` have it who do not go along."""
    refs = sys.modules[_INTERNALS].BlockValuesRefs()
    if others:
        refs.referenced_blocks.append(weakref.ref(make_refs))
    return refs


def join_refs(frame: Any, number: int) -> Any:
    """Answer the count of who has the memory of an array of a frame."""
    blocks = getattr(frame._mgr, "blocks", ())
    return blocks[number].refs if number < len(blocks) else make_refs(others=True)


def make_block(function: Callable[..., Any], arguments: tuple[Any, ...], refs: Any) -> Any:
    """Build a block that is one of those that have the same memory."""
    block = function(*arguments)
    refs.add_reference(block)
    block.refs = refs
    return block


def make_index(function: Callable[..., Any], arguments: tuple[Any, ...], refs: Any) -> Any:
    """Build an index that is one of those that have the same memory."""
    index = function(*arguments)
    refs.add_index_reference(index)
    index._references = refs
    return index


def _reduce_refs(refs: Any, shared: Any) -> Any:
    if (place := shared.place_of(refs)) is not None:
        return join_refs, place
    living = sum(held() is not None for held in refs.referenced_blocks)
    return make_refs, (shared.others_have(refs, living),)


def _reduce_block(block: Any, shared: Any) -> Any:
    if not block.refs.has_reference():
        return NotImplemented
    shared.has(block.refs, block)
    return make_block, (*block.__reduce__()[:2], block.refs)


def _reduce_manager(manager: Any, shared: Any) -> Any:
    # Its own way writes the values alone.
    (block,) = manager.blocks
    if not block.refs.has_reference():
        return NotImplemented
    return type(manager), (block, manager.axes[0])


def reduce_index(index: Any, shared: Any) -> Any:
    """Reduce an index with who else has the same memory."""
    refs = vars(index).get("_references")
    if refs is None or not refs.has_reference():
        return NotImplemented
    reduced = index.__reduce__()
    if reduced[2:] not in ((), (None,)):
        return NotImplemented
    shared.has(refs, index)
    return make_index, (*reduced[:2], refs)
