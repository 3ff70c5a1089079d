"""A submission with large inputs returns before they are copied; from then on nobody is needed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

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
    open_kernel: Callable[..., RealKernel], observer: Observer
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
