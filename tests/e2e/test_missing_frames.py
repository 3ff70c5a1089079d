"""What a cleaner of old files takes is told by name, and the rest still comes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from realkernel import RealKernel
from waiting import wait_for

from .conftest import SharedServer

CELL = "%%async_run --name parts\nbig = data * 3\nsame = data\nsmall = {'k': [5]}"


def frames(server: SharedServer) -> set[Path]:
    """Those that lie on the disk: all, once the job is saved."""
    return set(Path(server.env["DASK_ASYNC_RUN_STATE"], "default", "frames").glob("*-*"))


def shell(server: SharedServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dask_async_run", *arguments]
    env = {**os.environ, **server.env}
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


@pytest.mark.timeout(180)
def test_a_frame_that_is_gone_takes_only_its_value(
    shared_server: SharedServer, shared_kernel: RealKernel
) -> None:
    """Of the result: what lies elsewhere is gathered, here and in a shell; and it runs again."""
    kernel = shared_kernel
    kernel.do("import numpy as np; data = np.arange(300_000.0)")
    kernel.do("%async_run --name warm data[0]")
    kernel.do("%async_gather warm")
    wait_for(lambda: frames(shared_server), what="the input's frame")
    before = frames(shared_server)
    kernel.do(CELL)
    kernel.do("%async_wait parts")
    observer = shared_server.observer
    wait_for(lambda: (job := observer.job("parts")) and job.saved, what="the result on the disk")
    (gone,) = frames(shared_server) - before
    gone.unlink()

    error = kernel.run("%async_gather parts").traceback
    assert error.startswith("MergeError: the result of 'parts' cannot be merged: big cannot be ")
    assert f"frame {gone.name[:12]} is missing from {gone.parent}). %async_rerun parts " in error
    assert "%async_gather parts --only same,small brings what can be loaded." in error
    assert kernel.value("'small' in globals()") is False
    kernel.do("%async_gather parts --only same,small")
    assert kernel.value("(small, same is data)") == ({"k": [5]}, True)
    # What has come is the notebook's own: it is not called an old value.
    assert "old value" not in kernel.do("small, same").text
    told = shell(shared_server, "gather", "parts")
    assert "small = {'k': [5]}" in told.stdout
    assert "parts: big did not come back: it cannot be loaded (frame " in told.stderr
    assert shell(shared_server, "gather", "parts", "--var", "small").stdout == "{'k': [5]}\n"

    kernel.do("%async_rerun parts")
    kernel.do("%async_gather parts --overwrite")
    assert kernel.value("float(big[1])") == 3.0


@pytest.mark.timeout(180)
def test_an_input_that_is_gone_says_what_to_do(
    shared_server: SharedServer, shared_kernel: RealKernel
) -> None:
    """Running the job again is refused by name; submitting its cell sends the value again."""
    kernel = shared_kernel
    kernel.do("import numpy as np; data = np.arange(310_000.0)")
    before = frames(shared_server)
    kernel.do("%async_run --name total total = data.sum()")
    kernel.do("%async_gather total")
    (gone,) = wait_for(lambda: frames(shared_server) - before, what="the input's frame")
    gone.unlink()
    error = kernel.run("%async_rerun total").traceback
    assert error == (
        "JobStateError: job 'total' is not run again: a value that it was sent is gone (frame "
        f"{gone.name[:12]} is missing from {gone.parent}). Submit its cell again."
    )
    refused = shell(shared_server, "rerun", "total")
    assert "job 'total' is not run again: a value that it was sent is gone" in refused.stderr
    kernel.do("del total")
    kernel.do("%async_run --name total total = data.sum()")
    kernel.do("%async_gather total")
    assert kernel.value("float(total)") == 310_000.0 * 309_999.0 / 2
