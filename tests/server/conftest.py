"""Real servers, which no test leaves behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from dask_async_run.server.control import stop_server

Starter = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def stopping(folders: Any) -> Iterator[None]:
    """Stop the default server, if the test has left one running."""
    yield
    if folders.runtime.exists():
        folders.runtime.chmod(0o700)
        stop_server(force=True)


@pytest.fixture
def python(tmp_path: Path) -> Iterator[Starter]:
    """Run code in Python processes of their own; they are ended with the test."""
    with ExitStack() as stack:

        def start(code: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-c", code, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                **options,
            )
            stack.callback(process.communicate)
            stack.callback(process.kill)
            return process

        yield start
