"""What a full disk does, on a small one: run in a mount namespace, on which `STATE` is a tmpfs.

``python full_disk.py FOLDER`` has its state in ``FOLDER/state`` and fails with what is wrong;
``python full_disk.py FOLDER memory`` where large frames lie in memory first.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from dask_async_run.frames import FrameStore
from dask_async_run.memory import VARIABLE, Memory
from observer import Observer
from realkernel import Ran, RealKernel
from waiting import wait_for

SERVE = "%async_run_server --workers 2 --no-dashboard"

HELD = """\
%%async_run --name held
import time
from pathlib import Path
print("begun")
while not Path("go").exists():
    time.sleep(0.02)
for number in range(3000): print("line", number)
small = x + 41
"""


class Disk:
    """A small file system that can be full."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self, leave: int = 0) -> None:
        """Leave so many bytes free."""
        reserve = self.folder / "reserve"
        reserve.write_bytes(bytes(leave))
        with self._filler.open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12):
                with suppress(OSError):
                    while file.write(bytes(size)):
                        pass
        reserve.unlink()

    def free(self) -> None:
        self._filler.unlink()


def refused(told: Ran, *texts: str) -> None:
    """One line of ours, which says what is wrong."""
    assert told.error is not None, told.text
    assert told.error["ename"] == "ServerError", told.traceback
    assert "File " not in told.traceback, told.traceback
    for text in texts:
        assert text in told.traceback, told.traceback


def main(home: Path) -> None:
    state = home / "state"
    observer, disk = Observer(state), Disk(state)
    with RealKernel(home) as kernel:
        kernel.do(f"%load_ext dask_async_run\n{SERVE}", 120)
        kernel.do("import numpy as np\nx = 1\nbig = np.arange(200_000.0)")
        kernel.do(HELD)
        observer.wait_for_text("held", "begun")
        kernel.do("%%async_run --name stop\nimport time\nprint('begun')\ntime.sleep(1000)")
        observer.wait_for_text("stop", "begun")
        kernel.do("%async_run --name later --after stop x")

        # Full: nothing new is taken, and what runs goes on.
        disk.fill()
        refused(kernel.run("%%async_run --name refused\nz = 1"), "full", "space")
        refused(kernel.run("%%async_run --name refused\nz = big.sum()"), "No space", "submitted")
        said = kernel.do("%async_cancel later stop").text
        for what in ("cancelled before it ran", "told to stop"):
            assert f"{what}. It is not on record yet, and lost if the server dies" in said, said
        assert "database or disk is full" in said, said
        (home / "go").touch()
        wait_for(lambda: "not on record yet" in kernel.do("%async_jobs held").text, 30)
        disk.free()
        told = kernel.do("%async_gather held")
        assert told.stdout == "begun\n" + "".join(f"line {n}\n" for n in range(3000))
        assert kernel.value("small") == 42
        assert observer.wait("stop").reason == "cancelled; stopped by SIGINT"
        assert observer.wait("later").reason == "cancelled before it ran"
        assert [job.name for job in observer.jobs()] == ["held", "stop", "later"]

        # Too little space for a result: what is small comes back, the rest is named.
        disk.fill(leave=6 << 20)
        kernel.do("%%async_run --name long\ntext = 'x' * 7_000_000\nless = 6")
        assert "no space for text" in observer.wait("long").reason
        kernel.run("%async_gather long")
        assert kernel.value("less") == 6
        kernel.do("%%async_run --name large\nprint('made')\nlarge = np.ones(2_000_000)\nless = 7")
        job = observer.wait("large")
        assert (job.state, "no space for large" in job.reason) == ("failed", True), job
        told = kernel.run("%async_gather large")
        assert told.stdout == "made\n"
        assert "no space for large" in told.traceback
        assert kernel.value("less") == 7
        disk.free()
        kernel.do("%async_rerun large")
        kernel.do("%async_gather large")
        assert kernel.value("float(large.sum())") == 2_000_000.0

        # Nor does a server start on a full disk; afterwards everything is there.
        kernel.do("%async_stop_server")
        disk.fill()
        refused(kernel.run(SERVE, 100), "space left")
        disk.free()
        kernel.do(SERVE, 100)
        assert kernel.do("%async_gather held").stdout.endswith("line 2999\n")
        kernel.do("%async_stop_server")
    store = FrameStore(state / "default" / "frames")
    for digest in store:
        store.verify(digest, int(digest.partition("-")[2]))
    assert not list(state.rglob("*.part"))


def with_memory(home: Path) -> None:
    """A result that the disk has no room for is there, and saved when there is room."""
    state = home / "state"
    observer, disk = Observer(state), Disk(state)
    with RealKernel(home) as kernel:
        kernel.do(f"%load_ext dask_async_run\nimport numpy as np\n{SERVE}", 120)
        disk.fill(leave=6 << 20)
        kernel.do("%%async_run --name large\nprint('made')\nlarge = np.ones(2_000_000)")
        assert observer.wait("large").state == "finished"
        assert kernel.do("%async_gather large").stdout == "made\n"
        assert kernel.value("float(large.sum())") == 2_000_000.0
        assert "not yet saved" in kernel.do("%async_jobs large").text
        disk.free()
        wait_for(lambda: "not yet saved" not in kernel.do("%async_jobs large").text, 60)
        kernel.do("%async_stop_server")
    assert Memory.of(state / "default" / "frames") is None
    store = FrameStore(state / "default" / "frames")
    for digest in store:
        store.verify(digest, int(digest.partition("-")[2]))


if __name__ == "__main__":
    os.environ["DASK_ASYNC_RUN_STATE"] = str(Path(sys.argv[1]) / "state")
    if "memory" in sys.argv:
        with_memory(Path(sys.argv[1]))
    else:
        os.environ[VARIABLE] = ""
        main(Path(sys.argv[1]))
