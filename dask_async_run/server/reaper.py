"""Ends processes for good: a server's whole tree, and what cells leave behind.

Cells may start anything: children with a session of their own, children whose
parent is gone. On Linux the server adopts those (``PR_SET_CHILD_SUBREAPER``), so
that its process tree is complete, also when a worker was killed and could not clean
up after its cells.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import psutil

logger = logging.getLogger(__name__)

_PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """Let orphans among this process's descendants become its children (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_orphans() -> None:
    """Kill the orphans that this process adopted, and wait for those that died.

    A child that this process started itself shares its session; whatever comes from
    a cell has the session of that cell, or one of its own.
    """
    mine = os.getsid(0)
    for pid in _adopted():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(pid) == mine:
                continue
            child = psutil.Process(pid)
            if child.status() != psutil.STATUS_ZOMBIE:
                logger.info("Ending process %d, which a cell left behind", pid)
                kill_all([child, *child.children(recursive=True)], timeout=0.5)
            os.waitpid(pid, os.WNOHANG)


def _adopted() -> list[int]:
    """Children of the main thread, which is who adopts.

    Not by psutil, which looks at every process of the machine: this is asked every few
    seconds in the scheduler's event loop.
    """
    me = os.getpid()
    try:
        return [int(pid) for pid in Path(f"/proc/{me}/task/{me}/children").read_text().split()]
    except OSError:  # not Linux, where nothing is adopted
        return []


def tree(pid: int) -> set[psutil.Process]:
    """The process `pid` and all its descendants; empty if it is gone.

    A `psutil.Process` compares equal only if the start time does too, and its
    methods refuse to act on another process that got the same pid.
    """
    try:
        root = psutil.Process(pid)
        return {root, *root.children(recursive=True)}
    except psutil.Error:
        return set()


def is_tracker(process: psutil.Process) -> bool:
    """Whether this is multiprocessing's resource tracker.

    It ends by itself once all those are gone whose semaphores it watches, and removes
    what they left in shared memory; killed, it would leave it there for ever.
    """
    try:
        return "multiprocessing.resource_tracker" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def kill_all(processes: Iterable[psutil.Process], timeout: float = 5.0) -> list[psutil.Process]:
    """Send SIGKILL to all; returns those that still live after `timeout` seconds."""
    processes = list(processes)
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
    living: list[psutil.Process] = psutil.wait_procs(processes, timeout=timeout)[1]
    return living


def end_tree(processes: Iterable[psutil.Process], timeout: float) -> list[psutil.Process]:
    """Kill processes of a tree, the tracker only if it does not follow by itself.

    Returns
    -------
    list of Process
        Those that still live.
    """
    processes = list(processes)
    trackers = [process for process in processes if is_tracker(process)]
    living = kill_all([process for process in processes if process not in trackers], timeout)
    return living + kill_all(psutil.wait_procs(trackers, timeout=timeout)[1], timeout)


def end_descendants() -> None:
    """Kill all below this process but the tracker: the last thing that a server does."""
    # Again and again: what is killed may just have forked.
    for _ in range(10):
        below = {p for p in tree(os.getpid()) if p.pid != os.getpid() and not is_tracker(p)}
        if not below:
            return
        kill_all(below, timeout=2.0)
