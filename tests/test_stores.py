"""A store at a URL: what has a name there is whole, and what is read is checked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dask_async_run.errors import FrameError, StoreError
from dask_async_run.frames import FrameStore
from dask_async_run.stores import UrlStore, place_at


@pytest.fixture
def frames(tmp_path: Path) -> FrameStore:
    return FrameStore(tmp_path / "frames")


@pytest.fixture
def store(tmp_path: Path) -> UrlStore:
    return UrlStore(place_at(f"file://{tmp_path}/runs", "0123abcd"))


@pytest.mark.parametrize("size", [0, 5, 9_000_000])
def test_a_frame_goes_there_and_comes_back(
    frames: FrameStore, store: UrlStore, tmp_path: Path, size: int
) -> None:
    """Also one of several pieces, and an empty one; it is written once."""
    content = os.urandom(size)
    frame = frames.put(content)
    store.put_frame(frame.digest, frames.path(frame.digest))
    there = tmp_path / "runs" / "dask-async-run-0123abcd" / "frames" / frame.digest
    written = there.stat().st_mtime_ns
    store.put_frame(frame.digest, frames.path(frame.digest))
    assert there.stat().st_mtime_ns == written
    frames.remove([frame.digest])
    store.fetch_frame(frame.digest, frames)
    assert bytes(frames.open(frame.digest, size)) == content


def test_what_is_damaged_or_missing_there_is_no_frame(
    frames: FrameStore, store: UrlStore, tmp_path: Path
) -> None:
    """It is told, and nothing of it is left behind."""
    frame = frames.put(b"whole")
    store.put_frame(frame.digest, frames.path(frame.digest))
    frames.remove([frame.digest])
    (there,) = tmp_path.glob("runs/*/frames/*")
    there.write_bytes(b"WHOLE")
    with pytest.raises(FrameError, match="damaged"):
        store.fetch_frame(frame.digest, frames)
    there.unlink()
    with pytest.raises(FrameError, match="missing from file:"):
        store.fetch_frame(frame.digest, frames)
    assert [path for path in frames.folder.iterdir() if path.is_file()] == []


def test_records_are_checked(store: UrlStore, tmp_path: Path) -> None:
    """One that was cut off is not taken for a job."""
    store.put_record("a" * 32, b"all about it")
    assert store.jobs() == ["a" * 32]
    assert store.record("a" * 32) == b"all about it"
    (there,) = tmp_path.glob("runs/*/jobs/*")
    there.write_bytes(there.read_bytes()[:-3])
    with pytest.raises(StoreError, match="is damaged"):
        store.record("a" * 32)


TOO_LARGE = """\
import resource, signal, sys
from pathlib import Path
from dask_async_run.errors import StoreError
from dask_async_run.stores import UrlStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    UrlStore(sys.argv[1]).put_frame(sys.argv[2], Path(sys.argv[3]))
except StoreError as error:
    print(error)
"""


def test_no_name_is_seen_before_all_is_there(
    frames: FrameStore, store: UrlStore, tmp_path: Path
) -> None:
    """A file that cannot become as long as it should: it has no name, and is gone."""
    frame = frames.put(b"x" * 100_000)
    told = subprocess.run(
        [sys.executable, "-c", TOO_LARGE, store.place, frame.digest, frames.path(frame.digest)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "File too large" in told.stdout
    (folder,) = tmp_path.glob("runs/*/frames")
    assert list(folder.iterdir()) == []


def test_removing_leaves_alone_what_others_put_there(
    frames: FrameStore, store: UrlStore, tmp_path: Path
) -> None:
    """Only the names that are given go, and those that are not there do not matter."""
    frame = frames.put(b"mine")
    store.put_frame(frame.digest, frames.path(frame.digest))
    other = tmp_path / "runs" / "thesis.pdf"
    other.write_text("theirs")
    store.remove([f"frames/{frame.digest}", "jobs/" + "b" * 32])
    assert other.read_text() == "theirs"
    assert list(tmp_path.glob("runs/*/frames/*")) == []


def test_places_are_those_that_are_ours(store: UrlStore, tmp_path: Path) -> None:
    """Whatever else lies at the URL; nothing where there is nothing."""
    url = f"file://{tmp_path}/runs"
    assert UrlStore.places(url) == []
    store.check()
    (tmp_path / "runs" / "other").mkdir()
    assert UrlStore.places(url) == [store.place]


def test_a_folder_that_others_can_write_to_is_not_read(
    frames: FrameStore, store: UrlStore, tmp_path: Path
) -> None:
    """Pickles are loaded from it."""
    store.put_record("a" * 32, b"all about it")
    (tmp_path / "runs" / "dask-async-run-0123abcd").chmod(0o777)
    with pytest.raises(StoreError, match="is not trusted"):
        store.record("a" * 32)
    with pytest.raises(StoreError, match="is not trusted"):
        store.check()


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    """A protocol that nobody knows; a folder that cannot be made."""
    with pytest.raises(StoreError, match="Protocol not known: nosuch"):
        UrlStore("nosuch://bucket/runs")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"NotADirectoryError|FileExistsError"):
        UrlStore(f"file://{tmp_path}/file/runs").check()
