"""What a saver is: one piece of surroundings, read and written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Shell = Any
"""An IPython ``InteractiveShell``, or None."""


@dataclass(frozen=True, slots=True)
class Saver:
    """Reads and writes one piece of surroundings.

    Parameters
    ----------
    name : str
    early : bool
        Must be in place before values are loaded (paths).
    read : callable(shell) -> object or None
        Plain values that compare with ``==``; None: nothing to save here.
    write : callable(value, shell)
    module : str
        Library that it is about, if any.
    state : callable(shell) -> object, or None
        What is compared before and after a cell; None: what `read` answers.
    difference : callable(before, now) -> object, or None
        What to bring back of a change; None: all of it.
    merge : callable(difference, shell), or None
        Brings a difference back; None: `write`.
    piecemeal : bool
        `write` adds to what is there, piece by piece.
    """

    name: str
    early: bool
    read: Callable[[Shell], Any]
    write: Callable[[Any, Shell], None]
    module: str = ""
    state: Callable[[Shell], Any] | None = None
    difference: Callable[[Any, Any], Any] | None = None
    merge: Callable[[Any, Shell], None] | None = None
    piecemeal: bool = False
