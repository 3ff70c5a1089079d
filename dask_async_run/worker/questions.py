"""Questions to the user (``input()``, debuggers) are an error: nobody is there to answer."""

from __future__ import annotations

import builtins
import getpass
import sys
from collections.abc import Callable
from typing import NoReturn

from IPython.core.error import StdinNotImplementedError


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
