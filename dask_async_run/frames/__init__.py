"""Frames: immutable buffers, each a file named by what it holds; see `store`."""

from __future__ import annotations

from dask_async_run.frames.names import (
    Frame,
    content_digest,
    is_unread,
    name_of,
    name_of_file,
    size_of,
    unread_name,
)
from dask_async_run.frames.store import CHECKED, STREAM_LIMIT, FrameStore, payload_of

__all__ = [
    "CHECKED",
    "STREAM_LIMIT",
    "Frame",
    "FrameStore",
    "content_digest",
    "is_unread",
    "name_of",
    "name_of_file",
    "payload_of",
    "size_of",
    "unread_name",
]
