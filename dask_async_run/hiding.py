"""Hiding: a file beside the notebook that was imported in place of a package of its name."""

from __future__ import annotations

import sys
from pathlib import Path


def hiding(error: ImportError | AttributeError) -> Path | None:
    """Answer the user's file because of which an import failed; None if there is no such file.

    A notebook about Dask has a ``dask.py`` beside it soon. A kernel looks there first, and all
    that its user is told is that "'dask' is not a package".
    """
    if isinstance(error, ImportError):
        there = sys.modules.get((error.name or "").partition(".")[0])
        file = getattr(there, "__file__", error.path)
    else:
        file = getattr(error.obj, "__file__", None)
    if file is None:
        return None
    path = Path(file).absolute()
    beside = path.is_relative_to(Path.cwd())
    # An environment may lie in the notebook's folder.
    installed = {Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parent}
    return path if beside and not any(map(path.is_relative_to, installed)) else None
