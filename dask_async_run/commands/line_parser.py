"""The parser of a shell's line: as argparse's, but what is misspelt is told the nearest."""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

_CHOICE = re.compile(r"argument (\S+): invalid choice: (.*?) \((choose from .*)\)", re.DOTALL)
_UNKNOWN = re.compile(r"unrecognized arguments: (.*)", re.DOTALL)


class LineParser(argparse.ArgumentParser):
    """A parser whose commands know their own options, also when one is misspelt."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and `message`, and end the process."""
        super().error(hinted(message, self._option_string_actions))

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """As argparse's, but a command itself says what it does not know.

        Left to the root, that would show the root's usage, where the command's options are not.
        """
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown


def hinted(message: str, options: Collection[str]) -> str:
    """Answer argparse's complaint, with the nearest of what there is.

    Parameters
    ----------
    message : str
        As argparse has it. Another version may say it otherwise: then it stays as it is.
    options : collection of str
        The options that there are: ``--json``.
    """
    if choice := _CHOICE.fullmatch(message):
        argument, given, there = choice.groups()
        given, choices = given.strip("'\""), re.findall(r"[\w-]+", there[len("choose from ") :])
        known = f"There are: {', '.join(choices)}." if len(choices) < 8 else "--help lists them."
        return f"{argument}: there is no {given!r}. {_nearest(given, choices) or known}"
    if unknown := _UNKNOWN.fullmatch(message):
        first = unknown[1].split("=", 1)[0].split(" ", 1)[0]
        hint = _nearest(first, options)
        return f"{message}. {hint}" if hint else message
    return message


def _nearest(given: str, known: Collection[str]) -> str:
    near = get_close_matches(given, known, n=1)
    return f"Did you mean {near[0]!r}?" if near else ""
