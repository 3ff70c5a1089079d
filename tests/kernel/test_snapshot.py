"""Snapshots of this process: what they hold, that they are nobody's, and that nothing stops."""

from __future__ import annotations

import mmap
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from dask_async_run.errors import ServerError
from dask_async_run.frames import FrameStore, is_unread, name_of, unread_name
from dask_async_run.kernel import snapshot as snapshot_module
from dask_async_run.kernel.snapshot import (
    ENOUGH,
    LARGE,
    SnapshotFrames,
    address_of,
    end,
    is_possible,
    take,
)
from dask_async_run.snapshots import LIFE, WRITTEN, Part, Snapshot, SnapshotReader, life_of
from waiting import wait_for

pytestmark = pytest.mark.skipif(not is_possible(), reason="this system takes no snapshots")


Array = np.ndarray[Any, np.dtype[np.float64]]


def bytes_of(array: Array) -> memoryview:
    return array.data.cast("B")


def part_of(array: Array) -> Part:
    view = bytes_of(array)
    return Part(unread_name(view.nbytes), view.nbytes, address_of(view))


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def array() -> Array:
    return np.arange(500_000.0)


@pytest.fixture
def snapshot(array: Array) -> Iterator[Snapshot]:
    taken = take([part_of(array)])
    yield taken
    end(taken)
    wait_for(lambda: is_gone(taken.pid), 10)


def test_it_holds_what_was_there_when_it_was_taken(array: Array, snapshot: Snapshot) -> None:
    """Whatever is written afterwards; also to who gets its message."""
    before = array.copy()
    array[:] = -1.0
    found = np.zeros_like(array)
    reader = SnapshotReader(Snapshot.from_message(snapshot.to_message()))
    reader.fill(bytes_of(found), snapshot.parts[0].address)
    reader.close()
    assert (found == before).all()
    assert not is_gone(snapshot.pid)


def written(snapshot: Snapshot) -> SnapshotReader:
    """A reader of a snapshot that has written its files."""
    reader = SnapshotReader(Snapshot.from_message(snapshot.to_message()))
    wait_for(lambda: reader.written(snapshot.parts[0]) is None, 10)
    return reader


@pytest.mark.parametrize("at_once", [2**30, 2**20 + 3, 4_000_000])
def test_it_writes_what_was_there_to_files(
    array: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """However many writes that takes; then it has no file open, and can be read as well."""
    monkeypatch.setattr(snapshot_module, "_at_once", lambda size: at_once)
    before = array.copy()
    store = FrameStore(tmp_path / "frames")
    other = np.arange(3.0, 200_000.0)
    parts, files = [], {}
    for each in (array, other):
        name, files[name] = store.begin(each.nbytes)
        parts.append(replace(part_of(each), file=name))
    taken = take(parts, files)
    array[:] = -1.0
    for descriptor in files.values():
        os.close(descriptor)
    reader = written(taken)
    assert psutil.Process(taken.pid).num_fds() == 0
    for part, expected in zip(parts, (before, other), strict=True):
        assert store.complete(part.file, part.size, taken.word) == name_of(bytes_of(expected))
    found = np.zeros_like(array)
    reader.fill(bytes_of(found), parts[0].address)
    assert (found == before).all()
    reader.end()


@pytest.mark.parametrize("room", [0, 4096, 3_999_999, 4_000_000, 4_000_015])
def test_a_file_that_it_could_not_write_to_its_end_is_not_taken_for_whole(
    array: Array, tmp_path: Path, room: int
) -> None:
    """A disk without room, at any place; what can be written of the next one is."""
    store = FrameStore(tmp_path / "frames")
    name, descriptor = store.begin(array.nbytes)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        taken = take([replace(part_of(array), file=name)], {name: descriptor})
        reader = written(taken)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        os.close(descriptor)
    assert (store.folder / name).stat().st_size == room
    assert store.complete(name, array.nbytes, taken.word) is None
    assert not list(store.folder.iterdir())
    reader.end()


def test_one_that_is_killed_keeps_nobody_waiting(array: Array, tmp_path: Path) -> None:
    """Whoever waits for its files hears of it."""
    taken = take([part_of(array)])
    reader = SnapshotReader(taken)
    os.kill(taken.pid, signal.SIGKILL)
    wait_for(lambda: reader.written(taken.parts[0]) is None, 10)
    reader.end()


def test_how_far_it_has_written_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each of its writes; what is in the file by then is what was there."""
    step = 65_536
    monkeypatch.setattr(snapshot_module, "_at_once", lambda size: step)
    store = FrameStore(tmp_path / "frames")
    large = np.arange(8_000_000.0)  # written in many steps: longer than others have a turn
    content = bytes_of(large)
    for _ in range(30):
        name, descriptor = store.begin(large.nbytes)
        part = replace(part_of(large), file=name, descriptor=descriptor)
        reader = SnapshotReader(take([part], {name: descriptor}))
        os.close(descriptor)
        seen: list[int] = []
        while (so_far := reader.written(part)) is not None:
            if 0 < so_far < large.nbytes and not any(seen):
                with (store.folder / name).open("rb") as file:
                    assert file.read(so_far) == content[:so_far]
            seen.append(so_far)
        reader.end()
        store.give_up(name)
        assert seen == sorted(seen)
        assert all(each % step == 0 or each == large.nbytes for each in seen)
        if set(seen) - {0, large.nbytes}:
            return
    pytest.fail("nothing was seen of 30 snapshots while they wrote")


def test_how_much_is_written_at_once() -> None:
    """Little enough to follow it, in few steps, and never more than one call writes."""
    sizes = [2**20, 2**26, 2**30, 2**40]
    assert [snapshot_module._at_once(size) for size in sizes] == [2**26, 2**26, 2**26, 2**30]
    assert snapshot_module._at_once(2**34) == 2**28


def test_it_is_nobodys_and_has_nothing_open(snapshot: Snapshot) -> None:
    """Who ends a kernel's children, its group or its session does not end it."""
    process = psutil.Process(snapshot.pid)
    wait_for(lambda: process.name() == WRITTEN.decode() and not process.num_fds(), 10)
    assert snapshot.pid not in {child.pid for child in psutil.Process().children(recursive=True)}
    assert os.getsid(snapshot.pid) == snapshot.pid
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(snapshot.pid, number)
    assert process.status() == psutil.STATUS_SLEEPING


def test_it_is_ended_before_the_kernel_where_memory_runs_out(snapshot: Snapshot) -> None:
    """What it has is the kernel's memory of before."""
    score = Path(f"/proc/{snapshot.pid}/oom_score_adj").read_text()
    assert int(score) == 1000 > int(Path("/proc/self/oom_score_adj").read_text())


def test_signals_are_heeded_here_as_before(array: Array) -> None:
    """The mask of the thread that takes it is what it was."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    end(take([part_of(array)]))
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_it_lives_longer_the_more_there_is_to_copy() -> None:
    """A slow disk takes an hour for what a large machine holds."""
    assert life_of([]) == LIFE
    assert life_of([Part("", 2 * 10**10, 0), Part("", 10**10, 0)]) == LIFE + 3000


def test_who_reads_ends_it(array: Array) -> None:
    """At once, where it lived for minutes else."""
    taken = take([part_of(array)])
    SnapshotReader(taken).end()
    wait_for(lambda: is_gone(taken.pid), 10)


def test_another_process_is_not_taken_for_it(snapshot: Snapshot) -> None:
    """One that has its pid, or one with other memory."""
    with pytest.raises(OSError, match="process"):
        SnapshotReader(Snapshot(os.getpid(), snapshot.address, snapshot.word, snapshot.parts))
    other = Snapshot(snapshot.pid, snapshot.address, bytes(len(snapshot.word)), snapshot.parts)
    with pytest.raises(ProcessLookupError):
        SnapshotReader(other)


def test_memory_that_it_lacks_is_noticed_before_it_is_counted_on() -> None:
    """A library may keep some of its memory from being copied to other processes."""
    with mmap.mmap(-1, 4 * LARGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_DONTFORK)
        view = memoryview(memory)
        taken = take([Part(unread_name(view.nbytes), view.nbytes, address_of(view))])
        view.release()
        try:
            with pytest.raises(OSError, match="cannot be read"):
                SnapshotReader(taken)
        finally:
            end(taken)


def kept_from_others() -> set[str]:
    """The places in this process's memory that a process made from it would not get."""
    found, place = set(), ""
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if line.startswith("VmFlags:"):
            if "dc" in line.split():
                found.add(place)
        elif not line.split()[0].endswith(":"):
            place = line.split()[0]
    return found


@pytest.mark.parametrize("in_thread", [False, True])
def test_it_gets_what_it_is_to_copy_and_others_get_all(array: Array, in_thread: bool) -> None:
    """Else this process would copy its heap, page by page, while it goes on."""
    ballast = np.ones(16_000_000)
    before = kept_from_others()
    taken = []

    def take_it() -> None:
        taken.append(take([part_of(array)]))

    thread = threading.Thread(target=take_it)
    if in_thread:
        thread.start()
        thread.join()
    else:
        take_it()
    try:
        size = psutil.Process(taken[0].pid).memory_info().vms
        assert size < array.nbytes + 32 * 2**20 < ballast.nbytes
        reader = SnapshotReader(taken[0])
        found = np.zeros_like(array)
        reader.fill(bytes_of(found), taken[0].parts[0].address)
        assert (found == array).all()
        reader.close()
    finally:
        end(taken[0])
    assert kept_from_others() <= before


DEVICE = """\
import ctypes, os, platform, re, sys
from pathlib import Path
import numpy as np
from dask_async_run.kernel import snapshot as module
from dask_async_run.snapshots import Part

def kept():
    flags = re.findall("VmFlags: (.*)", Path("/proc/self/smaps").read_text())
    return [each for each in flags if " dc" in each and " de" not in each]

ring = ctypes.c_ulong()  # which is mapped as the memory of devices is
io_setup = {"x86_64": 206, "aarch64": 0}[platform.machine()]
if ctypes.CDLL(None).syscall(io_setup, 8, ctypes.byref(ring)):
    sys.exit("no ring")
unneeded = module._Memory.unneeded

def as_if_it_had_come_just_now(self, parts, room):
    before, after = [], []
    for begin, size in unneeded(self, parts, room):
        (before if begin < ring.value else after).append((begin, size))
    assert after, "nothing lies behind it"
    (begin, size), *rest = after
    return [*before, (ring.value, begin + size - ring.value), *rest]

module._Memory.unneeded = as_if_it_had_come_just_now
if sys.argv[1:] == ["broken"]:
    module._give_again = lambda spared: None
assert not kept()
word = np.arange(1000)
taken = module.take([Part("", word.nbytes, module.address_of(word.data.cast("B")))])
module.end(taken)
print(len(kept()))
"""


@pytest.mark.parametrize("broken", [[], ["broken"]])
def test_what_a_device_maps_just_then_keeps_nothing_from_others(broken: list[str]) -> None:
    """The system takes no mark from that again, and stops there: so others are looked after."""
    command = [sys.executable, "-c", DEVICE, *broken]
    # The system puts things elsewhere each time. Where what the copy needs lies behind that, about
    # once in a hundred times, there is no copy, and nothing that had to be given again.
    for _ in range(4 if broken else 1):
        ran = subprocess.run(command, capture_output=True, text=True, timeout=100)
        if "no ring" in ran.stderr:
            pytest.skip("nothing here is mapped as a device's memory is")
        assert not ran.stderr
        if int(ran.stdout) > 0:
            break
    assert (int(ran.stdout) > 0) is bool(broken)


BUSY = """\
import threading, time
import numpy as np
from dask_async_run.kernel.snapshot import address_of, take
from dask_async_run.snapshots import Part, SnapshotReader

a, products, stop = np.ones((300, 300)), [0, 0], False

def multiply(which):
    while not stop:
        assert (a @ a)[0, 0] == 300
        [bytearray(n * 1000) for n in range(50)]
        products[which] += 1

threads = [threading.Thread(target=multiply, args=(n,)) for n in (0, 1)]
for thread in threads: thread.start()
word = bytearray(b"snapshot" * 512)
part = Part("", len(word), address_of(memoryview(word)))
for turn in range(200):
    reader = SnapshotReader(take([part]))
    room = bytearray(len(word))
    reader.fill(memoryview(room), part.address)
    assert room == word
    reader.end()
before = list(products)
while any(b >= n for b, n in zip(before, products)): time.sleep(0.01)
stop = True
for thread in threads: thread.join()
print("done")
"""


def test_products_in_other_threads_go_on() -> None:
    """Where `os.fork` leaves a thread in OpenBLAS for ever; and no snapshot hangs on a lock."""
    ran = subprocess.run([sys.executable, "-c", BUSY], capture_output=True, text=True, timeout=100)
    assert ran.stdout == "done\n", ran.stderr


class Place:
    """A store whose large frames are left to snapshots, and what it was asked to bring."""

    def __init__(self, folder: Path) -> None:
        self.store = FrameStore(folder)
        self.asked: list[Snapshot] = []
        self.answer = True
        self.frames = SnapshotFrames(self.store, self.bring)

    def bring(self, snapshot: Snapshot) -> bool:
        self.asked.append(snapshot)
        return self.answer

    def put(self, *buffers: Any) -> list[str]:
        payload = self.frames.put_payload(b"", buffers)
        return [digest for digest, _ in payload.frames]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path / "frames")
    yield place
    for taken in place.asked:
        end(taken)
        wait_for(partial(is_gone, taken.pid), 10)


@pytest.fixture
def large() -> Array:
    return np.arange(float(2 * ENOUGH // 8))


def test_large_buffers_are_left_to_one_snapshot_and_small_ones_are_not(
    place: Place, large: Array
) -> None:
    """Unread, each under a name of its own; what was mapped from the store is known to be there."""
    half = ENOUGH // 8
    there = place.store.put(bytes_of(np.full(half, 7.0)))
    mapped = np.frombuffer(place.store.open(there.digest, there.size))
    names = place.put(large[:half], b"small" * 100, large[half:].tobytes(), mapped)
    (snapshot,) = place.asked
    assert [part.digest for part in snapshot.parts] == [names[0], names[2]]
    assert [is_unread(name) for name in names] == [True, False, True, False]
    assert [place.store.has(name) for name in names] == [False, True, False, True]
    assert names[3] == there.digest
    assert all(part.file for part in snapshot.parts)
    reader = SnapshotReader(snapshot)
    large[:] = 0.0
    found = np.zeros(half)
    for part, begin in zip(snapshot.parts, (0.0, half), strict=True):
        reader.fill(bytes_of(found), part.address)
        assert (found == np.arange(begin, begin + half)).all()
    reader.close()


def test_the_largest_are_written_by_the_snapshot(
    place: Place, large: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To files that are there for the registry; the others it reads."""
    monkeypatch.setattr(snapshot_module, "FILES", 2)
    pieces = np.split(large, [LARGE // 8, LARGE // 4, ENOUGH // 8])
    place.put(*pieces)
    (snapshot,) = place.asked
    assert [bool(part.file) for part in snapshot.parts] == [False, False, True, True]
    written(snapshot).close()
    for part, piece in zip(snapshot.parts[2:], pieces[2:], strict=True):
        found = place.store.complete(part.file, part.size, snapshot.word)
        assert found == name_of(bytes_of(piece))


def test_no_files_are_left_where_there_is_no_snapshot(
    place: Place, large: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither where the registry refuses it, nor where the system does; nor a descriptor."""
    before = psutil.Process().num_fds()
    place.answer = False
    (name,) = place.put(large)
    assert [path.name for path in place.store.folder.iterdir()] == [name]
    monkeypatch.setattr(snapshot_module, "take", raising(OSError("no room")))
    (name,) = place.put(large + 1)
    assert len(list(place.store.folder.iterdir())) == 2
    assert psutil.Process().num_fds() == before


def raising(error: Exception) -> Any:
    def fail(*_: object) -> None:
        raise error

    return fail


def test_what_was_mapped_and_written_to_is_left_to_a_snapshot(place: Place, large: Array) -> None:
    """It is not what its frame is any more."""
    there = place.store.put(bytes_of(large))
    mapped = np.frombuffer(place.store.open(there.digest, there.size))
    mapped[5] = -1.0
    (name,) = place.put(mapped)
    assert is_unread(name)
    assert len(place.asked) == 1


def test_what_was_left_before_and_has_not_changed_is_not_asked_for_again(
    place: Place, large: Array
) -> None:
    """It is read, and found in the store; once it has changed it is left to a snapshot again."""
    (first,) = place.put(large)
    there = place.store.put(bytes_of(large))
    (second,) = place.put(large)
    assert (is_unread(first), second) == (True, there.digest)
    large[0] = -1.0
    (third,) = place.put(large)
    assert is_unread(third)
    assert len(place.asked) == 2


def test_only_what_looks_like_a_frame_is_read(
    place: Place, large: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever array it is in: also that of the next kernel."""
    seen: list[bool] = []
    known = FrameStore.known

    def noted(store: FrameStore, view: memoryview, read: bool = False) -> Any:
        seen.append(read)
        return known(store, view, read)

    monkeypatch.setattr(FrameStore, "known", noted)
    there = place.store.put(bytes_of(large))
    assert place.put(large.copy()) == [there.digest]
    single = large.view("u1")
    single[0] ^= 1  # where it is looked
    (first,) = place.put(large)
    single[:2] ^= 1  # where it is not: only to read it tells
    (second,) = place.put(large)
    (third,) = place.put(large[1:].copy())
    assert seen == [True, False, True, False]
    assert all(map(is_unread, (first, second, third)))
    assert len(place.asked) == 3


def test_what_the_registry_cannot_read_is_copied(place: Place, large: Array) -> None:
    """The snapshot ends then."""
    place.answer = False
    (name,) = place.put(large)
    assert place.store.has(name)
    wait_for(lambda: is_gone(place.asked[0].pid), 10)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ServerError])
def test_no_snapshot_is_left_when_asking_fails(
    place: Place, large: Array, error: type[BaseException]
) -> None:
    """An interrupt gets through; of a server that does not answer the submission will say so."""
    seen: list[Snapshot] = []

    def fail(snapshot: Snapshot) -> bool:
        seen.append(snapshot)
        raise error("no")

    frames = SnapshotFrames(place.store, fail)
    if error is ServerError:
        assert place.store.has(frames.put_payload(b"", [bytes_of(large)]).frames[0][0])
    else:
        with pytest.raises(error):
            frames.put_payload(b"", [bytes_of(large)])
    wait_for(lambda: is_gone(seen[0].pid), 10)


def test_shared_memory_is_copied_before(place: Place, tmp_path: Path) -> None:
    """Who shares it may change it: no copy of a process is a snapshot of that."""
    shared = np.memmap(tmp_path / "shared", mode="w+", shape=ENOUGH // 8)
    shared[:] = 5.0
    (name,) = place.put(shared)
    assert place.store.has(name)
    assert not place.asked


def test_a_large_process_copies_what_is_small_beside_it(
    place: Place, large: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot takes as long as the whole process is large, where it gets all of it."""
    monkeypatch.setattr(snapshot_module, "SHARE", 0)
    monkeypatch.setattr(snapshot_module, "_MARKING", (b"libc.",))
    (name,) = place.put(large)
    assert place.store.has(name)
    assert not place.asked
