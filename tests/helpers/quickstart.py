"""The quick start notebook, executed."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import nbformat
from nbclient import NotebookClient

from filesockets import AsyncFileKernelManager

NOTEBOOK = Path(__file__).parents[2] / "examples" / "quickstart.ipynb"

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


def execute(
    folder: Path,
    path: Path = NOTEBOOK,
    server: str = "",
    environ: Mapping[str, str] = MappingProxyType({}),
) -> Any:
    """Answer a notebook, executed as ``jupyter execute`` does.

    Parameters
    ----------
    folder : Path
        Where it runs.
    path : Path
    server : str
        What stands in the place of the cell that starts a server; empty: itself.
    environ : dict of str to str
        Of its kernel, besides this process's.
    """
    notebook: Any = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            if server and cell.source.startswith("%async_run_server"):
                cell.source = server
    client = NotebookClient(
        notebook,
        timeout=400,
        kernel_name="python3",
        kernel_manager_class=AsyncFileKernelManager,
        resources={"metadata": {"path": folder}},
    )
    client.execute(env={**os.environ, **environ, "JPY_SESSION_NAME": str(folder / path.name)})
    return notebook


def find(notebook: Any, first_line: str) -> Any:
    """The code cell that begins with a line."""
    cells = [c for c in notebook.cells if c.source.splitlines()[0] == first_line]
    assert len(cells) == 1, f"{len(cells)} cells begin with {first_line!r}"
    return cells[0]


def said(cell: Any) -> str:
    """All that a cell printed: it may have come in pieces."""
    return "".join(o.text for o in cell.outputs if o.output_type == "stream")


def check(executed: Any) -> None:
    """Check what the quick start's cells are to show, wherever they ran."""
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
