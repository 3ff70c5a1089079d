"""The quick start notebook runs from top to bottom, and shows what its saved copy shows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nbformat
import pytest

from leftovers import MARK, marked_processes
from quickstart import NOTEBOOK, check, execute, find, merged

SWEEP = NOTEBOOK.with_name("sweep.ipynb")


@pytest.mark.timeout(300)
def test_quickstart(tmp_path: Path) -> None:
    """It shows what the cells put out plainly and what its saved copy shows; no server is left."""
    executed = execute(tmp_path)
    assert marked_processes(os.environ[MARK]) == []
    check(executed)
    saved: Any = nbformat.read(NOTEBOOK, as_version=4)
    for before, now in zip(saved.cells, executed.cells, strict=True):
        if before.cell_type == "code":
            assert merged(before.outputs) == merged(now.outputs), before.source


@pytest.mark.timeout(300)
def test_the_example_of_a_sweep(tmp_path: Path) -> None:
    """It runs unattended although members fail, and shows the table that its saved copy shows."""
    executed = execute(tmp_path, SWEEP)
    saved: Any = nbformat.read(SWEEP, as_version=4)
    best = 'svm[svm.state == "finished"].sort_values("score").tail(1)'
    for line in ("%async_gather svm", best):
        now, before = (find(notebook, line).outputs for notebook in (executed, saved))
        assert merged(now) == merged(before)
    assert "linear" in executed.cells[-2].outputs[-1].data["text/plain"]
