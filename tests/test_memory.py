"""Memory: which folder it is, what goes there; what lies there is found and comes to disk."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dask_async_run import memory as memory_module
from dask_async_run.folders import FRAMES, TOKEN_FILE, sees
from dask_async_run.frames import CHECKED, Frame, FrameStore
from dask_async_run.memory import HOME, LARGE, NOTE, VARIABLE, Memory, available

pytestmark = pytest.mark.usefixtures("shared_memory")


@pytest.fixture
def store(tmp_path: Path) -> FrameStore:
    return FrameStore(tmp_path / FRAMES)


@pytest.fixture
def memory(store: FrameStore) -> Memory:
    made = Memory.make(store.folder)
    assert made is not None
    return made


def filled(size: int, value: int = 7) -> bytearray:
    return bytearray([value]) * size


def content(store: FrameStore, frame: Frame) -> bytes:
    return bytes(store.open(frame.digest, frame.size))


def test_large_frames_lie_in_memory_and_small_ones_do_not(
    store: FrameStore, memory: Memory
) -> None:
    """Both are found by every store of the folder, wherever they lie."""
    large, small = store.put(filled(LARGE)), store.put(filled(LARGE - 1))
    assert (memory.folder / large.digest).exists()
    assert not store.path(large.digest).exists()
    assert store.path(small.digest).exists()
    other = FrameStore(store.folder)
    assert set(other) == {large.digest, small.digest}
    for frame in (large, small):
        assert other.has(frame.digest)
        assert other.use(frame.digest)
        assert other.used(frame.digest) is not None
        assert content(other, frame) == filled(frame.size)
    assert [digest for digest, _ in other.in_memory()] == [large.digest]
    assert oct((memory.folder / large.digest).stat().st_mode)[-3:] == "600"


def test_frames_that_are_begun_together_share_what_is_left(
    store: FrameStore, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of them is written yet, so that the system does not tell."""
    monkeypatch.setattr(memory_module, "available", lambda: 8 * LARGE)
    found = []
    for beside in (0, 4 * LARGE, 4 * LARGE + 4):
        name, descriptor = store.begin(LARGE, beside)
        os.close(descriptor)
        found.append((memory.folder / name).exists())
        assert (store.folder / name).exists() is not found[-1]
        store.give_up(name)
    assert found == [True, True, False]


@pytest.mark.parametrize("size", [LARGE, CHECKED + 5])
def test_settling_brings_a_frame_to_the_folder(
    store: FrameStore, memory: Memory, size: int
) -> None:
    """Whole, with its times; whoever had it mapped has it on, and it still counts as the frame."""
    frame = store.put(filled(size))
    view = store.open(frame.digest, size)
    before = (memory.folder / frame.digest).stat()
    store.settle(frame.digest)
    assert not (memory.folder / frame.digest).exists()
    after = store.path(frame.digest).stat()
    assert (after.st_atime_ns, after.st_mtime_ns) == (before.st_atime_ns, before.st_mtime_ns)
    assert store.in_memory() == []
    store.verify(frame.digest, size)
    assert view == filled(size)
    assert store.put(view) == frame  # nothing is written
    assert store.in_memory() == []
    view[3] = 1
    assert content(store, frame) == filled(size)
    assert store.put(view) != frame
    store.settle(frame.digest)  # again: nothing happens
    assert not list(store.folder.glob("*.part"))


def test_a_use_while_it_is_brought_is_not_lost(
    store: FrameStore, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the collector might take a frame that somebody has found and will name."""
    frame = store.put(filled(LARGE))
    os.utime(memory.folder / frame.digest, (1000.0, 1000.0))
    copied = os.fsync

    def used_meanwhile(descriptor: int) -> None:
        copied(descriptor)
        assert FrameStore(store.folder).use(frame.digest)

    monkeypatch.setattr(os, "fsync", used_meanwhile)
    store.settle(frame.digest)
    used = store.used(frame.digest)
    assert used is not None
    assert used > 1e9


def test_a_frame_is_found_at_every_moment(store: FrameStore, memory: Memory) -> None:
    """By a reader in another thread, while it is brought to the disk."""
    frames = [store.put(filled(LARGE, value)) for value in range(40)]
    reader, over = FrameStore(store.folder), threading.Event()
    missed: list[BaseException] = []

    def look() -> None:
        try:
            while not over.is_set():
                for frame in frames:
                    assert reader.has(frame.digest)
                    assert reader.use(frame.digest)
                    os.close(reader.opened(frame.digest))
        except BaseException as error:
            missed.append(error)

    thread = threading.Thread(target=look)
    thread.start()
    for frame in frames:
        store.settle(frame.digest)
    over.set()
    thread.join()
    assert missed == []


def test_without_room_a_frame_goes_to_the_folder(
    store: FrameStore, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it would take more than its part; and where the memory has ended meanwhile."""
    monkeypatch.setattr(memory_module, "available", lambda: memory_module.PART * LARGE)
    fits, does_not = store.put(filled(LARGE)), store.put(filled(LARGE + 1))
    assert [digest for digest, _ in store.in_memory()] == [fits.digest]
    assert store.path(does_not.digest).exists()
    monkeypatch.undo()

    assert FrameStore(store.folder).leave_memory()
    assert not memory.folder.exists()
    later = store.put(filled(LARGE, 1))
    assert store.path(later.digest).exists()
    assert content(store, fits) == filled(LARGE)


def test_memory_that_is_full_in_the_middle_of_a_frame(
    store: FrameStore, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else took the room: the frame goes to the folder, and nothing half is left."""
    write = os.pwrite

    def full(descriptor: int, data: bytes, offset: int) -> int:
        if os.fstat(descriptor).st_dev == memory.folder.stat().st_dev:
            raise OSError(28, "No space left on device")
        return write(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    frame = store.put(filled(LARGE))
    assert store.path(frame.digest).exists()
    assert [path.name for path in memory.folder.iterdir()] == [HOME]


def test_a_damaged_frame_in_memory_is_written_again(
    store: FrameStore, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when there is no room any more: it would be found before the whole one."""
    frame = store.put(filled(LARGE))
    path = memory.folder / frame.digest
    path.write_bytes(filled(LARGE, 8))
    monkeypatch.setattr(memory_module, "available", lambda: 0)
    assert store.put(filled(LARGE)) == frame
    assert content(store, frame) == filled(LARGE)


def test_discarded_frames_are_gone_from_both(store: FrameStore, memory: Memory) -> None:
    """And their space comes back."""
    frame = store.put(filled(LARGE))
    store.path(frame.digest).write_bytes(filled(LARGE))
    store.remove([frame.digest])
    assert not store.has(frame.digest)
    assert list(store) == []
    assert not any(path.is_file() for path in memory.folder.rglob("*") if path.name != HOME)


def test_leaving_brings_all_to_the_folder_and_ends(store: FrameStore, memory: Memory) -> None:
    """But not while somebody writes a frame there."""
    array: Any = np.arange(LARGE / 8)
    frame = store.put(array)
    part = memory.folder / f"{'0' * 32}.part"
    part.write_bytes(b"half")
    assert not store.leave_memory()
    assert Memory.of(store.folder) is not None
    part.unlink()
    assert store.leave_memory()
    assert Memory.of(store.folder) is None
    assert not memory.folder.exists()
    assert sorted(path.name for path in store.folder.iterdir()) == [frame.digest]
    assert np.array_equal(np.frombuffer(store.open(frame.digest, frame.size)), array)


def test_a_killed_servers_memory_is_taken_up(store: FrameStore, memory: Memory) -> None:
    """The next one has the same folder; stores that were open see a new one, too."""
    frame = store.put(filled(LARGE))
    again = Memory.make(store.folder)
    assert again is not None
    assert again.folder == memory.folder
    assert store.leave_memory()
    new = Memory.make(store.folder)
    assert new is not None
    assert new.folder != memory.folder
    later = FrameStore(store.folder).put(filled(LARGE, 3))
    assert content(store, later) == filled(LARGE, 3)
    assert content(store, frame) == filled(LARGE)


def test_memory_that_went_with_the_machine(store: FrameStore, memory: Memory) -> None:
    """What was on the disk is there, and the next server has a new folder."""
    kept, gone = store.put(filled(LARGE - 1)), store.put(filled(LARGE))
    for path in memory.folder.iterdir():
        path.unlink()
    memory.folder.rmdir()
    assert not store.has(gone.digest)
    assert content(store, kept) == filled(LARGE - 1)
    assert FrameStore(store.folder).put(filled(LARGE)) == gone
    assert store.path(gone.digest).exists()
    assert Memory.make(store.folder) is not None


def test_who_does_not_see_the_memory_does_not_see_the_folder(
    store: FrameStore, memory: Memory
) -> None:
    """A kernel in a container would miss frames: it has them sent."""
    state = store.folder.parent
    (state / TOKEN_FILE).write_text("token")
    assert sees(state, "token")
    aside = memory.folder.with_name("hidden")
    memory.folder.rename(aside)
    assert not sees(state, "token")
    aside.rename(memory.folder)
    assert sees(state, "token")


@pytest.mark.parametrize("fault", ["open to others", "of another folder", "a link", "no folder"])
def test_a_folder_that_is_not_ones_own_is_not_used(
    store: FrameStore, memory: Memory, tmp_path: Path, fault: str
) -> None:
    """Pickles are loaded from there."""
    folder = memory.folder
    if fault == "open to others":
        folder.chmod(0o755)
    elif fault == "of another folder":
        (folder / HOME).write_text(f"{tmp_path}\n")
    elif fault == "a link":
        folder.rename(folder.with_name("moved"))
        folder.symlink_to(folder.with_name("moved"))
    else:
        (folder / HOME).unlink()
        folder.rmdir()
        folder.write_text("")
    assert Memory.of(store.folder) is None
    other = FrameStore(store.folder)
    assert other.path(other.put(filled(LARGE)).digest).exists()
    if folder.is_symlink():
        folder.unlink()
        folder.with_name("moved").rename(folder)


def test_a_folder_that_is_opened_to_others_later_is_refused(
    store: FrameStore, memory: Memory
) -> None:
    """At each use, as the frames' folder."""
    frame = store.put(filled(LARGE))
    memory.folder.chmod(0o777)
    with pytest.raises(PermissionError, match="others can write"):
        store.open(frame.digest, frame.size)


def test_nobodys_folders_are_removed_at_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those whose frames' folder is gone; not one that is being made.

    Nor one of another container, unless it is old: its frames' folder cannot be looked for here.
    """
    day = 86400.0
    ages = {
        "orphan": day,
        "alive": 30 * day,
        "young": 0.0,
        "elsewhere": day,
        "old and elsewhere": 30 * day,
    }
    homes = {}
    for name in ages:
        with monkeypatch.context() as patch:
            if "elsewhere" in name:
                patch.setattr(memory_module, "_view", lambda: "mnt:[1]")
            made = Memory.make(FrameStore(tmp_path / name).folder)
        assert made is not None
        homes[name] = made.folder
    for name, age in ages.items():
        if name != "alive":
            (tmp_path / name / NOTE).unlink()
        os.utime(homes[name], (time.time() - age, time.time() - age))
    Memory.make(FrameStore(tmp_path / "new").folder)
    left = [name for name, folder in homes.items() if folder.exists()]
    assert left == ["alive", "young", "elsewhere"]


def test_none_is_made_where_it_is_not_wanted_or_no_use(
    store: FrameStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the environment; or where the frames lie on that very file system."""
    monkeypatch.setenv(VARIABLE, str(store.folder.parent))
    assert Memory.make(store.folder) is None
    monkeypatch.setenv(VARIABLE, "")
    assert Memory.make(store.folder) is None
    monkeypatch.setenv(VARIABLE, str(store.folder / "missing"))
    assert Memory.make(store.folder) is None


def test_what_is_available_is_a_part_of_the_machine() -> None:
    """Whatever limits a container has."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < available() <= total


def test_the_least_limit_of_a_control_group_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Less what is used, of which files that can be dropped do not count."""
    monkeypatch.setattr(memory_module, "_groups", lambda: [(10_000, 9_000), (5_000, 1_000)])
    assert available() == 1_000
    monkeypatch.setattr(memory_module, "_groups", lambda: [(10_000, 11_000)])
    assert available() == 0
