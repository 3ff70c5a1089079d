"""Snapshots: what a process's memory was at one moment, for another process to read.

A snapshot is a process that does nothing: a copy of a kernel, whose pages the system copies only
as the kernel writes to them. It outlives the kernel. Who reads it, the registry, ends it; if
nobody does, it ends by itself: see `life_of`. How one is taken: `dask_async_run.kernel.snapshot`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Self

from dask_async_run.job import Message

LIFE = 600.0
"""Seconds after which a snapshot ends that nobody has ended: at least."""

SLOWEST = 10e6
"""Bytes a second at which a disk copies it at least."""

WORD = 16
"""Bytes of the word by which a snapshot is known."""

_libc = ctypes.CDLL(None, use_errno=True)
if hasattr(_libc, "process_vm_readv"):  # Linux
    _libc.process_vm_readv.restype = ctypes.c_ssize_t

_STEP = 2 * 1024 * 1024
"""Bytes between two that are tried: memory that is not copied to other processes is seldom less."""

_AT_ONCE = 1024
"""Ranges that the system reads with one call at most."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some of a snapshot's memory: the name that it has until it is read, and where it begins."""

    digest: str
    size: int
    address: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot, and what of it somebody needs.

    Parameters
    ----------
    pid : int
    address : int
        Where it has `word`.
    word : bytes
        Random: a process that has it there is this one, seen from here.
    parts : list of Part
    """

    pid: int
    address: int
    word: bytes
    parts: list[Part]

    def to_message(self) -> Message:
        return asdict(self)

    @classmethod
    def from_message(cls, message: Message) -> Self:
        parts = [Part(**part) for part in message["parts"]]
        return cls(message["pid"], message["address"], message["word"], parts)


def life_of(parts: Iterable[Part]) -> float:
    """Answer after how many seconds a snapshot ends by itself: nobody copies it any more then."""
    return LIFE + sum(part.size for part in parts) / SLOWEST


class _Range(ctypes.Structure):
    _fields_ = (("address", ctypes.c_void_p), ("size", ctypes.c_size_t))


class SnapshotReader:
    """Reads a snapshot, and ends it; from any thread, of another process of the same user.

    Parameters
    ----------
    snapshot : Snapshot

    Raises
    ------
    OSError
        It is not seen from here, or not to be read: it is on another machine or in another
        container, or the system lets nobody read.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._pid = snapshot.pid
        self._process = os.pidfd_open(snapshot.pid)
        try:
            word = bytearray(WORD)
            self.fill(memoryview(word), snapshot.address)
            if word != snapshot.word:
                raise ProcessLookupError(errno.ESRCH, f"process {self._pid} is another one")
            for part in snapshot.parts:
                self._touch([*range(0, part.size, _STEP), part.size - 1], part.address)
        except BaseException:
            os.close(self._process)
            raise

    def fill(self, room: memoryview, address: int) -> None:
        """Read as many bytes as there is room for, from `address` on.

        Raises
        ------
        OSError
            It has ended, or has nothing there.
        """
        self._read(room, [_Range(address, room.nbytes)])

    def _touch(self, offsets: Sequence[int], address: int) -> None:
        """Read a byte at each offset from an address."""
        for start in range(0, len(offsets), _AT_ONCE):
            there = [_Range(address + each, 1) for each in offsets[start : start + _AT_ONCE]]
            self._read(memoryview(bytearray(len(there))), there)

    def _read(self, room: memoryview, ranges: Sequence[_Range]) -> None:
        here = _Range(ctypes.addressof(ctypes.c_char.from_buffer(room)), room.nbytes)
        there = (_Range * len(ranges))(*ranges)
        done = _libc.process_vm_readv(self._pid, ctypes.byref(here), 1, there, len(ranges), 0)
        if done != room.nbytes:
            number = ctypes.get_errno() if done < 0 else errno.EFAULT
            raise OSError(number, f"process {self._pid} cannot be read: {os.strerror(number)}")

    def end(self) -> None:
        """End the snapshot, and `close`."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._process, signal.SIGKILL)
        self.close()

    def close(self) -> None:
        """Let go of the snapshot; once."""
        os.close(self._process)
