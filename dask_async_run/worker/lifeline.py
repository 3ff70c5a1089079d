"""Dask preload of an own server's workers: a worker does not outlive its server.

Dask's workers watch a pipe of their nanny with a thread, which is as late as the
GIL allows. On Linux the kernel itself is asked in addition.
"""

from __future__ import annotations

import os
from typing import Any

from dask_async_run.worker.processes import die_with_parent


def dask_setup(worker: Any) -> None:
    """Called by Dask in the worker process, before the worker connects."""
    # Ctrl-C on the terminal of a server that runs in the foreground is the server's
    # affair: it wants to end cells in order. The session stays the server's, which is
    # how the server tells its own children from what cells leave behind.
    os.setpgid(0, 0)
    die_with_parent(os.getppid())
