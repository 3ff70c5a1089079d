"""A server ends when it is told to, when nobody needs it, and with all that is its own."""

from __future__ import annotations

import io
import os
import pty
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

from dask_async_run.errors import ServerError, ServerGoneError, UnfinishedJobsError
from dask_async_run.job import State
from dask_async_run.server import connection as connections
from dask_async_run.server import reaper
from dask_async_run.server.connection import Files
from dask_async_run.server.control import forget, ping, stop_server
from dask_async_run.server.launch import ensure_server
from dask_async_run.server.locks import held, holder
from jobs import cell_spec, connected, said
from waiting import wait_for

pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("stopping")]

BUSY = """
import subprocess, sys, time
wild = "import os, time; os.setsid(); os.fork() and os._exit(0); print(1, flush=True)"
wild += "; time.sleep(1000)"
print(subprocess.Popen([sys.executable, "-c", wild]).pid, flush=True)
before = 1
try:
    time.sleep(1000)
finally:
    print("the end")
"""

SHUTDOWN = """
from dask_async_run.server.connection import find
from distributed import Client
connection = find("default")
Client(connection.address, security=connection.security()).shutdown()
"""

WAIT = """
import os, sys
from distributed import Client
from dask_async_run.errors import ServerError
from dask_async_run.registry import SyncRegistry
from dask_async_run.server.connection import find
connection = find("default")
client = Client(connection.address, security=connection.security())
print("waiting", flush=True)
try:
    SyncRegistry(client).wait([sys.argv[1]], 100)
except ServerError as error:
    print(error, flush=True)
os._exit(0)
"""

TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def one_worker(**options: Any) -> connections.Connection:
    return ensure_server(workers=1, dashboard=False, **options)[0]


def living(processes: set[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if lives(p)]


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # between the two
        return False


def semaphores(pid: int) -> list[Path]:
    """Semaphores that the process has in shared memory; told by inode, since glibc renames."""
    lines = [line.split() for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    inodes = {int(line[4]) for line in lines if "/dev/shm/sem." in line[-1] or "(deleted)" in line}
    return [path for path in Path("/dev/shm").glob("sem.mp-*") if path.stat().st_ino in inodes]


def wild(processes: set[psutil.Process]) -> bool:
    """Whether what `BUSY` orphaned on purpose is among them."""
    return any("os.setsid" in " ".join(p.cmdline()) for p in living(processes))


def test_unfinished_jobs_keep_a_server_unless_by_force() -> None:
    """Then the cell ends as if cancelled, nothing of it is left, and what waits runs later."""
    connection = one_worker()
    with connected(connection) as (_, registry):
        done = registry.create(cell_spec("print('done')", "done"))
        registry.wait([done.id], 60)
        running = registry.create(cell_spec(BUSY, "train"))
        wait_for(lambda: said(registry, running.id).count("\n") >= 2)
        waiting = registry.create(cell_spec("print('later')", "later"))
        after = registry.create(cell_spec("1", "after", after=[running.id]))
    with pytest.raises(UnfinishedJobsError) as caught:
        stop_server()
    assert caught.value.jobs == ("train (running)", "later (pending)", "after (pending)")
    assert [job.id for job in ping(connection).unfinished] == [running.id, waiting.id, after.id]

    processes = reaper.tree(connection.pid)
    assert wild(processes)
    shared = semaphores(connection.pid)
    assert shared
    assert stop_server(force=True)
    assert not living(processes)
    assert not any(path.exists() for path in shared)

    connection = one_worker()
    with connected(connection) as (_, registry):
        registry.wait([waiting.id], 60)
        states = {job.name: (job.state, job.reason) for job in registry.jobs()}
        assert states["done"][0] == State.FINISHED
        assert states["train"][0] == State.CANCELLED
        assert states["later"][0] == State.FINISHED
        assert states["after"] == (State.CANCELLED, "not run: 'train' was cancelled")
        assert "the end" in said(registry, running.id)
        result = registry.result(running.id)
        assert result is not None
        assert "before" in result.bound
    assert stop_server()


def test_a_killed_server_takes_its_cells_along(python: Any) -> None:
    """Who waits for a job is told, and after the next start the job is lost."""
    connection = one_worker()
    with connected(connection) as (_, registry):
        job = registry.create(cell_spec(BUSY))
        wait_for(lambda: said(registry, job.id).count("\n") >= 2)
    processes = reaper.tree(connection.pid)
    assert wild(processes)
    shared = semaphores(connection.pid)
    waiter = python(WAIT, job.id)
    assert waiter.stdout.readline() == "waiting\n"
    wait_for(lambda: ping(connection).clients == 1)
    os.kill(connection.pid, signal.SIGKILL)
    wait_for(lambda: not living(processes), 60, "the end of all")
    assert "the scheduler does not answer" in waiter.communicate(timeout=60)[0]
    assert not any(path.exists() for path in shared)

    with connected(one_worker()) as (_, registry):
        again = registry.show(job.id)
        assert again.state == State.LOST
        assert said(registry, job.id).count("\n") >= 2


def test_a_killed_workers_cells_leave_nothing_and_a_new_worker_comes() -> None:
    connection = one_worker()
    with connected(connection) as (_, registry):
        job = registry.create(cell_spec(BUSY))
        wait_for(lambda: said(registry, job.id).count("\n") >= 2)
        server = psutil.Process(connection.pid)
        (worker,) = (p for p in server.children() if "spawn_main" in " ".join(p.cmdline()))
        below = set(worker.children(recursive=True))
        assert wild(below)
        worker.kill()
        wait_for(lambda: not living(below), 60, "the end of the cell and all below it")
        (view,) = registry.wait([job.id], 60)
        assert view.state == State.LOST
        # No zombies either: the server has adopted what nobody waited for.
        again = registry.create(cell_spec("print(1)"))
        assert registry.wait([again.id], 60)[0].state == State.FINISHED
        wait_for(lambda: all(p.status() != psutil.STATUS_ZOMBIE for p in server.children()), 60)


def test_retired_workers_come_back() -> None:
    """Else a job would wait for ever in a server that somebody's Dask code emptied."""
    connection = one_worker()
    with connected(connection) as (client, registry):
        client.retire_workers()
        job = registry.create(cell_spec("1"))
        assert registry.wait([job.id], 60)[0].state == State.FINISHED


def test_a_server_that_hangs_is_only_stopped_by_force(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Somebody at a terminal is told meanwhile what is waited for."""
    connection = one_worker()
    processes = reaper.tree(connection.pid)
    psutil.Process(connection.pid).suspend()
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr("dask_async_run.server.control.SILENT_AFTER", 1.0)
    monkeypatch.setattr("dask_async_run.server.control.ANSWER_TIMEOUT", 2.0)
    with pytest.raises(ServerError, match=r"does not answer.*--force"):
        stop_server()
    assert "'default' has not answered for 1 s: it is busy, or was stopped" in terminal.getvalue()
    assert living(processes)
    assert stop_server(force=True)
    assert not living(processes)
    assert not Files.of("default").connection.exists()


@pytest.mark.parametrize("force", [False, True])
def test_a_runtime_folder_that_is_not_trusted_is_named(folders: Any, force: bool) -> None:
    """It says nothing of servers: that none runs would be a guess."""
    assert not stop_server(force=force)
    folders.runtime.mkdir(mode=0o700, exist_ok=True)
    folders.runtime.chmod(0o755)
    with pytest.raises(ServerError, match=r"open to other users .*: it is not trusted"):
        stop_server(force=force)
    folders.runtime.chmod(0o700)
    assert not stop_server(force=force)


def test_a_server_that_does_not_end_is_killed() -> None:
    connection = one_worker()
    processes = reaper.tree(connection.pid)
    shared = semaphores(connection.pid)
    assert stop_server(force=True, timeout=0)
    assert not living(processes)
    assert not any(path.exists() for path in shared)
    assert not held(Files.of("default").alive)


def test_it_can_be_stopped_although_its_connection_file_is_damaged() -> None:
    one_worker()
    files = Files.of("default")
    files.connection.chmod(0o644)
    assert stop_server(force=True)
    assert not held(files.alive)


def test_a_terminated_server_ends_in_order() -> None:
    connection = one_worker()
    processes = reaper.tree(connection.pid)
    # Without a dashboard nobody else on this machine sees the tasks.
    assert connection.dashboard is None
    seen = psutil.Process(connection.pid).net_connections("tcp")
    ports = [found.laddr.port for found in seen if found.status == psutil.CONN_LISTEN]
    assert 8787 not in ports
    assert not any(_shows_tasks(port) for port in ports)
    os.kill(connection.pid, signal.SIGTERM)
    wait_for(lambda: not living(processes), 60)
    assert not Files.of("default").connection.exists()
    assert "got SIGTERM" in Path(connection.log).read_text()


def _shows_tasks(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/info/main/workers.html", timeout=5):
            return True
    except OSError:  # TLS, or no such page
        return False


def test_a_scheduler_that_somebody_shut_down_takes_the_server_along(python: Any) -> None:
    connection = one_worker()
    processes = reaper.tree(connection.pid)
    client = python(SHUTDOWN)
    wait_for(lambda: not living(processes), 60)
    assert client.wait(60) == 0
    assert not held(Files.of("default").alive)


IDLE = 3.0
"""Seconds: a client of a server that has just started has to be connected within them."""


def test_nobody_needs_it_any_more(tmp_path: Path) -> None:
    """Neither a client nor an unfinished job for a while; each keeps it alive."""
    connection = one_worker(idle_timeout=IDLE)
    processes = reaper.tree(connection.pid)
    go = tmp_path / "go"
    code = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.02)"
    with connected(connection) as (_, registry):
        job = registry.create(cell_spec(code))
    # Nobody is connected; it is the job that keeps it.
    threading.Event().wait(2 * IDLE)
    observer = connections.find("default")
    assert observer == connection
    go.touch()
    wait_for(lambda: not living(processes), 60)
    assert "idle for 3 s" in Path(connection.log).read_text()
    assert connections.find("default") is None
    with connected(one_worker()) as (_, registry):
        assert registry.show(job.id).state == State.FINISHED


def test_a_client_keeps_it() -> None:
    connection = one_worker(idle_timeout=IDLE)
    with connected(connection) as (_, registry):
        job = registry.create(cell_spec("1"))
        assert registry.wait([job.id], 60)[0].state == State.FINISHED
        threading.Event().wait(2 * IDLE)
        assert ping(connection).clients == 1
    wait_for(lambda: not held(Files.of("default").alive), 60)


@pytest.mark.parametrize("twice", [False, True], ids=["ctrl-c", "ctrl-c-twice"])
def test_in_the_foreground_ctrl_c_ends_it(folders: Any, twice: bool) -> None:
    """On a real terminal, where Ctrl-C reaches every process of the server's group."""
    main, terminal = pty.openpty()
    command = [sys.executable, "-m", "dask_async_run", "server", "--workers", "1"]
    command.append("--no-dashboard")
    server = subprocess.Popen(
        [sys.executable, "-c", TAKE_TERMINAL, *command],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    seen: list[bytes] = []
    reader = threading.Thread(target=_read_all, args=(main, seen))
    reader.start()
    try:
        wait_for(lambda: b"is ready" in b"".join(seen), 60, "a ready server")
        connection = connections.find("default")
        assert connection is not None
        assert connection.pid == server.pid == holder(Files.of("default").alive)
        # A second one says so, and does not disturb.
        second = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert second.returncode == 1
        assert "runs already" in second.stderr
        processes = reaper.tree(server.pid)
        os.write(main, b"\x03")
        if twice:
            wait_for(lambda: b"got SIGINT" in b"".join(seen))
            os.write(main, b"\x03")
        code = server.wait(60)
        wait_for(lambda: not living(processes), 60)
        assert code in ((0, 1) if twice else (0,)), b"".join(seen).decode()
        assert b"Traceback" not in b"".join(seen), b"".join(seen).decode()
    finally:
        server.kill()
        server.wait()
        reader.join(10)
        os.close(main)
    assert not (folders.state / "default" / "server.log").exists()
    assert not held(Files.of("default").alive)


def _read_all(fd: int, seen: list[bytes]) -> None:
    while True:
        try:
            data = os.read(fd, 65536)
        except OSError:  # no process has the terminal any more
            return
        if not data:
            return
        seen.append(data)


def test_a_server_that_dies_while_it_is_asked_is_said_to_have_gone() -> None:
    """At once, and that nobody knows whether it did what it was asked to do; nothing of Dask's."""

    def dies(connection: connections.Connection) -> float:
        process = psutil.Process(connection.pid)
        process.suspend()
        threading.Timer(3.0, process.kill).start()
        return time.monotonic()

    connection = one_worker()
    begun = dies(connection)
    with pytest.raises(ServerGoneError, match=r"has gone: .* 'dask-async-run jobs' tells"):
        forget(connection, ["x"])
    assert time.monotonic() - begun < 9
    begun = dies(one_worker())
    assert stop_server()
    assert time.monotonic() - begun < 9
