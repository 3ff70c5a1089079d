"""Locks of real processes on real files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dask_async_run.errors import ServerError
from dask_async_run.server.locks import Lock, held, holder, locked
from waiting import wait_for

HOLD = """
import os, sys
from pathlib import Path
from dask_async_run.server.locks import Lock
lock = Lock(Path(sys.argv[1]))
assert lock.acquire()
lock.write(f"{os.getpid()}\\n")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.lock"


def hold(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def test_one_at_a_time(path: Path) -> None:
    first, second = Lock(path), Lock(path)
    assert first.acquire()
    assert held(path)
    assert not second.acquire(timeout=0.05)
    first.release()
    assert not held(path)
    assert second.acquire()
    second.release()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_killed_holder_holds_no_more(path: Path) -> None:
    """Nothing to clean up, and its pid is not believed any more."""
    with hold(path) as process:
        assert held(path)
        assert holder(path) == process.pid
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not held(path)
        assert holder(path) is None


def test_a_pid_in_the_file_is_only_believed_of_who_has_it_open(path: Path) -> None:
    with hold(path) as process:
        path.write_text(f"{os.getpid()}\n")  # a pid that was used again, say
        assert held(path)
        assert holder(path) is None
        path.write_text("rubbish")
        assert holder(path) is None
        process.kill()


def test_who_waits_gets_it_when_it_is_given_back(path: Path) -> None:
    first, second = Lock(path), Lock(path)
    assert first.acquire()
    got: list[bool] = []
    thread = threading.Thread(target=lambda: got.append(second.acquire(10)))
    thread.start()
    first.release()
    thread.join(10)
    assert got == [True]
    second.release()


def test_looking_does_not_make_an_acquirer_fail(path: Path) -> None:
    """`held` takes the lock for a moment; who acquires meanwhile tries again."""
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            held(path)

    path.touch()
    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(50):
            lock = Lock(path)
            assert lock.acquire(timeout=5)
            lock.release()
    finally:
        stop.set()
        thread.join()


def test_a_lock_on_a_removed_file_excludes_nobody_and_says_so(path: Path) -> None:
    """The runtime folder may be emptied under a living server."""
    first, second = Lock(path), Lock(path)
    assert first.acquire()
    assert first.in_place()
    path.unlink()
    assert not first.in_place()
    assert not held(path)
    assert second.acquire()
    assert not first.in_place()
    first.release()
    second.release()


def test_the_with_form_says_what_it_waited_for(path: Path) -> None:
    with locked(path, 1, "the other one"):
        assert held(path)
        with (
            pytest.raises(ServerError, match="for the other one"),
            locked(path, 0.05, "the other one"),
        ):
            pass
    assert not held(path)


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ServerError, match="cannot be opened"):
        Lock(path).acquire()
    assert not (tmp_path / "elsewhere").exists()


def test_a_child_process_does_not_inherit_the_lock(path: Path) -> None:
    """A worker must not keep a dead server's lock."""
    lock = Lock(path)
    assert lock.acquire()
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"],
        stdin=subprocess.PIPE,
        close_fds=False,
    ) as child:
        lock.release()
        assert wait_for(lambda: not held(path), 5)
        child.kill()
