"""The quick start in JupyterLab, as a person sees it: a real browser on a real page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from lab import LabNotebook, browser_page, lab_server
from observer import stop_server
from waiting import wait_for

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

NOTEBOOK = Path(__file__).parents[2] / "examples" / "quickstart.ipynb"


@pytest.fixture
def notebook(folders: Any, tmp_path: Path) -> Iterator[LabNotebook]:
    """The quick start, open, without outputs."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    shutil.copy(NOTEBOOK, folder)
    content: Any = nbformat.read(NOTEBOOK, as_version=4)
    for cell in content.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(content, folder / NOTEBOOK.name)
    with lab_server(folder, folders.environment()) as address, browser_page() as page:
        try:
            yield LabNotebook(page, address, NOTEBOOK.name).open()
        finally:
            stop_server()


def place(first_line: str) -> int:
    """Number of the cell that begins with a line."""
    content: Any = nbformat.read(NOTEBOOK, as_version=4)
    lines = [cell.source.splitlines()[0] for cell in content.cells]
    return lines.index(first_line)


@pytest.mark.survives("page reloaded, kernel restarted")
def test_quickstart_with_reload_and_restart(notebook: LabNotebook, tmp_path: Path) -> None:
    """Submit, reload the page, restart the kernel, gather: output and variables are there."""
    for first_line in (
        "%load_ext dask_async_run",
        "%async_run_server --workers 2",
        "import matplotlib.pyplot as plt",
        "%%async_run --name train",
    ):
        notebook.run(place(first_line))
        notebook.finish(place(first_line))
    submitted = place("%%async_run --name train")
    wait_for(lambda: "train" in notebook.output(submitted), what="the job is shown")
    notebook.save(tmp_path / "notebooks")
    notebook.reload()
    wait_for(
        lambda: "train" in notebook.output(submitted),
        what="the job is shown after a reload",
    )

    notebook.restart()
    for first_line in ("%load_ext dask_async_run", "%async_run_server --workers 2"):
        notebook.run(place(first_line))
        notebook.finish(place(first_line))
    again = (place("%load_ext dask_async_run"), place("%async_run_server --workers 2"))
    wait_for(lambda: "train" in "".join(map(notebook.output, again)), what="the job is listed")
    gather = place("%async_gather train")
    notebook.run(gather)
    notebook.finish(gather)
    for part in ("best score: 0.9750", "{'C': 10, 'gamma': 0.0005}"):
        wait_for(lambda part=part: part in notebook.output(gather), what=part)  # type: ignore[misc]
    figure = notebook.cell(gather).locator(".jp-OutputArea img")
    figure.wait_for()
    assert figure.evaluate("image => image.naturalWidth") > 100
    notebook.page.screenshot(path=tmp_path / "gathered.png")
    saved = notebook.save(tmp_path / "notebooks")
    kinds = [output.output_type for output in saved.cells[gather].outputs]
    assert kinds[-2:] == ["execute_result", "display_data"]
    notebook.run(place("%async_stop_server"))
    notebook.finish(place("%async_stop_server"))
