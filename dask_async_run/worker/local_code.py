"""The local code of a notebook on another machine, see `dask_async_run.kernel.local_code`.

Runs in the cell process, before anything of the inputs is loaded.
"""

from __future__ import annotations

import filecmp
import importlib
import io
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from dask_async_run.frames import FrameStore
from dask_async_run.job import JobSpec, Message


def enter(specs: Sequence[JobSpec], store: FrameStore, folder: Path) -> None:
    """Have local modules be found, those of the last of some jobs first.

    A folder of the notebook's ``sys.path`` that is seen here, with the same files, is used
    as it is. Else its place is taken by a folder that has the files which came along.

    Parameters
    ----------
    specs : sequence of JobSpec
    store : FrameStore
    folder : Path
        Of all that came along for this worker's cells: one folder for each state of the files.
    """
    for spec in specs:
        if spec.modules:
            _enter(spec.modules, store, folder)


def _enter(modules: Message, store: FrameStore, folder: Path) -> None:
    digest, size = modules["frame"]
    top = folder / digest
    if not top.is_dir():
        _unpack(store.open(digest, size), top)
    for number, entry in enumerate(modules["entries"]):
        came = top / str(number)
        if not _same(came, Path(entry)):
            _put_in_place(entry, str(came), modules["folder"])
    for name in modules["names"]:
        _forget(name, top)
    importlib.invalidate_caches()


def _unpack(content: memoryview, top: Path) -> None:
    """Make a folder of a zip file, at once: other cells may be about to do the same."""
    top.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=top.parent))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.extractall(made)
    try:
        made.rename(top)
    except OSError:  # there it is
        shutil.rmtree(made)


def _same(came: Path, there: Path) -> bool:
    """Whether a folder has all the files that came along, and they hold the same."""
    files = [path for path in came.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    names = [str(path.relative_to(came)) for path in files]
    try:
        same, _, _ = filecmp.cmpfiles(came, there, names, shallow=False)
    except OSError:
        return False
    return len(same) == len(names)


def _put_in_place(entry: str, place: str, folder: str) -> None:
    """Put a folder at the place of another one in ``sys.path``."""
    found = [n for n, each in enumerate(sys.path) if (each or folder) == entry]
    for number in found:
        sys.path[number] = place
    if not found:  # an editable install need not be on the path
        sys.path.insert(0, place)


def _forget(name: str, top: Path) -> None:
    """Unload what this process has by that name from elsewhere: another state of it."""
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is not None and not Path(file).is_relative_to(top):
        for each in list(sys.modules):
            if each == name or each.startswith(f"{name}."):
                del sys.modules[each]
