"""The command beside a test's kernels: on the same server."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any


def command(server: Any, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command; `server` is a `SharedServer`."""
    return subprocess.run(
        [sys.executable, "-m", "dask_async_run", *words],
        capture_output=True,
        text=True,
        env={**os.environ, **server.env},
    )
