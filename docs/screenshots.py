"""Make the README's pictures from a real run of the quick start in JupyterLab.

    python docs/screenshots.py

Submits, reloads the page, restarts the kernel, gathers; a picture is only written
when all of that has worked. Needs the test extra and Chromium.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

import nbformat  # noqa: E402  (the path to the helpers comes first)

from lab import LabNotebook, browser_page, lab_server  # noqa: E402

NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"
STEPS = (
    "%load_ext dask_async_run",
    "%async_run_server --workers 2",
    "import matplotlib.pyplot as plt",
    "%%async_run --name train",
)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="dask-async-run-docs-") as home:
        folder = Path(home, "notebooks")
        folder.mkdir()
        env = {
            "DASK_ASYNC_RUN_RUNTIME": f"{home}/run",
            "IPYTHONDIR": f"{home}/ipython",
        }
        for suffix in ("", "-dark"):
            env["DASK_ASYNC_RUN_STATE"] = f"{home}/state{suffix}"
            lines = _clean_copy(folder / NOTEBOOK.name)
            with (
                lab_server(folder, env) as address,
                browser_page(1000, 1400, dark=bool(suffix)) as page,
            ):
                notebook = LabNotebook(page, address, NOTEBOOK.name).open()
                _story(notebook, folder, lines, suffix)


def _clean_copy(target: Path) -> list[str]:
    """Write the notebook without outputs; return the first line of each cell."""
    shutil.copy(NOTEBOOK, target)
    content: Any = nbformat.read(target, as_version=4)
    for cell in content.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(content, target)
    return [cell.source.splitlines()[0] for cell in content.cells]


def _story(notebook: LabNotebook, folder: Path, lines: list[str], suffix: str) -> None:
    def do(first_line: str) -> int:
        number = lines.index(first_line)
        notebook.run(number)
        notebook.finish(number)
        return number

    def picture(name: str, first: int, last: int) -> None:
        """Write the cells from `first` to `last`."""
        page = notebook.page
        notebook.show(first)
        boxes = [notebook.cell(n).bounding_box() for n in (first, last)]
        clip = {
            "x": boxes[0]["x"],
            "y": boxes[0]["y"],
            "width": boxes[0]["width"],
            # Without the border of the selected cell below.
            "height": boxes[1]["y"] + boxes[1]["height"] - boxes[0]["y"] - 4,
        }
        page.screenshot(path=ROOT / "docs" / f"{name}{suffix}.png", clip=clip)

    for line in STEPS:
        do(line)
    do("(y == 7).sum()")
    jobs = do("%async_jobs")
    picture("submitted", lines.index(STEPS[-1]), jobs)
    notebook.save(folder)
    notebook.reload()
    notebook.restart()
    for line in STEPS[:2]:
        do(line)
    gather = do("%async_gather train")
    picture("gathered", gather, gather)
    do("%async_stop_server")


if __name__ == "__main__":
    main()
