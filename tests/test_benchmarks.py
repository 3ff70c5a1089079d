"""The benchmark's command works; what it finds is judged by people, side by side."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def quickly(script: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a benchmark with few of everything."""
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), "--quick", *options],
        capture_output=True,
        text=True,
        timeout=400,
        cwd=folder,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.timeout(450)
def test_quick(tmp_path: Path) -> None:
    """Each case has a number of ours, and one of a peer unless it has none."""
    made = tmp_path / "made.json"
    done = quickly("run.py", tmp_path, "--json", str(made))
    measured = json.loads(made.read_text())
    found = measured["found"]
    assert len(found) >= 9
    for case, peers in found.items():
        assert peers["dask_async_run"][0] > 0
        assert f"| {case} |" in done.stdout
    assert {"dask", "dask, direct"} <= found["a large array: there, used, and back"].keys()
    elsewhere = measured["elsewhere"]
    assert elsewhere.keys() in ({"dask_async_run", "dask, direct", "dask"}, set())
    for way in elsewhere.values():
        assert all(len(values) == 1 for values in way.values())
    assert done.stdout.count("without a shared folder") == bool(elsewhere)
    totals = measured["totals"]
    assert totals["seen"] == 0
    assert totals["members"] > 0
    # Of so small an array they are noise.
    assert {"input", "scheduler", "peak"} <= totals.keys()
    assert done.stdout.count("not measured") < 8


def test_goals() -> None:
    """Each is compared with what was measured, and says by how much it is missed."""
    done = subprocess.run(
        [sys.executable, "-c", JUDGED], capture_output=True, text=True, check=True, cwd=BENCHMARKS
    )
    rows = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert rows == {
        "small cell submitted / Dask's submit and publish": "≤ 0.5 0.25 met",
        "small cell, there and back / Dask's": "≤ 1.5 3.00 missed 2.0 times",
        "the same again, times as fast as Dask": "≥ 20 10.00 missed 2.0 times",
        "cells that saw a change made after they were submitted": "≤ 0 0.00 met",
        "10,000 jobs in the journal / 10": "≤ 1.2  not measured",
    }


JUDGED = """
from goals import AGAIN, BACK, GOALS, SUBMIT, Measured
found = {
    SUBMIT: {"dask_async_run": [9, 1, 0], "dask, published": [4]},
    BACK: {"dask_async_run": [3.0], "dask": [1.0]},
    AGAIN: {"dask_async_run": [1.0], "dask": [10.0]},
}
rest = {"limits": {}, "jobs": {10: [1.0]}, "elsewhere": {}, "totals": {"seen": 0}}
for goal in GOALS:
    row = goal.row(Measured({"found": found, **rest}, 8))
    if row[3] != "not measured" or "journal" in row[0]:
        print(f"{row[0]}: {' '.join(row[1:])}")
"""


@pytest.mark.timeout(450)
def test_load(tmp_path: Path) -> None:
    """Each state of affairs has a row, and each call a number in it."""
    table = quickly("load.py", tmp_path).stdout.partition("| --- ")[2]
    rows = table.strip().splitlines()[1:]
    assert len(rows) == 6
    assert all(float(cell) > 0 for row in rows for cell in row.split("|")[2:-1])
    assert "8 wait" in rows[4]
