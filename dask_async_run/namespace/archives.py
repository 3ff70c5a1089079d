"""Archives that are read, and compressed files that are closed.

What ``with zipfile.ZipFile(...) as archive`` and ``with gzip.open(...) as file`` leave behind. An
archive that is read goes as the file that it is in.
"""

from __future__ import annotations

import gzip
import io
import threading
import zipfile
from collections.abc import Callable
from typing import Any


def _reduce_archive(archive: Any) -> Any:
    if archive.fp is not None and (archive.mode != "r" or archive._fileRefCnt > 1):
        raise TypeError("cannot pickle an archive that is written, or a part of it read")
    attributes = {name: value for name, value in vars(archive).items() if name != "_lock"}
    return make_archive, (), attributes, None, None, set_archive


def make_archive() -> zipfile.ZipFile:
    """Make an archive that is still without all that belongs to it."""
    archive = zipfile.ZipFile.__new__(zipfile.ZipFile)
    archive.fp = None  # it asks when it goes
    return archive


def set_archive(archive: Any, attributes: dict[str, Any]) -> None:
    """Give an archive its attributes, and a new lock."""
    vars(archive).update(attributes)
    archive._lock = threading.RLock()


def _reduce_compressed(file: gzip.GzipFile) -> Any:
    if not file.closed:
        raise TypeError("cannot pickle an open compressed file")
    return make_closed_compressed, (file.name, "wb" if file.mode in (2, "wb") else "rb")


def make_closed_compressed(name: str, mode: str) -> gzip.GzipFile:
    """Make a compressed file that is closed."""
    file = gzip.GzipFile(name, mode, fileobj=io.BytesIO())
    file.close()
    return file


_REDUCERS: dict[type, Callable[[Any], Any]] = {
    zipfile.ZipFile: _reduce_archive,
    gzip.GzipFile: _reduce_compressed,
}


def reducer(cls: type) -> Callable[[Any], Any] | None:
    """Answer what reduces archives and compressed files, None for other classes."""
    return _REDUCERS.get(cls)
