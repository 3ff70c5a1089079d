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
