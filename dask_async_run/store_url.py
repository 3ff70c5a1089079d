"""A store's URL, as people write it on a command's or a magic's line."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

NO_STORE = "none"
"""What says that a job has no store, where there is one by default."""

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.DOTALL)


def store_url(text: str) -> str:
    """Check a store's URL, for `argparse`; a folder's path becomes one.

    Raises
    ------
    argparse.ArgumentTypeError
        It cannot be one. The message does not repeat it: it may hold a password.
    """
    if text == NO_STORE:
        return text
    match = _URL.fullmatch(text)
    if match is None:
        if "://" in text or "::" in text or not text:
            raise argparse.ArgumentTypeError(
                "that is no URL, like s3://bucket/runs or /shared/runs"
            )
        return f"file://{Path(text).expanduser().absolute()}"
    protocol, rest = match.groups()
    if ":" in rest.partition("/")[0].rpartition("@")[0] or "?" in rest or "#" in rest:
        raise argparse.ArgumentTypeError(
            "a store's URL is recorded and shown, and this one holds more than a place: leave out "
            "what is before the @ or behind a ? or #. Credentials are found where the scheduler "
            "runs: in its environment (AWS_ACCESS_KEY_ID, FSSPEC_S3_KEY, ...), in ~/.aws or in "
            "~/.config/fsspec"
        )
    if protocol == "memory":
        raise argparse.ArgumentTypeError("memory:// keeps nothing: it ends with its process")
    if not rest.strip("/") or (protocol == "file" and not rest.startswith("/")):
        raise argparse.ArgumentTypeError(
            f"{protocol}:// needs a place, like {protocol}://bucket/runs"
        )
    return text.rstrip("/")
