"""The messages between a cell process and its supervisor.

One direction carries messages: msgpack'd ``[kind, body]``, cut into numbered chunks.
The other carries nothing but acknowledgements, 4-byte numbers of ``sync`` messages, and `NEXT`.

Why chunks: the main thread of a cell process can be interrupted by a
`KeyboardInterrupt` between any two bytecodes. A chunk is copied into the
`io.BufferedWriter` in one piece, in C, and what an interrupted flush left there
goes with the next one; so the stream never loses its alignment. What can be cut
short is a message of several chunks; the reader drops it when later ones have come.
Another message may come between two chunks: a finalizer can run, and print, anywhere.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from typing import Any

import msgpack

HEADER = struct.Struct("!IIB")
"""Size of the chunk, number of its message, whether it is the last chunk."""
_NESTED = 16
ACK = struct.Struct("!I")
NEXT = 0xFFFFFFFF
"""In the place of a ``sync``'s number: there is another task for this process."""
CHUNK = 256 * 1024


class MessageWriter:
    """The cell's end. Not thread-safe: `Channel` holds its lock around every call.

    Parameters
    ----------
    fd : int
        A blocking, connected stream socket; stays the caller's.
    """

    def __init__(self, fd: int) -> None:
        self._writer = io.BufferedWriter(
            io.FileIO(fd, "wb", closefd=False), buffer_size=2 * (CHUNK + HEADER.size)
        )
        self._number = 0

    def send(self, kind: str, body: Any) -> None:
        """Send one message; blocks while the socket's buffer is full."""
        packed = msgpack.packb([kind, body], use_bin_type=True)
        self._number = number = (self._number + 1) & 0xFFFFFFFF
        for start in range(0, len(packed), CHUNK):
            part = packed[start : start + CHUNK]
            last = start + CHUNK >= len(packed)
            self._writer.write(HEADER.pack(len(part), number, last) + part)
            self._writer.flush()

    def flush(self) -> None:
        """Send what an interrupt left behind."""
        self._writer.flush()


class MessageReader:
    """The supervisor's end: bytes in, messages out."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._parts: dict[int, list[bytes]] = {}

    def feed(self, data: bytes) -> Iterator[tuple[str, Any]]:
        """Yield ``(kind, body)`` of each message that `data` completes."""
        self._received += data
        while len(self._received) >= HEADER.size:
            size, number, last = HEADER.unpack_from(self._received)
            end = HEADER.size + size
            if len(self._received) < end:
                return
            part = bytes(self._received[HEADER.size : end])
            del self._received[:end]
            self._parts.setdefault(number, []).append(part)
            if last:
                packed = b"".join(self._parts.pop(number))
                # What is older by more than nesting explains was interrupted.
                for stale in [n for n in self._parts if n < number - _NESTED]:
                    del self._parts[stale]
                kind, body = msgpack.unpackb(packed, raw=False, strict_map_key=False)
                yield kind, body


def read_ack(fd: int, pending: bytearray) -> int | None:
    """Wait for acknowledgements; the number of the latest, or None at the end of file.

    Parameters
    ----------
    fd : int
        The cell's end of the socket.
    pending : bytearray
        Bytes of an incomplete number; kept by the caller between calls.
    """
    while True:
        data = os.read(fd, 64 * ACK.size)
        if not data:
            return None
        pending += data
        whole = len(pending) - len(pending) % ACK.size
        if whole:
            (number,) = ACK.unpack_from(pending, whole - ACK.size)
            del pending[:whole]
            return int(number)
