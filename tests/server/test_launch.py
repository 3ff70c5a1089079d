"""Servers are found or started, whatever else happens at the same moment."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import dask
import psutil
import pytest

from dask_async_run.errors import ServerError
from dask_async_run.folders import RUNTIME_VARIABLE, STATE_VARIABLE
from dask_async_run.server import connection as connections
from dask_async_run.server import launch, reaper
from dask_async_run.server.connection import Files
from dask_async_run.server.control import ping, stop_server
from dask_async_run.server.launch import ensure_server
from dask_async_run.server.locks import Lock, held, holder
from elsewhere import namespace
from jobs import cell_spec, connected
from waiting import wait_for

pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("stopping")]

START = """
import sys
from dask_async_run.server.launch import ensure_server
print("go", flush=True)
sys.stdin.readline()
connection, started = ensure_server(workers=1, dashboard=False)
print(connection.pid, started, flush=True)
"""


def one_worker(**options: Any) -> tuple[connections.Connection, bool]:
    return ensure_server(workers=1, dashboard=False, **options)


def living(processes: set[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def test_a_server_is_started_found_and_stopped(folders: Any) -> None:
    connection, started = ensure_server(workers=2, memory_limit="2GiB")
    assert started
    assert connection.state_folder == str(folders.state / "default")
    assert connection.address.startswith("tls://127.0.0.1:")
    assert connection.dashboard is not None
    assert connection.dashboard.startswith("http://127.0.0.1:")

    # A second one finds it, whatever it asks for; soon, but for what else a machine has to do.
    seconds = []
    for _ in range(3):
        begun = time.monotonic()
        assert ensure_server(workers=7) == (connection, False)
        seconds.append(time.monotonic() - begun)
    assert min(seconds) < 2

    # It is nobody's child and in nobody's session.
    server = psutil.Process(connection.pid)
    assert server.ppid() != os.getpid()
    assert os.getsid(server.pid) not in (os.getsid(0), 0)
    assert server.terminal() is None
    assert Path(server.cwd()) == Path.home()
    assert holder(Files.of("default").alive) == server.pid

    # Nobody else can read any of it.
    for path in [folders.state, *folders.state.glob("*/*"), *folders.runtime.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path

    if os.geteuid() == 0:
        folders.home.chmod(0o755)
        for path in [*folders.state.glob("*/*"), *folders.runtime.glob("*")]:
            assert subprocess.run(["cat", path], user=65534, capture_output=True).returncode != 0

    with connected(connection) as (client, _):
        environments = client.run(lambda: dict(os.environ)).values()
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
    assert [worker["memory_limit"] for worker in workers] == [2 * 1024**3] * 2
    assert connection.dashboard_link is not None
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with browser.open(connection.dashboard_link) as page:
        assert page.status == 200
        assert page.url == connection.dashboard
    for environment in environments:
        cores = len(os.sched_getaffinity(0))
        assert environment["OPENBLAS_NUM_THREADS"] == str(max(1, cores // 2))
        assert "MALLOC_TRIM_THRESHOLD_" not in environment

    # It answers, and it lets nobody in who has no certificate.
    answer = ping(connection)
    assert (answer.workers, answer.unfinished, answer.stopping) == (2, [], False)
    assert _refuses_strangers(connection)

    processes = reaper.tree(connection.pid)
    assert len(processes) >= 3
    assert stop_server()
    assert not living(processes)
    assert not Files.of("default").connection.exists()
    assert not (folders.state / "default" / "scratch").exists()
    assert not stop_server()
    log = Path(connection.log).read_text()
    assert "BEGIN" not in log


def _refuses_strangers(connection: connections.Connection) -> bool:
    from distributed import Security

    mine = Security.temporary()
    tls = {"ca": connection.tls["ca"], "cert": mine.tls_client_cert, "key": mine.tls_client_key}
    try:
        ping(dataclasses.replace(connection, tls=tls), timeout=5)
    except ServerError:
        return True
    return False


def test_starters_at_the_same_moment_get_the_same_server(python: Any) -> None:
    starters = [python(START) for _ in range(3)]
    for starter in starters:
        assert starter.stdout.readline() == "go\n"
    for starter in starters:
        starter.stdin.write("\n")
        starter.stdin.flush()
    answers = [starter.communicate(timeout=120) for starter in starters]
    lines = [out.split() for out, _ in answers]
    assert all(len(line) == 2 for line in lines), answers
    assert len({pid for pid, _ in lines}) == 1
    assert sorted(started for _, started in lines) == ["False", "False", "True"]


def test_a_killed_server_takes_its_workers_along_and_is_replaced() -> None:
    """Its connection file stays behind, and deceives nobody."""
    connection, _ = one_worker()
    processes = reaper.tree(connection.pid)
    os.kill(connection.pid, signal.SIGKILL)
    wait_for(lambda: not living(processes), 60, "the workers' end")
    files = Files.of("default")
    assert files.connection.exists()
    assert connections.find("default") is None
    assert not stop_server()

    again, started = one_worker()
    assert started
    assert again.pid != connection.pid
    assert again.tls != connection.tls
    assert connections.find("default") == again


def test_a_stopped_worker_does_not_outlive_a_killed_server() -> None:
    """The kernel ends it, although it cannot notice anything itself."""
    connection, _ = one_worker()
    processes = reaper.tree(connection.pid)
    (worker,) = (p for p in processes if "spawn_main" in " ".join(p.cmdline()))
    worker.suspend()
    os.kill(connection.pid, signal.SIGKILL)
    wait_for(lambda: not living(processes), 60, "the workers' end")


def test_a_starter_that_is_killed_leaves_a_server_that_the_next_one_waits_for(python: Any) -> None:
    starter = python(START)
    assert starter.stdout.readline() == "go\n"
    starter.stdin.write("\n")
    starter.stdin.flush()
    files = Files.of("default")
    wait_for(lambda: files.folder.exists() and held(files.alive), 60)
    starter.kill()
    assert not files.connection.exists()
    _, started = one_worker()
    assert not started


def test_an_interrupted_start_leaves_nothing(python: Any) -> None:
    starter = python(START)
    assert starter.stdout.readline() == "go\n"
    starter.stdin.write("\n")
    starter.stdin.flush()
    files = Files.of("default")
    wait_for(lambda: files.folder.exists() and held(files.alive), 60)
    pid = wait_for(lambda: holder(files.alive))
    processes = reaper.tree(pid)
    starter.send_signal(signal.SIGINT)
    _, said = starter.communicate(timeout=60)
    assert "KeyboardInterrupt" in said
    wait_for(lambda: not living(processes | reaper.tree(pid)), 60)
    assert not held(files.alive)
    assert not files.connection.exists()


def test_a_server_is_stopped_while_somebody_waits_for_it(python: Any) -> None:
    starter = python(START)
    assert starter.stdout.readline() == "go\n"
    starter.stdin.write("\n")
    starter.stdin.flush()
    files = Files.of("default")
    wait_for(lambda: files.folder.exists() and held(files.alive), 60)
    with pytest.raises(ServerError, match="is starting or stopping"):
        stop_server()
    assert stop_server(force=True)
    assert not held(files.alive)
    _, said = starter.communicate(timeout=60)
    assert "ended while it started" in said


def test_a_server_that_dies_while_somebody_waits_for_it(python: Any) -> None:
    starter = python(START)
    assert starter.stdout.readline() == "go\n"
    starter.stdin.write("\n")
    starter.stdin.flush()
    files = Files.of("default")
    wait_for(lambda: files.folder.exists() and held(files.alive), 60)
    os.kill(wait_for(lambda: holder(files.alive)), signal.SIGKILL)
    _, said = starter.communicate(timeout=60)
    assert "ended while it started" in said
    assert "server.log" in said


def test_a_crash_at_the_start_is_told_with_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that cannot start: the user's own Dask configuration, say."""
    monkeypatch.setenv("DASK_DISTRIBUTED__NANNY__PRELOAD", '["no_such_module"]')
    with pytest.raises(ServerError) as caught:
        one_worker()
    assert "could not start: No module named 'no_such_module'. Its log" in str(caught.value)
    assert caught.value.log is not None
    assert "no_such_module" in Path(caught.value.log).read_text()
    assert not held(Files.of("default").alive)

    monkeypatch.delenv("DASK_DISTRIBUTED__NANNY__PRELOAD")
    assert one_worker()[1]


def test_a_machine_without_semaphores_says_what_is_missing() -> None:
    """Some containers have no shared memory, in which Python's semaphores lie."""
    mounted = 'mount -t tmpfs -o ro none /dev/shm && exec "$@"'
    started = subprocess.run(
        [*namespace(), "sh", "-c", mounted, "sh", sys.executable, "-c", START],
        input="\n",
        capture_output=True,
        text=True,
    )
    assert "Python can make no semaphore here (Read-only file system)" in started.stderr
    assert "have /dev/shm mounted" in started.stderr


def test_a_start_that_takes_too_long_is_ended() -> None:
    """Its process stands still amid it, and is gone afterwards."""
    files = Files.of("default")
    starting: list[psutil.Process] = []

    def stand_still() -> None:
        wait_for(lambda: files.folder.exists() and held(files.alive))
        starting.append(psutil.Process(wait_for(lambda: holder(files.alive))))
        starting[0].suspend()

    suspending = threading.Thread(target=stand_still)
    suspending.start()
    with pytest.raises(ServerError, match="not ready in time"):
        one_worker(timeout=12)
    suspending.join()
    assert not living(set(starting))
    assert not held(files.alive)


def test_a_python_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(ServerError, match=r"/no/such/python: No such file"):
        one_worker()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ServerError, match=r"ended with code 1\. It said nothing"):
        one_worker()


def test_a_damaged_file_of_a_living_server_is_put_right(folders: Any) -> None:
    connection, _ = one_worker()
    files = Files.of("default")

    def garbage() -> None:
        files.connection.write_text("{")

    def readable() -> None:
        files.connection.chmod(0o644)

    def truncated() -> None:
        os.truncate(files.connection, 0)

    for damage in (garbage, readable, truncated, files.connection.unlink):
        damage()
        assert one_worker() == (connection, False)
        assert files.connection.stat().st_mode & 0o777 == 0o600

    # The whole folder, locks included: as a reboot or a tidy administrator does.
    shutil.rmtree(folders.runtime)
    assert one_worker() == (connection, False)
    shutil.rmtree(folders.runtime)
    wait_for(lambda: connections.find("default") == connection, 60)
    assert stop_server()


def test_what_a_dead_server_left_is_replaced_whatever_it_is() -> None:
    """Nobody's word is taken for it, so it need not be trusted either."""
    files = Files.of("default")
    files.make_folder()
    files.connection.write_text("{")
    files.connection.chmod(0o666)
    if os.geteuid() == 0:
        os.chown(files.connection, 12345, 12345)
    connection, started = one_worker()
    assert started
    assert connections.find("default") == connection


def test_folders_that_cannot_be_used(
    folders: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for variable in (RUNTIME_VARIABLE, STATE_VARIABLE):
        for place in (tmp_path / "file", Path("/proc/nowhere"), tmp_path / ("x" * 300)):
            with monkeypatch.context() as patch:
                patch.setenv(variable, str(place))
                with pytest.raises(ServerError, match=r"cannot be made|is not a folder"):
                    one_worker()
    folders.runtime.chmod(0o755)
    with pytest.raises(ServerError, match="open to other users"):
        one_worker()


def test_long_folders_and_a_notebooks_folder_full_of_traps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Paths longer than a socket's name may be; modules that hide Python's own."""
    deep = tmp_path / "/".join(["long" * 20] * 4)
    monkeypatch.setenv(RUNTIME_VARIABLE, str(deep / "runtime"))
    monkeypatch.setenv(STATE_VARIABLE, str(deep / "state"))
    for name in ("random", "logging", "distributed", "dask_async_run"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('trap')")
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        connection, started = one_worker()
    assert started
    assert ping(connection).workers == 1
    assert stop_server()


def test_the_temporary_folder_of_who_started_it_may_go(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It goes with a login or a batch job; the first cell comes later. It was never sent."""
    (tmp_path / "session").mkdir()
    with monkeypatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path / "session"))
        connection, _ = one_worker()
    shutil.rmtree(tmp_path / "session")
    with connected(connection) as (_, registry):
        job = registry.create(cell_spec("pass"))
        assert registry.wait([job.id], 60)[0].state == "finished"


def test_a_folder_too_long_for_the_journal_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """SQLite itself only says that it is unable."""
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "/".join(["long" * 20] * 7)))
    with pytest.raises(ServerError, match=r"has too long a name: .* Choose a shorter one"):
        one_worker()


def test_a_folder_whose_name_is_no_text_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where Python is held to ASCII; it was Dask's nanny that failed, and did not say of what."""
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "caf\xe9"))
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "dask_async_run", "server", "start", "--workers", "1"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 1
    assert r"caf\udcc3\udca9/default has a name that is no text in ascii" in ran.stderr
    assert "PYTHONUTF8=1" in ran.stderr
    environment["PYTHONUTF8"] = "1"
    assert subprocess.run(command, env=environment, timeout=120).returncode == 0
    assert stop_server()


def test_the_dashboards_link_is_made_where_it_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a hub's proxy in its notebooks, whoever started the server; else directly."""
    template = "{NO_SUCH_VARIABLE}proxy/{port}/status"
    monkeypatch.setenv("DASK_DISTRIBUTED__DASHBOARD__LINK", template)
    connection, _ = ensure_server(workers=1)
    assert connection.dashboard is not None
    assert connection.dashboard.startswith("http://127.0.0.1:")
    port = connection.dashboard.rpartition(":")[2].partition("/")[0]
    with dask.config.set({"distributed.dashboard.link": template}):
        assert str(connection.dashboard_link).startswith(f"{connection.dashboard}?code=")
        monkeypatch.setenv("NO_SUCH_VARIABLE", "/user/ada/")
        there = f"/user/ada/proxy/{port}/status?code="
        assert str(connection.dashboard_link).startswith(there)


def test_a_state_folder_has_one_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also when somebody chooses another runtime folder: its journal has one owner."""
    one_worker()
    with monkeypatch.context() as patch:
        patch.setenv(RUNTIME_VARIABLE, str(tmp_path / "elsewhere"))
        with pytest.raises(ServerError, match="another server uses"):
            one_worker()


def test_only_a_server_of_this_machine_and_environment_is_used() -> None:
    files = Files.of("default")
    files.make_folder()
    lock = Lock(files.alive)
    assert lock.acquire()
    lock.write(str(os.getpid()))
    ours = connections.Connection(
        "default",
        "tls://127.0.0.1:1",
        None,
        os.getpid(),
        1.0,
        "/state",
        connections.host(),
        {"ca": "x", "cert": "x", "key": "x"},
        "1",
        ".".join(map(str, sys.version_info[:3])),
        sys.prefix,
        1,
        "open",
    )
    assert launch.usable(ours) is ours
    changes: list[tuple[dict[str, Any], str]] = [
        ({"host": "elsewhere", "pid": 4}, "runs on the machine elsewhere"),
        ({"prefix": "/other/env"}, "another environment.*/other/env"),
        ({"python": "2.7.18"}, r"Python 2\.7\.18"),
    ]
    for change, text in changes:
        connections.write(files, dataclasses.replace(ours, **change))
        with pytest.raises(ServerError, match=text):
            one_worker()
    connections.remove(files)
    lock.release()
