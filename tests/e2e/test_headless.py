"""Notebooks and scripts with our magics run where nobody looks: to their end, or to an error."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from filesockets import AsyncFileKernelManager

from .conftest import SharedServer

pytestmark = pytest.mark.timeout(600)

LOAD = "%load_ext dask_async_run\n%async_run_server"
DATA = "data = [3, 1, 2]"
WORK = """\
import sys
import time
import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import HTML, display
print("first", data)
print("aside", file=sys.stderr)
print("second")
display(HTML("<b>bold</b>"))
plt.plot(data)
plt.show()
time.sleep(1.5)  # longer than it takes until a page is told what is being waited for
total = sum(data)
pd.DataFrame({"a": data})"""
FAIL = "so_far = total\nprint('going to fail')\nlabels = {}\nlabels['missing']"
BIN = Path(sys.executable).parent


def notebook(*cells: str) -> Any:
    return nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )


PLAIN = (DATA, f"print('above')\n{WORK}", "total", "print('one more')\n" + FAIL, "print('never')")
OURS = (
    LOAD,
    DATA,
    f"%%async_run --name work\n{WORK}",
    "print('above')\n%async_gather work",
    "total",
    f"%%async_run --name fail\n{FAIL}",
    "print('one more')\n%async_gather fail",
    "print('never')",
)
SAME = {1: 3, 2: 4, 3: 6, 4: 7}
"""Cells of `PLAIN`, and those of `OURS` that put out the same."""

SCRIPT = f"""\
{LOAD}
{DATA}
%async_run --name work total = sum(data); print("in the job", total)
%async_gather work
print("here", total)
%async_run --name fail {{}}["missing"]
%async_gather fail
print("never")
"""


@dataclass(frozen=True)
class Ended:
    """A program that was run, and the folder that it wrote to."""

    folder: Path
    code: int
    out: str
    err: str

    def saved(self, name: str) -> Any:
        return nbformat.read(self.folder / name, as_version=4)


@pytest.fixture(scope="module")
def ended(shared_server: SharedServer) -> Iterator[Mapping[str, Ended]]:
    """What became of each program, each with a notebook of its own."""
    with tempfile.TemporaryDirectory(prefix="dar-headless-", dir="/tmp") as home:
        folder = Path(home)
        commands = {
            "script": ("ipython", "--colors=NoColor", "script.ipy"),
            "line": (
                *("ipython", "--colors=NoColor", "-c"),
                f"{LOAD}\n%async_run --name line --gather print('from', 'there'); x = 7\nprint(x)",
            ),
            "execute": ("jupyter-execute", "--allow-errors", "--inplace", "execute.ipynb"),
            "papermill": ("papermill", "-k", "python3", "papermill.ipynb", "papermill.ipynb"),
            "html": ("jupyter-nbconvert", "--execute", "--to", "html", "html.ipynb"),
        }
        for name in ("execute", "papermill", "html"):
            cells = OURS[:5] if name == "html" else OURS
            nbformat.write(notebook(*cells), folder / f"{name}.ipynb")
        (folder / "script.ipy").write_text(SCRIPT)
        found = {}
        # One after another, and again where somebody else took a port that Jupyter had chosen.
        for name, (program, *arguments) in commands.items():
            for _ in range(3):
                done = subprocess.run(
                    [str(BIN / program), *arguments],
                    env={**os.environ, **shared_server.env, "JPY_SESSION_NAME": name},
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=300,
                )
                if "Address already in use" not in done.stderr:
                    break
            found[name] = Ended(folder, done.returncode, done.stdout, done.stderr)
        yield found


@pytest.fixture(scope="module")
def plain() -> Any:
    """The same cells, run plainly."""
    executed = notebook(*PLAIN)
    with pytest.raises(CellExecutionError):
        NotebookClient(
            executed, kernel_name="python3", kernel_manager_class=AsyncFileKernelManager
        ).execute()
    return executed


def essence(cell: Any) -> list[dict[str, Any]]:
    """A cell's outputs, but for the numbers of cells and lines and the words of magics."""
    found: list[dict[str, Any]] = []
    for output in cell.outputs:
        output = dict(output)
        # Pieces of one stream come as they come, stderr's beside those of stdout.
        if output["output_type"] == "stream":
            same = [o for o in found if o.get("name") == output["name"]]
            if same:
                same[0]["text"] += output["text"]
                continue
        if output["output_type"] == "error":
            output["traceback"] = re.findall(r"KeyError.*", "\n".join(output["traceback"]))
        if output["output_type"] == "execute_result":
            assert output.pop("execution_count") == cell.execution_count
        found.append(output)
    return sorted(found, key=lambda output: output.get("name", ""))


@pytest.mark.parametrize("program", ["execute", "papermill"])
def test_the_saved_notebook_is_a_plain_ones(
    program: str, ended: Mapping[str, Ended], plain: Any
) -> None:
    """Gathered text, HTML, figure, last expression and error, cells numbered in order."""
    saved = ended[program].saved(f"{program}.ipynb")
    cells = [cell for cell in saved.cells if "papermill-error" not in str(cell.metadata)]
    cells = [cell for cell in cells if cell.cell_type == "code"]
    for number, same in SAME.items():
        if number == 4 and program != "papermill":
            continue  # they were told to go on after the error
        assert essence(cells[same]) == essence(plain.cells[number]), cells[same].source
    counts = [cell.execution_count for cell in cells[:7]]
    assert counts == [1, 2, 3, 4, 5, 6, 7]
    # A submission shows its job, once: neither a card that needs a kernel nor a notice.
    (shown,) = cells[2].outputs
    assert sorted(shown.data) == ["text/html", "text/plain"]
    assert "finished" not in str(cells[4].outputs)


def test_html(ended: Mapping[str, Ended]) -> None:
    """What nbconvert writes has what was gathered, and nothing that needs a kernel."""
    done = ended["html"]
    assert done.code == 0, done.err
    page = (done.folder / "html.html").read_text()
    for part in ("first [3, 1, 2]", "aside", "<b>bold</b>", "data:image/png;base64", "<td>3</td>"):
        assert part in page
    assert "widget-view+json" not in page


@pytest.mark.parametrize("program", ["papermill", "script"])
def test_a_failing_cell_fails_the_run(program: str, ended: Mapping[str, Ended]) -> None:
    """With its own exception at its own line; what comes after it is not run."""
    done = ended[program]
    assert done.code != 0
    told = re.sub(r"\x1b\[[0-9;]*m", "", done.out + done.err)
    assert "KeyError: 'missing'" in told
    assert re.search(r"Cell In\[\d+\], line " + ("1" if program == "script" else "5"), told)
    assert "dask_async_run/" not in told
    assert "never" not in done.out


def test_scripts_and_lines(ended: Mapping[str, Ended]) -> None:
    """``ipython script.ipy`` and ``ipython -c`` print what was gathered where it is gathered."""
    assert "in the job 6\nhere 6\n" in ended["script"].out
    assert ended["line"].code == 0, ended["line"].err
    assert ended["line"].out.endswith("from there\n7\n")
    assert ended["line"].err == ""


def test_a_terminal_that_lacks_the_characters(shared_server: SharedServer, tmp_path: Path) -> None:
    """What it cannot show is no reason why a result cannot be gathered, or a job not be listed."""
    env = {
        **os.environ,
        **shared_server.env,
        "JPY_SESSION_NAME": "plain",
        "PYTHONIOENCODING": "ascii",
    }
    line = f"{LOAD}\n%async_run --name w\u00f6rk --gather print('\u65e5'); x = 7\nprint(x)"
    told = []
    for command in (
        [sys.executable, "-m", "IPython", "-c", line],
        [str(BIN / "dask-async-run"), "jobs"],
    ):
        done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        told.append(done.stdout)
    assert told[0].endswith("\\u65e5\n7\n")
    assert "w\\xf6rk" in told[1]


@pytest.mark.parametrize("text", ["x = 1", "import dask\ndask.compute()"])
def test_a_file_of_a_packages_name(tmp_path: Path, text: str) -> None:
    """A kernel imports it in place of the package: the user is told which file that is."""
    (tmp_path / "dask.py").write_text(text)
    command = [
        sys.executable,
        "-m",
        "IPython",
        "--colors=nocolor",
        "-c",
        "%load_ext dask_async_run",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    told = done.stdout + done.stderr
    assert f"the file {tmp_path / 'dask.py'} is imported in place of the package 'dask'" in told
    assert "Traceback" not in told
