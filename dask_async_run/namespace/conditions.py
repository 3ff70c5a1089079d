"""Under which conditions Python pickles and loads: how deep, how quietly, with garbage or not."""

from __future__ import annotations

import contextvars
import gc
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

T = TypeVar("T")

_DEEP_STACK = 1 << 30
_DEEP_LIMIT = 200_000
_SHALLOW_LIMIT = 5_000
"""Frames that the stack of a thread has place for, the C pickler's among them."""

_here = threading.local()


@contextmanager
def quietly() -> Iterator[None]:
    """Say nothing of Python 3.14, which cannot pickle itertools objects; older ones can."""
    with warnings.catch_warnings():
        text = "Pickle, copy, and deepcopy support will be removed"
        warnings.filterwarnings("ignore", text, DeprecationWarning)
        yield


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep Python from looking for garbage while many objects are made and none is dropped.

    It would go through all of them again and again.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def deeply(function: Callable[[], T]) -> T:
    """Call a function; again with a stack of a gigabyte if it recurses too deeply.

    The C pickler recurses where objects hang on one another, and a linked list of
    400 nodes is deeper than Python's limit of a thousand frames. A notebook that has
    raised the limit has no larger stack by that: here it does not count.
    """
    with suppress(RecursionError), _recursion_limit(min(sys.getrecursionlimit(), _SHALLOW_LIMIT)):
        return function()
    answers: list[Any] = []
    context = contextvars.copy_context()

    def call() -> None:
        _here.deep = True
        try:
            answers.append((True, context.run(function)))
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            answers.append((False, error))

    size = threading.stack_size(_DEEP_STACK)
    try:
        with _recursion_limit(_DEEP_LIMIT):
            thread = threading.Thread(target=call, name="dask_async_run deep pickling")
            thread.start()
            thread.join()
    finally:
        threading.stack_size(size)
    done, answer = answers[0]
    if not done:
        raise answer
    return answer  # type: ignore[no-any-return]


def is_deepest() -> bool:
    """Whether `deeply` has called what runs here with the large stack: there is no larger one."""
    return bool(getattr(_here, "deep", False))


@contextmanager
def _recursion_limit(limit: int) -> Iterator[None]:
    """Have a recursion limit; a `RecursionError` if more frames than that are there already."""
    before = sys.getrecursionlimit()
    if before == limit:
        yield
        return
    sys.setrecursionlimit(limit)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)
