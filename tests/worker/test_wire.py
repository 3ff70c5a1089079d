"""Messages survive the socket in whatever pieces they come, interrupts included."""

from __future__ import annotations

import os
import signal
import socket
import threading
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dask_async_run.worker import wire
from dask_async_run.worker.wire import ACK, CHUNK, MessageReader, MessageWriter, read_ack

BODIES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def _written(messages: list[tuple[str, Any]]) -> bytes:
    ours, theirs = socket.socketpair()
    received: list[bytes] = []
    reading = threading.Thread(target=lambda: received.extend(iter(lambda: ours.recv(65536), b"")))
    reading.start()
    with ours:
        with theirs:
            writer = MessageWriter(theirs.fileno())
            for kind, body in messages:
                writer.send(kind, body)
        reading.join()
    return b"".join(received)


@given(st.lists(st.tuples(st.text(), BODIES), max_size=5), st.integers(1, 50))
def test_what_is_sent_is_what_is_read(messages: list[tuple[str, Any]], size: int) -> None:
    """Law, for any cut of the stream."""
    stream = _written(messages)
    reader = MessageReader()
    read = [
        message
        for start in range(0, len(stream), size)
        for message in reader.feed(stream[start : start + size])
    ]
    assert read == messages


def test_a_large_message_comes_in_chunks() -> None:
    """Several times the size of a chunk, and exactly one."""
    for size in (CHUNK - 20, CHUNK, 5 * CHUNK + 1):
        [(kind, body)] = MessageReader().feed(_written([("output", b"x" * size)]))
        assert (kind, body) == ("output", b"x" * size)


def test_a_message_that_was_cut_short_does_not_spoil_the_next() -> None:
    """Its number tells."""
    long = _written([("a", b"x" * 3 * CHUNK)])
    both = _written([("a", b"x" * 3 * CHUNK), ("b", 1)])
    cut = long[: CHUNK + 9]  # one whole chunk
    assert list(MessageReader().feed(cut + both[len(long) :])) == [("b", 1)]


def test_a_message_between_two_chunks_of_another() -> None:
    """A finalizer that prints while a large display is sent."""
    long = _written([("a", b"x" * 3 * CHUNK)])
    short = _written([("a", b"x" * 3 * CHUNK), ("b", 1)])[len(long) :]
    cut = CHUNK + 9
    read = list(MessageReader().feed(long[:cut] + short + long[cut:]))
    assert read == [("b", 1), ("a", b"x" * 3 * CHUNK)]


def test_an_interrupt_amid_a_message_does_not_break_the_stream() -> None:
    """SIGINT again and again while the socket is full: every whole message arrives."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        _send_under_interrupts(theirs.fileno())
    theirs.close()
    reader = MessageReader()
    numbers: list[int] = []
    while data := ours.recv(100_000):
        numbers += [body[0] for _, body in reader.feed(data)]
        if numbers and numbers[-1] < 190:
            os.kill(pid, signal.SIGINT)
    ours.close()
    assert os.waitpid(pid, 0)[1] == 0
    assert numbers[-1] == 199
    assert numbers == sorted(set(numbers))


def _interrupt_writing(number: int, frame: Any) -> None:
    """Raise where the writer is at work; between two messages there is nothing to break."""
    while frame is not None:
        if frame.f_code.co_filename == wire.__file__:
            raise KeyboardInterrupt
        frame = frame.f_back


def _send_under_interrupts(fd: int) -> None:
    try:
        signal.signal(signal.SIGINT, _interrupt_writing)
        writer = MessageWriter(fd)
        for number in range(199):
            try:
                writer.send("n", [number, b"x" * 300_000])
            except KeyboardInterrupt:
                pass
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        writer.send("n", [199])
        os._exit(0)
    finally:
        os._exit(1)


def test_the_latest_answer_counts() -> None:
    """Earlier ones may have been left unread by an interrupt."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        pending = bytearray()
        ours.send(ACK.pack(1) + ACK.pack(2) + ACK.pack(3)[:1])
        assert read_ack(theirs.fileno(), pending) == 2
        ours.send(ACK.pack(3)[1:])
        assert read_ack(theirs.fileno(), pending) == 3
        ours.close()
        assert read_ack(theirs.fileno(), pending) is None
