"""Settings: what ``%config AsyncRun`` takes where a magic's line takes a quantity."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from traitlets import TraitError, TraitType


class Quantity(TraitType[Any, Any]):
    """A trait that is written as on a magic's line: "2h", "4GiB", 3; or None.

    Parameters
    ----------
    parse : callable
        As `argparse` wants a type: text to value, `argparse.ArgumentTypeError` if it is none.
    default : object
        Already a value.
    help : str
    shown : bool
        Whether an error repeats the value, which may hold what nobody is to read.
    """

    def __init__(
        self,
        parse: Callable[[str], Any],
        default: Any = None,
        help: str = "",  # noqa: A002  (traitlets' name for it)
        shown: bool = True,
    ) -> None:
        super().__init__(default, allow_none=True, help=help)
        self._parse = parse
        self._shown = shown
        self.tag(config=True)

    def validate(self, obj: Any, value: Any) -> Any:
        """Called by traitlets when the trait is set."""
        try:
            return self._parse(str(value))
        except argparse.ArgumentTypeError as error:
            this = repr(value) if self._shown else "this"
            raise TraitError(f"AsyncRun.{self.name} cannot be {this}: {error}") from None
