"""The quick start notebook runs from top to bottom, and shows what its saved copy shows."""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from leftovers import MARK, marked_processes

NOTEBOOK = Path(__file__).parents[2] / "examples" / "quickstart.ipynb"
SWEEP = NOTEBOOK.with_name("sweep.ipynb")

# What differs from run to run: a job's progress, times, addresses, processes.
VARIES = re.compile(r"^.*\b(?:pending|running|finished)\b.*$|\d[\d.,:]*( s| min)?", re.MULTILINE)


def essence(output: Any) -> dict[str, Any]:
    """An output without what differs from run to run; a picture is its kind."""
    if output["output_type"] == "stream":
        return {"stream": output["name"], "text": VARIES.sub("*", output["text"])}
    data = output["data"]
    return {"text": VARIES.sub("*", data.get("text/plain", "")), "kinds": sorted(data)}


def merged(outputs: list[Any]) -> list[dict[str, Any]]:
    """Outputs in essence, neighbouring pieces of one stream put together."""
    result: list[dict[str, Any]] = []
    for output in map(essence, outputs):
        if result and "stream" in output and result[-1].get("stream") == output["stream"]:
            result[-1]["text"] += output["text"]
        else:
            result.append(output)
    return result


def execute(folder: Path, path: Path = NOTEBOOK) -> Any:
    """Answer a notebook, executed as ``jupyter execute`` does."""
    notebook: Any = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = NotebookClient(
        notebook, timeout=200, kernel_name="python3", resources={"metadata": {"path": folder}}
    )
    client.execute(env={**os.environ, "JPY_SESSION_NAME": str(folder / path.name)})
    return notebook


def find(notebook: Any, first_line: str) -> Any:
    """The code cell that begins with a line."""
    cells = [c for c in notebook.cells if c.source.splitlines()[0] == first_line]
    assert len(cells) == 1, f"{len(cells)} cells begin with {first_line!r}"
    return cells[0]


@pytest.mark.timeout(300)
def test_quickstart(tmp_path: Path) -> None:
    """It shows what the cells put out plainly and what its saved copy shows; no server is left."""
    executed = execute(tmp_path)
    assert marked_processes(os.environ[MARK]) == []
    gathered = find(executed, "%async_gather train").outputs
    kinds = [o.output_type for o in gathered]
    assert kinds == ["stream"] * (len(kinds) - 2) + ["execute_result", "display_data"]
    printed = "".join(o.text for o in gathered if o.output_type == "stream")
    assert printed == (
        "Fitting 5 folds for each of 16 candidates, totalling 80 fits\nbest score: 0.9750\n"
    )
    assert gathered[-2].data["text/plain"] == "{'C': 10, 'gamma': 0.0005}"
    picture = base64.b64decode(gathered[-1].data["image/png"])
    assert picture.startswith(b"\x89PNG")
    counted = find(executed, "round(spread, 4)").outputs
    assert "0.0" in counted[0].data["text/plain"]

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
