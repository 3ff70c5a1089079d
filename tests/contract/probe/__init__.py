"""What the judge runs inside a kernel: a canonical description of its namespace.

Loaded by path under the name `_contract_probe`, so that neither ``sys.path`` nor
the user's namespace shows that it was there.

A *description* is a flat mapping from path to text. Every object is described
once, at the shortest path that leads to it from a name; wherever else it is met,
its text is ``is <that path>``. Two namespaces are the same if and only if their
descriptions are: same values, and the same objects shared by the same places.
"""

from __future__ import annotations

import gc
import importlib.abc
import importlib.util
import json
import os
import random
import select
import sys
import time
from pathlib import Path
from typing import Any

from . import surroundings
from .walk import Walk

ALWAYS = frozenset(
    "__name__ __doc__ __package__ __loader__ __spec__ __builtin__ __builtins__ __file__ "
    "_ih _oh _dh In Out get_ipython exit quit open _ __ ___ _i _ii _iii __session__ "
    "__warningregistry__ __nonzero__".split()
)
"""What IPython keeps in every namespace."""


def _shell() -> Any:
    from IPython.core.getipython import get_ipython

    return get_ipython()


def _is_ours(name: str) -> bool:
    """Whether IPython made this name: ``_i7``, ``_7``."""
    return name in ALWAYS or name.removeprefix("_i").isdigit() or name.removeprefix("_").isdigit()


def describe(root: str, numbers: dict[int, int]) -> dict[str, str]:
    """Describe the namespace, ``Out``, ``_`` and the surroundings.

    Parameters
    ----------
    root : str
        A folder whose name differs between the two kernels: read as ``ROOT``.
    numbers : dict of int to int
        From this kernel's execution counts to the numbers of the notebook's cells.
    """
    namespace = _shell().user_ns
    walk = Walk(namespace, root)
    for name in sorted(name for name in namespace if not _is_ours(name)):
        walk.add(name, namespace[name])
    for name in ("_", "__", "___"):
        if name in namespace:
            walk.add(name, namespace[name])
    for number, value in namespace.get("Out", {}).items():
        walk.add(f"Out[{numbers.get(number, f'of no cell: {number}')}]", value)
        if namespace.get(f"_{number}") is not value:
            walk.add(f"_{numbers.get(number)}", namespace.get(f"_{number}"))
    walk.run()
    around = surroundings.describe()
    entries = {**walk.entries, **{f"surroundings: {key}": text for key, text in around.items()}}
    return {walk.plain(path): walk.plain(text) for path, text in entries.items()}


SEED = 20160601


class _SeedNumpy(importlib.abc.MetaPathFinder):
    """Seeds ``numpy.random`` when it is imported: not earlier, and not after a cell has done it."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != "numpy.random":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        loader: Any = spec.loader
        execute = loader.exec_module

        def execute_and_seed(module: Any) -> None:
            execute(module)
            module.seed(SEED)

        loader.exec_module = execute_and_seed
        return spec


def _seed() -> None:
    """Make the state of the global generators known."""
    random.seed(SEED)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(SEED)


def begin() -> None:
    """Make the kernel's random state known, and remember what surrounds the notebook."""
    _seed()
    if "numpy" not in sys.modules:
        sys.meta_path.insert(0, _SeedNumpy())
    surroundings.remember()
    surroundings.begin()


def write(target: str, root: str, numbers: dict[int, int]) -> None:
    """Write the description to a file, as JSON; what the last cell wrote is read before."""
    _read_what_was_written()
    Path(target).write_text(json.dumps(describe(root, numbers)))


def _read_what_was_written() -> None:
    """Let ipykernel's threads read what is still in the pipes behind file descriptors 1 and 2."""
    deadline = time.monotonic() + 5
    for stream in (sys.stdout, sys.stderr):
        pipe = getattr(stream, "_fid", None)
        while pipe is not None and select.select([pipe], [], [], 0)[0]:
            if time.monotonic() > deadline:
                return
            time.sleep(0.002)
        stream.flush()


def reset(folder: str) -> None:
    """Make this kernel look new, and go to `folder`: for the next case."""
    gc.freeze()  # resetting collects garbage, of which libraries' modules have much to look at
    _shell().reset(new_session=False)
    _shell().compile.reset_compiler_flags()
    gc.unfreeze()
    surroundings.restore()
    os.makedirs(folder, exist_ok=True)  # noqa: PTH103 - paths of the user's, as text
    os.chdir(folder)
    _seed()
    surroundings.begin()
