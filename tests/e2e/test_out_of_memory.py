"""A machine without memory: the cell ends, and not the notebook in which the variables are."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from observer import Observer
from realkernel import RealKernel
from waiting import wait_for

_GROUPS = Path("/sys/fs/cgroup")
_ROOM = 1_500_000_000  # bytes: the kernel with its array has more than half of it

HELD = "import numpy as np\nheld = np.full(100_000_000, 3.0)"
EATER = """\
%%async_run --name eater --memory none
import numpy as np
eaten = []
while True:
    eaten.append(np.ones(5_000_000))
    print(len(eaten), flush=True)
"""


@pytest.fixture
def small_machine() -> Iterator[Callable[[int], object]]:
    """What a process is given to by its pid, and what it starts, has little memory together."""
    for group, limit in (
        (_GROUPS / "memory" / f"dar-{uuid.uuid4().hex}", "memory.limit_in_bytes"),
        (_GROUPS / f"dar-{uuid.uuid4().hex}", "memory.max"),
    ):
        with suppress(OSError):
            group.mkdir()
        if (group / limit).exists():
            break
        with suppress(OSError):
            group.rmdir()
    else:
        pytest.skip("nobody may limit memory here")
    (group / limit).write_text(str(_ROOM))
    members = group / "cgroup.procs"
    yield lambda pid: members.write_text(str(pid))
    wait_for(lambda: not members.read_text(), 60)
    group.rmdir()


@pytest.mark.timeout(300)
def test_the_cell_ends_and_the_kernel_does_not(
    small_machine: Callable[[int], object],
    open_kernel: Callable[..., RealKernel],
    observer: Observer,
) -> None:
    """The system ends a process: it would choose the kernel, which has most."""
    kernel = open_kernel()
    small_machine(kernel.pid)
    kernel.do("%load_ext dask_async_run\n%async_run_server --workers 1 --no-dashboard")
    kernel.do(HELD)
    kernel.do(EATER)
    job = observer.wait("eater")
    assert job.state == "failed"
    assert "was the machine out of memory?" in job.reason
    assert kernel.value("held[-1] == 3.0 and held.size") == 100_000_000
    assert kernel.run("%async_gather eater").stdout.startswith("1\n2\n")
    kernel.do("%async_run --name next x = 1\n%async_gather next")
    assert kernel.value("x") == 1
