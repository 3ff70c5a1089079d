"""Modules of a cell's process: a cell can take all away, and its result is still made."""

from __future__ import annotations

import sys


class Modules:
    """The modules that are loaded when this is made."""

    def __init__(self) -> None:
        self._table = sys.modules
        self._loaded = dict(sys.modules)

    def put_back(self) -> bool:
        """Have those loaded again that were taken away, and not loaded anew since; whether any was.

        What writes a result refers to objects by the modules that they are of, and imports some
        of what it uses only then: a second ``sys``, or a second numpy, is not the first.
        """
        now, sys.modules = sys.modules, self._table
        missing = self._loaded.keys() - now.keys()
        for name, module in [*now.items(), *self._loaded.items()]:
            self._table.setdefault(name, module)
        return bool(missing)
