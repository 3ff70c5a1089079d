"""Durations and sizes as people write them on a command's or a magic's line, and read them."""

from __future__ import annotations

import argparse

LISTED = 100
"""How many jobs are listed unless more are asked for."""

_MOST_WORKERS = 1024

_LARGEST = 2**62
"""What a message and the journal can still hold."""


def duration(text: str) -> float:
    """Parse "90", "2h", "30 min" to seconds, for `argparse`."""
    from dask.utils import parse_timedelta  # here: most commands need no Dask

    try:
        seconds = float(parse_timedelta(text, default="seconds"))
    except (ValueError, KeyError, IndexError, OverflowError):
        seconds = -1.0
    if not 0 <= seconds < _LARGEST:
        raise argparse.ArgumentTypeError(f"{_short(text)} is no duration, like 90, 30min or 2h")
    return seconds


NO_LIMIT = float("inf")
"""What "none" is as a limit: none at all, also where there is one by default."""


def time_limit(text: str) -> float:
    """As `duration`, but some time has to pass; "none" is `NO_LIMIT`."""
    if text == "none":
        return NO_LIMIT
    seconds = duration(text)
    if seconds == 0:
        raise argparse.ArgumentTypeError("a time limit cannot be 0: nothing would run")
    return seconds


def size(text: str) -> int:
    """Parse "4GiB" to bytes, for `argparse`."""
    from dask.utils import parse_bytes

    try:
        # A unit alone is one of it to Dask, and nothing at all is one byte.
        nbytes = int(parse_bytes(text)) if text[:1].isdigit() else 0
    except (ValueError, KeyError, OverflowError):
        nbytes = 0
    if not 0 < nbytes < _LARGEST:
        raise argparse.ArgumentTypeError(f"{_short(text)} is no size, like 500MB or 4GiB")
    return nbytes


def size_limit(text: str) -> float:
    """As `size`; "none" is `NO_LIMIT`."""
    return NO_LIMIT if text == "none" else size(text)


def workers(text: str) -> int:
    """Parse how many processes a server is to have, for `argparse`."""
    number = whole(text)
    if not 0 < number <= _MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"a server can have 1 to {_MOST_WORKERS} workers")
    return number


def count(text: str) -> int:
    """Parse a small number that is not negative, for `argparse`."""
    number = whole(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{_short(text)} is no number from 0 on")
    return number


def positive(text: str) -> int:
    """Parse a number from 1 on, for `argparse`."""
    number = whole(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{_short(text)} is no number from 1 on")
    return number


def at_most(text: str) -> int | None:
    """Parse how many there shall be at most, for `argparse`; "all" is None."""
    return None if text == "all" else count(text)


def whole(text: str) -> int:
    """Parse a number that a message can hold, for `argparse`."""
    try:
        number = int(text)
    except ValueError:
        number = _LARGEST
    if not -_LARGEST < number < _LARGEST:
        raise argparse.ArgumentTypeError(f"{_short(text)} is no number, like 1 or 10")
    return number


def age(seconds: float) -> str:
    """Say how long ago, in its largest unit and as one says one's age: "3 min"."""
    seconds = max(0.0, seconds)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
