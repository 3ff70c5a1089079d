"""Processes that are nobody's any more."""

from __future__ import annotations

from typing import Any

import psutil
import pytest

from dask_async_run.server import reaper
from waiting import wait_for

ADOPT = """
import os, subprocess, sys, time
from dask_async_run.server import reaper
reaper.become_subreaper()
wild = "import os, sys, time; os.setsid(); os.fork() and os._exit(0)"
wild += "; time.sleep(float(sys.argv[1]))"
for seconds in ("0", "1000"):
    subprocess.run([sys.executable, "-c", wild, seconds])
own = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
print(own.pid, flush=True)
for line in sys.stdin:
    reaper.end_orphans()
    print("done", flush=True)
"""


def test_orphans_are_adopted_and_ended_and_own_children_are_not(python: Any) -> None:
    """Dead ones leave no zombie."""
    process = python(ADOPT)
    own = int(process.stdout.readline())
    adopter = psutil.Process(process.pid)
    assert len(adopter.children()) == 3

    def ended() -> bool:
        process.stdin.write("now\n")
        process.stdin.flush()
        assert process.stdout.readline() == "done\n"
        return [child.pid for child in adopter.children()] == [own]

    wait_for(ended, 10)
    assert reaper.tree(adopter.pid) == {adopter, psutil.Process(own)}
    assert reaper.end_tree(reaper.tree(adopter.pid), timeout=5.0) == []
    assert reaper.tree(adopter.pid) == set() or not adopter.is_running() or _dead(adopter)


def _dead(process: psutil.Process) -> bool:
    return bool(process.status() == psutil.STATUS_ZOMBIE)


def test_a_process_that_is_gone_is_no_tree(python: Any) -> None:
    process = python("")
    process.wait(10)
    assert reaper.tree(process.pid) == set()
    assert reaper.kill_all(set()) == []


@pytest.mark.parametrize("tracker", [True, False])
def test_the_tracker_may_end_by_itself(python: Any, tracker: bool) -> None:
    """It is only killed if it does not follow."""
    name = "multiprocessing.resource_tracker" if tracker else "x"
    process = python("import sys; sys.stdin.read()", name)
    found = psutil.Process(process.pid)
    wait_for(found.cmdline, 10)  # Linux tells it a moment after the process has begun
    assert reaper.is_tracker(found) is tracker
    assert reaper.end_tree([found], timeout=0.2) == []
