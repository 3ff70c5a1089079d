"""What a test left behind: processes, threads, listening sockets, temporary files.

A test's processes are found by a mark in their environment rather than by their
parent: what starts in a session of its own is adopted by init, and is the very
thing that is likely to be forgotten.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from dask_async_run.worker.processes import descendants
from dask_async_run.worker.template import SPARES

MARK = "DASK_ASYNC_RUN_TEST"
"""Environment variable that every process started by a test inherits."""

LASTING_THREADS = (
    "Dask-Offload",  # distributed's module-wide thread pools, made at first use ...
    "Dask-Default-Threads",
    "TCP-Executor",
    "ThreadPoolExecutor-",  # ... and asyncio's default one
    "asyncio_",
    "Profile",  # distributed's profiler of the process it is in
    "IPythonHistorySavingThread",  # ends with the shell, which lives as long as the process
)
TEMPLATE = "dask_async_run.worker.template import main"
LASTING_PROCESSES = (
    "multiprocessing.resource_tracker",  # one a process, ends with it
    "multiprocessing.forkserver",
)


def marked_processes(mark: str) -> list[psutil.Process]:
    """Every process of this user whose environment carries `mark`, zombies left out."""
    return _living(pid for pid in psutil.pids() if pid != os.getpid() and _carries(pid, mark))


def _carries(pid: int, mark: str) -> bool:
    variable = f"{MARK}={mark}"
    try:
        # psutil would take each environment of the machine apart, for each test.
        return variable.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except PermissionError:
        return False
    except OSError:
        try:
            return bool(psutil.Process(pid).environ().get(MARK) == mark)  # without /proc
        except psutil.Error:
            return False


def _living(pids: Iterable[int]) -> list[psutil.Process]:
    found = []
    for pid in pids:
        try:
            process = psutil.Process(pid)
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def describe(process: psutil.Process) -> str:
    try:
        return f"process {process.pid}: {' '.join(process.cmdline())[:200]}"
    except psutil.Error:
        return f"process {process.pid}"


def _lasting(process: psutil.Process) -> bool:
    try:
        line = " ".join(process.cmdline())
    except psutil.Error:
        return True  # gone meanwhile
    return any(name in line for name in LASTING_PROCESSES)


def _listening() -> set[tuple[str, int]]:
    return {
        (c.laddr.ip, c.laddr.port)
        for c in psutil.Process().net_connections("inet")
        if c.status == psutil.CONN_LISTEN
    }


@dataclass(frozen=True)
class Snapshot:
    """What there was when a test began; `left` tells what there is beyond it."""

    mark: str
    temp: Path
    children: frozenset[int] = field(default_factory=lambda: frozenset(descendants(os.getpid())))
    threads: frozenset[threading.Thread] = field(
        default_factory=lambda: frozenset(threading.enumerate())
    )
    sockets: frozenset[tuple[str, int]] = field(default_factory=lambda: frozenset(_listening()))

    def processes(self) -> list[psutil.Process]:
        children = _living(pid for pid in descendants(os.getpid()) if pid not in self.children)
        unique = {p.pid: p for p in [*children, *marked_processes(self.mark)]}
        return [p for p in unique.values() if not _lasting(p) and not self._is_spare(p)]

    def _is_spare(self, process: psutil.Process) -> bool:
        """Whether it is what a template process from before the test keeps for its next cells."""
        try:
            parent = process.parent()
            return (
                parent is not None
                and parent.pid in self.children
                and TEMPLATE in " ".join(parent.cmdline())
                and parent.cmdline() == process.cmdline()
                and len(parent.children()) == SPARES
            )
        except psutil.Error:
            return True  # gone meanwhile

    def left(self) -> list[str]:
        """One line for each thing that was left behind."""
        lines = [describe(process) for process in self.processes()]
        lines += [
            f"thread {thread.name}"
            for thread in threading.enumerate()
            if thread not in self.threads and not thread.name.startswith(LASTING_THREADS)
        ]
        lines += [f"listening socket {ip}:{port}" for ip, port in _listening() - self.sockets]
        lines += [f"file {path}" for path in sorted(self.temp.rglob("*")) if self._counts(path)]
        return lines

    @staticmethod
    def _counts(path: Path) -> bool:
        # Dask keeps the folder of its workers' folders, and lock files in it.
        inside_scratch = "dask-scratch-space" in path.parts
        return not (path.is_dir() or (inside_scratch and path.suffix == ".lock"))
