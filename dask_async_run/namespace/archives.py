"""Archives that are read, and compressed files that are closed.

What ``with zipfile.ZipFile(...) as archive`` and ``with gzip.open(...) as file`` leave behind. An
archive that is read goes as the file that it is in; so does one of numpy's, ``np.load("a.npz")``.
"""

from __future__ import annotations

import gzip
import io
import sys
import threading
import zipfile
from collections.abc import Callable
from typing import Any

from dask_async_run.namespace import weak


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


def is_bag(cls: type) -> bool:
    """Whether a class is that of ``archive.f``, which answers ``archive.f.x`` with an array."""
    return cls is getattr(sys.modules.get("numpy.lib._npyio_impl"), "BagObj", None)


def _reduce_bag(bag: Any) -> Any:
    # It has no attribute but the archive's arrays, so the weak reference is got past it.
    proxy = object.__getattribute__(bag, "_obj")
    archive = weak.behind(proxy)
    if archive is None:
        raise TypeError("cannot pickle the arrays of an archive that is gone")
    return type(bag), (archive,)


_REDUCERS: dict[type, Callable[[Any], Any]] = {
    zipfile.ZipFile: _reduce_archive,
    gzip.GzipFile: _reduce_compressed,
}


def reducer(cls: type) -> Callable[[Any], Any] | None:
    """Answer what reduces archives and compressed files, None for other classes."""
    return _reduce_bag if is_bag(cls) else _REDUCERS.get(cls)
