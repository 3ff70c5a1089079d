"""Processes: words for how they ended, and families that are found and killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

from cells import runs
from dask_async_run.worker.processes import (
    Family,
    children,
    descendants,
    describe_status,
    signal_name,
)
from waiting import wait_for


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("pass", "exit code 0"),
        ("import os; os._exit(3)", "exit code 3"),
        ("import os; os.kill(os.getpid(), 9)", "killed by signal 9 (SIGKILL)"),
        ("import os; os.kill(os.getpid(), 40)", "killed by signal 40 (unknown)"),
    ],
)
def test_how_a_process_ended(code: str, said: str) -> None:
    pid = os.posix_spawn(sys.executable, [sys.executable, "-S", "-c", code], os.environ)
    assert describe_status(os.waitpid(pid, 0)[1]) == said


def test_signals_have_names() -> None:
    assert signal_name(11) == "SIGSEGV"
    assert signal_name(99) == "unknown"


TREE = """
import os, subprocess, sys, time
if os.fork() == 0:
    os.setsid()
    subprocess.Popen(["sleep", "1000"])
    time.sleep(1000)
subprocess.Popen(["sleep", "1000"])
print("ready", flush=True)
time.sleep(1000)
"""


@pytest.fixture
def tree() -> subprocess.Popen[str]:
    """A head, two children, and a grandchild in another session."""
    head = subprocess.Popen(
        [sys.executable, "-c", TREE], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert head.stdout is not None
    assert head.stdout.readline() == "ready\n"
    head.stdout.close()
    wait_for(lambda: len(descendants(head.pid)) == 4, what="the tree to grow")
    return head


def test_a_family_is_found_and_killed(tree: subprocess.Popen[str]) -> None:
    pids = descendants(tree.pid)
    assert pids[0] == tree.pid
    assert sorted(children(tree.pid)) == sorted(p.pid for p in psutil.Process(tree.pid).children())
    family = Family(tree.pid)
    assert {process.pid for process in family.members()} == set(pids)
    assert family.kill()
    tree.wait(5)
    assert not any(map(runs, pids))
    assert family.kill()


def test_who_was_seen_is_killed_also_when_the_head_has_died(tree: subprocess.Popen[str]) -> None:
    """Those below it belong to others then; its own session is found anyhow."""
    pids = descendants(tree.pid)
    family = Family(tree.pid)
    family.usage()
    os.kill(tree.pid, signal.SIGKILL)
    tree.wait(5)
    assert family.kill()
    assert not any(map(runs, pids))


def test_usage_is_the_familys_own(tree: subprocess.Popen[str]) -> None:
    family = Family(tree.pid)
    try:
        assert family.usage()[1] == 0
        memory, cpu = family.usage()
        assert 100_000 < memory < 200_000_000
        assert cpu >= 0
    finally:
        family.kill()
        tree.wait(5)
    assert family.usage() == (0, 0)
