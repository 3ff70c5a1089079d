"""A disk that is really full: nothing half-written is read, and nothing that was said is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from elsewhere import namespace

PROGRAM = Path(__file__).parent.parent / "helpers" / "full_disk.py"
MOUNT = 'mount -t tmpfs -o size=24m,mode=0700 none "$0/state" && exec "$@"'


@pytest.mark.timeout(300)
def test_a_full_disk(folders: Any, tmp_path: Path) -> None:
    """While a cell runs, when it ends, at submission, and when a server starts."""
    run(tmp_path)


@pytest.mark.usefixtures("shared_memory")
@pytest.mark.timeout(300)
def test_a_full_disk_and_memory(folders: Any, tmp_path: Path) -> None:
    """A large result waits there for room on the disk, and is not called saved meanwhile."""
    run(tmp_path, "memory")


def run(tmp_path: Path, *arguments: str) -> None:
    (tmp_path / "state").mkdir()
    inside = ["sh", "-c", MOUNT, str(tmp_path), sys.executable, str(PROGRAM), str(tmp_path)]
    inside += arguments
    done = subprocess.run([*namespace(), *inside], capture_output=True, text=True, timeout=230)
    assert done.returncode == 0, done.stdout + done.stderr
