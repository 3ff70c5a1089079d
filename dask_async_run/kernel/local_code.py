"""Local code: modules beside the notebook, on their way to a cluster that does not have them.

What is installed is the cluster's own business, and compared (`preflight`). What lies beside
the notebook, in a folder of ``sys.path``, or in an editable install, is not: a cell there could
not import it, nor load an object of its classes. So with each cell go the files of those
local modules that this process has imported or the cell imports, with what these import in
turn, in their present state. They are one frame, named by what it holds: it is sent when a
file has changed. The worker's side is `dask_async_run.worker.local_code`.

Runs in the kernel, in the thread that submits.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import io
import os
import sys
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from dask_async_run.namespace.modules import is_installed

LARGEST = 64 * 1024 * 1024
"""Bytes of one module's files that go along at most."""

LARGEST_DATA = 1024 * 1024
"""Bytes of a file in a package, other than code, that goes along at most."""

_CODE = (".py", *EXTENSION_SUFFIXES)
_NEVER = {"__main__", "sitecustomize", "usercustomize"}
_NOT_SENT = {"__pycache__", "node_modules"}
_WHEN = (1980, 1, 1, 0, 0, 0)  # of each file: the same files make the same frame


@dataclass(frozen=True)
class LocalModule:
    """A top-level module or package that is not installed.

    Parameters
    ----------
    name : str
    entry : str
        The folder that has it, as an entry of ``sys.path`` would be.
    files : dict of str to Path
        Its files, by their path below `entry`.
    """

    name: str
    entry: str
    files: dict[str, Path]

    @functools.cached_property
    def state(self) -> tuple[tuple[str, str, int, int], ...]:
        """Its files: each one's name, path, time of change and size."""
        stats = ((name, path, path.stat()) for name, path in sorted(self.files.items()))
        return tuple((name, str(path), s.st_mtime_ns, s.st_size) for name, path, s in stats)

    @property
    def nbytes(self) -> int:
        """How much its files hold."""
        return sum(size for *_, size in self.state)


class LocalCode:
    """The local modules of one submission.

    Parameters
    ----------
    imports : iterable of str
        Top-level modules that the cell imports.

    Attributes
    ----------
    modules : list of LocalModule
        That go along, by name.
    too_large : dict of str to int
        Those that do not, since they hold so many bytes.
    """

    def __init__(self, imports: Iterable[str]) -> None:
        found: dict[str, LocalModule] = {}
        seen: set[str] = set()
        pending = [name.partition(".")[0] for name in [*list(sys.modules), *imports]]
        while pending:
            name = pending.pop()
            if name in seen:
                continue
            seen.add(name)
            module = _find(name)
            if module is not None:
                found[name] = module
                pending += _imports_of(module)
        sizes = {name: module.nbytes for name, module in found.items()}
        self.too_large = {name: size for name, size in sizes.items() if size > LARGEST}
        self.modules = [found[name] for name in sorted(found.keys() - self.too_large.keys())]

    @property
    def entries(self) -> list[str]:
        """The folders that have the modules."""
        return sorted({module.entry for module in self.modules})

    def packed(self) -> bytes:
        """Answer the files as a zip file: those of `entries`' folders in folders 0, 1, ..."""
        entries = self.entries
        return _packed(
            tuple(
                (f"{entries.index(module.entry)}/{name}", *stamp)
                for module in self.modules
                for name, *stamp in module.state
            )
        )


@functools.lru_cache(maxsize=1)
def _packed(files: tuple[tuple[str, str, int, int], ...]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, path, *_ in sorted(files):
            info = zipfile.ZipInfo(name, _WHEN)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, Path(path).read_bytes(), compresslevel=1)
    return buffer.getvalue()


def _find(name: str) -> LocalModule | None:
    """Answer a top-level module's files, if it is local."""
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    if name in _NEVER or name in sys.builtin_module_names or name in sys.stdlib_module_names:
        return None
    if module is None:
        with suppress(ImportError, ValueError, AttributeError):
            spec = importlib.util.find_spec(name)
    if spec is None:
        return None
    if spec.submodule_search_locations is not None:
        folders = [Path(place) for place in spec.submodule_search_locations]
        if not folders or any(is_installed(str(folder)) for folder in folders):
            return None
        # A folder without an __init__.py may be one of data, in which there is some code.
        data = LARGEST_DATA if spec.origin else -1
        files = {
            f"{name}/{path.relative_to(folder).as_posix()}": path
            for folder in reversed(folders)  # what is found first is in the first one
            for path in _files_below(folder, data)
        }
        return LocalModule(name, str(folders[0].parent), files) if files else None
    origin = Path(spec.origin) if spec.has_location and spec.origin else None
    if origin is None or is_installed(str(origin)) or not origin.is_file():
        return None
    if not origin.name.endswith(_CODE):
        return None
    return LocalModule(name, str(origin.parent), {origin.name: origin})


def _files_below(folder: Path, data: int) -> Iterator[Path]:
    """Answer the files of a package: its code, and what else has at most `data` bytes."""
    for top, folders, names in os.walk(folder):
        here = Path(top)
        folders[:] = [
            each
            for each in folders
            if each not in _NOT_SENT
            and not each.startswith(".")
            and not (here / each / "pyvenv.cfg").exists()
        ]
        for name in names:
            path = here / name
            if name.startswith(".") or name.endswith((".pyc", ".ipynb")):
                continue
            if not path.is_file() or not os.access(path, os.R_OK):
                continue
            if name.endswith(_CODE) or path.stat().st_size <= data:
                yield path


def _imports_of(module: LocalModule) -> set[str]:
    """Answer the top-level modules that a module's code imports, wherever in it."""
    found: set[str] = set()
    for path in module.files.values():
        if path.suffix == ".py":
            found |= _imports_in(str(path), path.stat().st_mtime_ns)
    return found


@functools.lru_cache(maxsize=2000)
def _imports_in(path: str, changed: int) -> frozenset[str]:
    try:
        tree = ast.parse(Path(path).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return frozenset()  # importing it will say so
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return frozenset(found)
