"""Handlers of the `logging` module: all but their lock, which nobody holds.

One that writes to a standard stream writes to that of the process that it is in.
"""

from __future__ import annotations

import logging
import sys
import types
from collections.abc import Callable
from typing import Any

from dask_async_run.namespace.kinds import per_class

_STREAMS = ("stdout", "stderr")
_HOOKS = ("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__")


@per_class
def reducer(cls: type) -> Callable[[Any], Any] | None:
    """Answer what reduces handlers of a class, None for other classes."""
    if not issubclass(cls, logging.Handler):
        return None
    own = any(getattr(cls, hook, None) is not getattr(object, hook, None) for hook in _HOOKS)
    return None if own else _reduce_handler


def _reduce_handler(handler: logging.Handler) -> Any:
    attributes = {name: value for name, value in vars(handler).items() if name != "lock"}
    return make_handler, (type(handler),), attributes, None, None, set_handler


def make_handler(cls: type[logging.Handler]) -> logging.Handler:
    """Make a handler that is still without all that its class would give it."""
    return cls.__new__(cls)


def set_handler(handler: logging.Handler, attributes: dict[str, Any]) -> None:
    """Give a handler its attributes, and have `logging` know it."""
    vars(handler).update(attributes)
    handler.createLock()
    logging._addHandlerRef(handler)  # type: ignore[attr-defined]
    if name := attributes.get("_name"):
        logging._handlers[name] = handler  # type: ignore[attr-defined]


# -- the streams of a kernel ------------------------------------------------------------------


def teed_stream(function: types.FunctionType) -> str | None:
    """Answer the name in `sys` of the stream whose ``write`` IPython has replaced for a cell.

    By a function that notes what is written, for the history. Who asked for it meanwhile has that.
    """
    if function.__qualname__ != "InteractiveShell._tee.<locals>.write":
        return None
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    return next((cell.cell_contents for name, cell in cells if name == "channel"), None)


def find_method(stream: str, name: str) -> Any:
    """Answer a method of a standard stream here: the stream's own, whoever is listening now."""
    found = getattr(sys, stream)
    method: Any = getattr(type(found), name)
    return method.__get__(found)


def reduce_method(method: Any) -> Any:
    """Reduce a method of a standard stream: it is one of what is in its place elsewhere.

    NotImplemented for others.
    """
    stream = next((name for name in _STREAMS if method.__self__ is getattr(sys, name)), None)
    return NotImplemented if stream is None else (find_method, (stream, method.__name__))


def standard_stream(obj: Any) -> str | None:
    """Answer the name in `sys` of a standard stream that sends what is written to a front end."""
    if type(obj).__module__ != "ipykernel.iostream":
        return None
    return next((name for name in _STREAMS if obj is getattr(sys, name)), None)
