"""Modules are changed as soon as they are imported, before anybody sees them."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

Change = Callable[[types.ModuleType], None]


class AfterImport(MetaPathFinder):
    """Has modules changed as soon as they are imported, before anybody sees them.

    Parameters
    ----------
    changes : mapping of str to callable
        Module to what gets it.
    """

    def __init__(self, changes: Mapping[str, Change]) -> None:
        self._changes = changes

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        change = self._changes.get(name)
        spec = PathFinder.find_spec(name, path, target) if change is not None else None
        if spec is None or spec.loader is None or change is None:
            return None
        loader: Any = spec.loader
        execute = loader.exec_module

        def execute_and_change(module: types.ModuleType) -> None:
            execute(module)
            change(module)

        loader.exec_module = execute_and_change
        return spec
