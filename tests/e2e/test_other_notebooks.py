"""What one notebook does to the jobs of another says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from realkernel import RealKernel

from .conftest import LOAD, SharedServer

CONNECT = LOAD + "%async_run_server"


@pytest.mark.timeout(180)
def test_a_job_of_another_notebook_is_called_in_full(
    shared_server: SharedServer, tmp_path: Path
) -> None:
    """Its bare name reaches it where it is the only one; which one it was must be seen."""
    with (
        RealKernel(tmp_path, "ours.ipynb", shared_server.env) as ours,
        RealKernel(tmp_path, "theirs.ipynb", shared_server.env) as theirs,
    ):
        for kernel in (ours, theirs):
            kernel.do(CONNECT)
        theirs.do("%async_run --name rare import time; time.sleep(1000)")
        ours.do("%async_run --name own import time; time.sleep(1000)")
        said = ours.do("%async_cancel rare own").stdout
        assert said.startswith("theirs.ipynb/rare: ")
        assert "\nown: " in said
        ours.do("%async_wait rare own")
        assert ours.do("%async_forget rare own").stdout == "Forgotten: theirs.ipynb/rare, own\n"


@pytest.mark.timeout(180)
def test_notebooks_of_one_name_are_told_apart(shared_server: SharedServer, tmp_path: Path) -> None:
    """By as much of their folders as it takes; what a list says can be asked for."""
    folders = [tmp_path / name for name in ("here", "there")]
    for folder in folders:
        folder.mkdir()
        (folder / "alike.ipynb").write_text("{}")
    with (
        RealKernel(folders[0], "alike.ipynb", shared_server.env) as ours,
        RealKernel(folders[1], "alike.ipynb", shared_server.env) as theirs,
    ):
        for number, kernel in enumerate((ours, theirs)):
            kernel.do(CONNECT)
            kernel.do(f"%async_run --name twin twin = {number}")
            kernel.do("%async_run --name other 1")
            kernel.do("%async_wait")
        listed = ours.do("%async_jobs --all twin").text
        assert [line.split()[0] for line in listed.splitlines()[1:]] == [
            "here/alike.ipynb/twin",
            "there/alike.ipynb/twin",
        ]
        assert "more: %async_jobs --all --last all" in ours.do("%async_jobs --all --last 1").text
        told = ours.do("%async_gather there/alike.ipynb/twin").stderr
        assert "twin is a job of there/alike.ipynb: this is a copy" in told
        assert ours.value("twin") == 1
