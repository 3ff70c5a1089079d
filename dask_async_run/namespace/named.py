"""Libraries' own objects in streams: by name, as classes and functions are.

``from random import randint`` is a method of such an object: a copy of it would not
follow ``random.seed``. What of their state has to travel, surroundings do.
"""

from __future__ import annotations

import decimal
import sys
import types
from typing import Any

from dask_async_run.namespace import modules
from dask_async_run.namespace.kinds import per_class
from dask_async_run.namespace.loops import is_this_loop

_SINGLETONS = (
    ("secrets", "_sysrand"),
    ("dataclasses", "_EMPTY_METADATA"),
)
"""Those that the modules of their classes do not hold."""


def singletons() -> dict[int, tuple[str, str]]:
    """Answer ``id`` of the singletons of the libraries that are imported to their names."""
    found = {}
    for module, name in _SINGLETONS:
        obj = getattr(sys.modules.get(module), name, None)
        if obj is not None:
            found[id(obj)] = module, name
    return found


_SINGLETON_TYPES = frozenset({"random", "builtins"})
"""Modules of the types of `_SINGLETONS`."""


@per_class
def _named(kind: type) -> dict[int, tuple[str, str]]:
    """Answer ``id`` of the instances of a library's class that the library has names for."""
    found: dict[int, tuple[str, str]] = {}
    words = modules.module_name(kind).split(".")
    if words[0] in ("", "builtins", "__main__") or issubclass(kind, (type, types.ModuleType)):
        return found
    # ``from scipy.stats import norm``: as public as can be, whatever the notebook calls it.
    for count in range(1, len(words) + 1):
        module = ".".join(words[:count])
        library = sys.modules.get(module)
        if library is None or modules.is_beside(library):
            break
        for name, value in list(vars(library).items()):
            if type(value) is kind and not name.startswith("__"):
                found.setdefault(id(value), (module, name))
    return found


def library_name(obj: Any) -> tuple[str, str] | None:
    """Answer module and name of a library's own object, None for all others.

    ``from sympy import *`` binds ``QQ``: everybody's is the one of the library, and
    not everything that a library makes for itself can be made again from a pickle.
    """
    place = _named(type(obj)).get(id(obj)) or _singletons_of(type(obj)).get(id(obj))
    if place is None:
        return None
    # Another object may be where one was that the library has replaced.
    return place if getattr(sys.modules.get(place[0]), place[1], None) is obj else None


def _singletons_of(kind: type) -> dict[int, tuple[str, str]]:
    return singletons() if kind.__module__ in _SINGLETON_TYPES else {}


def shells_parts() -> dict[int, tuple[str, ...]]:
    """Answer ``id`` of the IPython shell and its formatters to where they are in it.

    ``ip = get_ipython()`` means the shell of the process that runs the code.
    """
    interactive = sys.modules.get("IPython.core.interactiveshell")
    if interactive is None or not interactive.InteractiveShell.initialized():
        return {}
    shell = interactive.InteractiveShell.instance()
    found: dict[int, tuple[str, ...]] = {id(shell): ()}
    for name in ("display_formatter", "display_pub", "displayhook", "events", "magics_manager"):
        found[id(getattr(shell, name))] = (name,)
    for mime, formatter in shell.display_formatter.formatters.items():
        found[id(formatter)] = ("display_formatter", mime)
    return found


def find_shells_part(*path: str) -> Any:
    """Answer the shell of this process, or a part of it."""
    interactive = modules.find_module("IPython.core.interactiveshell")
    found: Any = interactive.InteractiveShell.instance()
    if path:
        found = getattr(found, path[0])
    return found.formatters[path[1]] if path[1:] else found


def is_current_context(obj: Any) -> bool:
    """Whether an object is what `decimal` calculates by in this thread."""
    return type(obj) is decimal.Context and obj is decimal.getcontext()


def goes_by_name(obj: Any) -> bool:
    """Whether an object means, on every side, the one that is there."""
    if library_name(obj) is not None or is_this_loop(obj) or is_current_context(obj):
        return True
    return "traitlets.config.configurable" in sys.modules and id(obj) in (
        shells_parts() if hasattr(type(obj), "class_traits") else ()
    )


_QUESTIONS = (("builtins", "input"), ("getpass", "getpass"))


def question(method: types.MethodType) -> tuple[str, str] | None:
    """Answer module and name of what asks the user, for which a kernel puts methods of its own.

    ``raw_input = input``, as notebooks have it that once ran with Python 2, is such a method.
    """
    for module, name in _QUESTIONS:
        if getattr(sys.modules.get(module), name, None) == method:
            return module, name
    return None


def find_singleton(module: str, name: str) -> Any:
    return getattr(modules.find_module(module), name)
