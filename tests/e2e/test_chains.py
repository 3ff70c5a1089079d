"""Cells that build on one another, when one of them has come to nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from observer import Observer
from realkernel import RealKernel
from waiting import wait_for

SERVE = "%load_ext dask_async_run\n%async_run_server --workers 2 --no-dashboard"
OpenKernel = Callable[..., RealKernel]


def kill_its_worker(observer: Observer, name: str) -> None:
    def pid() -> int | None:
        job = observer.job(name)
        return job.pid if job is not None and job.state == "running" else None

    template = psutil.Process(wait_for(pid)).parent()
    worker = template.parent() if template is not None else None
    assert worker is not None
    os.kill(worker.pid, signal.SIGKILL)


def queue(kernel: RealKernel) -> None:
    kernel.do("rows = [0]")
    kernel.do(
        "%%async_run --name one\nimport os, time\nn = 5\nrows.append(1)\n"
        "while not os.path.exists('go'):\n    time.sleep(0.05)"
    )
    kernel.do("%%async_run --name two\nm = n + 1\nrows.append(2)")
    kernel.do("%%async_run --name three\nk = m + n\nrows.append(3)\nprint(k, rows)")


def with_a_lost_chain(open_kernel: OpenKernel, observer: Observer, folder: Path) -> RealKernel:
    """Answer a kernel whose three jobs came to nothing, for the first one's worker was killed."""
    kernel = open_kernel()
    kernel.do(SERVE)
    queue(kernel)
    kill_its_worker(observer, "one")
    assert observer.wait("three").state == "cancelled"
    (folder / "go").touch()
    return kernel


@pytest.mark.timeout(300)
def test_a_chain_of_which_the_first_was_lost_is_run_again(
    open_kernel: OpenKernel, observer: Observer, tmp_path: Path
) -> None:
    """Each new run builds on the others, and what comes back are the notebook's own objects."""
    kernel = with_a_lost_chain(open_kernel, observer, tmp_path)
    alone = kernel.run("%async_rerun three").text
    assert "it comes after 'one', which was lost. Run 'one' again first, or both" in alone
    again = kernel.do("%async_rerun three two one")
    shown = [text["text/plain"].partition(":")[0] for text in again.data]
    assert shown == ["Job one", "Job two", "Job three"]  # each as one that is alone
    assert kernel.do("%async_gather one two three").stdout.endswith("11 [0, 1, 2, 3]\n")
    assert kernel.value("(n, m, k, rows)") == (5, 6, 11, [0, 1, 2, 3])


@pytest.mark.timeout(300)
def test_a_chain_is_run_again_link_by_link_after_a_restart(
    open_kernel: OpenKernel, observer: Observer, tmp_path: Path
) -> None:
    """By a kernel that submitted none of it."""
    kernel = with_a_lost_chain(open_kernel, observer, tmp_path)
    kernel.restart()
    kernel.do(SERVE)
    for name in ("one", "two", "three"):
        kernel.do(f"%async_rerun {name}\n%async_wait {name}")
    kernel.do("%async_gather one two three")
    assert kernel.value("(n, m, k)") == (5, 6, 11)
    kernel.do("%async_forget one")
    gone = kernel.run("%async_rerun three").text
    assert "a job that it comes after was forgotten. Submit its cell again." in gone


@pytest.mark.timeout(300)
def test_after_a_restart_what_a_chain_brought_is_the_notebooks_own(
    open_kernel: OpenKernel, observer: Observer
) -> None:
    """Later links change the very objects; what the notebook lets go of is free."""
    kernel = open_kernel()
    kernel.do(SERVE)
    kernel.do(
        "%%async_run --name made\nimport numpy as np\nclass Net: pass\n"
        "net, rows, large = Net(), [Net()], np.ones(1_000_000)"
    )
    kernel.do("%%async_run --name changed\nnet.depth = 3; rows.append(1); large[0] = 5")
    kernel.do("%%async_run --name used\nboth = rows, net, large")
    observer.wait("used")
    kernel.restart()
    kernel.do(SERVE)
    kernel.do("%async_gather made\nsame = rows, net, large")
    kernel.do("%async_gather changed")
    assert kernel.value("(net.depth, len(rows), float(large[0]))") == (3, 2, 5.0)
    kernel.do("%async_gather used")
    assert kernel.value("[a is b for a, b in zip(both, same)]") == [True] * 3
    kernel.do("import gc, weakref\nrefs = [*map(weakref.ref, (net, rows[0], large))]")
    kernel.do("del net, rows, large, both, same\n%async_run --name other 1")
    kernel.do("%async_gather other")
    assert kernel.value("(gc.collect() >= 0, [ref() is None for ref in refs])")[1] == [True] * 3
    assert kernel.run("%async_gather used").status == "ok"
    kernel.do("%async_gather made changed used --overwrite")
    assert kernel.value("(net.depth, len(rows), float(large[0]), both[0] is rows)") == (
        3,
        2,
        5,
        True,
    )
