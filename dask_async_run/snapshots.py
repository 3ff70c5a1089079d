"""Snapshots: what a process's memory was at one moment, for another process to read.

A snapshot is a process that does nothing: a copy of a kernel, whose pages the system copies only
as the kernel writes to them. It outlives the kernel. Who reads it, the registry, ends it; if
nobody does, it ends by itself: see `life_of`. How one is taken: `dask_async_run.kernel.snapshot`.

What is largest it writes to files itself: whoever reads the memory of another process has the
system copy each page that this one shares with others, for nothing. After each part it writes its
word, from which one sees whether all of it has been written. How far it is, the position of the
file tells: what is there is read for its name while the rest is written.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from dask_async_run.job import Message

LIFE = 600.0
"""Seconds after which a snapshot ends that nobody has ended: at least."""

SLOWEST = 10e6
"""Bytes a second at which a disk copies it at least."""

WRITING, WRITTEN = b"dar: writing", b"dar: written"
"""What the process is called while it writes files, and afterwards."""

WORD = 16
"""Bytes of the word by which a snapshot is known."""

_libc = ctypes.CDLL(None, use_errno=True)
if hasattr(_libc, "process_vm_readv"):  # Linux
    _libc.process_vm_readv.restype = ctypes.c_ssize_t


@dataclass(frozen=True, slots=True)
class Part:
    """Some of a snapshot's memory.

    Parameters
    ----------
    digest : str
        The name that it has until it is read.
    size, address : int
        Where it begins, in bytes.
    file : str
        To which the snapshot writes it (`FrameStore.begin`), with its word after it; empty: it
        has to be read from there.
    descriptor : int
        By which it does; negative: not known.
    """

    digest: str
    size: int
    address: int
    file: str = ""
    descriptor: int = -1


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
            self._look_for(snapshot.parts)
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
        here = _Range(ctypes.addressof(ctypes.c_char.from_buffer(room)), room.nbytes)
        there = _Range(address, room.nbytes)
        done = _libc.process_vm_readv(self._pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
        if done != room.nbytes:
            raise self._unreadable(ctypes.get_errno() if done < 0 else errno.EFAULT)

    def written(self, part: Part) -> int | None:
        """Answer how many bytes of a part are in its file, the first ones.

        Returns
        -------
        int or None
            None: it writes no more, since it has written all that it could, or has ended.
        """
        process = Path(f"/proc/{self._pid}")
        position = 0
        with suppress(OSError, ValueError, IndexError):
            # Each write moves it when all of that has been written.
            position = int((process / f"fdinfo/{part.descriptor}").read_text().split()[1])
        ended = select.poll()
        ended.register(self._process, select.POLLIN)
        if ended.poll(0):
            return None
        with suppress(OSError):
            if (process / "comm").read_bytes().strip() == WRITTEN:
                return None
        return min(position, part.size)

    def _look_for(self, parts: Iterable[Part]) -> None:
        """Find out whether it has all parts: some memory is not copied to other processes."""
        limits = []
        for line in Path(f"/proc/{self._pid}/maps").read_text(errors="replace").splitlines():
            low, _, high = line.partition(" ")[0].partition("-")
            limits.append((int(low, 16), int(high, 16)))
        for part in parts:
            known = part.address
            for begin, end in limits:  # in order
                if begin <= known < end:
                    known = end
            if known < part.address + part.size:
                raise self._unreadable(errno.EFAULT)

    def _unreadable(self, number: int) -> OSError:
        return OSError(number, f"process {self._pid} cannot be read: {os.strerror(number)}")

    def end(self) -> None:
        """End the snapshot, and `close`."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._process, signal.SIGKILL)
        self.close()

    def close(self) -> None:
        """Let go of the snapshot; once."""
        os.close(self._process)
