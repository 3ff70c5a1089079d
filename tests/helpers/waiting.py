"""Waiting for a condition with a deadline: what tests use instead of sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(condition: Callable[[], T | None], timeout: float = 60, what: str = "") -> T:
    """Call `condition` until what it returns is true, and return that.

    Raises
    ------
    TimeoutError
        It was not true within `timeout` seconds; the text names `what` and the
        last value.
    """
    deadline = time.monotonic() + timeout
    pause = 0.005
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            name = what or getattr(condition, "__name__", "the condition")
            raise TimeoutError(f"not within {timeout} s: {name} (last value: {value!r})")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)
