"""A submission with large inputs returns before they are copied; from then on nobody is needed."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from typing import Any

import pytest

from dask_async_run.kernel.snapshot import is_possible
from dask_async_run.scheduler.arrivals import NOTES
from observer import Observer
from realkernel import RealKernel
from waiting import wait_for

pytestmark = pytest.mark.skipif(not is_possible(), reason="this system takes no snapshots")

SERVE = "%load_ext dask_async_run\n%async_run_server --workers 1 --no-dashboard"
SUBMIT_AND_DIE = """\
import os, signal
get_ipython().run_cell_magic("async_run", "--name sum", "total = float(x.sum())")
os.kill({server}, signal.SIGSTOP)
x[:] = 0.0
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.survives("kernel and server killed while large inputs are copied")
@pytest.mark.timeout(300)
def test_kernel_and_server_are_killed_while_inputs_are_copied(
    open_kernel: Callable[..., RealKernel], observer: Observer, folders: Any
) -> None:
    """The next server has what it needs from the snapshot: as things were at the submission."""
    kernel = open_kernel()
    kernel.do(SERVE)
    kernel.do("import numpy as np\nx = np.arange(32_000_000.0)\nexpected = x.sum()")
    server = observer.server_pid()
    assert server is not None
    kernel.submit(SUBMIT_AND_DIE.format(server=server))
    wait_for(lambda: not kernel.manager.is_alive(), 60)
    notes = observer.state / observer.server / NOTES
    assert len(list(notes.iterdir())) == 1
    os.kill(server, signal.SIGKILL)

    kernel.restart()
    kernel.do(SERVE)
    assert observer.wait("sum").state == "finished"
    kernel.do("%async_gather sum")
    assert kernel.value("total") == float(sum(range(32_000_000)))
    assert not list(notes.iterdir())
    # Dask has the certificates of a connection in files while it makes it: who was killed just
    # then left them, or the first of them.
    for folder in {path.parent for path in folders.temp.rglob("dask.*")}:
        assert {path.name for path in folder.iterdir()} <= {"dask.crt", "dask.pem"}
        shutil.rmtree(folder)


@pytest.mark.timeout(300)
def test_large_inputs_are_merged_as_any_others(open_kernel: Callable[..., RealKernel]) -> None:
    """What is the same object stays it, what was changed there is, what was changed here is not."""
    kernel = open_kernel()
    kernel.do(SERVE)
    kernel.do("import numpy as np\nx = np.arange(16_000_000.0)\ny = x[::-1].copy()\nhad = x, y")
    kernel.do("%%async_run --name change\nx[5] = -1.0\npair = [x, y]")
    kernel.do("y[0] = 7.0\n%async_gather change")
    assert kernel.value("bool(x is had[0] and pair[0] is x and x[5] == -1.0 and x[6] == 6.0)")
    assert kernel.value("bool(y is had[1] and y[0] == 7.0 and pair[1] is y)")

    kernel.do("%%async_run --name both\nx[1] = 11.0")
    told = kernel.do("x[2] = 22.0\n%async_gather both")
    assert kernel.value("bool(x[1] == 1.0 and x[2] == 22.0)")
    assert "x" in told.stderr


@pytest.mark.timeout(300)
def test_who_asks_for_large_inputs_by_their_content_finds_them(
    open_kernel: Callable[..., RealKernel],
) -> None:
    """A rerun has what they were; provenance and ``--cache`` know what is the same."""
    kernel = open_kernel()
    kernel.do(SERVE)
    kernel.do("import numpy as np\nx = np.arange(16_000_000.0)")
    kernel.do("first = get_ipython().run_cell_magic('async_run', '--name a', 't = x.sum()')")
    kernel.do("x[0] = 1.0\nagain = get_ipython().run_line_magic('async_rerun', 'a')")
    kernel.do("other = get_ipython().run_cell_magic('async_run', '--name b', 't = x.sum()')")
    kernel.do("for job in (first, again, other): job.wait()")
    expected = float(sum(range(16_000_000)))
    assert kernel.value("[float(job['t']) for job in (first, again, other)]") == [
        expected,
        expected,
        expected + 1,
    ]
    kernel.do("digests = [j.provenance['inputs']['x']['digest'] for j in (first, again, other)]")
    assert kernel.value("digests[0] == digests[1] != digests[2]")

    kernel.do("%%async_run --name c --cache\nu = x.sum()")
    kernel.do("%async_gather c")
    kernel.do("del u")
    kernel.do("%%async_run --name d --cache\nu = x.sum()")
    told = kernel.do("%async_gather d")
    assert "not run: this is the stored result of c" in told.text

    kernel.do('%%async_run --name s --sweep "k=[1, 2]"\nv = k * float(x.sum())')
    kernel.do("%async_gather s")
    assert kernel.value("list(s['v'])") == [expected + 1, 2 * (expected + 1)]
