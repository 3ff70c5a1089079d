"""Which notebook this kernel belongs to: job names belong to notebooks."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dask_async_run.owners import owned, owner_of


def notebook_id(namespace: Mapping[str, Any]) -> str:
    """Answer the name under which this kernel's jobs are kept.

    The notebook's path where the front end tells it (Jupyter Server sets
    ``JPY_SESSION_NAME``, VS Code a variable); else the kernel's own id, which
    stays the same when the kernel is restarted; else the terminal.

    Parameters
    ----------
    namespace : mapping
        The user's namespace.
    """
    session = os.environ.get("JPY_SESSION_NAME")
    if session:
        return _clean(session)
    code = namespace.get("__vsc_ipynb_file__")
    if isinstance(code, str):
        return _clean(code)
    file = _connection_file()
    if file:
        return Path(file).stem
    return f"terminal-{os.getsid(0)}"


def notebook_at(path: Path) -> str:
    """Answer the name under which the jobs of a notebook, or of a script, at this path are kept.

    The path is absolute. The same as `notebook_id` where a Jupyter server tells it.
    """
    return _clean(str(path))


def was_here(other: str, notebook: str) -> bool:
    """Answer whether another notebook was beside this one and is not any more: renamed, perhaps.

    Parameters
    ----------
    other, notebook : str
        As `notebook_id` answers. False where they are no paths of this machine.
    """
    there, here = Path("/", other), Path("/", notebook)
    return (
        there.suffix == ".ipynb"
        and there.parent == here.parent
        and here.exists()
        and not there.exists()
    )


def is_elsewhere(other: str, notebook: str) -> bool:
    """Answer whether another notebook is there, or somebody else's, and may gather its own jobs.

    False for this one, and for what nobody comes back to: a notebook that was renamed or
    removed, a script, a terminal, a kernel without a notebook.

    Parameters
    ----------
    other, notebook : str
        As jobs have it: as `notebook_id` answers, of its owner where there are several.
    """
    owner = owner_of(other)
    if owner_of(notebook) not in ("", owner):  # a server of one's own has one user
        return True
    there = Path("/", other.removeprefix(owned("", owner)))
    return other != notebook and there.suffix == ".ipynb" and there.exists()


def _connection_file() -> str | None:
    if "ipykernel" not in sys.modules:
        return None
    from ipykernel.kernelapp import IPKernelApp

    if not IPKernelApp.initialized():
        return None
    file = IPKernelApp.instance().connection_file
    return file if isinstance(file, str) else None


def _clean(path: str) -> str:
    # Jupyter consoles and some front ends append an id to the path.
    return path.strip().lstrip("/")
