"""Frames that arrive in pieces are complete and right, or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from dask_async_run.errors import FrameError
from dask_async_run.frames import FrameStore, name_of
from dask_async_run.incoming import Incoming
from dask_async_run.worker.frames_here import FramesHere


@pytest.fixture
def store(tmp_path: Path) -> FrameStore:
    return FrameStore(tmp_path / "frames")


@pytest.mark.parametrize("data", [b"", b"a", bytes(range(256)) * 500])
def test_pieces_in_any_order_make_the_frame(store: FrameStore, data: bytes) -> None:
    """Also when one of them comes twice, and when the end is told twice."""
    incoming = Incoming(store)
    starts = [*range(0, max(1, len(data)), 1000)]
    for start in [*reversed(starts), starts[0]]:
        incoming.write(start, data[start : start + 1000])
    frame = name_of(data)
    assert not store.has(frame.digest)
    incoming.complete(frame.digest)
    Incoming(store, incoming.name).complete(frame.digest)
    assert bytes(store.open(frame.digest, frame.size)) == data
    assert (store.folder / frame.digest).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("data", [b"abcX", b"abc", b"abcde", None])
def test_what_is_not_what_its_name_says_is_no_frame(store: FrameStore, data: bytes | None) -> None:
    """Damaged, short, long or not there: an error, and nothing is left."""
    frame = name_of(b"abcd")
    incoming = Incoming(store)
    if data is not None:
        incoming.write(0, data)
    with pytest.raises(FrameError):
        incoming.complete(frame.digest)
    assert list(store.folder.iterdir()) == []


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "A" * 32, "0" * 31, "0" * 32 + "\n"])
def test_a_transfer_cannot_be_called_anything(store: FrameStore, name: str) -> None:
    """Its name becomes a path."""
    with pytest.raises(ValueError, match="transfer"):
        Incoming(store, name)


def test_copies_are_kept_until_there_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that a cell uses stay; of the others the ones used longest ago go."""
    monkeypatch.setattr("dask_async_run.worker.frames_here.KEEP", 25)
    here = FramesHere(tmp_path / "frames", carrier=object())  # type: ignore[arg-type]
    frames = [here.store.put(bytes([65 + number]) * 10) for number in range(4)]
    named = [[frame.digest, frame.size] for frame in frames]
    with here.used(named[:1]):
        for one in named:
            with here.used([one]):
                pass
        left = {frame.digest for frame in frames if here.store.has(frame.digest)}
        assert left == {frames[0].digest, frames[2].digest, frames[3].digest}
    left = {frame.digest for frame in frames if here.store.has(frame.digest)}
    assert left == {frames[0].digest, frames[3].digest}
