"""Names of frames: the digest of what one holds, and its size."""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from pickle import PickleBuffer
from typing import TYPE_CHECKING

from dask_async_run.content import digest_of
from dask_async_run.mapping import mapped

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc has it from Python 3.12 on

_UNREAD = "unread"
_NAME = re.compile(rf"({_UNREAD})?[0-9a-f]{{32}}-[0-9]{{1,19}}")


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame's name and its size in bytes."""

    digest: str
    size: int


def named(content: str, size: int) -> Frame:
    """Answer the frame of a content's digest."""
    return Frame(f"{content}-{size}", size)


def name_of(buffer: Buffer) -> Frame:
    """Answer the name that a buffer's bytes have as a frame, and their number."""
    view = PickleBuffer(buffer).raw()
    return named(digest_of(view), view.nbytes)


def name_of_file(path: Path) -> str:
    """Answer the name that a file's content has as a frame.

    Raises
    ------
    OSError
        It cannot be read; links are not followed.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        size = os.fstat(descriptor).st_size
        return named(digest_of(mapped(descriptor, size, "", {}) if size else b""), size).digest
    finally:
        os.close(descriptor)


def is_name(text: str) -> bool:
    """Whether a frame can be called so."""
    return _NAME.fullmatch(text) is not None


def unread_name(size: int) -> str:
    """Answer a name, of its own, for a frame that nobody has read yet."""
    return named(f"{_UNREAD}{secrets.token_hex(16)}", size).digest


def is_unread(digest: str) -> bool:
    """Whether it is the name of a frame that nobody had read: it has another one by now."""
    return digest.startswith(_UNREAD)


def size_of(digest: str) -> int:
    """The size in bytes of the frame of that name."""
    return int(digest.rpartition("-")[2])


def content_digest(digest: str) -> str:
    """The digest of the content alone, of a frame's name."""
    return digest.partition("-")[0]
