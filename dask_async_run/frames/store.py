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
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from pickle import PickleBuffer
from typing import TYPE_CHECKING

from dask_async_run.content import digest_of, is_named
from dask_async_run.errors import FrameError
from dask_async_run.frames.copying import Fill, copied, followed, from_view, read
from dask_async_run.frames.likeness import alike
from dask_async_run.frames.names import Frame, content_digest, name_of, named, size_of
from dask_async_run.frames.places import Places
from dask_async_run.job import Payload
from dask_async_run.mapping import mapped
from dask_async_run.marks import Marks
from dask_async_run.pages import is_untouched
from dask_async_run.settling import let_go

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
        self._marks = Marks()
        self._places = Places(folder, self._marks)
        self._mapped: dict[tuple[int, int], str] = {}  # address and size: digest

    @property
    def folder(self) -> Path:
        """The store's folder."""
        return self._places.folder

    def make_anew(self) -> None:
        """Make the folder again, which was deleted: empty, but for what lies in memory."""
        self._places.make_anew()

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
        self._places.check()
        view = PickleBuffer(buffer).raw()
        frame = self._mapped_as(view)
        # To read a large buffer takes a while, and is for nothing where no frame is as long.
        if frame is None and (view.nbytes < _LISTED_FROM or self._has_any_of(view.nbytes)):
            frame = name_of(view)
        if frame is not None and self._is_there(frame):
            return frame
        return self._write(view.nbytes, from_view(view))

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
        self._places.check()
        frame = self._mapped_as(view) or (name_of(view) if read else None)
        return frame if frame is not None and self._is_there(frame) else None

    def alike(self, views: Mapping[int, memoryview]) -> set[int]:
        """Answer the buffers that look like some frame: as long, and the same in many places.

        Parameters
        ----------
        views : mapping of int to memoryview
            Of plain bytes, by whatever the caller knows them.
        """
        return alike(self._places, views)

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
        self._places.check()
        if self._has_any_of(size):
            frame = named(read(size, fill), size)
            if self._is_there(frame):
                return frame
        return self._write(size, fill)

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
        self._places.check()
        part, descriptor = self._places.new(self._places.room(size, beside), size)
        return part.name, descriptor

    def complete(
        self, name: str, size: int, end: bytes, written: Callable[[], int | None] = lambda: None
    ) -> Frame | None:
        """Store what somebody writes to a file of `begin`, or has written; return its name.

        Parameters
        ----------
        name : str
            The file's. It is gone afterwards.
        size : int
            Bytes.
        end : bytes
            What was written after them, one after the other by the same descriptor: where it is
            in its place, all of them are in theirs.
        written : callable
            Answers how many bytes have been written by now, which are read meanwhile; None:
            nothing more comes.

        Returns
        -------
        Frame or None
            None: it is not complete.
        """
        self._places.check()
        for part in self._places.unfinished(name):
            with suppress(FileNotFoundError):
                try:
                    return self._completed(part, size, end, written)
                finally:
                    part.unlink(missing_ok=True)
        return None

    def give_up(self, name: str) -> None:
        """Remove a file of `begin`."""
        for part in self._places.unfinished(name):
            part.unlink(missing_ok=True)

    def _completed(
        self, part: Path, size: int, end: bytes, written: Callable[[], int | None]
    ) -> Frame | None:
        descriptor = os.open(part, os.O_RDWR | os.O_NOFOLLOW)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
                return None

            def is_whole() -> bool:
                return os.pread(descriptor, len(end) + 1, size) == end

            # Mapped, not read: the first reading of a file's pages costs as much as writing them.
            view = mapped(descriptor, size, "", {}) if size else memoryview(b"")
            pieces = list(followed(view, lambda: None if is_whole() else written()))
            if not is_whole():
                return None
            os.ftruncate(descriptor, size)
            word = self._marks.word(descriptor)
            frame = named(digest_of(view, pieces), size)
            if self._is_there(frame):
                os.close(descriptor)
                descriptor = -1
                if not self._places.is_on_disk(part):
                    let_go(part)
                return frame
            if size > CHECKED:
                self._marks.note(descriptor, word)
            part.replace(part.with_name(frame.digest))
            return frame
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def use(self, digest: str) -> bool:
        """Mark a frame as used now, so that it is left alone for a while; whether it is there."""
        for path in self._places.of(digest):
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
        descriptor = self._places.opened(digest, size)
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
        return any(path.is_file() for path in self._places.of(digest))

    def path(self, digest: str) -> Path:
        """Where the frame lies, once it is not in memory any more, or would lie.

        Raises
        ------
        FrameError
            `digest` is no frame's name (it comes from files and other processes, and
            becomes a path).
        """
        return self._places.path(digest)

    def verify(self, digest: str, size: int) -> None:
        """Read a frame and check that it holds what its name says.

        Raises
        ------
        FrameError
            It does not, or is missing, or has another size.
        """
        descriptor = self._places.opened(digest, size)
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
        self._places.discard(digests)

    def empty_trash(self) -> None:
        """Unlink what `discard` took away."""
        self._places.empty_trash()

    def used(self, digest: str) -> float | None:
        """When the frame was last put, in seconds since the epoch; None if it is not there."""
        for path in self._places.of(digest):
            with suppress(FileNotFoundError):
                status = path.stat()
                return max(status.st_atime, status.st_mtime)
        return None

    def sweep(self) -> None:
        """Unlink what writers that were killed left behind, and the trash."""
        self._places.sweep()

    def __iter__(self) -> Iterator[str]:
        """Digests of all frames, in no order."""
        return iter(self._places)

    def in_memory(self) -> list[tuple[str, float]]:
        """Answer the frames that lie in memory, and since when, the oldest first."""
        return self._places.in_memory()

    def settle(self, digest: str) -> None:
        """Bring a frame that lies in memory to the folder, synced; nothing if it does not.

        Raises
        ------
        OSError
            The disk has no room, or is out of order; the frame stays where it is.
        """
        if self._places.settle(digest):
            self.use(digest)

    def leave_memory(self) -> bool:
        """Bring all that lies in memory to the folder, and end it; whether it has ended.

        Raises
        ------
        OSError
            As `settle`.
        """
        for digest, _ in self.in_memory():
            self.settle(digest)
        return self._places.end_memory()

    def trim(self) -> float | None:
        """Give back memory that is kept for the next frames; as `recycling.trim`."""
        return self._places.trim()

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
        own = payload.stream_frame
        stream: bytes | memoryview = self.open(*own) if own else payload.stream
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

    def _write(self, size: int, fill: Fill) -> Frame:
        folder = self._places.room(size)
        if folder != self.folder:
            with suppress(OSError):  # somebody else took the room, or the server has ended
                return self._write_to(folder, size, fill)
        frame = self._write_to(self.folder, size, fill)
        for path in self._places.of(frame.digest):  # where one that is damaged would be found first
            if path.parent != self.folder:
                path.unlink(missing_ok=True)
        return frame

    def _write_to(self, folder: Path, size: int, fill: Fill) -> Frame:
        part, descriptor = self._places.new(folder, size)
        try:
            try:
                frame = named(copied(size, fill, descriptor), size)
                if size > CHECKED:
                    self._marks.note(descriptor, self._marks.word(descriptor))
                part.replace(folder / frame.digest)  # one that nobody has open is swept
            finally:
                os.close(descriptor)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return frame

    def opened(self, digest: str) -> int:
        """Open a frame's file for reading; the caller closes the descriptor, and checks it.

        Raises
        ------
        FrameError
            The frame is missing.
        OSError
        """
        return self._places.raw(digest)


def payload_of(put: Callable[[Buffer], Frame], stream: bytes, buffers: Sequence[Buffer]) -> Payload:
    """Store a pickle by `put`: its buffers, and its stream if that is large."""
    frames = [put(buffer) for buffer in buffers]
    listed = [[frame.digest, frame.size] for frame in frames]
    if len(stream) <= STREAM_LIMIT:
        return Payload(bytes(stream), listed)
    frame = put(stream)
    return Payload(b"", listed, [frame.digest, frame.size])


def _fsync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
