"""What a starting server tells its starter."""

from __future__ import annotations

import os
import time

import pytest

from dask_async_run.server.handshake import Listener, Speaker


def test_messages_arrive_in_order_then_the_end() -> None:
    reading, writing = os.pipe()
    speaker, listener = Speaker(writing), Listener(reading)
    speaker.say(pid=1)
    speaker.say(error="long" * 5000, busy=False)
    soon = time.monotonic() + 5
    assert listener.next(soon) == {"pid": 1}
    assert listener.next(soon) == {"error": "long" * 5000, "busy": False}
    with pytest.raises(TimeoutError):
        listener.next(time.monotonic() + 0.05)
    speaker.close()
    speaker.close()
    assert listener.next(soon) is None
    listener.close()


def test_a_starter_that_is_gone_does_not_matter() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    speaker = Speaker(writing)
    speaker.say(ready=True)
    speaker.close()
    speaker.say(ready=True)
