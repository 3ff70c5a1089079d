"""Surroundings that belong to the process: folder, paths, environment, warnings, logging."""

from __future__ import annotations

import logging
import os
import random
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dask_async_run.surroundings.saver import Saver, Shell

_FIRST_ENVIRONMENT = dict(os.environ)
"""The environment when this package was imported: later differences are the notebook's."""


def _read_folder(shell: Shell) -> str | None:
    try:
        return str(Path.cwd())
    except OSError:  # it was removed
        return None


def _write_folder(folder: str, shell: Shell) -> None:
    # Another host may not have it; the cell says so itself if it needs it.
    if Path(folder).is_dir():
        os.chdir(folder)


def _write_path(path: list[str], shell: Shell) -> None:
    # What this process needs itself stays, at the end.
    sys.path[:] = path + [entry for entry in sys.path if entry not in path]


def _path_difference(before: list[str], now: list[str]) -> dict[str, list[str]]:
    """Answer the entries that are gone, and those that came, at the front and behind."""
    new = [entry for entry in now if entry not in before]
    old_at = next((i for i, entry in enumerate(now) if entry in before), len(now))
    return {
        "gone": [entry for entry in before if entry not in now],
        "front": [entry for entry in now[:old_at] if entry in new],
        "back": [entry for entry in now[old_at:] if entry in new],
    }


def _merge_path(difference: dict[str, list[str]], shell: Shell) -> None:
    kept = [entry for entry in sys.path if entry not in difference["gone"]]
    front = [entry for entry in difference["front"] if entry not in kept]
    back = [entry for entry in difference["back"] if entry not in kept]
    sys.path[:] = [*front, *kept, *back]


def _environment_difference(
    before: Mapping[str, str], now: Mapping[str, str]
) -> dict[str, str | None]:
    changed: dict[str, str | None] = {k: v for k, v in now.items() if before.get(k) != v}
    return changed | {k: None for k in before if k not in now}


def environment_changes(first: Mapping[str, str]) -> dict[str, str | None]:
    """Answer what was set, changed or (None) removed in ``os.environ`` since `first`."""
    changes: dict[str, str | None] = {
        k: v for k, v in os.environ.items() if first.get(k) != v and k not in _NOT_SENT
    }
    changes |= {k: None for k in first if k not in os.environ and k not in _NOT_SENT}
    # ipykernel sets it before this package is imported, and it chooses how figures show.
    changes["MPLBACKEND"] = os.environ.get("MPLBACKEND")
    return changes


_NOT_SENT = {"JPY_PARENT_PID", "PYTHONHASHSEED", "KERNEL_LAUNCH_TIMEOUT", "OLDPWD", "PWD"}


def _write_environment(changes: dict[str, str | None], shell: Shell) -> None:
    for name, value in changes.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _read_filters(shell: Shell) -> Any:
    return list(warnings.filters)


def _write_filters(filters: list[Any], shell: Shell) -> None:
    warnings.filters[:] = filters  # type: ignore[index]
    warnings._filters_mutated()  # type: ignore[attr-defined]


# -- logging: levels, and handlers that write to the standard streams --------------

_OURS = ("dask_async_run", "distributed", "dask.", "bokeh", "tornado", "asyncio")
_HANDLER = tuple[str, int, str | None, str | None]
"""Stream's name, level, format, date format of a `logging.StreamHandler`."""


def _loggers() -> dict[str, logging.Logger]:
    found = {"": logging.getLogger()}
    named = list(logging.Logger.manager.loggerDict.items())
    return found | {
        name: logger
        for name, logger in named
        if isinstance(logger, logging.Logger) and not name.startswith(_OURS) and name != "dask"
    }


def _stream_name(handler: logging.Handler) -> str | None:
    if type(handler) is not logging.StreamHandler:
        return None
    stream = getattr(handler.stream, "name", None)
    for name in ("stdout", "stderr"):
        if handler.stream is getattr(sys, name) or stream == f"<{name}>":
            return name
    return None


def _handlers(logger: logging.Logger) -> list[_HANDLER]:
    found = []
    for handler in logger.handlers:
        name = _stream_name(handler)
        if name is not None:
            form = handler.formatter
            text = form._fmt if form is not None else None
            found.append((name, handler.level, text, form.datefmt if form is not None else None))
    return found


def _read_logging(shell: Shell) -> Any:
    found = {
        name: (logger.level, logger.propagate, logger.disabled, _handlers(logger))
        for name, logger in _loggers().items()
    }
    fresh: Any = (logging.NOTSET, True, False, [])
    kept = {name: value for name, value in found.items() if value != fresh or name == ""}
    return kept, logging.root.manager.disable


def _write_logging(state: Any, shell: Shell) -> None:
    loggers, logging.root.manager.disable = state
    for name, (level, propagate, disabled, handlers) in loggers.items():
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.propagate, logger.disabled = propagate, disabled
        there = _handlers(logger)
        if there == handlers:
            continue
        for handler in [h for h in logger.handlers if _stream_name(h) is not None]:
            logger.removeHandler(handler)
        for stream, handler_level, text, dates in handlers:
            new = logging.StreamHandler(getattr(sys, stream))
            new.setLevel(handler_level)
            if text is not None:
                new.setFormatter(logging.Formatter(text, dates))
            logger.addHandler(new)


PROCESS: tuple[Saver, ...] = (
    Saver("folder", True, _read_folder, _write_folder),
    Saver(
        "path",
        True,
        lambda shell: list(sys.path),
        _write_path,
        difference=_path_difference,
        merge=_merge_path,
    ),
    Saver(
        "environment",
        True,
        lambda shell: environment_changes(_FIRST_ENVIRONMENT),
        _write_environment,
        state=lambda shell: dict(os.environ),
        difference=_environment_difference,
    ),
    Saver(
        "arguments",
        True,
        lambda shell: list(sys.argv),
        lambda arguments, shell: sys.argv.__setitem__(slice(None), arguments),
    ),
    Saver(
        "recursion limit",
        True,
        lambda shell: sys.getrecursionlimit(),
        lambda limit, shell: sys.setrecursionlimit(limit),
    ),
    Saver("logging", False, _read_logging, _write_logging),
    Saver("random", False, lambda shell: random.getstate(), lambda s, shell: random.setstate(s)),
)
WARNINGS = Saver("warnings", False, _read_filters, _write_filters)
"""Written last: importing a library adds filters."""
