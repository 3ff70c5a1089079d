"""Nothing that happens to a kernel or the server loses a job, its output or its result."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from leftovers import MARK, marked_processes
from observer import Observer
from realkernel import RealKernel
from waiting import wait_for

LOAD = "%load_ext dask_async_run\n"
SERVE = LOAD + "%async_run_server --workers 2 --no-dashboard"
OpenKernel = Callable[..., RealKernel]

HELD = """\
%%async_run --name slow
import time
from pathlib import Path
print("begun")
while not Path("go").exists():
    time.sleep(0.02)
y = x + 1
print("done")
y * 2
"""


def server_processes() -> list[psutil.Process]:
    """The processes of this test that are a server's main process."""
    found = []
    for process in marked_processes(os.environ[MARK]):
        try:
            line = process.cmdline()
        except psutil.Error:
            continue
        if "server" in line and any("dask_async_run" in part for part in line):
            found.append(process)
    return found


@pytest.mark.survives("kernel killed while the cell runs")
@pytest.mark.timeout(300)
def test_kernel_killed_while_the_cell_runs(
    open_kernel: OpenKernel, observer: Observer, tmp_path: Path
) -> None:
    """A cell goes on when its kernel is killed; the next kernel gathers all of it."""
    kernel = open_kernel()
    kernel.do(SERVE)
    kernel.do("x = 20")
    kernel.do(HELD)
    observer.wait_for_text("slow", "begun")
    kernel.kill()
    job = observer.job("slow")
    assert job is not None
    assert job.state == "running"
    (tmp_path / "go").touch()
    observer.wait("slow", "finished")

    kernel.restart()
    loaded = kernel.do(SERVE)
    assert "slow" in loaded.text
    assert "finished" in loaded.text
    gathered = kernel.do("%async_gather slow")
    assert gathered.stdout == "begun\ndone\n"
    assert gathered.result == "42"
    assert kernel.value("y") == 21
    assert kernel.value("'x' in globals()") is False


@pytest.mark.timeout(300)
def test_kernel_killed_after_the_cell_finished(
    open_kernel: OpenKernel, observer: Observer, tmp_path: Path
) -> None:
    """What finished under one kernel is there under the next, gathered before or not."""
    (tmp_path / "go").touch()
    kernel = open_kernel()
    kernel.do(SERVE)
    kernel.do("x = 20")
    kernel.do(HELD)
    kernel.do("%async_run --name other z = [x] * 3")
    kernel.do("%async_gather slow")
    observer.wait("other", "finished")
    kernel.kill()

    kernel.restart()
    kernel.do(SERVE)
    kernel.do("%async_gather")  # what was not gathered yet
    assert kernel.value("z") == [20, 20, 20]
    again = kernel.do("%async_gather slow")  # what was, by its name
    assert again.stdout == "begun\ndone\n"
    assert kernel.value("y") == 21


@pytest.mark.timeout(300)
def test_two_kernels_gather_from_one_server(open_kernel: OpenKernel, observer: Observer) -> None:
    """Each notebook has its own names; another kernel of the same notebook sees its jobs."""
    first, second = open_kernel("a.ipynb"), open_kernel("b.ipynb")
    first.do(SERVE)
    answer = second.do(SERVE)
    assert "Already running" in answer.text
    first.do("%%async_run --name train\nvalue = 'of a'; print(value)")
    second.do("%%async_run --name train\nvalue = 'of b'; print(value)")
    assert second.do("%async_gather").stdout == "of b\n"
    assert first.do("%async_gather").stdout == "of a\n"
    assert first.value("value") == "of a"
    assert second.value("value") == "of b"

    third = open_kernel("a.ipynb")
    third.do(SERVE)
    assert third.do("%async_gather train").stdout == "of a\n"
    assert third.value("value") == "of a"


@pytest.mark.timeout(300)
def test_a_job_is_gathered_in_another_notebook(
    open_kernel: OpenKernel, observer: Observer, tmp_path: Path
) -> None:
    """By the name that the list shows; its own notebook can gather it all the same."""
    mine, other = open_kernel("a.ipynb"), open_kernel("b.ipynb")
    mine.do(SERVE)
    place = str(mine.do("import os; os.environ['JPY_SESSION_NAME']").result).strip("'")
    Path("/", place).touch()
    mine.do("%%async_run --name train\nvalue = 'of a'; print(value)")
    observer.wait("train")
    other.do(SERVE)
    assert "a.ipynb/train" in other.do("%async_jobs --all").text
    told = other.do("%async_gather a.ipynb/train")
    assert told.stdout == "of a\n"
    assert "train is a job of a.ipynb: this is a copy" in told.stderr
    assert other.value("value") == "of a"
    assert mine.do("%async_gather").stdout == "of a\n"
    assert mine.value("value") == "of a"
    assert "nothing to gather" in mine.do("%async_gather").stdout

    # Nobody comes back to a notebook that is gone: there it is gathered for good.
    mine.do("%%async_run --name last\n1")
    observer.wait("last")
    Path("/", place).unlink()
    other.do("%async_gather a.ipynb/last")
    assert "nothing to gather" in mine.do("%async_gather").stdout


@pytest.mark.timeout(300)
def test_two_kernels_start_the_server_at_once(open_kernel: OpenKernel) -> None:
    """There is one server afterwards, and both use it."""
    kernels = [open_kernel("a.ipynb"), open_kernel("b.ipynb")]
    for kernel in kernels:
        kernel.do(LOAD)
    started = [kernel.submit("%async_run_server --workers 2 --no-dashboard") for kernel in kernels]
    said = [kernel.finish(ran) for kernel, ran in zip(kernels, started, strict=True)]
    assert [ran.error for ran in said] == [None, None]
    assert sum("Already running" in ran.text for ran in said) == 1
    assert len(server_processes()) == 1
    for kernel in kernels:
        kernel.do("%async_run import os; pid = os.getppid()")
        kernel.do("%async_gather")
    parents = {psutil.Process(kernel.value("pid")) for kernel in kernels}
    server = server_processes()[0]
    assert all(server in template.parents() for template in parents)


@pytest.mark.timeout(300)
def test_server_killed_and_started_again(open_kernel: OpenKernel, observer: Observer) -> None:
    """Finished jobs are gatherable after it, running ones say `lost` and keep their output."""
    kernel = open_kernel()
    kernel.do(SERVE)
    kernel.do("x = 1")
    kernel.do("%%async_run --name quick\nprint('kept'); y = x + 1")
    observer.wait("quick", "finished")
    kernel.do(HELD)
    observer.wait_for_text("slow", "begun")
    ours = {kernel.pid}
    server = observer.server_pid()
    assert server is not None
    os.kill(server, signal.SIGKILL)
    wait_for(
        lambda: not [p for p in marked_processes(os.environ[MARK]) if p.pid not in ours],
        30,
        "workers and cells of the killed server are gone",
    )
    unanswered = kernel.run("%async_gather quick")
    assert unanswered.error is not None, unanswered.text
    assert "async_run_server" in unanswered.text
    # Nobody looks for a name in vain: the job that makes it is known here.
    reading = kernel.run("y")
    assert "NameError" in reading.traceback
    assert "y has no value yet here: slow makes it, and there is no connection" in reading.stderr
    assert kernel.do("z = 1").stderr == ""

    kernel.do("%async_run_server --workers 2 --no-dashboard")
    assert kernel.do("%async_gather quick").stdout == "kept\n"
    assert kernel.value("y") == 2
    lost = observer.wait("slow")
    assert (lost.state, "server" in lost.reason) == ("lost", True)
    gathered = kernel.run("%async_gather slow")
    assert "begun" in gathered.stdout
    assert gathered.error is not None
    assert "lost" in gathered.traceback
    # Life goes on.
    kernel.do("%async_run --name next w = y + 1")
    kernel.do("%async_gather next")
    assert kernel.value("w") == 3


@pytest.mark.timeout(300)
def test_stop_refuses_while_jobs_run_and_keeps_what_finished(
    open_kernel: OpenKernel, observer: Observer
) -> None:
    """`%async_stop_server` needs --force then, leaves no process, and loses no result."""
    kernel = open_kernel()
    kernel.do(SERVE)
    kernel.do("x = 1")
    kernel.do("%async_run --name quick y = x + 1")
    observer.wait("quick", "finished")
    kernel.do(HELD)
    observer.wait_for_text("slow", "begun")
    refused = kernel.run("%async_stop_server")
    assert refused.error is not None
    assert "slow" in refused.traceback
    assert "--force" in refused.traceback
    kernel.do("%async_stop_server --force")
    left: list[Any] = [p for p in marked_processes(os.environ[MARK]) if p.pid != kernel.pid]
    assert left == []
    kernel.do("%async_run_server --workers 2 --no-dashboard")
    kernel.do("%async_gather quick")
    assert kernel.value("y") == 2
    assert observer.wait("slow").state in ("cancelled", "lost")


def test_a_magic_without_a_server_says_what_to_run(open_kernel: OpenKernel) -> None:
    """Nothing is started silently."""
    kernel = open_kernel()
    kernel.do(LOAD)
    for code in ("%%async_run\nx = 1", "%async_gather", "%async_jobs"):
        ran = kernel.run(code)
        assert ran.error is not None
        assert "%async_run_server" in ran.traceback
    assert server_processes() == []
