"""Large inputs and results lie in memory at first; nothing that ends a process loses them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from dask_async_run.folders import FRAMES
from dask_async_run.frames import FrameStore
from dask_async_run.memory import Memory
from observer import Observer
from realkernel import RealKernel
from waiting import wait_for

SERVE = "%load_ext dask_async_run\n%async_run_server --workers 1 --no-dashboard"
HELD = """\
%%async_run --name held
import time
from pathlib import Path
print("begun")
while not Path("go").exists():
    time.sleep(0.02)
total = float(x.sum())
"""


@pytest.mark.usefixtures("shared_memory")
@pytest.mark.timeout(300)
def test_what_lay_in_memory_is_there_again(
    open_kernel: Callable[..., RealKernel], observer: Observer, folders: object, tmp_path: Path
) -> None:
    """After the server was killed, and after it was stopped: then it is all on the disk."""
    home = observer.state / observer.server / FRAMES
    kernel = open_kernel()
    kernel.do(SERVE)
    kernel.do("import numpy as np\nx = np.arange(1_000_000.0)")
    kernel.do(HELD)
    observer.wait_for_text("held", "begun")
    memory = Memory.of(home)
    assert memory is not None
    kernel.do("%async_run --name made big = np.full(1_000_000, 3.0)")
    server = observer.server_pid()
    assert server is not None
    os.kill(server, signal.SIGKILL)

    kernel.do(SERVE)
    assert observer.wait("held").state == "lost"
    assert Memory.of(home) is not None
    (tmp_path / "go").touch()
    kernel.do("%async_rerun held")
    kernel.do("%async_gather held made")
    assert kernel.value("total == float(x.sum())") is True
    assert kernel.value("float(big.sum())") == 3e6
    kernel.do("big[0] = 4.0")  # a copy of the page: what is mapped stays
    wait_for(lambda: all(job.saved for job in observer.jobs()), 60)

    kernel.do("%async_stop_server")
    assert not memory.folder.exists()
    assert Memory.of(home) is None
    assert kernel.value("float(big.sum())") == 3e6 + 1
    store = FrameStore(home)
    for digest in store:
        store.verify(digest, int(digest.partition("-")[2]))
    kernel.do("del big")
    kernel.do(SERVE)
    kernel.do("%async_gather made --overwrite")
    assert kernel.value("float(big.sum())") == 3e6
