"""Modules beside the notebook: what they hold that a new import would not give.

Such a module keeps state in its variables and in attributes of its classes (a counter, a
registry, a cache), and its own functions change it. So does a module that exists in no file,
of which everything counts.
"""

from __future__ import annotations

import collections
import enum
import sys
import types
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from dask_async_run.namespace.containers import immutable
from dask_async_run.namespace.kinds import Kind, Undo
from dask_async_run.namespace.modules import (
    is_beside,
    is_made_here,
    owner_of,
    set_module_state,
)

_OF_EVERY_MODULE = ("__builtins__", "__loader__", "__spec__", "__name__")
_BY_FILE = (types.ModuleType, types.FunctionType, types.BuiltinFunctionType, type)
"""Types of what a module's file says; other modules are not its own."""
_KEPT_BY_CLASSES: frozenset[type] = frozenset(
    {int, float, complex, bool, str, bytes, type(None), list, dict, set, tuple, frozenset}
    | {collections.deque, collections.defaultdict, collections.Counter, collections.OrderedDict}
)
_MISSING: Any = object()


def keeps_state(module: types.ModuleType) -> bool:
    """Whether a module's values go along with it."""
    if is_made_here(module):
        return True
    return is_beside(module) and sys.modules.get(module.__name__) is module


def own_values(module: types.ModuleType) -> dict[str, Any]:
    """Answer the values of a module that `keeps_state`, by name.

    ``Tool.made`` is an attribute of a class. A bare ``object()`` stays that of the process:
    it is there to be compared with by ``is``, and defaults of functions hold it.
    """
    if is_made_here(module):
        return {k: v for k, v in vars(module).items() if k not in _OF_EVERY_MODULE}
    found: dict[str, Any] = {}
    for name, value in list(vars(module).items()):
        if _is_dunder(name) or type(value) is object:
            continue
        if isinstance(value, type):
            if value.__module__ == module.__name__ and value.__qualname__ == name:
                found |= {f"{name}.{part}": v for part, v in _attributes(value)}
        elif not isinstance(value, _BY_FILE):
            found[name] = value
    return found


def _attributes(cls: type) -> Iterator[tuple[str, Any]]:
    if type(cls).__setattr__ is not type.__setattr__ or issubclass(cls, enum.Enum):
        return
    for name, value in list(vars(cls).items()):
        if not _is_dunder(name) and type(value) in _KEPT_BY_CLASSES:
            yield name, value


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def reachable(found: Iterable[types.ModuleType], words: Collection[str]) -> list[types.ModuleType]:
    """Answer the modules that keep state and that code can reach.

    Parameters
    ----------
    found : iterable of modules
        From these, and from what they have imported.
    words : collection of str
        Every identifier in the code: it may import what is loaded here already.
    """
    pending = [module for module in found if keeps_state(module)]
    for name in _mentioned(words):
        module = sys.modules.get(name)
        if type(module) is types.ModuleType and keeps_state(module):
            pending.append(module)
    seen: dict[str, types.ModuleType] = {}
    while pending:
        module = pending.pop()
        if module.__name__ not in seen:
            seen[module.__name__] = module
            pending.extend(_imported(module))
    return list(seen.values())


def _mentioned(words: Collection[str]) -> Iterator[str]:
    """Yield the names of loaded modules whose parts are all among some words."""
    # Of the thousands that are loaded hardly one is mentioned, and each submission asks.
    loaded = [word for word in words if word in sys.modules]
    yield from loaded
    packages = {word for word in loaded if hasattr(sys.modules.get(word), "__path__")}
    for name in list(sys.modules) if packages else ():
        top, dot, rest = name.partition(".")
        if dot and top in packages and all(part in words for part in rest.split(".")):
            yield name


def _imported(module: types.ModuleType) -> Iterator[types.ModuleType]:
    for value in list(vars(module).values()):
        if isinstance(value, (types.FunctionType, type)):
            value = sys.modules.get(value.__module__) if type(value.__module__) is str else None
        if type(value) is types.ModuleType and value is not module and keeps_state(value):
            yield value


# -- a kind of their own ------------------------------------------------------------------


def _unchanged(module: types.ModuleType, snapshot: Mapping[str, Any]) -> bool:
    return not _changes(module, snapshot)


def _changes(module: types.ModuleType, snapshot: Mapping[str, Any] | None) -> dict[str, Any]:
    now = own_values(module)
    before = snapshot or {}
    changed = {n: v for n, v in now.items() if before.get(n, _MISSING) is not v}
    return changed | {n: _MISSING for n in before if n not in now}


def _state(module: types.ModuleType, snapshot: Mapping[str, Any] | None) -> Any:
    changes = _changes(module, snapshot)
    gone = [name for name, value in changes.items() if value is _MISSING]
    return {n: v for n, v in changes.items() if v is not _MISSING}, gone


def _apply(module: types.ModuleType, state: Any) -> Undo:
    changed, gone = state
    now = own_values(module)
    touched = [*changed, *gone]
    _put(module, changed, gone)
    return lambda: _put(
        module, {n: now[n] for n in touched if n in now}, [n for n in touched if n not in now]
    )


def _put(module: types.ModuleType, values: Mapping[str, Any], gone: Iterable[str]) -> None:
    set_module_state(module, values)
    for path in gone:
        owner, name = owner_of(module, path)
        if owner is not None and name in vars(owner):
            delattr(owner, name)


MODULE = Kind(
    "module",
    lambda m: own_values(m).values(),
    own_values,
    _unchanged,
    _state,
    _apply,
)


def _home(obj: Any) -> tuple[types.ModuleType, ...]:
    module = sys.modules.get(obj.__module__) if type(obj.__module__) is str else None
    return (module,) if type(module) is types.ModuleType and keeps_state(module) else ()


def is_from_beside(obj: Any) -> bool:
    """Whether a function or a class that goes by name is of a module that keeps state."""
    return bool(_home(obj))


PART = immutable("part of a module", _home)
"""Functions and classes of such modules: by name, but they lead to the module's state."""
