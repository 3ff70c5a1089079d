"""The digest of a content: one for each, made of pieces where it is large, by threads."""

from __future__ import annotations

import concurrent.futures
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from dask_async_run import content
from dask_async_run.content import PIECE, WHOLE, alone, digest_of, in_threads, is_named
from dask_async_run.frames import FrameStore, name_of


@contextmanager
def smaller(whole: int, piece: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(content, "WHOLE", whole)
        patch.setattr(content, "PIECE", piece)
        yield


@given(st.binary(max_size=200), st.integers(1, 50), st.integers(1, 50))
def test_the_digest_is_that_of_the_pieces_digests(data: bytes, whole: int, piece: int) -> None:
    """In order, with a rest at the end; of a small one that of the whole."""
    pieces = [data[start : start + piece] for start in range(0, len(data), piece)]
    expected = data
    if len(data) > whole:
        expected = b"".join(xxhash.xxh3_128(each).digest() for each in pieces)
    with smaller(whole, piece):
        assert digest_of(data) == xxhash.xxh3_128(expected).hexdigest()


@pytest.mark.parametrize("size", [WHOLE, WHOLE + 1, WHOLE + PIECE, 2 * WHOLE + 17])
def test_what_is_written_has_the_name_that_reading_gives(tmp_path: Path, size: int) -> None:
    """The writer makes it of the pieces that it writes; a changed bit in any is found."""
    store = FrameStore(tmp_path / "frames")
    data = bytearray(os.urandom(size))
    frame = store.put(data)
    assert frame == name_of(data)
    assert bytes(store.open(frame.digest, size)) == data
    for place in (0, size // 2, size - 1):
        data[place] ^= 1
        assert name_of(data) != frame
        data[place] ^= 1


def test_frames_that_an_earlier_version_named_are_known(tmp_path: Path) -> None:
    """By the digest of the whole, of whatever size; and a damaged one is not."""
    store = FrameStore(tmp_path / "frames")
    data = bytearray(os.urandom(WHOLE + 5))
    name = f"{xxhash.xxh3_128_hexdigest(data)}-{len(data)}"
    store.path(name).write_bytes(data)
    store.path(name).chmod(0o600)
    store.verify(name, len(data))
    assert bytes(store.open(name, len(data))) == data
    assert not is_named(memoryview(data), "0" * 32)


def test_several_threads_work_and_none_is_left() -> None:
    """On a machine with several processors; answers come in order."""
    both = threading.Barrier(2, timeout=30)

    def work(start: int) -> int:
        if start < 20:
            both.wait()  # two at once
        return start

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(content, "_processors", lambda: 2)
        assert in_threads(work, range(0, 50, 10)) == [0, 10, 20, 30, 40]
    assert not [t for t in threading.enumerate() if t.name.startswith("dask-async-run-content")]


def test_who_has_interrupted_a_thread_starts_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting one may wait for what the interrupted code holds."""
    monkeypatch.setattr(content, "_processors", lambda: 2)
    with alone():
        assert set(in_threads(lambda _: threading.get_ident(), range(9))) == {threading.get_ident()}
    assert threading.get_ident() not in in_threads(lambda _: threading.get_ident(), range(9))


def test_where_no_thread_can_be_started_it_is_done_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the interpreter's exit, or at a limit of processes."""

    def refuse(*arguments: object, **options: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(concurrent.futures.ThreadPoolExecutor, "submit", refuse)
    monkeypatch.setattr(content, "_processors", lambda: 2)
    assert in_threads(lambda start: start, range(3)) == [0, 1, 2]
