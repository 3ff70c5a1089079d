"""What is not the time of one cell: snapshots, sweeps, and the memory of all processes together."""

from __future__ import annotations

import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from dask_async_run.folders import FRAMES
from dask_async_run.memory import Memory
from peers import Ours
from watching import Watched

NUMBERS = 12_500
"""Of each array that changes right after its cell was submitted: 100 kB."""

HOLDS = """\
import time
from pathlib import Path
y = float(x.sum())
Path({ready!r}).touch()
while not Path({go!r}).exists(): time.sleep(0.02)
"""


def violations(peer: Ours, count: int) -> int:
    """Submit cells and change what they read at once after; answer how many have seen that."""
    jobs = []
    x = np.zeros(NUMBERS)
    peer.put(x)
    for number in range(count):
        x[:] = number
        jobs.append(_submitted(peer, "y = float(x.min()), float(x.max())"))
        x[:] = -1.0
    wrong = 0
    for number, job in enumerate(jobs):
        job.wait()
        wrong += job["y"] != (number, number)
    _forget(peer, jobs)
    return wrong


def members_per_second(peer: Ours, members: int) -> float:
    """Run a sweep of trivial members; from the submission to the end of the last one."""
    peer.put(1)
    begun = time.perf_counter()
    job = _submitted(peer, "y = 2 * number", f'--sweep "number=range({members})"')
    job.wait()
    seconds = time.perf_counter() - begun
    if job.state != "finished":
        raise RuntimeError(f"the sweep is {job.state}: {job.reason}")
    _forget(peer, [job])
    return members / seconds


def memory(peer: Ours, size: int, folder: Path) -> dict[str, float]:
    """What large arrays add to the memory of all processes: bytes, as parts of an array's.

    Returns
    -------
    dict of str to float
        ``input``: more than before while a cell has read one; ``scheduler``: of that in the
        server's main process, of its own; ``peak``: the most while one goes in and one as large
        comes back and is read.
    """
    peer.put(np.random.default_rng().random(size // 8))
    peer.ready(peer.submit("y = 1"))
    processes = _Processes(peer)
    before, held = processes.memory(), processes.schedulers_own()
    ready, go = folder / "ready", folder / "go"
    job = _submitted(peer, HOLDS.format(ready=str(ready), go=str(go)))
    while not ready.exists():
        time.sleep(0.01)
    found = {
        "input": (processes.memory() - before) / size,
        "scheduler": (processes.schedulers_own() - held) / size,
    }
    go.touch()
    job.wait()
    peer.put(np.random.default_rng().random(size // 8))
    with Watched(processes.memory, 0.02) as watched:
        peer.finish(peer.submit("y = x + 1"))
        float(peer.shell.user_ns["y"].sum())
    found["peak"] = watched.more / size
    peer.put(1)
    return found


class _Processes:
    """This process, and the server's."""

    def __init__(self, peer: Ours) -> None:
        session = peer.shell.magics_manager.registry["AsyncRun"].session
        self._server = psutil.Process(session.connection.pid)
        self._frames = Path(session.state_folder) / FRAMES

    def memory(self) -> float:
        """Answer what they hold together, shared pages once, and what nobody has mapped yet."""
        total, mapped = 0.0, set()
        for process in [psutil.Process(), self._server, *self._server.children(recursive=True)]:
            try:
                total += process.memory_full_info().pss
                mapped |= {each.path for each in process.memory_maps()}
            except psutil.Error:
                continue  # a cell that has ended meanwhile
        if memory := Memory.of(self._frames):
            for path in memory.folder.iterdir():
                if str(path) not in mapped:
                    total += path.stat().st_size
        return total

    def schedulers_own(self) -> float:
        info = self._server.memory_info()
        return float(info.rss - info.shared)


def _submitted(peer: Ours, code: str, options: str = "") -> Any:
    return peer.shell.run_cell_magic("async_run", options, code)


def _forget(peer: Ours, jobs: list[Any]) -> None:
    with redirect_stdout(StringIO()):
        for job in jobs:
            peer.shell.run_line_magic("async_forget", job.id)
