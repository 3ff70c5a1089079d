"""What only a notebook can do is an error in a cell's process, and one that says so.

Questions to the user (``input()``, debuggers): nobody is there to answer. Magics of this package:
jobs are submitted and gathered by the notebook whose they are.
"""

from __future__ import annotations

import builtins
import getpass
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from IPython.core.error import StdinNotImplementedError, UsageError
from IPython.core.interactiveshell import InteractiveShell

_OURS = str(Path(__file__).parent)

NOTEBOOKS_MAGICS = (
    "async_run",
    "async_run_server",
    "async_start_server",
    "async_stop_server",
    "async_gather",
    "async_jobs",
    "async_status",
    "async_attach",
    "async_wait",
    "async_cancel",
    "async_rerun",
    "async_forget",
    "async_dashboard",
)
"""Names of the magics that the extension registers in a notebook."""


def refuse_questions() -> None:
    """Make whatever waits for an answer raise in this process, for good."""
    builtins.input = _refused("builtins", "input", "input()", "read the answer from a variable")
    getpass.getpass = _refused("getpass", "getpass", "getpass()", "read the answer from a variable")
    sys.breakpointhook = _refused("sys", "breakpointhook", "breakpoint()")


def _refused(module: str, name: str, *what: str) -> Callable[..., NoReturn]:
    """Return a refusal that goes by a name: ``raw_input = input`` means the notebook's, there."""
    refused = refusal(*what)
    refused.__module__, refused.__name__, refused.__qualname__ = module, name, name
    return refused


def refusal(
    what: str, instead: str = "debug the cell in the notebook itself"
) -> Callable[..., NoReturn]:
    """Return a function that says why `what` cannot be had, and what to do `instead`."""

    def refused(*args: object, **kwargs: object) -> NoReturn:
        raise StdinNotImplementedError(
            f"{what} was called, but nobody is there to answer: a cell that runs with "
            f"%%async_run may run for hours with no notebook open. Instead, {instead}."
        )

    return refused


def refuse_notebooks_magics(shell: InteractiveShell) -> None:
    """Register, under the names of this package's magics, what says where they work."""
    manager: Any = shell.magics_manager
    for name in NOTEBOOKS_MAGICS:

        def refuse(line: str, cell: str | None = None, name: str = name) -> NoReturn:
            raise UsageError(
                f"%{name} works in the notebook, and not in a cell that runs with %%async_run. "
                "Put it into a cell of its own."
            )

        manager.register_function(refuse, "line_cell", name)


def end_where_it_was_asked(error: BaseException | None) -> None:
    """Have the traceback of a refusal end in the code that asked."""
    if not isinstance(error, StdinNotImplementedError):
        return
    last = traceback = error.__traceback__
    while traceback is not None:
        if not traceback.tb_frame.f_code.co_filename.startswith(_OURS):
            last = traceback
        traceback = traceback.tb_next
    if last is not None:
        last.tb_next = None
