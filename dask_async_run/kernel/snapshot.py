"""Taking a snapshot of the kernel: large inputs are copied after the submission has returned.

A snapshot is taken within milliseconds, of any size. It writes the largest inputs to files, which
the registry names by what they hold, and the registry reads the others there, while the notebook
goes on. See `dask_async_run.snapshots`. What looks like a frame that there is, is read here first,
which takes a quarter of that: mostly it is one.

A fork would be a snapshot, but is not safe in a process with threads. `os.fork` has libraries
prepare for it, and OpenBLAS, for one, then ends its threads: a product that another thread of the
notebook is just at never returns. And what the child does, any allocation, may wait for a lock
that some thread had. Nor is write protection a way (userfaultfd): without privileges the system's
own writes, as ``file.readinto(a)``, fail on memory that is protected.

So the system is asked directly, and no library hears of it; and not one instruction of Python's,
or of a library that the notebook uses, is executed in the copy. It runs a chain of contexts
(``makecontext``) of the C library's, each of which makes one system call::

    kernel -- clone(CLONE_VM | CLONE_VFORK) --> a helper in the kernel's own memory, for a moment
    helper -- clone() --> the snapshot: close_range, setsid, prctl, poll, writev, prctl, poll, _exit
    helper -- _exit

The helper makes the snapshot nobody's child, so that nothing that looks after a kernel's children
ends it or waits for it (ipykernel ends them all when it shuts down). Signals are blocked in both
from the beginning, and no file stays open but those that it writes. It cannot decide anything, so
whether it has written all is seen from outside: each write begins where the one before has ended,
and the last one is of a random word.

Memory that is shared with other processes is no snapshot: such buffers are copied before the
submission returns, like small ones.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import secrets
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Self

from dask_async_run import sacrifice
from dask_async_run.errors import ServerError
from dask_async_run.frames import Frame, FrameStore, payload_of, unread_name
from dask_async_run.job import Payload
from dask_async_run.memory import available
from dask_async_run.snapshots import WORD, WRITING, WRITTEN, Part, Snapshot, life_of

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc has it from Python 3.12 on

LARGE = 1024 * 1024
"""Bytes from which on a buffer may be left to a snapshot."""

ENOUGH = 64 * 1024 * 1024
"""Bytes for which one is taken."""

FILES = 8
"""Buffers that it writes to files itself."""

HEAD_START = 40
"""Milliseconds that it waits before: who submits makes the job then, and needs a processor."""

SHARE = 50
"""A snapshot of a process takes as long as copying this part of its memory."""

# With the interpreter's lock: no other thread of Python's runs while a snapshot is taken.
_libc = ctypes.PyDLL(None, use_errno=True)

_CLONE_VM, _CLONE_VFORK, _CLONE_PARENT_SETTID = 0x100, 0x4000, 0x100000
_WCLONE = -0x80000000  # __WCLONE, as a signed number
_CLOSE_RANGE = 436  # on every machine
_PR_SET_NAME, _PR_SET_PTRACER = 15, 0x59616D61

_CONTEXT, _STACK = 16 * 1024, 16 * 1024  # bytes: more than any machine's ucontext_t
_STEPS = 13  # of the two chains together, where no file is written
_ROOM = 64 * 1024  # bytes of what the calls are given
_MOST_AT_ONCE = 1024**3  # bytes: one write takes two of that at most
_LEAST_AT_ONCE = 64 * 1024**2  # bytes: after each one it is seen how far it is
_WRITES = 64  # of one part, but of the largest
_LINK, _STACK_AT, _STACK_SIZE = 1, 2, 4  # of a ucontext_t, in words: the same on all machines


class SnapshotFrames:
    """A store of frames that leaves large ones to a snapshot; as a `FrameStore`, for a kernel.

    Parameters
    ----------
    frames : FrameStore
    bring : callable
        Is given a `Snapshot`, and has the registry copy it; answers whether it does.
    """

    def __init__(self, frames: FrameStore, bring: Callable[[Snapshot], bool]) -> None:
        self._frames = frames
        self._bring = bring
        self._possible = is_possible()

    def put(self, buffer: Buffer) -> Frame:
        """As `FrameStore.put`."""
        return self._frames.put(buffer)

    def open_payload(self, payload: Payload) -> tuple[bytes | memoryview, list[memoryview]]:
        """As `FrameStore.open_payload`."""
        return self._frames.open_payload(payload)

    def put_payload(self, stream: bytes, buffers: Sequence[Buffer]) -> Payload:
        """As `FrameStore.put_payload`; a frame may not be there yet, but will be.

        Its name says then that nobody has read it, and the registry that it is coming. When it
        has been read, the jobs' specs have the name of its content (`JobSpec.renamed`).
        """
        named = self._named([*buffers, stream]) if self._possible else {}
        return payload_of(lambda each: named.get(id(each)) or self.put(each), stream, buffers)

    def _named(self, buffers: Iterable[Buffer]) -> dict[int, Frame]:
        """Name the large ones that are known to be there, or are coming now; by their ids."""
        views = {id(buffer): PickleBuffer(buffer).raw() for buffer in buffers}
        large = {key: view for key, view in views.items() if view.nbytes >= LARGE}
        if sum(view.nbytes for view in large.values()) < ENOUGH:
            return {}
        alike = self._frames.alike(large)
        known = {key: self._frames.known(view, read=key in alike) for key, view in large.items()}
        named = {key: frame for key, frame in known.items() if frame is not None}
        is_private = _privacy()
        parts = {
            key: Part(unread_name(view.nbytes), view.nbytes, address_of(view))
            for key, view in large.items()
            if key not in named and is_private(view)
        }
        if is_worth_it(sum(part.size for part in parts.values())) and self._left(parts):
            named |= {key: Frame(part.digest, part.size) for key, part in parts.items()}
        return named

    def _left(self, parts: dict[int, Part]) -> bool:
        """Leave buffers to a snapshot, if that can be done; `parts` are told their files."""
        files: dict[str, int] = {}
        left = False
        try:
            begun = 0
            for key in sorted(parts, key=lambda key: parts[key].size)[-FILES:]:
                name, files[name] = self._frames.begin(parts[key].size, begun)
                parts[key] = replace(parts[key], file=name, descriptor=files[name])
                begun += parts[key].size
            snapshot = take(list(parts.values()), files)
            try:
                with suppress(ServerError):  # the submission will say so
                    left = self._bring(snapshot)
            finally:
                if not left:
                    end(snapshot)
        except OSError:
            pass  # no memory for it, no process, no file
        finally:
            for name, descriptor in files.items():
                os.close(descriptor)
                if not left:
                    self._frames.give_up(name)
        return left


def is_worth_it(nbytes: int) -> bool:
    """Whether a snapshot takes less than copying so many bytes, and there is memory for it.

    As much as that is needed if the notebook writes to all of it before it has been copied.
    """
    if nbytes < ENOUGH or nbytes > available() // 2:
        return False
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE
    return nbytes * SHARE >= resident


def is_possible() -> bool:
    """Whether this system can take snapshots: Linux from 5.9 on, with the GNU C library."""
    if sys.platform != "linux" or sys.maxsize < 2**32:
        return False
    # The last one is that by which the registry reads.
    contexts = ("getcontext", "makecontext", "setcontext")
    needed = (*contexts, "clone", "syscall", "writev", "process_vm_readv")
    if not all(hasattr(_libc, name) for name in needed) or not hasattr(os, "pidfd_open"):
        return False
    # Of no descriptor: what is asked is whether the call is there.
    return bool(_libc.syscall(_CLOSE_RANGE, ctypes.c_uint(-2), ctypes.c_uint(-1), 0) == 0)


def take(parts: list[Part], files: Mapping[str, int] | None = None) -> Snapshot:
    """Take a snapshot of this process; any thread.

    Parameters
    ----------
    parts : list of Part
    files : mapping of str to int, optional
        Descriptors of the files that it writes, by the parts' `file`; at their beginnings.

    Returns
    -------
    Snapshot
        It lives as long as `life_of` says, or until somebody ends it.

    Raises
    ------
    OSError
        There is not enough memory, or no process more is allowed.
    """
    word = secrets.token_bytes(WORD)
    writes = [(files[part.file], part.address, part.size) for part in parts if files and part.file]
    with _Chains(word, sum(3 + size // _at_once(size) for _, _, size in writes)) as chains:
        # What becomes of a signal is inherited, its handlers are Python's: so none may come.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = chains.start(life_of(parts), writes)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        sacrifice.offer(pid, sacrifice.SNAPSHOT)
        return Snapshot(pid, chains.word, word, parts)


def end(snapshot: Snapshot) -> None:
    """End a snapshot that was just taken here, and that nobody else knows."""
    with suppress(ProcessLookupError):
        os.kill(snapshot.pid, signal.SIGKILL)


class _Chains:
    """The memory in which helper and snapshot have their contexts and stacks; a block.

    It can go when the helper has ended: the snapshot has a copy.

    Parameters
    ----------
    word : bytes
    more : int
        Steps that are needed beside those which a snapshot without files has.
    """

    def __init__(self, word: bytes, more: int = 0) -> None:
        kind = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        size = (_STEPS + more) * (_CONTEXT + _STACK) + _ROOM
        self._room = mmap.mmap(-1, size, flags=kind)
        self._bytes = ctypes.c_char.from_buffer(self._room)
        self._free = ctypes.addressof(self._bytes)
        self._end = self._free + size
        self.word = self._kept(word)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        del self._bytes
        self._room.close()

    def start(self, seconds: float, writes: Iterable[tuple[int, int, int]] = ()) -> int:
        """Start the two, all signals blocked; answer the snapshot's pid.

        Parameters
        ----------
        seconds : float
            For which it lives.
        writes : iterable of (int, int, int)
            What it writes before: descriptor of a file, address and size.
        """
        milliseconds = min(int(seconds * 1000), 2**31 - 1)
        writes = list(writes)
        snapshot = self._chain(
            *_closing(descriptor for descriptor, _, _ in writes),
            ("setsid",),
            ("prctl", _PR_SET_NAME, self._kept(WRITING + b"\0")),
            # Where the system lets only a parent read (Yama), the registry may, too.
            ("prctl", _PR_SET_PTRACER, -1),
            *([("poll", 0, 0, HEAD_START)] if writes else ()),
            *(call for write in writes for call in self._writing(*write)),
            *_closing(()),
            ("prctl", _PR_SET_NAME, self._kept(WRITTEN + b"\0")),
            ("poll", 0, 0, milliseconds),
            ("_exit", 0),
        )
        told = self._kept(bytes(8))
        stack, run = self._stack(), _address("setcontext")
        helper = self._chain(
            ("clone", run, stack, _CLONE_PARENT_SETTID, snapshot, told, 0, 0), ("_exit", 0)
        )
        flags = _CLONE_VM | _CLONE_VFORK
        pid = _libc.clone(*map(ctypes.c_void_p, (run, self._stack())), flags, _word(helper))
        if pid < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        os.waitpid(pid, _WCLONE)
        found = ctypes.c_int.from_address(told).value
        if not found:
            raise OSError("the system has no room for another process")
        return found

    def _writing(self, descriptor: int, address: int, size: int) -> Iterator[tuple[str | int, ...]]:
        """Answer calls that write some memory, and the word after it."""
        step = _at_once(size)
        ranges = [(start, min(step, size - start)) for start in range(0, size, step)]
        for begin, length in [*((address + start, n) for start, n in ranges), (self.word, WORD)]:
            vector = self._kept(
                begin.to_bytes(8, sys.byteorder) + length.to_bytes(8, sys.byteorder)
            )
            yield "writev", descriptor, vector, 1

    def _chain(self, *calls: tuple[str | int, ...]) -> int:
        """Make contexts that call one function of the C library's after the other."""
        following = 0
        for name, *arguments in reversed(calls):
            context, stack = self._kept(bytes(_CONTEXT)), self._stack()
            if _libc.getcontext(_word(context)):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
            words = (ctypes.c_size_t * (_STACK_SIZE + 1)).from_address(context)
            words[_LINK], words[_STACK_AT], words[_STACK_SIZE] = following, stack - _STACK, _STACK
            given = map(_word, arguments)
            _libc.makecontext(_word(context), _word(_address(str(name))), len(arguments), *given)
            following = context
        return following

    def _stack(self) -> int:
        """Answer the upper end of a new stack."""
        return self._given(_STACK) + _STACK

    def _kept(self, content: bytes) -> int:
        address = self._given(len(content))
        ctypes.memmove(address, content, len(content))
        return address

    def _given(self, size: int) -> int:
        address = self._free
        self._free += -(-size // 64) * 64
        if self._free > self._end:
            raise OSError(errno.ENOMEM, "a snapshot of so many parts has no room for its steps")
        return address


def _at_once(size: int) -> int:
    """Answer how many bytes of so many are written at once."""
    return min(_MOST_AT_ONCE, max(_LEAST_AT_ONCE, size // _WRITES))


def _closing(kept: Iterable[int]) -> Iterator[tuple[str | int, ...]]:
    """Answer calls that close all descriptors but some."""
    begin = 0
    for descriptor in [*sorted(kept), 2**32]:
        if begin < descriptor:
            yield "syscall", _CLOSE_RANGE, begin, descriptor - 1, 0
        begin = descriptor + 1


class _PyBuffer(ctypes.Structure):
    """CPython's ``Py_buffer``."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        *((name, ctypes.c_void_p) for name in ("format", "shape", "strides", "suboffsets")),
        ("internal", ctypes.c_void_p),
    )


def address_of(view: memoryview) -> int:
    """Answer where a contiguous buffer's bytes are, one that cannot be written to, too."""
    found = _PyBuffer()
    python = ctypes.pythonapi
    python.PyObject_GetBuffer(ctypes.py_object(view), ctypes.byref(found), 0)
    python.PyBuffer_Release(ctypes.byref(found))
    return int(found.buf or 0)


def _privacy() -> Callable[[memoryview], bool]:
    """Answer what tells whether memory is shared with no other process, as things are now."""
    shared = []
    for line in Path("/proc/self/maps").read_text(errors="replace").splitlines():
        limits, flags = line.split(maxsplit=2)[:2]
        if flags.endswith("s"):
            low, _, high = limits.partition("-")
            shared.append((int(low, 16), int(high, 16)))

    def is_private(view: memoryview) -> bool:
        begin = address_of(view)
        return not any(low < begin + view.nbytes and begin < high for low, high in shared)

    return is_private


def _address(name: str) -> int:
    return ctypes.cast(getattr(_libc, name), ctypes.c_void_p).value or 0


def _word(value: int | str) -> ctypes.c_long:
    return ctypes.c_long(int(value))
