"""Surroundings that belong to the process: folder, paths, environment, warnings."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import os
import random
import re
import site
import sys
import sysconfig
import types
import warnings
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dask_async_run.namespace.modules import is_beside
from dask_async_run.surroundings.saver import Saver, Shell

_FIRST_ENVIRONMENT = dict(os.environ)
"""The environment when this package was imported: later differences are the notebook's."""


def working_folder() -> Path | None:
    """Answer this process's working folder; None if that was removed."""
    try:
        return Path.cwd()
    except OSError:
        return None


def _read_folder(shell: Shell) -> str | None:
    folder = working_folder()
    return None if folder is None else str(folder)


def _write_folder(folder: str, shell: Shell) -> None:
    # Another host may not have it; the cell says so itself if it needs it.
    if Path(folder).is_dir():
        os.chdir(folder)


def _read_path(shell: Shell) -> dict[str, Any]:
    users = site.getusersitepackages() if site.ENABLE_USER_SITE else None
    own = _pythons_own(tuple(sys.path), users)
    return {"entries": list(sys.path), "prefix": sys.prefix, "own": list(own)}


@functools.lru_cache(maxsize=2)
def _pythons_own(path: tuple[str, ...], users: str | None) -> tuple[str, ...]:
    """Answer the entries of ``sys.path`` that this Python environment has by itself."""
    paths = sysconfig.get_paths()
    folders = [Path(paths[key]) for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    zipped = {f"python{sys.version_info.major}{sys.version_info.minor}.zip"}
    return tuple(
        entry
        for entry in path
        if Path(entry) in folders
        or Path(entry).parent in folders[:2]  # lib-dynload
        or Path(entry).name in zipped
        or entry == users
    )


def path_entries(path: dict[str, Any] | list[str]) -> list[str]:
    """Answer what of another process's ``sys.path`` (its surroundings ``path``) holds here."""
    if not isinstance(path, dict):
        return list(path)
    # Another environment has its own packages, which do not go with these.
    theirs = path["own"] if path["prefix"] != sys.prefix else []
    return [entry for entry in path["entries"] if entry not in theirs]


def _write_path(state: dict[str, Any] | list[str], shell: Shell) -> None:
    path = path_entries(state)
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


def _read_random(shell: Shell) -> Any:
    version, words, gauss = random.getstate()
    return version, array("Q", words).tobytes(), gauss  # 625 objects less to pickle


def _write_random(state: Any, shell: Shell) -> None:
    version, words, gauss = state
    if isinstance(words, bytes):  # jobs of earlier versions have a tuple
        words = tuple(array("Q", words))
    random.setstate((version, words, gauss))


class _NamedCategory(type):
    """The type of warning categories that stand for those of a module that is not imported.

    ``import urllib3`` adds filters for categories of its own. A cell that does not use it
    should not have to import it; one that imports it later finds its warnings filtered.
    """

    def __subclasscheck__(cls, other: type) -> bool:
        return any(_name(kind) == _name(cls) for kind in other.__mro__)


def _name(category: type) -> tuple[str, str]:
    return category.__module__, category.__qualname__


def _named(category: Any) -> Any:
    """Answer a category's name, if that is enough to find it by; else itself."""
    if not isinstance(category, type):  # several in a tuple
        return category
    module, path = _name(category)
    found = isinstance(category, _NamedCategory) or _find(module, path) is category
    return f"{module}:{path}" if found and module != "__main__" else category


def _find(module: str, path: str) -> Any:
    found: Any = sys.modules.get(module)
    for name in path.split("."):
        found = getattr(found, name, None)
    return found


def _category(named: Any) -> Any:
    if not isinstance(named, str):
        return named
    module, _, path = named.partition(":")
    names = {"__module__": module, "__qualname__": path}
    return _find(module, path) or _NamedCategory(path.rpartition(".")[2], (Warning,), names)


def _text(pattern: Any) -> Any:
    """Answer a compiled pattern as what it was compiled from: that is quickly pickled."""
    return (pattern.pattern, pattern.flags) if isinstance(pattern, re.Pattern) else pattern


def _pattern(text: Any) -> Any:
    return re.compile(*text) if isinstance(text, tuple) else text


def _read_filters(shell: Shell) -> Any:
    return [
        (action, _text(message), _named(category), _text(module), line)
        for action, message, category, module, line in list(warnings.filters)
    ]


def _write_filters(filters: list[Any], shell: Shell) -> None:
    warnings.filters[:] = [  # type: ignore[index]
        (action, _pattern(message), _category(named), _pattern(module), line)
        for action, message, named, module, line in filters
    ]
    warnings._filters_mutated()  # type: ignore[attr-defined]


# -- modules beside the notebook that the cell has loaded anew ----------------------


def _loaded(shell: Shell) -> dict[str, Any]:
    """Answer the specs of the notebook's modules: ``importlib.reload`` makes new ones."""
    if shell is None:
        return {}
    values = list(shell.user_ns.values())
    mine = [v for v in values if issubclass(type(v), types.ModuleType)]
    # With their ids: those of one module are equal.
    return {m.__name__: (id(m.__spec__), m.__spec__) for m in mine if is_beside(m)}


def _reloaded(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [name for name, spec in now.items() if before.get(name, spec)[0] != spec[0]]


def _reload(names: list[str], shell: Shell) -> None:
    # What a module prints when it is loaded is in the cell's output already.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for name in names:
            if name in sys.modules:
                importlib.reload(sys.modules[name])


RELOADED = Saver(
    "reloaded modules",
    False,
    lambda shell: None,
    _reload,
    state=_loaded,
    difference=_reloaded,
    piecemeal=True,
)
"""Brought in before all else: functions and classes go by name, and values are put in after it."""

PROCESS: tuple[Saver, ...] = (
    Saver("folder", True, _read_folder, _write_folder),
    Saver(
        "path",
        True,
        _read_path,
        _write_path,
        state=lambda shell: list(sys.path),
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
    RELOADED,
    Saver("random", False, _read_random, _write_random),
)
WARNINGS = Saver("warnings", False, _read_filters, _write_filters)
"""Written last: importing a library adds filters."""
