"""The benchmark's command works; what it finds is judged by people, side by side."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parents[1] / "benchmarks" / "run.py"


@pytest.mark.timeout(240)
def test_quick(tmp_path: Path) -> None:
    """Each case has a number of ours, and one of a peer unless it has none."""
    made = tmp_path / "made.json"
    done = subprocess.run(
        [sys.executable, str(RUN), "--quick", "--json", str(made)],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(made.read_text())["found"]
    assert len(found) >= 9
    for case, peers in found.items():
        assert peers["dask_async_run"][0] > 0
        assert f"| {case} |" in done.stdout
    assert {"dask", "dask, direct"} <= found["a large array: there, used, and back"].keys()
