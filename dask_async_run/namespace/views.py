"""Views of memory in streams: `memoryview` objects, which show what others hold."""

from __future__ import annotations

import ctypes
from typing import Any

from dask_async_run.namespace.kinds import Kind, NotInPlace, Undo


def address(buffer: memoryview) -> int | None:
    """Answer where a writable buffer lies in memory; None for a read-only or empty one."""
    if buffer.readonly or not buffer.nbytes:
        return None
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def is_released(view: memoryview) -> bool:
    """Whether a view shows nothing any more."""
    try:
        view.obj  # noqa: B018 - asks
    except ValueError:
        return True
    return False


def make_released() -> memoryview:
    """Make a view that shows nothing any more."""
    view = memoryview(b"")
    view.release()
    return view


def make_part(data: Any, start: int, size: int, fmt: str, shape: tuple[int, ...]) -> memoryview:
    """Make a view of a part of what an object holds."""
    return _cast(memoryview(data).cast("B")[start : start + size], fmt, shape)


def make_view(data: Any, fmt: str, shape: tuple[int, ...]) -> memoryview:
    """Make a view of all that an object holds."""
    view = memoryview(data)
    return view if view.format == fmt and view.shape == shape else _cast(view.cast("B"), fmt, shape)


def _cast(view: memoryview, fmt: str, shape: tuple[int, ...]) -> memoryview:
    if len(shape) == 1:
        return view.cast(fmt)  # type: ignore[call-overload, no-any-return]
    return view.cast(fmt, shape)  # type: ignore[call-overload, no-any-return]


def reduce_memoryview(view: memoryview) -> Any:
    """Reduce a view together with the object whose memory it shows."""
    if is_released(view):
        return make_released, ()
    whole = memoryview(view.obj)
    if whole.nbytes == view.nbytes and whole.contiguous and whole.readonly == view.readonly:
        return make_view, (view.obj, view.format, view.shape)
    if view.readonly:
        return make_view, (bytes(view), view.format, view.shape)
    if not (view.c_contiguous and whole.c_contiguous):
        raise TypeError("cannot pickle a memoryview that skips some of what it shows")
    start = address(view.cast("B")) if view.nbytes else None
    begin = address(whole.cast("B"))
    if start is None or begin is None:
        return make_view, (bytearray(), view.format, view.shape)
    return make_part, (view.obj, start - begin, view.nbytes, view.format, view.shape)


def _release(view: memoryview, released: bool) -> Undo:
    if is_released(view) and not released:
        raise NotInPlace("it was released here")
    if released:
        view.release()
    return lambda: None


MEMORYVIEW = Kind(
    "memoryview",
    lambda view: () if is_released(view) else (view.obj,),
    is_released,
    lambda view, snapshot: is_released(view) == snapshot,
    lambda view, snapshot: is_released(view),
    _release,
)
