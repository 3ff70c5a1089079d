"""Durations and sizes as people write them on a command's or a magic's line."""

from __future__ import annotations

import argparse


def duration(text: str) -> float:
    """Parse "90", "2h", "30 min" to seconds, for `argparse`."""
    from dask.utils import parse_timedelta  # here: most commands need no Dask

    try:
        seconds = float(parse_timedelta(text, default="seconds"))
    except (ValueError, KeyError):
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no duration, like 90, 30min or 2h")
    return seconds


def size(text: str) -> int:
    """Parse "4GiB" to bytes, for `argparse`."""
    from dask.utils import parse_bytes

    try:
        return int(parse_bytes(text))
    except (ValueError, KeyError):
        raise argparse.ArgumentTypeError(f"{text!r} is no size, like 500MB or 4GiB") from None
