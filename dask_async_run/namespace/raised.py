"""What objects raise when they are pickled or made again, and is no `Exception`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType

_UNINTERRUPTED = ContextVar("uninterrupted", default=False)


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
