"""What is printed while values are loaded: by modules that are imported for them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def unheard() -> Iterator[None]:
    """Leave out what loading values prints: ``helper loaded`` was seen where that was imported.

    Of this thread alone: others go on with what they do. What comes to stderr may be news.
    """
    stream: Any = sys.stdout
    own = getattr(stream, "__dict__", None)
    if own is None:
        yield
        return
    thread: int | None = threading.get_ident()
    through = stream.write
    before = own.get("write")  # IPython's, which keeps a copy for its history

    def write(text: str) -> int:
        return len(text) if threading.get_ident() == thread else int(through(text))

    stream.write = write
    try:
        yield
    finally:
        thread = None  # who has got hold of it meanwhile is heard from now on
        if before is not None:
            stream.write = before
        else:
            del stream.write
