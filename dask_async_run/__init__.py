"""Run notebook cells on a Dask cluster, as if they had run here.

``%load_ext dask_async_run`` loads the magics; `connect` is the way in for
scripts. Importing this package imports none of its parts: workers import it too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dask_async_run.kernel.api import Session, connect
    from dask_async_run.kernel.handle import Job

__version__ = "0.1.0"
__all__ = ["Job", "Session", "__version__", "connect"]


def load_ipython_extension(shell: Any) -> None:
    """Register the magics with an IPython shell (``%load_ext dask_async_run``)."""
    try:
        from dask_async_run.kernel.extension import load
    except (ImportError, AttributeError) as error:
        from IPython.core.error import UsageError

        from dask_async_run.hiding import hiding

        if (file := hiding(error)) is None:
            raise
        raise UsageError(
            f"dask_async_run cannot be loaded: the file {file} is imported in place of the package "
            f"{file.stem!r} that it needs. Give it another name, and restart the kernel."
        ) from None
    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Undo `load_ipython_extension`; jobs go on."""
    from dask_async_run.kernel.extension import unload

    unload(shell)


def __getattr__(name: str) -> Any:
    if name in ("Session", "connect"):
        from dask_async_run.kernel import api

        return getattr(api, name)
    if name == "Job":
        from dask_async_run.kernel.handle import Job

        return Job
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
