"""Whether a disk takes much at once, from what the system tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from dask_async_run import memory
from dask_async_run.disks import is_behind
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
    return said


def told(dirty: int, writing: int, limit: int) -> str:
    return (
        f"nr_free_pages 1\nnr_dirty {dirty}\nnr_writeback {writing}\nnr_writeback_temp 0\n"
        f"nr_dirty_threshold {2 * limit}\nnr_dirty_background_threshold {limit}\n"
    )


@pytest.mark.parametrize(
    ("dirty", "writing", "behind"),
    [(0, 0, False), (100, 0, False), (60, 40, False), (60, 41, True), (101, 0, True)],
)
def test_a_disk_is_behind_where_the_system_begins_to_write(
    system: dict[str, str], dirty: int, writing: int, behind: bool
) -> None:
    """Beyond that it slows down those who write."""
    system["/proc/vmstat"] = told(dirty, writing, 100)
    assert is_behind() is behind


def test_where_nothing_is_told_a_disk_is_not_behind(system: dict[str, str]) -> None:
    """As on other systems than Linux."""
    system["/proc/vmstat"] = "nr_free_pages 1\n"
    assert not is_behind()


@pytest.mark.usefixtures("shared_memory")
@pytest.mark.parametrize("behind", [False, True])
def test_large_frames_go_to_memory_and_wait_there_while_the_disk_is_behind(
    system: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behind: bool
) -> None:
    """However fast the disk is; who says where memory is does not want them to wait."""
    store = FrameStore(tmp_path / "frames")
    made = Memory.make(store.folder)
    assert made is not None
    monkeypatch.delenv(VARIABLE)
    system["/proc/vmstat"] = told(LARGE if behind else 0, 0, LARGE // 2)
    frame = store.put(bytes(LARGE))
    assert (made.folder / frame.digest).exists()
    assert memory.is_in_no_hurry() is behind
    monkeypatch.setenv(VARIABLE, str(made.folder.parent))
    assert not memory.is_in_no_hurry()
