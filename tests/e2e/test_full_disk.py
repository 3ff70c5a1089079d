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
    (tmp_path / "state").mkdir()
    inside = ["sh", "-c", MOUNT, str(tmp_path), sys.executable, str(PROGRAM), str(tmp_path)]
    done = subprocess.run([*namespace(), *inside], capture_output=True, text=True, timeout=230)
    assert done.returncode == 0, done.stdout + done.stderr
