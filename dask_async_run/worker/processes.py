"""Processes: how one ended, what a tree of them uses, and that none is left behind."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

TRACKER_GRACE = 2.0
"""Seconds that a resource tracker gets to clean up."""
HAS_SUBREAPERS = sys.platform == "linux"
"""Whether `adopt_orphans` does anything."""
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def die_with_parent(parent: int) -> None:
    """Have this process killed when its parent's (only) thread ends; Linux only.

    Parameters
    ----------
    parent : int
        Pid that the parent had when it forked: it may have died before the call.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of descendants whose parents die; Linux only.

    So that the tree below this process is all that was ever started from it, also
    what made its own session and was orphaned on purpose (a daemon).
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, argument: int) -> None:
    if HAS_SUBREAPERS:
        ctypes.CDLL(None, use_errno=True).prctl(option, argument, 0, 0, 0)


SPEECHLESS = 70  # EX_SOFTWARE
"""Exit code of a cell process that could not say how its cell ended."""


def describe_status(status: int) -> str:
    """Say how a process ended, from what `os.waitpid` told."""
    code = os.waitstatus_to_exitcode(status)
    if code == SPEECHLESS:
        return (
            f"exit code {code}, as when it cannot hand over what it has: did the cell close files "
            "that it had not opened?"
        )
    if code >= 0:
        return f"exit code {code}"
    return f"killed by signal {-code} ({signal_name(-code)})"


def signal_name(number: int) -> str:
    """Name of a signal, "unknown" for one that Python has no name for."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


class Family:
    """A process, and all that descends from it, as far as it was seen.

    Parameters
    ----------
    pid : int
        The head of the family, which leads a session of its own.

    Notes
    -----
    A pid names a process only together with its start time: psutil's processes know
    theirs and do nothing to another one that got the same pid later.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._seen: dict[int, psutil.Process] = {}
        self._cpu: dict[int, float] = {}
        self._measured = time.monotonic()

    def members(self) -> list[psutil.Process]:
        """Return the living members, head first; whoever was seen once stays known."""
        for pid in descendants(self.pid):
            if pid not in self._seen:
                try:
                    self._seen[pid] = psutil.Process(pid)
                except psutil.Error:
                    pass  # gone meanwhile
        for process in list(self._seen.values()):
            if not process.is_running():
                del self._seen[process.pid]
        return list(self._seen.values())

    def usage(self) -> tuple[int, float]:
        """Return bytes of memory and percent of one CPU that the family uses now.

        Memory is what is the family's own: pages that it shares with files (mapped
        inputs, libraries) can be had back by the system and do not count.
        """
        memory, busy = 0, 0.0
        now = time.monotonic()
        before, self._cpu = self._cpu, {}
        for process in self.members():
            try:
                with process.oneshot():
                    info = process.memory_info()
                    times = process.cpu_times()
            except psutil.Error:
                continue
            memory += max(0, info.rss - getattr(info, "shared", 0))
            used = times.user + times.system
            self._cpu[process.pid] = used
            # At the first look, what was used before it is not known; later, who is new
            # has used all of it since.
            busy += max(0.0, used - before.get(process.pid, 0.0)) if before else 0.0
        elapsed, self._measured = now - self._measured, now
        return memory, 100 * busy / elapsed if elapsed > 0 else 0.0

    def kill(self, timeout: float = 5.0) -> bool:
        """Kill every member; whether none is left after at most `timeout` seconds."""
        begun = time.monotonic()
        pause = 0.001
        while True:
            living = [process for process in self._everyone() if _alive(process)]
            if not living:
                return True
            patient = time.monotonic() < begun + TRACKER_GRACE
            # Parents first: who is dead starts no more children.
            kill_all(p for p in living if not (patient and is_tracker(p.pid)))
            if time.monotonic() > begun + timeout:
                return False
            psutil.wait_procs(living, timeout=pause)
            pause = min(2 * pause, 0.1)

    def _everyone(self) -> Iterator[psutil.Process]:
        members = self.members()
        yield from members
        known = {process.pid for process in members}
        for pid in psutil.pids():
            if pid not in known and _session(pid) == self.pid:
                try:
                    yield psutil.Process(pid)
                except psutil.Error:
                    pass


def kill_all(processes: Iterable[psutil.Process]) -> None:
    """Send SIGKILL to each that still lives."""
    for process in processes:
        try:
            process.kill()
        except psutil.Error:
            pass


def kill_orphans(keep: Iterable[int]) -> None:
    """Kill and reap what this process adopted: all below it but `keep` and its children.

    Parameters
    ----------
    keep : iterable of int
        Pids of children of this process that stay.
    """
    spared = set(keep)
    begun = time.monotonic()
    while time.monotonic() < begun + 5.0:
        orphans = [pid for pid in children(os.getpid()) if pid not in spared]
        if not orphans:
            return
        patient = time.monotonic() < begun + TRACKER_GRACE
        for orphan in orphans:
            for pid in descendants(orphan):
                if not (patient and is_tracker(pid)):
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
            try:
                os.waitpid(orphan, os.WNOHANG)
            except ChildProcessError:
                pass
        time.sleep(0.002)


def is_childless() -> bool:
    """Whether nothing that this process started is left; False where that is not certain."""
    return HAS_SUBREAPERS and _LISTED and not children(os.getpid())


def is_tracker(pid: int) -> bool:
    """Whether a process is one of those that clean up after multiprocessing and joblib.

    They end by themselves, as soon as all that they serve is gone, and unlink shared
    memory, semaphores and temporary folders before that.
    """
    try:
        return b"resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def descendants(pid: int) -> list[int]:
    """Pids of a process and all below it, parents first; the first may be gone."""
    found = [pid]
    for parent in found:
        found += [child for child in children(parent) if child not in found]
    return found


def children(pid: int) -> list[int]:
    """Pids of a process's children; none if it is gone.

    One that ends meanwhile may hide another: who needs all asks again.
    """
    found: list[int] = []
    if not _LISTED:
        try:
            return [child.pid for child in psutil.Process(pid).children()]
        except psutil.Error:
            return found
    try:
        # psutil would read all processes of the machine.
        for thread in Path(f"/proc/{pid}/task").iterdir():
            listed = (thread / "children").read_bytes()
            found += map(int, listed.split())
    except OSError:
        pass
    return found


_LISTED = Path(f"/proc/self/task/{os.getpid()}/children").exists()


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return 0
