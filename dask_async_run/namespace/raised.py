"""What objects raise when they are pickled or made again, and is no `Exception`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any, TypeVar

import cloudpickle

F = TypeVar("F", bound=Callable[..., Any])

GIVEN_UP = "its pickling took until the job was cancelled"

_UNINTERRUPTED = ContextVar("uninterrupted", default=False)
_OURS = str(Path(__file__).parents[1]), str(Path(cloudpickle.__file__).parent)
_ASKING: set[CodeType] = set()
given_up: dict[int, Any] = {}
"""By their ``id``: objects that are not asked again how they are pickled."""


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Say that no signal raises ``KeyboardInterrupt`` in the block: who does is an object."""
    token = _UNINTERRUPTED.set(True)
    try:
        yield
    finally:
        _UNINTERRUPTED.reset(token)


class as_exceptions:  # noqa: N801 - used as contextlib's functions are, without their frames
    """Context manager: what a user's object raises in it is an `Exception`.

    ``SystemExit``, pytest's ``Failed`` and the ``PanicException`` of libraries in Rust are none,
    and would end who asks what is wrong with an object: a process that holds a cell's result. An
    interrupt stays what it is, where there can be one (see `uninterrupted`).
    """

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None or issubclass(kind, Exception):
            return
        if issubclass(kind, KeyboardInterrupt) and not _UNINTERRUPTED.get():
            return
        try:
            text = str(error)
        except Exception:  # noqa: BLE001 - a user's __str__
            text = ""
        stand_in = type(kind.__name__, (Exception,), {})
        raise stand_in(text).with_traceback(traceback) from None


def asks(function: F) -> F:
    """Say that objects are asked in a function how they are pickled, and may be given up there."""
    _ASKING.add(function.__code__)
    return function


def is_asked(frame: FrameType | None) -> FrameType | None:
    """Answer the frame of the object's own code, or of its library's, that `asks` waits for.

    Parameters
    ----------
    frame : FrameType or None
        Where this thread is.
    """
    asked = None
    while frame is not None and frame.f_code not in _ASKING:
        if not frame.f_code.co_filename.startswith(_OURS):
            asked = frame
        frame = frame.f_back
    return None if frame is None else asked


def give_up(asked: FrameType) -> bool:
    """Have nobody ask the object of such a frame again; whether it is the first time."""
    code = asked.f_code
    obj = asked.f_locals.get(code.co_varnames[0]) if code.co_argcount else asked
    first = id(obj) not in given_up
    given_up[id(obj)] = obj
    return first


def refuse_what_was_given_up(obj: Any) -> None:
    """Raise ``KeyboardInterrupt`` for an object that was given up."""
    if id(obj) in given_up:
        raise KeyboardInterrupt(GIVEN_UP)
