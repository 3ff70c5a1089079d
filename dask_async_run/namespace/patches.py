"""Patches: what a cell wrote to of a large array, page by page.

Where the system tells which pages of a mapped input were written to, only those come back,
and only those are written to where the array is. A patch makes sense for an array that is
as it was sent; who cannot know that makes a `whole` of it first.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from dask_async_run.namespace.digests import KnownBuffers
from dask_async_run.pages import written

LEAST = 1024 * 1024
"""Bytes of an array below which it comes back as a whole."""

_SHARE = 4  # a patch is at most this part of its array


@dataclass(frozen=True, slots=True)
class Patch:
    """New contents of parts of an array's memory.

    Parameters
    ----------
    ranges : list of (int, int)
        Where they begin and end, in bytes, in order.
    data : ndarray of uint8
        The contents, one after another.
    """

    ranges: list[tuple[int, int]]
    data: Any


def patch_of(array: Any, shape: tuple[int, ...], dtype: Any, known: KnownBuffers) -> Patch | None:
    """Answer what was written to of an array that went in as `shape` and `dtype`.

    Returns
    -------
    Patch or None
        None if it is not known, or too much.
    """
    numpy: Any = sys.modules["numpy"]
    if (
        type(array) is not numpy.ndarray
        or array.nbytes < LEAST
        or (array.shape, array.dtype) != (shape, dtype)
        or array.dtype.hasobject
        or not array.flags.forc
        or not known.is_mapped(array.ctypes.data, array.nbytes)
    ):
        return None
    ranges = written(array.ctypes.data, array.nbytes)
    if ranges is None or sum(end - start for start, end in ranges) > array.nbytes // _SHARE:
        return None
    memory = _memory(array)
    parts = [memory[start:end] for start, end in ranges]
    return Patch(ranges, numpy.concatenate(parts) if parts else memory[:0].copy())


def apply(array: Any, patch: Patch) -> Patch:
    """Write a patch to a writable array; answer the patch that takes it back."""
    if not array.flags.forc:
        # It was sent without its gaps, in C order.
        packed = array.copy()
        undo = apply(packed, patch)
        array[...] = packed
        return undo
    memory = _memory(array)
    old = patch.data.copy()
    at = 0
    for start, end in patch.ranges:
        size = end - start
        old[at : at + size] = memory[start:end]
        memory[start:end] = patch.data[at : at + size]
        at += size
    return Patch(patch.ranges, old)


def whole(array: Any, patch: Patch) -> Any:
    """Answer a copy of an array that is as it was sent, patched."""
    copy = array.copy("A")
    apply(copy, patch)
    return copy


def _memory(array: Any) -> Any:
    numpy: Any = sys.modules["numpy"]
    plain = array.view(numpy.ndarray)
    return plain.reshape(-1, order="A").view("u1")
