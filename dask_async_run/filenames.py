"""Which files a pattern means, on either side."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def matching(folder: Path, pattern: str) -> Iterator[str]:
    """Answer the files that a pattern means, as names in `folder`; of a folder all in it."""
    for path in folder.glob(pattern):
        for file in path.rglob("*") if path.is_dir() else (path,):
            if file.is_file():
                yield str(file.relative_to(folder))
