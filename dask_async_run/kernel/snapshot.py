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
    helper -- madvise(MADV_DONTFORK), ...
    helper -- clone() --> the snapshot: close_range, setsid, prctl, poll, writev, prctl, poll, _exit
    helper -- madvise(MADV_DOFORK), ...
    helper -- _exit

What the snapshot does not need, it does not get: the kernel's own heap would be copied page by
page as the kernel goes on, which takes it longer than the snapshot itself. The kernel's other
threads of Python wait meanwhile, so that none makes a process that lacks it.

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

HEAD_START = 20
"""Milliseconds that it waits before: who submits makes the job then, and needs a processor."""

SHARE = 50
"""A snapshot that gets all memory of a process takes as long as copying this part of it."""

# With the interpreter's lock: no other thread of Python's runs while a snapshot is taken.
_libc = ctypes.PyDLL(None, use_errno=True)
if hasattr(_libc, "pthread_self"):
    _libc.pthread_self.restype = ctypes.c_size_t

_CLONE_VM, _CLONE_VFORK, _CLONE_PARENT_SETTID = 0x100, 0x4000, 0x100000
_WCLONE = -0x80000000  # __WCLONE, as a signed number
_CLOSE_RANGE = 436  # on every machine
_PR_SET_NAME, _PR_SET_PTRACER = 15, 0x59616D61

_CONTEXT, _STACK = 16 * 1024, 16 * 1024  # bytes: more than any machine's ucontext_t
_DONTFORK, _DOFORK = 10, 11
_SPARED = 64  # ranges of memory that a snapshot does not get, at most
_BESIDE = 256 * 1024  # bytes
_SYSTEMS = 2**63  # from here on memory is not a process's own
_NAME, _SHARED = 73, ord("s")  # column of a line of /proc/self/maps, and one of its flags
_C_LIBRARY = (b"libc.", b"libc-", b"libpthread", b"ld-")
_MARKING = (b"libcuda.", b"libibverbs.", b"librdmacm.", b"libmlx", b"libfabric.", b"libucs.")
"""Libraries that keep memory from other processes themselves, for their devices."""
_STEPS = 13  # of the two chains together, where no file is written, and nothing spared
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
        memory = _Memory()
        parts = {
            key: Part(unread_name(view.nbytes), view.nbytes, address_of(view))
            for key, view in large.items()
            if key not in named and memory.is_private(view)
        }
        nbytes = sum(part.size for part in parts.values())
        if is_worth_it(nbytes, memory.can_spare(len(parts))) and self._left(parts, memory):
            named |= {key: Frame(part.digest, part.size) for key, part in parts.items()}
        return named

    def _left(self, parts: dict[int, Part], memory: _Memory) -> bool:
        """Leave buffers to a snapshot, if that can be done; `parts` are told their files."""
        files: dict[str, int] = {}
        left = False
        try:
            begun = 0
            for key in sorted(parts, key=lambda key: parts[key].size)[-FILES:]:
                name, files[name] = self._frames.begin(parts[key].size, begun)
                parts[key] = replace(parts[key], file=name, descriptor=files[name])
                begun += parts[key].size
            snapshot = take(list(parts.values()), files, memory)
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


def is_worth_it(nbytes: int, spared: bool) -> bool:
    """Whether a snapshot takes less than copying so many bytes, and there is memory for it.

    As much as that is needed if the notebook writes to all of it before it has been copied.

    Parameters
    ----------
    spared : bool
        Whether the snapshot gets no more than it is to copy; else it takes as long as the whole
        process is large.
    """
    if nbytes < ENOUGH or nbytes > available() // 2:
        return False
    if spared:
        return True
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE
    return nbytes * SHARE >= resident


def is_possible() -> bool:
    """Whether this system can take snapshots: Linux from 5.9 on, with the GNU C library."""
    if sys.platform != "linux" or sys.maxsize < 2**32:
        return False
    # The last one is that by which the registry reads.
    contexts = ("getcontext", "makecontext", "setcontext", "pthread_self")
    needed = (*contexts, "clone", "syscall", "madvise", "writev", "process_vm_readv")
    if not all(hasattr(_libc, name) for name in needed) or not hasattr(os, "pidfd_open"):
        return False
    # Of no descriptor: what is asked is whether the call is there.
    return bool(_libc.syscall(_CLOSE_RANGE, ctypes.c_uint(-2), ctypes.c_uint(-1), 0) == 0)


def take(
    parts: list[Part], files: Mapping[str, int] | None = None, memory: _Memory | None = None
) -> Snapshot:
    """Take a snapshot of this process; any thread.

    Parameters
    ----------
    parts : list of Part
    files : mapping of str to int, optional
        Descriptors of the files that it writes, by the parts' `file`; at their beginnings.
    memory : _Memory, optional
        This process's, as it was a moment ago, when the parts had been made.

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
    memory = memory or _Memory()
    more = sum(3 + size // _at_once(size) for _, _, size in writes) + 2 * _SPARED
    with _Chains(word, more) as chains:
        needed = [(part.address, part.size) for part in parts]
        spared = memory.unneeded(needed, chains.room)
        # What becomes of a signal is inherited, its handlers are Python's: so none may come.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = chains.start(life_of(parts), writes, spared)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            _give_again(spared)
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

    Attributes
    ----------
    room : tuple of int
        Where it is: address and size.
    word : int
        Address of the word.
    """

    def __init__(self, word: bytes, more: int = 0) -> None:
        kind = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        size = (_STEPS + more) * (_CONTEXT + _STACK) + _ROOM
        self._room = mmap.mmap(-1, size, flags=kind)
        self._bytes = ctypes.c_char.from_buffer(self._room)
        self._free = ctypes.addressof(self._bytes)
        self.room = self._free, size
        self._end = self._free + size
        self.word = self._kept(word)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        del self._bytes
        self._room.close()

    def start(
        self,
        seconds: float,
        writes: Iterable[tuple[int, int, int]] = (),
        spared: Sequence[tuple[int, int]] = (),
    ) -> int:
        """Start the two, all signals blocked; answer the snapshot's pid.

        Parameters
        ----------
        seconds : float
            For which it lives.
        writes : iterable of (int, int, int)
            What it writes before: descriptor of a file, address and size.
        spared : sequence of (int, int)
            Address and size of memory that it does not get.
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
            *(("madvise", *piece, _DONTFORK) for piece in spared),
            ("clone", run, stack, _CLONE_PARENT_SETTID, snapshot, told, 0, 0),
            *(("madvise", *piece, _DOFORK) for piece in spared),
            ("_exit", 0),
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
            context, stack = self._given(_CONTEXT), self._stack()  # all zero
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


def _give_again(spared: Iterable[tuple[int, int]]) -> None:
    """See to it that other processes made from this one get all of its memory.

    They do; but what a device's library mapped into a range just then would have kept the system
    from marking what comes after it.
    """
    for address, size in spared:
        if _madvise(address, size, _DOFORK) and ctypes.get_errno() != errno.ENOMEM:  # of holes
            for line in Path("/proc/self/maps").read_bytes().splitlines():
                low, _, high = line[: line.find(b" ")].partition(b"-")
                begin = int(low, 16)
                if begin < _SYSTEMS:
                    _madvise(begin, int(high, 16) - begin, _DOFORK)
            return


def _madvise(address: int, size: int, advice: int) -> int:
    return int(_libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), advice))


class _Memory:
    """The memory of this process, as it is now.

    What is mapped later is not known; ranges that are gone by the time that they are used do no
    harm.
    """

    def __init__(self) -> None:
        self._shared: list[tuple[int, int]] = []
        self._kept: list[tuple[int, int]] = []
        self._marked = False
        maps = Path("/proc/self/maps").read_bytes()
        self._begin = int(maps.partition(b"-")[0], 16)
        for line in maps.splitlines():
            name = line[_NAME:]
            is_shared = line[line.find(b" ") + 4] == _SHARED
            if is_shared or (name and self._is_kept(name)):
                low, _, high = line[: line.find(b" ")].partition(b"-")
                limits = int(low, 16), int(high, 16)
                self._kept.append(limits)
                if is_shared:
                    self._shared.append(limits)

    def _is_kept(self, name: bytes) -> bool:
        """Whether memory is not plainly this process's own, or is the C library's."""
        if not name.startswith(b"/"):
            return name != b"[heap]"
        if name.startswith(b"/dev/"):
            return not name.startswith(b"/dev/shm/")
        file = name[name.rfind(b"/") + 1 :]
        self._marked |= file.startswith(_MARKING)
        return file.startswith(_C_LIBRARY)

    def is_private(self, view: memoryview) -> bool:
        """Whether a buffer is shared with no other process."""
        begin = address_of(view)
        return not any(low < begin + view.nbytes and begin < high for low, high in self._shared)

    def can_spare(self, parts: int) -> bool:
        """Whether a snapshot of so many buffers need not get the rest."""
        return not self._marked and len(self._kept) + parts + 2 <= _SPARED

    def unneeded(
        self, parts: Sequence[tuple[int, int]], room: tuple[int, int]
    ) -> list[tuple[int, int]]:
        """Answer the ranges between what a snapshot needs, as address and size; with holes.

        It needs the C library, and what that and the system have in this thread's own memory.

        Parameters
        ----------
        parts : sequence of (int, int)
            Address and size of what it is to copy.
        room : tuple of int
            The same of where its calls are.
        """
        if not self.can_spare(len(parts)):
            return []
        own = _libc.pthread_self()
        keep = [(begin, begin + size) for begin, size in [*parts, room]]
        keep.append((own - _BESIDE, own + _BESIDE))
        # What a library has without a file lies behind what it has of its file.
        keep += [(low, high + _BESIDE) for low, high in self._kept]
        begin, ranges = self._begin, []
        # Behind the last one nothing is: the system's own are the highest.
        for low, high in sorted(keep):
            low = low // mmap.PAGESIZE * mmap.PAGESIZE
            if begin < low < _SYSTEMS:
                ranges.append((begin, low - begin))
            begin = max(begin, -(-high // mmap.PAGESIZE) * mmap.PAGESIZE)
        return ranges


def _address(name: str) -> int:
    return ctypes.cast(getattr(_libc, name), ctypes.c_void_p).value or 0


def _word(value: int | str) -> ctypes.c_long:
    return ctypes.c_long(int(value))
