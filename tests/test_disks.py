"""Whether a disk takes much at once, from what the system tells."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from dask_async_run import disks, memory
from dask_async_run.disks import is_behind, takes_at_once
from dask_async_run.frames import FrameStore
from dask_async_run.memory import LARGE, VARIABLE, Memory


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What files of ``/proc`` say instead of what they do."""
    said: dict[str, str] = {}
    read = Path.read_text

    def read_text(path: Path, *arguments: str) -> str:
        text = said.get(str(path))
        return read(path, *arguments) if text is None else text

    monkeypatch.setattr(Path, "read_text", read_text)
    disks._is_local.cache_clear()
    return said


def told(dirty: int, writing: int, limit: int) -> str:
    return (
        f"nr_free_pages 1\nnr_dirty {dirty}\nnr_writeback {writing}\nnr_writeback_temp 0\n"
        f"nr_dirty_threshold {2 * limit}\nnr_dirty_background_threshold {limit}\n"
    )


@pytest.mark.parametrize(
    ("dirty", "writing", "more", "behind"),
    [(0, 0, 100, False), (60, 40, 0, False), (60, 40, 1, True), (101, 0, 0, True)],
)
def test_a_disk_is_behind_where_the_system_begins_to_write(
    system: dict[str, str], dirty: int, writing: int, more: int, behind: bool
) -> None:
    """Beyond that it slows down those who write."""
    system["/proc/vmstat"] = told(dirty, writing, 100)
    assert is_behind(more * mmap.PAGESIZE) is behind


def test_where_nothing_is_told_a_disk_is_not_behind(system: dict[str, str]) -> None:
    """As on other systems than Linux."""
    system["/proc/vmstat"] = "nr_free_pages 1\n"
    assert not is_behind(10**15)


@pytest.mark.parametrize(
    ("kind", "local"),
    [("ext4", True), ("overlay", True), ("nfs4", False), ("fuse.sshfs", False), ("9p", False)],
)
def test_a_network_takes_nothing_at_once(
    system: dict[str, str], tmp_path: Path, kind: str, local: bool
) -> None:
    """Whatever waits for local disks."""
    device = tmp_path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    system["/proc/vmstat"] = told(0, 0, 100)
    system["/proc/self/mountinfo"] = (
        "20 1 0:999 / /proc rw - proc proc rw\n"
        f"36 20 {number} / /home rw,noatime shared:1 - {kind} server:/home rw\n"
    )
    assert takes_at_once(tmp_path, mmap.PAGESIZE) is local


@pytest.mark.usefixtures("shared_memory")
@pytest.mark.parametrize("behind", [False, True])
def test_frames_go_to_memory_where_the_disk_is_behind(
    system: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behind: bool
) -> None:
    """Unless the user wants all large ones there."""
    store = FrameStore(tmp_path / "frames")
    made = Memory.make(store.folder)
    assert made is not None
    monkeypatch.delenv(VARIABLE)
    system["/proc/self/mountinfo"] = ""  # whatever it is here
    system["/proc/vmstat"] = told(LARGE if behind else 0, 0, LARGE // 2)
    frame = store.put(bytes(LARGE))
    assert (made.folder / frame.digest).exists() is behind
    assert memory.is_in_no_hurry() is behind
    monkeypatch.setenv(VARIABLE, str(made.folder.parent))
    wanted = store.put(bytes([1]) * LARGE)
    assert (made.folder / wanted.digest).exists()
    assert not memory.is_in_no_hurry()
