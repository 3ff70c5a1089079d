"""Frames: immutable buffers, each a file named by what it holds.

A frame is written once, under a name of its own, and renamed when it is complete:
whoever finds a frame's file finds all of it, whatever was killed meanwhile. Its
name is the digest of its content, so that what is there already is not written
again, and what is read can be checked. Readers map the file privately: reading
costs nothing, writing changes only the reader's own pages, and a file that is
removed stays readable for those who have mapped it. A large one may lie in
memory at first, until it is brought to the folder: see `memory`.

Knows no process and no Dask: kernel, scheduler, worker and cell process each have
their own `FrameStore` on the same folder, and need no lock between them.
"""

from __future__ import annotations

import ctypes
import os
import re
import secrets
import stat
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from pickle import PickleBuffer
from typing import TYPE_CHECKING

from xxhash import xxh3_128, xxh3_128_digest

from dask_async_run import recycling
from dask_async_run.content import PIECE, WHOLE, combined, digest_of, in_threads, is_named
from dask_async_run.errors import FrameError
from dask_async_run.job import Payload
from dask_async_run.mapping import mapped
from dask_async_run.marks import Marks
from dask_async_run.memory import NOTE, Memory, available
from dask_async_run.pages import is_untouched
from dask_async_run.settling import PART, TRASH, bring, empty_trash, let_go, throw_away

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc has it from Python 3.12 on

STREAM_LIMIT = 256 * 1024
"""Bytes of pickle stream above which the stream becomes a frame of its own."""

CHECKED = 16 * 1024 * 1024
"""Bytes up to which a frame's content is compared with its name whenever it is opened.

That takes a millisecond. Mapping a larger one takes less than reading it, which is what it is
mapped for: it is compared when it is written, and again when somebody else has written to it
or the machine was started again since; see `marks`.
"""

_MAP_FROM = 64 * 1024  # below, a copy is cheaper than a mapping
_LISTED_FROM = 64 * 1024 * 1024
_READ = os.O_RDONLY | os.O_NOFOLLOW | getattr(os, "O_NOATIME", 0)
"""Reading is no use: the time of a file's last access is when it was last put."""

_STALE = 3600.0  # seconds after which an unfinished file is nobody's any more
_NEW = 10.0  # seconds for which one may be about to be opened, or named
_PLACES = 1024  # in which a buffer is compared before all of it is read
_COMPARED = 64  # frames of one size at most: others are found to be there when they are written
_ATTEMPTS = 3  # to open a file that somebody puts in the place of another one
_UNREAD = "unread"
_DIGEST = re.compile(rf"({_UNREAD})?[0-9a-f]{{32}}-[0-9]{{1,19}}")
_PART = re.compile(rf"[0-9a-f]{{32}}{re.escape(PART)}")

Fill = Callable[[memoryview, int], None]
"""Is given some bytes of a frame, or room for them, and where in the frame they begin."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame's name and its size in bytes."""

    digest: str
    size: int


class FrameStore:
    """The frames of one folder.

    Parameters
    ----------
    folder : Path
        Made with mode 0700 if missing. It must belong to this user, and nobody
        else may write to it: pickles are loaded from what lies there.

    Raises
    ------
    PermissionError
        The folder belongs to somebody else or others can write to it; here, and
        again at each use.

    Notes
    -----
    Safe to use from several threads and processes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        # mkdir's mode does not reach the parents that it makes.
        self.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._mapped: dict[tuple[int, int], str] = {}  # address and size: digest
        self._marks = Marks()
        self._memory: Memory | None = None
        self._noted: tuple[int, int] | None = None  # which note of it was read
        self._check_folder()

    def put(self, buffer: Buffer) -> Frame:
        """Store a copy of `buffer`'s bytes; return its name.

        Parameters
        ----------
        buffer
            Anything contiguous, in C or Fortran order, that gives a buffer; it is only
            read, before this returns.

        Notes
        -----
        A frame that is there already is only marked as used now (see
        `used`), unless it is damaged: then it is written again. When another thread changes
        the buffer meanwhile, what is stored is some mixture, as it would be in a pickle, but
        its name is right.
        """
        self._check_folder()
        view = PickleBuffer(buffer).raw()
        frame = self._mapped_as(view)
        # To read a large buffer takes a while, and is for nothing where no frame is as long.
        if frame is None and (view.nbytes < _LISTED_FROM or self._has_any_of(view.nbytes)):
            frame = name_of(view)
        if frame is not None and self._is_there(frame):
            return frame
        return Frame(self._write(view.nbytes, _from(view)), view.nbytes)

    def known(self, view: memoryview, read: bool = False) -> Frame | None:
        """Answer the frame that a buffer is known to be; it is used now.

        Parameters
        ----------
        view : memoryview
            Of plain bytes.
        read : bool
            Find out by reading it, if need be.

        Returns
        -------
        Frame or None
            None if it was not mapped from a frame, or somebody has written to it since (and it
            is not to be read), or the frame is not there.
        """
        self._check_folder()
        frame = self._mapped_as(view) or (name_of(view) if read else None)
        return frame if frame is not None and self._is_there(frame) else None

    def alike(self, views: Mapping[int, memoryview]) -> set[int]:
        """Answer the buffers that look like some frame: as long, and the same in many places.

        Parameters
        ----------
        views : mapping of int to memoryview
            Of plain bytes, by whatever the caller knows them.
        """
        self._check_folder()
        there: dict[int, list[str]] = {view.nbytes: [] for view in views.values()}
        for digest in self:
            found = there.get(size_of(digest))
            if found is not None and len(found) < _COMPARED:
                found.append(digest)
        return {
            key
            for key, view in views.items()
            if any(self._looks_like(each, view) for each in there[view.nbytes])
        }

    def _looks_like(self, digest: str, view: memoryview) -> bool:
        size = view.nbytes
        with suppress(FrameError, OSError):
            descriptor = self._descriptor(digest, size)
            try:
                # An odd step: any byte of a number.
                places = range(0, size, size // _PLACES | 1)
                return all(os.pread(descriptor, 1, at) == view[at : at + 1] for at in places)
            finally:
                os.close(descriptor)
        return False

    def take(self, size: int, fill: Fill) -> Frame:
        """Store what somebody else has; return its name.

        Parameters
        ----------
        size : int
            Bytes.
        fill : callable
            Is given some room, and where the bytes begin that belong there; by several threads
            at the same time, and, where there are frames as long, for all of it twice: what is
            there already is not written again.

        Raises
        ------
        OSError
            It cannot be read, or the disk has no room, or is out of order.
        """
        self._check_folder()
        if self._has_any_of(size):
            frame = Frame(_name(_read(size, fill), size), size)
            if self._is_there(frame):
                return frame
        return Frame(self._write(size, fill), size)

    def begin(self, size: int, beside: int = 0) -> tuple[str, int]:
        """Make a file for a frame that somebody else writes; see `complete`.

        Parameters
        ----------
        size : int
            Bytes of the frame.
        beside : int
            Bytes of others that were begun and may not be written yet.

        Returns
        -------
        str, int
            Its name, and a descriptor, open for writing at its beginning, for the caller to close.

        Raises
        ------
        OSError
        """
        self._check_folder()
        memory = self._memory_now()
        wanted = memory is not None and memory.is_for(size, beside)
        folder = memory.folder if memory is not None and wanted else self.folder
        _check_private(folder)
        part, descriptor = _new(folder, size, recycles=folder != self.folder)
        return part.name, descriptor

    def complete(self, name: str, size: int, end: bytes) -> Frame | None:
        """Store what somebody has written to a file of `begin`; return its name.

        Parameters
        ----------
        name : str
            The file's. It is gone afterwards.
        size : int
            Bytes.
        end : bytes
            What was written after them, one after the other by the same descriptor: where it is
            in its place, all of them are in theirs.

        Returns
        -------
        Frame or None
            None: it is not complete.
        """
        self._check_folder()
        for part in self._parts(name):
            with suppress(FileNotFoundError):
                try:
                    return self._completed(part, size, end)
                finally:
                    part.unlink(missing_ok=True)
        return None

    def give_up(self, name: str) -> None:
        """Remove a file of `begin`."""
        for part in self._parts(name):
            part.unlink(missing_ok=True)

    def _completed(self, part: Path, size: int, end: bytes) -> Frame | None:
        descriptor = os.open(part, os.O_RDWR | os.O_NOFOLLOW)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
                return None
            if os.pread(descriptor, len(end) + 1, size) != end:
                return None
            os.ftruncate(descriptor, size)
            word = self._marks.word(descriptor)
            # Mapped, not read: the first reading of a file's pages costs as much as writing them.
            view = mapped(descriptor, size, "", {}) if size else b""
            frame = Frame(_name(digest_of(view), size), size)
            if self._is_there(frame):
                os.close(descriptor)
                descriptor = -1
                if not self._is_on_disk(part):
                    let_go(part)
                return frame
            if size > CHECKED:
                self._marks.note(descriptor, word)
            part.replace(part.with_name(frame.digest))
            return frame
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _parts(self, name: str) -> list[Path]:
        if not _PART.fullmatch(name):  # it comes from another process
            raise FrameError(name, "has a name that no unfinished frame can have")
        return [folder / name for folder in self._folders()]

    def use(self, digest: str) -> bool:
        """Mark a frame as used now, so that it is left alone for a while; whether it is there."""
        for path in self._places(digest):
            with suppress(FileNotFoundError):
                # The time of the last change stays: it tells whether somebody wrote to the file.
                os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
                return True
        return False

    def _has_any_of(self, size: int) -> bool:
        return any(size_of(digest) == size for digest in self)

    def _is_there(self, frame: Frame) -> bool:
        """Mark a frame as used now, if it is there and whole; whether it is."""
        if not self.use(frame.digest):
            return False
        try:
            self.open(frame.digest, frame.size)
        except FrameError:
            return False
        return True

    def open(self, digest: str, size: int) -> memoryview:
        """Map a frame.

        Returns
        -------
        memoryview
            Private and writable; it holds the mapping alive, no file descriptor, and
            does not mind that the file is removed.

        Raises
        ------
        FrameError
            The frame is missing, not as long as it should be, or holds something else than
            its name says. For one larger than `CHECKED` that was found out when it was
            written, or first opened after somebody wrote to it or the machine was started;
            see `verify` to find out now.
        """
        descriptor = self._descriptor(digest, size)
        try:
            view = self._view(descriptor, digest, size)
            if size <= CHECKED:
                self._check(digest, view)
            elif not self._marks.has(descriptor):
                word = self._marks.word(descriptor)
                self._check(digest, view)
                self._marks.note(descriptor, word)
            return view
        finally:
            os.close(descriptor)

    def _mapped_as(self, view: memoryview) -> Frame | None:
        """Answer the frame that a buffer was mapped from, if nobody has written to it since."""
        if view.readonly or view.nbytes < _MAP_FROM:
            return None
        address = ctypes.addressof(ctypes.c_char.from_buffer(view))
        digest = self._mapped.get((address, view.nbytes))
        if digest is None or not is_untouched(address, view.nbytes):
            return None
        return Frame(digest, view.nbytes)

    def has(self, digest: str) -> bool:
        """Whether the frame is there."""
        return any(path.is_file() for path in self._places(digest))

    def path(self, digest: str) -> Path:
        """Where the frame lies, once it is not in memory any more, or would lie.

        Raises
        ------
        FrameError
            `digest` is no frame's name (it comes from files and other processes, and
            becomes a path).
        """
        if not _DIGEST.fullmatch(digest):
            raise FrameError(digest, "has a name that no frame can have")
        return self.folder / digest

    def verify(self, digest: str, size: int) -> None:
        """Read a frame and check that it holds what its name says.

        Raises
        ------
        FrameError
            It does not, or is missing, or has another size.
        """
        descriptor = self._descriptor(digest, size)
        try:
            self._check(digest, self._view(descriptor, digest, size))
        finally:
            os.close(descriptor)

    def sync(self, digests: Iterable[str]) -> None:
        """Return when the frames survive a loss of power.

        Raises
        ------
        FrameError
            One of them is missing.
        OSError
            The disk has no room for one that lies in memory, or is out of order.
        """
        for digest in digests:
            self.settle(digest)
            try:
                descriptor = os.open(self.path(digest), os.O_RDONLY | os.O_NOFOLLOW)
            except FileNotFoundError:
                raise FrameError(digest, f"is missing from {self.folder}") from None
            _fsync(descriptor)
        _fsync(os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY))

    def remove(self, digests: Iterable[str]) -> None:
        """Remove frames; those that are not there do not matter."""
        self.discard(digests)
        self.empty_trash()

    def discard(self, digests: Iterable[str]) -> None:
        """Take frames away at once; their space comes back with `empty_trash`.

        Unlinking a file of several GB takes a while, renaming it does not: so an event
        loop can decide and take away in one step, and a thread does the work.
        """
        left = cache(available)  # of many it is not asked each time
        for digest in digests:
            for path in self._places(digest):
                with suppress(FileNotFoundError):
                    throw_away(path) if self._is_on_disk(path) else let_go(path, left)

    def empty_trash(self) -> None:
        """Unlink what `discard` took away."""
        for folder in self._folders():
            empty_trash(folder)

    def used(self, digest: str) -> float | None:
        """When the frame was last put, in seconds since the epoch; None if it is not there."""
        for path in self._places(digest):
            with suppress(FileNotFoundError):
                status = path.stat()
                return max(status.st_atime, status.st_mtime)
        return None

    def sweep(self) -> None:
        """Unlink what writers that were killed left behind, and the trash."""
        for folder in self._folders():
            _sweep(folder)
        self.empty_trash()

    def __iter__(self) -> Iterator[str]:
        """Digests of all frames, in no order."""
        found: set[str] = set()
        # In this order: what is brought from one to the other meanwhile is in one of them.
        for folder in self._folders():
            with suppress(FileNotFoundError):  # memory that has ended
                found.update(e.name for e in os.scandir(folder) if _DIGEST.fullmatch(e.name))
        return iter(found)

    # -- memory -----------------------------------------------------------------------

    def in_memory(self) -> list[tuple[str, float]]:
        """Answer the frames that lie in memory, and since when, the oldest first."""
        found = []
        if memory := self._memory_now():
            with suppress(FileNotFoundError):
                for entry in os.scandir(memory.folder):
                    if _DIGEST.fullmatch(entry.name):
                        found.append((entry.name, entry.stat().st_mtime))
        return sorted(found, key=lambda each: each[1])

    def settle(self, digest: str) -> None:
        """Bring a frame that lies in memory to the folder, synced; nothing if it does not.

        Raises
        ------
        OSError
            The disk has no room, or is out of order; the frame stays where it is.
        """
        memory = self._memory_now()
        if memory is None:
            return
        path = self.path(digest)
        if bring(memory.folder / path.name, path, self._marks):
            self.use(digest)

    def leave_memory(self) -> bool:
        """Bring all that lies in memory to the folder, and end it; whether it has ended.

        Raises
        ------
        OSError
            As `settle`.
        """
        memory = self._memory_now()
        if memory is None:
            return True
        for digest, _ in self.in_memory():
            self.settle(digest)
        empty_trash(memory.folder)
        recycling.end(memory.folder)
        _sweep(memory.folder)
        with suppress(OSError):
            (memory.folder / TRASH).rmdir()
        return memory.end()

    def trim(self) -> float | None:
        """Give back memory that is kept for the next frames; as `recycling.trim`."""
        memory = self._memory_now()
        return recycling.trim(memory.folder) if memory is not None else None

    def _memory_now(self) -> Memory | None:
        """Answer the memory that is noted now: the next server has another one."""
        try:
            status = (self.folder / NOTE).stat()
        except OSError:
            return None
        noted = status.st_ino, status.st_mtime_ns
        if noted != self._noted:
            self._memory, self._noted = Memory.of(self.folder), noted
        return self._memory

    def _folders(self) -> list[Path]:
        """Answer where frames lie: in this order, so that one on its way is not missed."""
        memory = self._memory_now()
        return [*([memory.folder] if memory is not None else []), self.folder]

    def _places(self, digest: str) -> list[Path]:
        name = self.path(digest).name
        return [folder / name for folder in self._folders()]

    def _is_on_disk(self, path: Path) -> bool:
        return path.parent == self.folder

    def put_payload(self, stream: bytes, buffers: Sequence[Buffer]) -> Payload:
        """Store a pickle: its buffers, and its stream if that is large.

        Parameters
        ----------
        stream : bytes
            A pickle with protocol 5.
        buffers
            Its out-of-band buffers, in the order in which the pickler gave them out.
        """
        return payload_of(self.put, stream, buffers)

    def open_payload(self, payload: Payload) -> tuple[bytes | memoryview, list[memoryview]]:
        """Stream and buffers of a payload, to be unpickled.

        Raises
        ------
        FrameError
            A frame is missing, or not as long as it should be.
        """
        named = payload.stream_frame
        stream: bytes | memoryview = self.open(*named) if named else payload.stream
        return stream, [self.open(digest, size) for digest, size in payload.frames]

    def _view(self, descriptor: int, digest: str, size: int) -> memoryview:
        if size < _MAP_FROM:
            small = bytearray(size)
            if os.readv(descriptor, [small]) != size:
                raise FrameError(digest, "cannot be read completely")
            return memoryview(small)
        return mapped(descriptor, size, digest, self._mapped)

    def _check(self, digest: str, view: memoryview) -> None:
        if view.nbytes != size_of(digest) or not is_named(view, content_digest(digest)):
            raise FrameError(digest, f"is damaged: {self.path(digest)} has another content")

    def _write(self, size: int, fill: Fill) -> str:
        memory = self._memory_now()
        if memory is not None and memory.is_for(size):
            _check_private(memory.folder)
            with suppress(OSError):  # somebody else took the room, or the server has ended
                return self._write_to(memory.folder, size, fill)
        digest = self._write_to(self.folder, size, fill)
        if memory is not None:  # where one that is damaged would be found first
            (memory.folder / digest).unlink(missing_ok=True)
        return digest

    def _write_to(self, folder: Path, size: int, fill: Fill) -> str:
        part, descriptor = _new(folder, size, recycles=folder != self.folder)
        try:
            try:
                digest = _name(_copied(size, fill, descriptor), size)
                if size > CHECKED:
                    self._marks.note(descriptor, self._marks.word(descriptor))
                part.replace(folder / digest)  # one that nobody has open is swept
            finally:
                os.close(descriptor)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return digest

    def opened(self, digest: str) -> int:
        """Open a frame's file for reading; the caller closes the descriptor, and checks it.

        Raises
        ------
        FrameError
            The frame is missing.
        OSError
        """
        for path in [path for path in self._places(digest) for _ in range(_ATTEMPTS)]:
            with suppress(FileNotFoundError):
                descriptor = os.open(path, _READ)
                if self._is_on_disk(path) or recycling.is_named(descriptor, path):
                    return descriptor
                os.close(descriptor)  # it is not in memory any more
        raise FrameError(digest, f"is missing from {self.folder}")

    def _descriptor(self, digest: str, size: int) -> int:
        self._check_folder()
        path = self.path(digest)
        try:
            descriptor = self.opened(digest)
        except PermissionError as error:
            raise PermissionError(
                f"{path} is not read: it belongs to another user, or is closed to this one"
            ) from error
        except OSError as error:  # a link, for one
            raise FrameError(digest, f"cannot be opened: {error}") from error
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise FrameError(digest, f"is not a file: {path}")
            if status.st_uid != os.geteuid():
                raise PermissionError(f"{path} belongs to another user and is not read")
            if status.st_size != size:
                raise FrameError(
                    digest, f"is damaged: {path} has {status.st_size} bytes instead of {size}"
                )
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _check_folder(self) -> None:
        _check_private(self.folder)
        if memory := self._memory_now():
            with suppress(FileNotFoundError):  # it has ended
                _check_private(memory.folder)


def _new(folder: Path, size: int, recycles: bool) -> tuple[Path, int]:
    """Make an unfinished file; the caller closes the descriptor."""
    part = folder / f"{uuid.uuid4().hex}{PART}"
    descriptor = recycling.take(part, size) if recycles else None
    if descriptor is None:
        # O_EXCL: a name that exists, as a link that somebody planted, is not followed.
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    return part, descriptor


def _sweep(folder: Path) -> None:
    """Unlink unfinished files that nobody writes any more.

    Who wanted what a snapshot has written finds it missing, and reads it there.
    """
    for path in folder.glob(f"*{PART}"):
        with suppress(OSError):
            age = time.time() - path.stat().st_mtime
            if age > _STALE or (age > _NEW and recycling.is_unused(path)):
                path.unlink()


def _check_private(folder: Path) -> None:
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise PermissionError(f"{folder} is not a folder: nothing is loaded from it")
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise PermissionError(
            f"others can write to {folder} (owner {status.st_uid}, mode "
            f"{stat.S_IMODE(status.st_mode):04o}): nothing is loaded from it. Give it mode "
            "0700, or choose another folder."
        )


def _from(view: memoryview) -> Fill:
    def fill(room: memoryview, start: int) -> None:
        room[:] = view[start : start + len(room)]

    return fill


def _copied(size: int, fill: Fill, descriptor: int) -> str:
    """Write a buffer to an empty file; answer the digest of what was written.

    That is of the copies which are written, not of the buffer, which another thread may be
    changing.
    """

    def write(piece: memoryview, start: int) -> None:
        done = 0
        while done < len(piece):
            done += os.pwrite(descriptor, piece[done:], start + done)

    return _read(size, fill, write)


def _read(size: int, fill: Fill, see: Fill | None = None) -> str:
    """Read a buffer piece by piece, in threads; answer its digest.

    Parameters
    ----------
    size : int
    fill : callable
    see : callable or None
        Is given each piece, and where it begins.
    """
    staged = threading.local()
    starts = range(0, size, PIECE)

    def read(start: int) -> memoryview:
        if not hasattr(staged, "room"):
            staged.room = memoryview(bytearray(min(PIECE, size)))
        piece: memoryview = staged.room[: min(PIECE, size - start)]
        fill(piece, start)
        if see is not None:
            see(piece, start)
        return piece

    if size > WHOLE:
        return combined(in_threads(lambda start: xxh3_128_digest(read(start)), starts))
    content = xxh3_128()
    for start in starts:
        content.update(read(start))
    return content.hexdigest()


def _name(content: str, size: int) -> str:
    return f"{content}-{size}"


def name_of_file(path: Path) -> str:
    """Answer the name that a file's content has as a frame.

    Raises
    ------
    OSError
        It cannot be read; links are not followed.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        size = os.fstat(descriptor).st_size
        return _name(digest_of(mapped(descriptor, size, "", {}) if size else b""), size)
    finally:
        os.close(descriptor)


def payload_of(put: Callable[[Buffer], Frame], stream: bytes, buffers: Sequence[Buffer]) -> Payload:
    """Store a pickle by `put`: its buffers, and its stream if that is large."""
    frames = [put(buffer) for buffer in buffers]
    listed = [[frame.digest, frame.size] for frame in frames]
    if len(stream) <= STREAM_LIMIT:
        return Payload(bytes(stream), listed)
    frame = put(stream)
    return Payload(b"", listed, [frame.digest, frame.size])


def name_of(buffer: Buffer) -> Frame:
    """Answer the name that a buffer's bytes have as a frame, and their number."""
    view = PickleBuffer(buffer).raw()
    return Frame(_name(digest_of(view), view.nbytes), view.nbytes)


def unread_name(size: int) -> str:
    """Answer a name, of its own, for a frame that nobody has read yet."""
    return _name(f"{_UNREAD}{secrets.token_hex(16)}", size)


def is_unread(digest: str) -> bool:
    """Whether it is the name of a frame that nobody had read: it has another one by now."""
    return digest.startswith(_UNREAD)


def size_of(digest: str) -> int:
    """The size in bytes of the frame of that name."""
    return int(digest.rpartition("-")[2])


def content_digest(digest: str) -> str:
    """The digest of the content alone, of a frame's name."""
    return digest.partition("-")[0]


def _fsync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
