"""Arrays of texts in streams: packed, where nobody else has the texts.

Pickle notes every text that it writes, in case it meets it again: for a column of a
million texts that is most of its time and memory, and the other side's. Where the array
alone holds its texts, which their reference counts tell, none can be met again.
"""

from __future__ import annotations

import marshal
import pickle
import sys
from functools import cache
from typing import Any

_MANY = 1000
"""Items from which on packing pays."""

_FORMAT = 2
"""Of `marshal`: the newest one without references; every Python 3 reads it."""


def reduce_texts(array: Any) -> Any:
    """Reduce an array of texts, ``nan`` among them; `NotImplemented` for others."""
    if array.size < _MANY or not array.flags.forc:
        return NotImplemented
    order = "C" if array.flags.c_contiguous else "F"
    texts = array.ravel(order).tolist()
    missing: list[int] = []
    if set(map(type, texts)) == {str, float}:
        nan = sys.modules["numpy"].nan
        missing = [place for place, item in enumerate(texts) if item is nan]
        texts = [item for item in texts if item is not nan]
    if set(map(type, texts)) != {str} or _reference_counts(texts) != _alone():
        return NotImplemented
    data = pickle.PickleBuffer(marshal.dumps(texts, _FORMAT))
    return make_texts, (data, array.shape, order, missing)


def make_texts(data: Any, shape: tuple[int, ...], order: Any, missing: list[int]) -> Any:
    """Build what `reduce_texts` has packed."""
    import numpy as np

    array = np.empty(shape, object, order)
    flat = array.reshape(-1, order=order)
    there = np.ones(flat.size, bool)
    there[missing] = False
    flat[there] = marshal.loads(data)
    flat[missing] = np.nan
    return array


def _reference_counts(items: list[Any]) -> set[int]:
    return set(map(sys.getrefcount, items))


@cache
def _alone() -> set[int]:
    """Answer the reference counts of a text that an array and a list of its items hold."""
    array = sys.modules["numpy"].empty(1, object)
    array[0] = str(id(array))
    return _reference_counts(array.ravel("C").tolist())
