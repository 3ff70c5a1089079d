"""Which memory is still as the file that it is mapped from."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dask_async_run.frames import FrameStore
from dask_async_run.pages import is_untouched

SIZE = 3 * 2**20 + 5

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")


def _address(view: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


def _array(view: memoryview) -> Any:
    return np.frombuffer(view, "u1")


def test_reading_is_no_writing(tmp_path: Path) -> None:
    """A mapped frame is untouched, also when all of it was read."""
    store = FrameStore(tmp_path / "frames")
    frame = store.put(os.urandom(SIZE))
    view = store.open(frame.digest, frame.size)
    assert is_untouched(_address(view), SIZE)
    assert len(bytes(view)) == SIZE
    assert is_untouched(_address(view), SIZE)


@pytest.mark.parametrize("at", [0, SIZE // 2, SIZE - 1])
def test_a_byte_is_enough(tmp_path: Path, at: int) -> None:
    """Any write shows, on the last and incomplete page too, and what is written stays seen."""
    store = FrameStore(tmp_path / "frames")
    frame = store.put(os.urandom(SIZE))
    view = store.open(frame.digest, frame.size)
    before = view[at]
    view[at] = (before + 1) % 256
    assert not is_untouched(_address(view), SIZE)
    view[at] = before
    assert not is_untouched(_address(view), SIZE)


def test_other_memory_counts_as_written() -> None:
    """What a process has allocated is no file's."""
    array = np.ones(SIZE)
    assert not is_untouched(array.ctypes.data, array.nbytes)


def test_a_mapped_frame_is_named_without_reading_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as nobody has written to it; afterwards it has another name."""
    store = FrameStore(tmp_path / "frames")
    frame = store.put(os.urandom(SIZE))
    array = _array(store.open(frame.digest, frame.size))
    with monkeypatch.context() as patch:
        patch.setattr("dask_async_run.frames.store.name_of", None)
        assert store.put(array) == frame
    array[7] += 1
    changed = store.put(array)
    assert changed != frame
    assert bytes(store.open(changed.digest, SIZE)) == array.tobytes()


def test_what_lies_where_a_frame_was_is_not_taken_for_it(tmp_path: Path) -> None:
    """A mapping that is gone is forgotten, and its address may be used by another one."""
    store = FrameStore(tmp_path / "frames")
    names = set()
    for _ in range(20):
        frame = store.put(os.urandom(SIZE))
        array = _array(store.open(frame.digest, frame.size))
        assert store.put(array) == frame
        del array
        other: Any = np.memmap(store.path(store.put(os.urandom(SIZE)).digest), mode="c")
        names.add(store.put(other).digest)
        del other
    assert len(names) == 20
