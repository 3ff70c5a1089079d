"""Spelling: characters that a terminal's encoding does not have are written as escapes."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_STRICT = ("strict", "surrogateescape")


@contextmanager
def spelt_out() -> Iterator[None]:
    """Let nothing that is written to stdout meanwhile be an error, as on stderr it never is.

    What a job has put out was recorded whole. A terminal in ASCII or Latin-1 must not be why
    its result cannot be gathered. Where the user's own code prints, Python's rule holds.
    """
    stream = sys.stdout
    # The second one is Python's own choice where the locale is C, and no more forgiving here.
    if not isinstance(stream, io.TextIOWrapper) or stream.errors not in _STRICT:
        yield
        return
    before = stream.errors
    stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        stream.reconfigure(errors=before)
