"""Questions to the user (``input()``, debuggers) are an error: nobody is there to answer."""

from __future__ import annotations

import builtins
import getpass
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from IPython.core.error import StdinNotImplementedError

_OURS = str(Path(__file__).parent)


def refuse_questions() -> None:
    """Make whatever waits for an answer raise in this process, for good."""
    builtins.input = refusal("input()", "read the answer from a variable")
    getpass.getpass = refusal("getpass()", "read the answer from a variable")
    sys.breakpointhook = refusal("breakpoint()")


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
