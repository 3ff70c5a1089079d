"""What the `logging` module was told: levels, and the handlers that the notebook gave loggers."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any

from dask_async_run.surroundings.saver import Saver, Shell

_OURS = ("dask_async_run", "distributed", "dask.", "bokeh", "tornado", "asyncio")

Handlers = dict[str, list[logging.Handler]]
"""By the name of the logger."""


def _loggers() -> dict[str, logging.Logger]:
    found = {"": logging.getLogger()}
    named = list(logging.Logger.manager.loggerDict.items())
    return found | {
        name: logger
        for name, logger in named
        if isinstance(logger, logging.Logger) and not name.startswith(_OURS) and name != "dask"
    }


# -- levels ---------------------------------------------------------------------------------------


def _read_levels(shell: Shell) -> Any:
    found = {
        name: (logger.level, logger.propagate, logger.disabled)
        for name, logger in _loggers().items()
    }
    fresh = (logging.NOTSET, True, False)
    kept = {name: value for name, value in found.items() if value != fresh or name == ""}
    return kept, logging.root.manager.disable


def _write_levels(state: Any, shell: Shell) -> None:
    loggers, logging.root.manager.disable = state
    for name, (level, propagate, disabled) in loggers.items():
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.propagate, logger.disabled = propagate, disabled


# -- handlers -------------------------------------------------------------------------------------


def _is_notebooks(handler: logging.Handler) -> bool:
    """Whether a notebook may have made a handler: a library's own each process has of its own."""
    if type(handler) is logging.NullHandler:
        return False
    parts = (handler, *filter(None, (handler.formatter,)), *handler.filters)
    if not all(_module(part).startswith(("logging", "__main__")) for part in parts):
        return False
    return type(handler) is not logging.StreamHandler or _may_travel(handler.stream)


def _module(part: Any) -> str:
    # A function may be a filter.
    return str(getattr(part, "__module__", None) or type(part).__module__)


def _may_travel(stream: Any) -> bool:
    """Whether a stream is no copy of an error stream that a kernel keeps for itself."""
    name = getattr(stream, "name", "")
    return not isinstance(name, int) or stream in (sys.stdout, sys.stderr)


def _handlers(shell: Shell) -> Handlers:
    found = {n: list(filter(_is_notebooks, logger.handlers)) for n, logger in _loggers().items()}
    return {name: handlers for name, handlers in found.items() if handlers}


def _write_handlers(handlers: Handlers, shell: Shell) -> None:
    """Let loggers have these handlers of a notebook, and no others."""
    _merge_handlers((handlers, _without(_handlers(shell), handlers)), shell)


def _without(some: Handlers, others: Handlers) -> Handlers:
    left = {n: [h for h in each if h not in others.get(n, ())] for n, each in some.items()}
    return {name: handlers for name, handlers in left.items() if handlers}


def _merge_handlers(change: tuple[Handlers, Handlers], shell: Shell) -> None:
    added, gone = change
    for name, handlers in gone.items():
        for handler in handlers:
            logging.getLogger(name).removeHandler(handler)
    for name, handlers in added.items():
        for handler in handlers:
            logging.getLogger(name).addHandler(handler)  # one that is there is not there twice


def handlers_in(surroundings: Mapping[str, Any]) -> list[logging.Handler]:
    """Answer the handlers that came with some surroundings."""
    value = surroundings.get(HANDLERS.name, {})
    handlers: Handlers = value if isinstance(value, dict) else value[0]
    return [handler for each in handlers.values() for handler in each]


LEVELS = Saver("logging", False, _read_levels, _write_levels)
"""Written after those of libraries, which may log what is done to them."""
HANDLERS = Saver(
    "log handlers",
    False,
    lambda shell: _handlers(shell) or None,
    _write_handlers,
    state=_handlers,
    difference=lambda before, now: (_without(now, before), _without(before, now)),
    merge=_merge_handlers,
    piecemeal=True,
)
