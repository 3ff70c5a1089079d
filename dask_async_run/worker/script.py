"""A script in a cell's shell: what ``python script.py`` has, and a notebook's cell has not."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

PATH = "script"
"""In a `JobSpec.shell`: the path of the script that the cell is; missing where it is none."""


class Leave:
    """``exit`` and ``quit``: end the script at once, where a notebook's cell goes on to its end."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"Use {self._name}() to end the script"

    def __call__(self, code: object = None) -> None:
        raise SystemExit(code)


def names(path: str) -> dict[str, Any]:
    """Answer the names that a script finds.

    ``__file__`` is there also if the script itself does not read it: `multiprocessing` imports the
    script by it in the processes that it spawns.
    """
    return {"__file__": path, "exit": Leave("exit"), "quit": Leave("quit")}


def tell(exited: SystemExit) -> None:
    """Say what Python says when a program exits: a text that it was given, or nothing."""
    if sys.stderr is not None and not (exited.code is None or isinstance(exited.code, int)):
        with suppress(OSError, ValueError):  # it has closed its stderr
            print(exited.code, file=sys.stderr)


def went_well(error: BaseException | None) -> bool:
    """Whether a script that ended so has succeeded, as a shell would be told."""
    return isinstance(error, SystemExit) and error.code in (None, 0)


def await_threads(threads: Iterable[threading.Thread]) -> None:
    """Wait for a script's threads for as long as they take: Python does so at its end."""
    for thread in threads:
        while thread.is_alive():
            thread.join(1.0)  # a signal that comes is heeded in between
