"""Frames: content-addressed files, mapped privately, never half-written."""

from __future__ import annotations

import ctypes
import gc
import os
import pickle
import random
import stat
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_async_run import content as content_module
from dask_async_run import marks
from dask_async_run.content import PIECE, WHOLE
from dask_async_run.errors import FrameError
from dask_async_run.frames import (
    CHECKED,
    STREAM_LIMIT,
    FrameStore,
    is_unread,
    name_of,
    size_of,
    unread_name,
)
from dask_async_run.job import Payload

ARRAY: Any = np.arange(100_000)


@pytest.fixture
def store(tmp_path: Path) -> FrameStore:
    return FrameStore(tmp_path / "frames")


@pytest.mark.parametrize(
    "buffer",
    [
        b"",
        b"x",
        bytearray(b"abc" * 1000),
        array("d", [1.0, 2.0]),
        np.arange(12.0).reshape(3, 4),
        np.asfortranarray(np.arange(20.0).reshape(4, 5)),
        np.arange(100_000),
        pickle.PickleBuffer(ARRAY[:5]),
        memoryview(b"12345678").cast("i"),
    ],
    ids=lambda b: f"{type(b).__name__}-{memoryview(b).nbytes}",
)
def test_what_is_put_is_what_is_opened(store: FrameStore, buffer: Any) -> None:
    """Any contiguous buffer comes back byte for byte, in its order in memory."""
    frame = store.put(buffer)
    raw = pickle.PickleBuffer(buffer).raw()
    assert frame.size == raw.nbytes
    view = store.open(frame.digest, frame.size)
    assert bytes(view) == bytes(raw)
    assert (view.format, view.ndim, view.readonly) == ("B", 1, False)
    store.verify(frame.digest, frame.size)


def test_a_buffer_with_gaps_is_refused(store: FrameStore) -> None:
    """A slice with steps is not contiguous: pickle would not hand it out either."""
    with pytest.raises(BufferError):
        store.put(ARRAY[::2])
    assert list(store) == []


@pytest.mark.parametrize("size", [10, 10_000_000])
def test_writing_to_an_opened_frame_stays_private(store: FrameStore, size: int) -> None:
    """Neither the file nor another reader sees what one reader writes."""
    frame = store.put(bytes(size))
    first, second = store.open(frame.digest, size), store.open(frame.digest, size)
    first[0] = 7
    assert (first[0], second[0]) == (7, 0)
    store.verify(frame.digest, size)


def test_the_same_content_is_written_once(store: FrameStore) -> None:
    """Putting what is there writes nothing, and marks it as used now."""
    frame = store.put(b"content" * 1000)
    path = store.path(frame.digest)
    inode = path.stat().st_ino
    os.utime(path, (1.0, 1.0))
    before = time.time()
    assert store.put(bytearray(b"content" * 1000)) == frame
    assert path.stat().st_ino == inode
    used = store.used(frame.digest)
    assert used is not None
    assert used >= before - 1
    assert list(store) == [frame.digest]


def test_the_name_tells_content_and_size(store: FrameStore) -> None:
    """Different content, different name; also when only the size differs."""
    digests = {store.put(content).digest for content in (b"", b"\0", b"\0\0", b"a", b"b")}
    assert len(digests) == 5


def test_a_mapped_frame_outlives_its_file_and_holds_no_descriptor(store: FrameStore) -> None:
    """2,000 large frames stay readable after removal, and open files are not used up."""
    frame = store.put(bytes(100_000))
    before = len(list(Path("/proc/self/fd").iterdir())) if sys.platform == "linux" else 0
    views = [store.open(frame.digest, frame.size) for _ in range(2000)]
    if sys.platform == "linux":
        assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1
    store.remove([frame.digest])
    assert not store.has(frame.digest)
    assert bytes(views[-1][:3]) == b"\0\0\0"


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_mapping_ends_with_its_last_reader(store: FrameStore) -> None:
    """An array made of a frame keeps it mapped; without it, memory is given back."""

    def mapped() -> bool:
        return frame.digest in Path("/proc/self/maps").read_text()

    frame = store.put(ARRAY)
    numbers = np.frombuffer(store.open(frame.digest, frame.size), dtype="int64")
    gc.collect()
    assert mapped()
    assert numbers[99_999] == 99_999
    del numbers
    gc.collect()
    assert not mapped()


def test_exit_with_mapped_arrays_is_clean(tmp_path: Path) -> None:
    """An interpreter that ends while a global array is mapped does not crash."""
    code = (
        "import atexit, sys, numpy, pathlib\n"
        "from dask_async_run.frames import FrameStore\n"
        "store = FrameStore(pathlib.Path(sys.argv[1]))\n"
        "frame = store.put(bytes(1_000_000))\n"
        "a = numpy.frombuffer(store.open(frame.digest, frame.size), dtype='u1')\n"
        "atexit.register(lambda: print(a.sum()))\n"
    )
    # Registered before: so the finalizers of the frames, if they ran at exit, would run first.
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "f")], capture_output=True, timeout=60
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, b"0", b"")


# --- damage and hostility ---


def _shorten(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(50_000)


def _link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (Path.unlink, "missing"),
        (_shorten, "50000 bytes instead of 100000"),
        (_link, "cannot be opened"),
        (_folder, "not a file"),
    ],
)
def test_a_missing_or_short_frame_is_an_error(
    store: FrameStore, damage: Callable[[Path], None], says: str
) -> None:
    """What cannot be complete is not opened, and the error names the frame."""
    frame = store.put(bytes(100_000))
    damage(store.path(frame.digest))
    with pytest.raises(FrameError, match=says):
        store.open(frame.digest, frame.size)


@pytest.mark.parametrize("size", [100, 100_000, CHECKED + 1])
def test_a_flipped_bit_is_found(store: FrameStore, size: int) -> None:
    """A single changed bit is damage, seen when the frame is opened."""
    frame = store.put(bytes(size))
    with store.path(frame.digest).open("r+b") as file:
        file.seek(size - 7)
        file.write(b"\x01")
    for again in (store, FrameStore(store.folder)):
        for read in (again.verify, again.open, again.open):
            with pytest.raises(FrameError, match="damaged"):
                read(frame.digest, frame.size)


def _flip_unseen(path: Path) -> None:
    """Change a bit as a disk does: the file's times stay."""
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(status.st_size // 2)
        file.write(b"\x01")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_large_frame_is_read_once_after_a_restart_of_the_machine(
    store: FrameStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not otherwise: mapping it is to take no longer than mapping."""
    frame = store.put(bytes(CHECKED + 1))
    path = store.path(frame.digest)
    _flip_unseen(path)
    store.open(frame.digest, frame.size)  # nobody wrote, as far as can be seen: not read
    monkeypatch.setattr(marks, "_boot", lambda: "another")
    with pytest.raises(FrameError, match="damaged"):
        FrameStore(store.folder).open(frame.digest, frame.size)
    path.write_bytes(bytes(CHECKED + 1))
    FrameStore(store.folder).open(frame.digest, frame.size)
    _flip_unseen(path)
    FrameStore(store.folder).open(frame.digest, frame.size)  # it was read above


@pytest.mark.parametrize("size", [100, CHECKED + 1])
def test_a_damaged_frame_that_is_put_again_is_whole_again(store: FrameStore, size: int) -> None:
    """What is there is not taken for what it should be."""
    frame = store.put(bytes(size))
    with store.path(frame.digest).open("r+b") as file:
        file.write(b"\x01")
    assert store.put(bytes(size)) == frame
    store.verify(frame.digest, size)


def test_reading_a_frame_is_no_use_of_it(store: FrameStore) -> None:
    """A frame that was gathered from is nobody's as soon as its job is forgotten."""
    frame = store.put(bytes(100_000))
    os.utime(store.path(frame.digest), (1.0, 1.0))
    sum(store.open(frame.digest, frame.size))
    assert store.used(frame.digest) == 1.0


@pytest.mark.parametrize("digest", ["", "../etc/passwd", "x" * 32, "/etc/passwd", ".trash", "é"])
def test_a_name_that_no_frame_has_is_refused(store: FrameStore, digest: str) -> None:
    """Names come from other processes and become paths: only digests do."""
    for use in (store.path, store.has, store.used, lambda d: store.open(d, 1)):
        with pytest.raises(FrameError, match="no frame can have"):
            use(digest)


def test_folder_and_files_are_private(store: FrameStore) -> None:
    """0700 and 0600, whatever the umask."""
    umask = os.umask(0)
    try:
        fresh = FrameStore(store.folder / "deep" / "er")
        frame = fresh.put(b"secret")
    finally:
        os.umask(umask)
    assert stat.S_IMODE(fresh.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(fresh.path(frame.digest).stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o770, 0o702])
def test_a_folder_that_others_can_write_to_is_not_used(store: FrameStore, mode: int) -> None:
    """Pickles are loaded from there: the check is made at each use, and names the folder."""
    frame = store.put(b"x")
    store.folder.chmod(mode)
    for use in (
        lambda: store.put(b"y"),
        lambda: store.open(frame.digest, frame.size),
        lambda: FrameStore(store.folder),
    ):
        with pytest.raises(PermissionError, match="frames"):
            use()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
def test_a_frame_of_somebody_else_is_not_read(store: FrameStore) -> None:
    """Neither a folder nor a file that another user owns is trusted."""
    frame = store.put(b"x")
    os.chown(store.path(frame.digest), 12345, 12345)
    with pytest.raises(PermissionError, match="another user"):
        store.open(frame.digest, frame.size)
    os.chown(store.folder, 12345, 12345)
    with pytest.raises(PermissionError, match="12345"):
        store.put(b"y")


# --- writers that are killed, compete, or see their buffer change ---


KILLED_WRITER = """
import os, pathlib, signal, sys
from dask_async_run.frames import FrameStore

write = os.pwrite

def once(descriptor, data, offset):
    write(descriptor, data, offset)
    os.kill(os.getpid(), signal.SIGKILL)

os.pwrite = once
FrameStore(pathlib.Path(sys.argv[1])).put(bytes(int(sys.argv[2])))
"""

SIZES = 10_000_000, WHOLE + 2 * PIECE  # the second one is written by several threads


@pytest.mark.parametrize("size", SIZES)
def test_a_killed_writer_leaves_nothing_that_is_read(store: FrameStore, size: int) -> None:
    """A frame has its name only when it is complete; what a dead writer left is swept."""
    child = subprocess.Popen([sys.executable, "-c", KILLED_WRITER, str(store.folder), str(size)])
    assert child.wait(60) == -9
    assert list(store) == []
    (part,) = store.folder.iterdir()
    store.sweep()
    assert part.exists()  # a writer may still be at it
    os.utime(part, (1.0, 1.0))
    store.sweep()
    assert list(store.folder.iterdir()) == []


@pytest.mark.parametrize("size", [1000, *SIZES])
def test_a_full_disk_leaves_nothing(
    store: FrameStore, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """When a write fails, the part that was written is removed."""

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        store.put(bytes(size))
    assert list(store.folder.iterdir()) == []


def test_many_writers_of_the_same_frame_agree(store: FrameStore) -> None:
    """Threads and processes that put the same content at once make one good file."""
    content = os.urandom(5_000_000)
    frames = []
    threads = [
        threading.Thread(target=lambda: frames.append(FrameStore(store.folder).put(content)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(frames)) == 1
    store.verify(frames[0].digest, frames[0].size)
    assert len(list(store.folder.iterdir())) == 1


def test_a_buffer_that_changes_meanwhile_gets_the_name_of_what_was_written(
    store: FrameStore,
) -> None:
    """Another thread writes to the array while it is put: name and content still agree."""
    numbers: Any = np.zeros(4_000_000)
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            numbers[:] = np.random.default_rng().random()

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(5):
            frame = store.put(numbers)
            store.verify(frame.digest, frame.size)
    finally:
        stop.set()
        thread.join()


def test_what_somebody_else_has_is_taken_and_named(store: FrameStore) -> None:
    """Read in pieces, from several threads; what is there already is not written again."""
    content = np.random.default_rng(1).bytes(WHOLE + 5)

    def fill(room: memoryview, start: int) -> None:
        room[:] = content[start : start + len(room)]

    taken = store.take(len(content), fill)
    assert bytes(store.open(taken.digest, taken.size)) == content
    written = (store.folder / taken.digest).stat().st_ino
    assert store.take(len(content), fill) == taken == store.put(content)
    assert (store.folder / taken.digest).stat().st_ino == written
    content = content[::-1]
    assert store.take(len(content), fill) == store.put(content) != taken


def test_what_cannot_be_read_any_more_leaves_nothing(store: FrameStore) -> None:
    """As when who has it dies."""

    def fill(room: memoryview, start: int) -> None:
        if start:
            raise ProcessLookupError("gone")

    with pytest.raises(ProcessLookupError):
        store.take(WHOLE + 5, fill)
    assert not list(store.folder.iterdir())


def test_what_was_mapped_is_known_while_it_is_there_and_nobody_wrote_to_it(
    store: FrameStore,
) -> None:
    """Nothing is read for that; what is only equal is not known."""
    frame = store.put(ARRAY)
    mapped = store.open(frame.digest, frame.size)
    assert store.known(mapped) == frame
    assert store.known(memoryview(ARRAY).cast("B")) is None
    store.remove([frame.digest])
    assert store.known(mapped) is None
    store.put(ARRAY)
    mapped[0] += 1
    assert store.known(mapped) is None


def test_a_frame_that_nobody_has_read_is_nowhere(store: FrameStore) -> None:
    """Its name is its own, tells the size, and is never a file's."""
    first, second = unread_name(8), unread_name(8)
    assert first != second
    assert size_of(first) == 8
    assert not store.has(first)
    assert is_unread(first)
    assert not is_unread(store.put(b"12345678").digest)


# --- removing ---


def test_removed_frames_are_gone_and_the_others_stay(store: FrameStore) -> None:
    """`remove` takes what it is given, and does not mind what is not there."""
    one, two = store.put(b"1"), store.put(b"2")
    store.remove([one.digest, one.digest])
    assert list(store) == [two.digest]
    store.remove([one.digest])


def test_discarding_is_at_once_and_the_space_comes_back_later(store: FrameStore) -> None:
    """A discarded frame cannot be opened, and can be put again before the trash is emptied."""
    frame = store.put(b"1")
    store.discard([frame.digest])
    assert not store.has(frame.digest)
    assert store.used(frame.digest) is None
    assert store.put(b"1") == frame
    store.empty_trash()
    assert store.has(frame.digest)
    assert list((store.folder / ".trash").iterdir()) == []


def test_syncing_a_missing_frame_says_so(store: FrameStore) -> None:
    """`sync` promises durability: for what is not there it cannot."""
    frame = store.put(b"1")
    store.sync([frame.digest])
    store.remove([frame.digest])
    with pytest.raises(FrameError, match="missing"):
        store.sync([frame.digest])


# --- payloads ---


@pytest.mark.parametrize("length", [0, STREAM_LIMIT, STREAM_LIMIT + 1])
def test_a_payload_comes_back_and_large_streams_are_frames(store: FrameStore, length: int) -> None:
    """Up to the limit the stream travels in the message, above it as a frame."""
    stream = b"s" * length
    payload = store.put_payload(stream, [b"one", bytearray(2), b"one"])
    assert (payload.stream_frame is None) == (length <= STREAM_LIMIT)
    assert len(payload.digests) == 3 + (length > STREAM_LIMIT)
    assert payload.nbytes == length + 8
    again = Payload.from_message(payload.to_message())
    read, buffers = store.open_payload(again)
    assert bytes(read) == stream
    assert [bytes(buffer) for buffer in buffers] == [b"one", b"\0\0", b"one"]


def test_an_array_goes_through_a_payload_without_a_copy(store: FrameStore) -> None:
    """Protocol 5: the unpickled array lies in the mapping, and is writable."""
    numbers = np.arange(1_000_000)
    buffers: list[pickle.PickleBuffer] = []
    stream = pickle.dumps(numbers, protocol=5, buffer_callback=buffers.append)
    stream_read, buffers_read = store.open_payload(store.put_payload(stream, buffers))
    again = pickle.loads(stream_read, buffers=buffers_read)
    assert (again == numbers).all()
    assert again.flags.writeable
    start = ctypes.addressof(ctypes.c_char.from_buffer(buffers_read[0]))
    assert again.ctypes.data == start


@given(st.binary(max_size=200_000))
def test_any_content_survives(content: bytes) -> None:
    """Law: open(put(x)) == x, and verify agrees."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        store = FrameStore(Path(folder) / "frames")
        frame = store.put(content)
        assert bytes(store.open(frame.digest, frame.size)) == content
        store.verify(frame.digest, frame.size)


# --- frames that somebody else writes ---

END = b"the word at the end"


def written(store: FrameStore, content: bytes) -> str:
    name, descriptor = store.begin(len(content))
    with os.fdopen(descriptor, "wb") as file:
        file.write(content + END)
    return name


@pytest.mark.parametrize("size", [0, 5, 70_000, CHECKED + 5])
def test_what_somebody_else_has_written_is_a_frame(store: FrameStore, size: int) -> None:
    """Named by what it holds, as if it had been put; a second one is not there twice."""
    content = random.Random(size).randbytes(size)
    names = [written(store, content) for _ in range(2)]
    assert not list(store)
    for name in names:
        assert store.complete(name, size, END) == name_of(content)
    frame = store.put(content)
    assert store.open(frame.digest, size) == content
    assert [path.name for path in store.folder.iterdir()] == [frame.digest]


@pytest.mark.parametrize("size", [5, WHOLE, WHOLE + 1, 3 * WHOLE + 7])
@pytest.mark.parametrize("stops", [False, True])
def test_what_somebody_else_is_writing_is_read_meanwhile(
    store: FrameStore, monkeypatch: pytest.MonkeyPatch, size: int, stops: bool
) -> None:
    """So far as it has come; it is a frame if all of it comes."""
    content = random.Random(size).randbytes(size)
    name, descriptor = store.begin(size)
    file = os.fdopen(descriptor, "wb", buffering=0)
    read: list[tuple[int, int]] = []

    def piecewise(view: memoryview, starts: range) -> list[bytes]:
        assert starts.stop <= file.tell()
        read.append((starts.start, starts.stop))
        return content_module.piecewise(view, starts)

    def written() -> int | None:
        step = size // 4 + 1
        if file.tell() < size:
            file.write(content[file.tell() :][:step])
            return file.tell()
        if not stops:
            file.write(END)
        return None

    monkeypatch.setattr("dask_async_run.frames.copying.piecewise", piecewise)
    expected = None if stops else name_of(content)
    with file:
        assert store.complete(name, size, END, written) == expected
    assert [begin for begin, _ in read] == [0, *(end for _, end in read[:-1])][: len(read)]
    assert len(read) == (4 if size >= WHOLE else 1)
    assert [*store] == ([] if expected is None else [expected.digest])


@pytest.mark.parametrize("content", [b"", b"to", b"too long", b"toolong" + END + b"."])
def test_what_is_not_complete_is_no_frame(store: FrameStore, content: bytes) -> None:
    """Its file is removed."""
    name, descriptor = store.begin(4)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    assert store.complete(name, 4, END) is None
    assert not list(store.folder.iterdir())
    assert store.complete(name, 4, END) is None


def test_what_was_begun_can_be_given_up(store: FrameStore) -> None:
    """Twice, too."""
    name = written(store, b"some")
    store.give_up(name)
    store.give_up(name)
    assert not list(store.folder.iterdir())


@pytest.mark.parametrize("name", ["", "../x.part", f"{'0' * 32}", f"{'0' * 31}/.part"])
def test_another_name_is_no_file_of_a_frame(store: FrameStore, name: str) -> None:
    """It comes from another process, and becomes a path."""
    for use in (store.give_up, lambda name: store.complete(name, 4, END)):
        with pytest.raises(FrameError, match="name that no unfinished frame can have"):
            use(name)


def test_a_link_is_not_taken_for_what_was_written(store: FrameStore, tmp_path: Path) -> None:
    """What it leads to is left alone."""
    other = tmp_path / "other"
    other.write_bytes(b"some" + END)
    name = written(store, b"some")
    (store.folder / name).unlink()
    (store.folder / name).symlink_to(other)
    with pytest.raises(OSError, match="symbolic links"):
        store.complete(name, 4, END)
    assert other.read_bytes() == b"some" + END


def test_a_frame_that_looks_like_a_buffer_is_found(
    store: FrameStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that differs where it is looked, is shorter, or was deleted, is not."""
    content = bytearray(random.Random(7).randbytes(5000))
    view = memoryview(content)
    frame = store.put(content)
    store.put(b"other")
    assert store.alike({}) == set()
    assert store.alike({1: memoryview(bytes(content)), 2: view[1:]}) == {1}
    content[1] ^= 1  # between two places
    assert store.alike({1: view}) == {1}
    content[0] ^= 1
    assert store.alike({1: view}) == set()
    content[0] ^= 1
    monkeypatch.setattr("dask_async_run.frames.likeness._COMPARED", 0)
    assert store.alike({1: view}) == set()
    monkeypatch.undo()
    store.remove([frame.digest])
    assert store.alike({1: view}) == set()
