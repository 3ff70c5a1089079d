"""A shell that has behind it what takes a shell long the first time.

The first statement, the first traceback and the first magic each import modules: 15,
140 and 20 ms. The template process runs them once, so that no cell has to. Nor has any to import
what each kernel has, as its settings come along.
"""

from __future__ import annotations

import asyncio  # noqa: F401 - every cell runs in its loop
import atexit
import builtins
import io
import sys
import warnings
from contextlib import suppress
from typing import Any

from dask_async_run.worker.shell import CellShell, make_shell

with suppress(ImportError):  # a Python can be built without
    import sqlite3.dbapi2  # noqa: F401 - a kernel's history is kept by it

_STATEMENTS = ("1 + 1", "%time 1", "import warnings; warnings.warn('a')", "1 / 0", "1 +")


class _Nowhere:
    """Stands for a `Channel`."""

    in_child = False

    def send(self, kind: str, body: Any) -> None:
        pass


def rehearsed_shell() -> CellShell:
    """Return a fresh shell of the usual kind, quick from its first statement on."""
    shell = make_shell()
    shell.attach(_Nowhere())  # type: ignore[arg-type]
    streams = sys.stdout, sys.stderr
    sys.stdout = sys.stderr = io.StringIO()
    try:
        with warnings.catch_warnings():
            untyped: Any = shell
            for statement in _STATEMENTS:
                untyped.run_cell(statement)
    finally:
        sys.stdout, sys.stderr = streams
    discard_shell(shell)
    return make_shell()


def discard_shell(shell: CellShell) -> None:
    """Undo what making a shell does to the process, so that another can be made."""
    shell.restore_environment()
    atexit.unregister(shell.atexit_operations)
    type(shell).clear_instance()
    builtins.__dict__.pop("_", None)
    for name in ("last_type", "last_value", "last_traceback", "last_exc"):
        if hasattr(sys, name):
            delattr(sys, name)
