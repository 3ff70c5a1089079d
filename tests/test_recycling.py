"""The memory of frames that have gone is written to again, and never while somebody has it."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dask_async_run import recycling
from dask_async_run.content import digest_of
from dask_async_run.folders import FRAMES
from dask_async_run.frames import Frame, FrameStore, name_of
from dask_async_run.memory import Memory
from dask_async_run.recycling import ENOUGH, FOLDER, KEEP
from dask_async_run.settling import PART

pytestmark = pytest.mark.usefixtures("shared_memory")

MB = 1024 * 1024


@pytest.fixture
def store(tmp_path: Path) -> FrameStore:
    return FrameStore(tmp_path / FRAMES)


@pytest.fixture
def memory(store: FrameStore) -> Memory:
    made = Memory.make(store.folder)
    assert made is not None
    return made


def put(store: FrameStore, size: int, value: int) -> Frame:
    return store.put(bytes([value]) * size)


def number(memory: Memory, frame: Frame) -> int:
    """What tells a file from all others that there are."""
    return (memory.folder / frame.digest).stat().st_ino


def kept(memory: Memory) -> list[int]:
    return [path.stat().st_size for path in (memory.folder / FOLDER).glob("*")]


def is_whole(store: FrameStore, frame: Frame, value: int) -> bool:
    store.verify(frame.digest, frame.size)
    return store.open(frame.digest, frame.size) == bytes([value]) * frame.size


@pytest.mark.parametrize("size", [2 * ENOUGH, 2 * ENOUGH - 4097, 2 * ENOUGH + 4097, ENOUGH])
def test_the_next_frame_has_the_memory_of_one_that_has_gone(
    store: FrameStore, memory: Memory, size: int
) -> None:
    """Whether it is longer or shorter: it holds what was put, and nothing of what was there."""
    first = put(store, 2 * ENOUGH, 1)
    was = number(memory, first)
    store.remove([first.digest])
    assert kept(memory) == [2 * ENOUGH]
    assert not store.has(first.digest)
    second = put(store, size, 2)
    assert number(memory, second) == was
    assert kept(memory) == []
    assert second == name_of(bytes([2]) * size)
    assert is_whole(FrameStore(store.folder), second, 2)
    assert (memory.folder / second.digest).stat().st_blocks * 512 < size + MB


def test_what_was_brought_to_the_disk_leaves_its_memory(store: FrameStore, memory: Memory) -> None:
    """Both are there afterwards."""
    first = put(store, ENOUGH, 1)
    was = number(memory, first)
    store.settle(first.digest)
    second = put(store, ENOUGH, 2)
    assert number(memory, second) == was
    assert is_whole(store, first, 1)
    assert is_whole(store, second, 2)


def test_the_one_that_fits_best_is_taken(store: FrameStore, memory: Memory) -> None:
    """Not one that is much too short; the others stay for who needs them."""
    made = [put(store, times * ENOUGH, times) for times in (5, 3, 1)]
    numbers = [number(memory, frame) for frame in made]
    store.remove(frame.digest for frame in made)
    assert number(memory, put(store, 2 * ENOUGH, 9)) == numbers[1]
    assert number(memory, put(store, 2 * ENOUGH, 8)) == numbers[0]
    assert number(memory, put(store, 3 * ENOUGH, 7)) not in numbers
    assert kept(memory) == [ENOUGH]


def test_small_ones_are_not_kept(store: FrameStore, memory: Memory) -> None:
    """A disk's neither."""
    small = put(store, ENOUGH - 1, 1)
    large = put(store, ENOUGH, 1)
    store.settle(large.digest)
    recycling.end(memory.folder)
    store.remove([small.digest, large.digest])
    assert not list(memory.folder.glob("*/*"))
    assert not list(store.folder.glob("*/*"))


# --- somebody has it ---


def test_a_mapped_one_is_not_written_to(store: FrameStore, memory: Memory) -> None:
    """Until nobody has it mapped any more; what was read of it or not does not matter."""
    first = put(store, ENOUGH, 1)
    was = number(memory, first)
    view = store.open(first.digest, first.size)
    store.remove([first.digest])
    second = put(store, ENOUGH, 2)
    assert number(memory, second) != was
    assert view == bytes([1]) * ENOUGH
    assert kept(memory) == [ENOUGH]
    del view
    assert number(memory, put(store, ENOUGH, 3)) == was


READER = """
import sys
from pathlib import Path
from dask_async_run.frames import FrameStore
view = FrameStore(Path(sys.argv[1])).open(sys.argv[2], int(sys.argv[3]))
print("open", flush=True)
sys.stdin.readline()
print(set(bytes(view)), flush=True)
"""


def test_one_that_another_process_has_mapped_is_not_written_to(
    store: FrameStore, memory: Memory
) -> None:
    """As a cell that has read nothing of its input yet."""
    first = put(store, ENOUGH, 1)
    was = number(memory, first)
    command = [sys.executable, "-c", READER, str(store.folder), first.digest, str(first.size)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        assert reader.stdout.readline() == "open\n"
        store.remove([first.digest])
        assert number(memory, put(store, ENOUGH, 2)) != was
        reader.stdin.write("\n")
        reader.stdin.flush()
        assert reader.stdout.readline() == "{1}\n"
    assert number(memory, put(store, ENOUGH, 3)) == was


def test_who_is_held_up_while_he_opens_a_frame_does_not_get_another_one(
    store: FrameStore, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the finding of a file and having it open it is recycled: he finds it on the disk."""
    first = put(store, 2 * ENOUGH, 1)
    was = memory.folder / first.digest
    opening = os.open
    second: list[Frame] = []

    def held_up(path: Path, flags: int, *mode: int) -> int:
        if path == was and not second:
            monkeypatch.setattr(os, "open", opening)
            store.settle(first.digest)
            second.append(put(store, 2 * ENOUGH, 2))
            return opening(memory.folder / second[0].digest, flags)  # the file that he had found
        return opening(path, flags, *mode)

    found = was.stat().st_ino
    monkeypatch.setattr(os, "open", held_up)
    assert store.open(first.digest, first.size) == bytes([1]) * first.size
    assert number(memory, second[0]) == found


def test_one_that_is_discarded_while_it_is_brought_to_the_disk_is_not_written_to(
    store: FrameStore, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes to the disk under its name is what was called so."""
    first = put(store, 2 * ENOUGH, 1)
    was = number(memory, first)
    sending = os.sendfile

    def meanwhile(target: int, source: int, offset: int, count: int) -> int:
        monkeypatch.setattr(os, "sendfile", sending)
        store.discard([first.digest])
        assert number(memory, put(store, 2 * ENOUGH, 2)) != was
        return sending(target, source, offset, count)

    monkeypatch.setattr(os, "sendfile", meanwhile)
    store.settle(first.digest)
    assert is_whole(store, first, 1)


def test_what_was_discarded_before_it_is_opened_is_not_brought_to_the_disk(
    store: FrameStore, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file has another content already."""
    first = put(store, 2 * ENOUGH, 1)
    was = memory.folder / first.digest
    opening = os.open

    def held_up(path: Path, flags: int, *mode: int) -> int:
        if path != was:
            return opening(path, flags, *mode)
        monkeypatch.setattr(os, "open", opening)
        store.discard([first.digest])
        second = put(store, 2 * ENOUGH, 2)
        return opening(memory.folder / second.digest, flags)

    monkeypatch.setattr(os, "open", held_up)
    store.settle(first.digest)
    assert not store.has(first.digest)


def test_many_at_once(store: FrameStore, memory: Memory) -> None:
    """Processes put, open, settle and remove: each sees what it has put, while it has it."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[3])\n"
        "from test_recycling import work\n"
        "from pathlib import Path\n"
        "work(Path(sys.argv[1]), int(sys.argv[2]))\n"
    )
    here = [str(Path(__file__).parent), str(Path(__file__).parent / "helpers")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(here)}
    command = [sys.executable, "-c", program, str(store.folder)]
    processes = [subprocess.Popen([*command, str(seed), here[0]], env=env) for seed in range(3)]
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    assert store.in_memory() == []


def work(folder: Path, seed: int, rounds: int = 60) -> None:
    """Put, open, settle and remove frames at random; what is open stays as it is."""
    store = FrameStore(folder)
    chosen = random.Random(seed)
    opened: list[tuple[memoryview, str]] = []
    for turn in range(rounds):
        size = chosen.randrange(ENOUGH, 2 * ENOUGH)
        content = chosen.randbytes(4096) * (size // 4096)
        frame = store.put(content)
        view = store.open(frame.digest, frame.size)
        opened.append((view, frame.digest.partition("-")[0]))
        if turn % 3 == 0:
            store.settle(frame.digest)
            assert digest_of(store.open(frame.digest, frame.size)) == opened[-1][1]
        store.remove([frame.digest])
        while len(opened) > 3:
            view, digest = opened.pop(chosen.randrange(len(opened)))
            assert digest_of(view) == digest
            del view


# --- what nobody finishes ---


def test_an_unfinished_file_that_nobody_writes_is_swept(store: FrameStore, memory: Memory) -> None:
    """Of a writer that was killed; not one that is written, or just made; on disk, too."""
    writing, descriptor = store.begin(ENOUGH)
    there = memory.folder / writing
    left = [there.with_name(f"{n:032x}{PART}") for n in range(2)]
    left += [store.folder / path.name for path in left]
    for path in left:
        path.write_bytes(b"half")
    past = time.time() - 60
    for path in (there, left[0], left[2]):
        os.utime(path, (past, past))
    store.sweep()
    assert [path.exists() for path in left] == [False, True, False, True]
    assert there.exists()
    os.close(descriptor)
    store.sweep()
    assert not there.exists()


def test_memory_ends_with_what_nobody_finished(store: FrameStore, memory: Memory) -> None:
    """It would take memory until some server has this folder again."""
    name, descriptor = store.begin(ENOUGH)
    os.close(descriptor)
    past = time.time() - 60
    os.utime(memory.folder / name, (past, past))
    assert store.leave_memory()
    assert not memory.folder.exists()


# --- for how long, and how much ---


def test_it_is_given_back_after_a_while(store: FrameStore, memory: Memory) -> None:
    """Also where the clock was set back meanwhile."""
    first = put(store, ENOUGH, 1)
    store.remove([first.digest])
    assert store.trim() is not None
    assert kept(memory) == [ENOUGH]
    (path,) = (memory.folder / FOLDER).iterdir()
    for since in (time.time() - KEEP - 1, time.time() + 60):
        path = path.rename(path.with_name(f"{since} since"))
        assert store.trim() is None
        assert kept(memory) == []
        path.write_bytes(bytes(ENOUGH))


def test_it_takes_a_small_part_of_the_memory(store: FrameStore, memory: Memory) -> None:
    """What is too much is not kept; where memory runs short, the oldest goes."""
    made = [put(store, ENOUGH, value) for value in range(3)]
    paths = [memory.folder / frame.digest for frame in made]
    room = recycling.PART * ENOUGH
    assert recycling.keep(paths[0], lambda: room - 1) is False
    assert recycling.keep(paths[0], lambda: room) is True
    (first,) = (memory.folder / FOLDER).iterdir()
    first = first.rename(first.with_name(f"{time.time() - KEEP / 2} first"))
    assert recycling.keep(paths[1], lambda: room) is False
    assert recycling.keep(paths[1], lambda: 2 * room) is True
    assert recycling.trim(memory.folder, lambda: 2 * room) is not None
    assert len(kept(memory)) == 2
    recycling.trim(memory.folder, lambda: room - 1)
    assert kept(memory) == [ENOUGH]
    assert not first.exists()


def test_nothing_is_left_with_the_memory(store: FrameStore, memory: Memory) -> None:
    """A server that stops takes all of it away."""
    first = put(store, ENOUGH, 1)
    store.remove([first.digest])
    assert kept(memory) == [ENOUGH]
    assert store.leave_memory()
    assert not memory.folder.exists()


def test_where_there_are_no_leases_nothing_is_kept(
    store: FrameStore, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on other systems than Linux."""
    monkeypatch.setattr(recycling, "_has_leases", lambda: False)
    first = put(store, ENOUGH, 1)
    store.remove([first.digest])
    assert kept(memory) == []


def test_a_link_in_its_place_is_not_followed(store: FrameStore, memory: Memory) -> None:
    """Nor is another kind of file taken."""
    aside = memory.folder / FOLDER
    aside.mkdir(mode=0o700)
    victim = memory.folder.parent / "victim"
    victim.write_bytes(bytes(ENOUGH))
    try:
        (aside / "link").symlink_to(victim)
        frame = put(store, ENOUGH, 1)
        assert is_whole(store, frame, 1)
        assert victim.read_bytes() == bytes(ENOUGH)
    finally:
        victim.unlink()
