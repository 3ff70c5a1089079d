"""Every fault that README's table of survival promises something about, really caused."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from dask_async_run.frames import FrameStore
from dask_async_run.memory import Memory
from dask_async_run.server.connection import find
from elsewhere import Elsewhere
from leftovers import MARK, marked_processes
from observer import Observer
from realkernel import RealKernel
from waiting import wait_for

LOAD = "%load_ext dask_async_run\n"
SERVE = LOAD + "%async_run_server --workers 2 --no-dashboard"
OpenKernel = Callable[..., RealKernel]

pytestmark = pytest.mark.timeout(300)

HELD = """\
%%async_run --name {name}
import time
from pathlib import Path
print("begun")
while not Path("go").exists():
    time.sleep(0.02)
y = x + 1
print("done")
"""

TALKING = HELD.replace("y = x + 1", "for said in range(20):\n    print(said)\n    time.sleep(0.05)")


def gathered(kernel: RealKernel, name: str, text: str, y: int) -> None:
    """Gather in a kernel, and check what the cell printed and bound."""
    assert kernel.do(f"%async_gather {name}").stdout == text
    assert kernel.value("y") == y


@pytest.mark.survives("kernel killed while it submits")
@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05, 0.1, 0.2])
def test_kernel_killed_while_it_submits(
    open_kernel: OpenKernel, observer: Observer, delay: float
) -> None:
    """A job that is there has all of its inputs, and ends as it should."""
    kernel = open_kernel()
    kernel.do(SERVE)
    kernel.do("import numpy as np\nx = np.arange(6_000_000.0)")
    kernel.submit("%%async_run --name big\nprint('ran')\ntotal = float(x.sum())")
    time.sleep(delay)  # not a wait: the moment of the fault
    kernel.kill()
    kernel.restart()
    kernel.do(SERVE)
    if observer.job("big") is None:
        return
    assert kernel.do("%async_gather big").stdout == "ran\n"
    assert kernel.value("total") == sum(range(6_000_000))


@pytest.mark.survives("kernel killed while it gathers")
def test_kernel_killed_while_it_gathers(
    open_kernel: OpenKernel, observer: Observer, tmp_path: Path
) -> None:
    """While it waits for the job, and while it merges a large result."""
    kernel = open_kernel()
    kernel.do(SERVE)
    kernel.do("x = 20")
    kernel.do(HELD.format(name="slow"))
    observer.wait_for_text("slow", "begun")
    waiting = kernel.submit("%async_gather slow")
    kernel.wait_until_busy(waiting)
    kernel.kill()
    (tmp_path / "go").touch()
    observer.wait("slow", "finished")
    kernel.restart()
    kernel.do(SERVE)
    slow = "class Slow:\n    def __setstate__(self, state):\n        import time; time.sleep(3)\n"
    kernel.do(f"%%async_run --name large\n{slow}large = Slow(); large.a = 1")
    observer.wait("large", "finished")
    merging = kernel.submit("%async_gather large")
    kernel.wait_until_busy(merging)
    kernel.kill()
    kernel.restart()
    kernel.do(SERVE)
    gathered(kernel, "slow", "begun\ndone\n", 21)
    kernel.do("%async_gather large")
    assert kernel.value("type(large).__name__") == "Slow"


@pytest.mark.survives("kernel asleep for longer than Dask waits")
def test_kernel_asleep(
    open_kernel: OpenKernel,
    observer: Observer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A laptop that sleeps: the kernel goes on with its connection, or with a new one."""
    for name in ("TCP", "CONNECT"):
        monkeypatch.setenv(f"DASK_DISTRIBUTED__COMM__TIMEOUTS__{name}", "12s")
    kernel = open_kernel()
    kernel.do(SERVE)
    kernel.do("x = 20")
    kernel.do(HELD.format(name="slow"))
    observer.wait_for_text("slow", "begun")
    asleep = psutil.Process(kernel.pid)
    asleep.suspend()
    try:
        (tmp_path / "go").touch()
        observer.wait("slow", "finished")
        woken = time.monotonic() + 20
        wait_for(lambda: time.monotonic() > woken, 30)
    finally:
        asleep.resume()
    gathered(kernel, "slow", "begun\ndone\n", 21)


@pytest.mark.survives("scheduler at a standstill for more than a minute")
def test_scheduler_at_a_standstill(
    open_kernel: OpenKernel, observer: Observer, tmp_path: Path
) -> None:
    """A disk that hangs, a machine that swaps: the cell's end waits until it is heard; who
    asks something meanwhile is told, and not kept waiting for ever."""
    kernel = open_kernel()
    kernel.do(SERVE)
    kernel.do("x = 20")
    kernel.do(HELD.format(name="slow"))
    observer.wait_for_text("slow", "begun")
    # What this one prints is told over the connection that its end would go over.
    kernel.do(TALKING.format(name="talks"))
    observer.wait_for_text("talks", "begun")
    connection = find("default")
    assert connection is not None
    server = psutil.Process(connection.pid)
    server.suspend()
    try:
        (tmp_path / "go").touch()
        until = time.monotonic() + 65
        # An ordinary cell waits for no scheduler.
        assert "does not answer" in kernel.do("z = 1").stderr
        told = kernel.run("%async_jobs")
        assert told.error is not None
        assert "does not answer" in told.traceback
        wait_for(lambda: time.monotonic() > until, 100)
    finally:
        server.resume()
    gathered(kernel, "slow", "begun\ndone\n", 21)
    assert kernel.do("%async_gather talks").stdout.endswith("done\n")
    assert kernel.value("said") == 19


class Proxy:
    """Forwards one port to another, until it is told to be a cut cable."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._cut = False
        self._pairs: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def cut(self) -> None:
        """Break all connections, and refuse new ones."""
        self._cut = True
        for sock in self._pairs:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._cut = False

    def close(self) -> None:
        self.cut()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)
        for sock in self._pairs:
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._pairs.append(client)
            if self._cut:
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self._port))
            self._pairs.append(server)
            for pair in ((client, server), (server, client)):
                self._threads.append(threading.Thread(target=self._forward, args=pair))
                self._threads[-1].start()

    @staticmethod
    def _forward(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for sock in (source, sink):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


@pytest.mark.survives("connection to the scheduler cut for a minute")
def test_connection_cut(elsewhere: Elsewhere, open_kernel: OpenKernel, tmp_path: Path) -> None:
    """The job goes on; when the connection is back, so does the kernel."""
    proxy = Proxy(int(elsewhere.address.rpartition(":")[2]))
    try:
        kernel = open_kernel()
        kernel.do(f"{LOAD}%async_run_server tcp://127.0.0.1:{proxy.port}")
        kernel.do("x = 20")
        kernel.do(HELD.format(name="slow"))
        proxy.cut()
        (tmp_path / "go").touch()
        told = kernel.run("%async_jobs")
        assert told.error is not None
        assert "does not answer" in told.traceback
        until = time.monotonic() + 60
        wait_for(lambda: time.monotonic() > until, 90)
        proxy.mend()

        def again() -> bool:
            return kernel.run("%async_wait slow").error is None

        wait_for(again, 90)
        gathered(kernel, "slow", "begun\ndone\n", 21)
    finally:
        proxy.close()


@pytest.mark.survives("cell's process killed, or died of a segfault")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_cell_process_dies(open_kernel: OpenKernel, observer: Observer, number: int) -> None:
    """Its job says of what; its slot and its worker go on."""
    kernel = open_kernel()
    kernel.do(SERVE)
    die = "ctypes.string_at(0)" if number == signal.SIGSEGV else f"os.kill(os.getpid(), {number})"
    kernel.do(f"%%async_run --name dying\nimport ctypes, os\nprint('last words')\n{die}")
    job = observer.wait("dying")
    assert (job.state, job.pid is not None) == ("failed", True)
    assert signal.Signals(number).name in job.reason
    told = kernel.run("%async_gather dying")
    assert told.stdout == "last words\n"
    assert signal.Signals(number).name in told.traceback
    kernel.do("%async_run --name next y = 1")
    gathered(kernel, "next", "", 1)


@pytest.mark.survives("cell uses more memory than it may")
def test_cell_out_of_memory(open_kernel: OpenKernel, observer: Observer) -> None:
    """It is stopped before the machine is, and says how much it used."""
    kernel = open_kernel()
    kernel.do(SERVE)
    kernel.do(
        "%%async_run --name greedy --memory 400MiB\n"
        "y = 5\nprint('begun')\nrows = []\n"
        "import time\n"
        "while True:\n    rows.append(bytearray(10_000_000)); time.sleep(0.01)"
    )
    job = observer.wait("greedy")
    assert job.state == "failed"
    assert "more than the 400.0 MiB allowed" in job.reason
    told = kernel.run("%async_gather greedy")
    assert told.stdout == "begun\n"
    assert "more than the 400.0 MiB allowed" in told.traceback
    # Gently first, and what it had bound is saved if there is memory left for that.
    assert kernel.value("globals().get('y', 5)") == 5


def worker_of(observer: Observer, name: str) -> psutil.Process:
    """The process of the Dask worker that runs a job's cell, or its last one."""
    pid = observer.wait(name, ("running",)).pid
    assert pid is not None
    template = psutil.Process(pid).parent()
    assert template is not None
    worker = template.parent()
    assert worker is not None
    return worker


@pytest.mark.survives("worker killed while the cell runs")
@pytest.mark.survives("worker killed after the cell finished")
def test_workers_killed(open_kernel: OpenKernel, observer: Observer, tmp_path: Path) -> None:
    """The one job is lost and says so, the other's result is there; nothing ran twice."""
    kernel = open_kernel()
    kernel.do(LOAD + "%async_run_server --workers 1 --no-dashboard")
    kernel.do("import numpy as np\nx = 1")
    kernel.do("%%async_run --name done\nprint('made')\ny = int(np.ones(1_000_000).sum())")
    observer.wait("done", "finished")
    once = "open('ran', 'a').write('once ')\n"
    kernel.do(HELD.format(name="slow").replace("import time\n", "import time\n" + once))
    observer.wait_for_text("slow", "begun")
    worker_of(observer, "slow").kill()
    job = observer.wait("slow")
    assert job.state == "lost"
    assert "worker" in job.reason
    told = kernel.run("%async_gather slow")
    assert told.stdout == "begun\n"
    assert "lost" in told.traceback
    gathered(kernel, "done", "made\n", 1_000_000)
    (tmp_path / "go").touch()
    kernel.do("%async_rerun slow")
    gathered(kernel, "slow", "begun\ndone\n", 2)
    assert (tmp_path / "ran").read_text() == "once once "


def kill_everything() -> None:
    """End every process of the test's server at once, as a power cut does."""
    connection = find("default")
    assert connection is not None
    server = psutil.Process(connection.pid)
    processes = [server, *server.children(recursive=True)]
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.suspend()  # none may notice that another one is gone
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, 20)


@pytest.mark.survives("server killed while the cell runs")
@pytest.mark.survives("server killed after the cell finished")
@pytest.mark.survives("machine rebooted after the result was `saved`")
@pytest.mark.parametrize("reboot", [False, True])
def test_server_killed(
    open_kernel: OpenKernel, observer: Observer, folders: Any, tmp_path: Path, reboot: bool
) -> None:
    """Finished jobs are gathered after the next start; a reboot takes the runtime folder too."""
    kernel = open_kernel()
    kernel.do(SERVE)
    kernel.do("import numpy as np\nx = np.ones(500_000)")
    kernel.do("%%async_run --name done\nprint('made')\ny = int(x.sum())\nx[0] = 7; z = x * 2")
    observer.wait("done", "finished")
    kernel.do("x = 1")
    kernel.do(HELD.format(name="slow"))
    observer.wait_for_text("slow", "begun")
    wait_for(lambda: (job := observer.job("done")) is not None and job.saved, 30)
    if reboot:
        kernel.kill()
        kill_everything()
        shutil.rmtree(folders.runtime)
        shutil.rmtree(folders.temp)
        folders.temp.mkdir()
        if memory := Memory.of(folders.state / "default" / "frames"):
            shutil.rmtree(memory.folder)
        kernel.restart()
    else:
        connection = find("default")
        assert connection is not None
        os.kill(connection.pid, signal.SIGKILL)
    kernel.do(SERVE)
    gathered(kernel, "done", "made\n", 500_000)
    assert kernel.value("(float(z[0]), float(z[1]))") == (14.0, 2.0)
    told = kernel.run("%async_gather slow")
    assert told.stdout == "begun\n"
    assert "lost" in told.traceback
    (tmp_path / "go").touch()
    kernel.do("x = 1")
    kernel.do("%async_rerun slow")
    kernel.do("%async_gather slow")


@pytest.mark.survives("server killed while it writes")
@pytest.mark.parametrize("delay", [0.05, 0.3, 0.8])
def test_server_killed_while_it_writes(
    open_kernel: OpenKernel, observer: Observer, folders: Any, delay: float
) -> None:
    """Amid results, frames and floods of output: what is there is whole."""
    kernel = open_kernel()
    kernel.do(SERVE)
    kernel.do("import numpy as np")
    for number in range(6):
        kernel.do(
            f"%%async_run --name job-{number}\n"
            f"a = np.full(3_000_000, {number}.0)\n"
            f"for line in range(20_000): print({number}, line)"
        )
    observer.wait("job-0", ("running", "finished"))
    time.sleep(delay)  # not a wait: the moment of the fault
    kill_everything()
    kernel.do(SERVE)
    with sqlite3.connect(folders.state / "default" / "journal.sqlite") as journal:
        assert journal.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    journal.close()
    store = FrameStore(folders.state / "default" / "frames")
    for digest in store:
        store.verify(digest, int(digest.partition("-")[2]))
    kernel.do("%async_wait", timeout=120)
    jobs = {job.name: job for job in observer.jobs()}
    assert len(jobs) == 6
    for number in range(6):
        job = jobs[f"job-{number}"]
        assert job.state in ("finished", "lost")
        if job.state == "finished":
            kernel.do(f"%async_gather {job.name}")
            assert kernel.value("(float(a.min()), float(a.max()), a.size)") == (
                (float(number), float(number), 3_000_000)
            )


@pytest.mark.survives("package upgraded between two runs")
def test_package_upgraded(open_kernel: OpenKernel, observer: Observer, folders: Any) -> None:
    """A journal of an older version, with jobs that know less, is read; a newer one is refused."""
    kernel = open_kernel()
    kernel.do(SERVE)
    kernel.do("x = 20")
    kernel.do("%%async_run --name old\nprint('old')\ny = x + 1")
    observer.wait("old", "finished")
    kernel.do("%async_stop_server")
    path = folders.state / "default" / "journal.sqlite"
    forget_fields(path, "certain", "warm", "grace", "shell")
    kernel.restart()
    kernel.do(SERVE)
    gathered(kernel, "old", "old\n", 21)
    kernel.do("%async_stop_server")
    with write(path) as journal:
        journal.execute("PRAGMA user_version = 1000")
    refused = kernel.run(SERVE)
    assert "newer" in refused.text
    wait_for(
        lambda: marked_processes(os.environ[MARK]) == [psutil.Process(kernel.pid)],
        what="the server that refused to be gone",
    )


@contextmanager
def write(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path)
    try:
        with connection:
            yield connection
    finally:
        connection.close()


def forget_fields(path: Path, *names: str) -> None:
    """Make a journal's specs such as a version wrote that did not know these fields."""
    from dask_async_run.messages import pack, unpack

    with write(path) as journal:
        for number, packed in journal.execute("SELECT number, spec FROM specs").fetchall():
            spec = {k: v for k, v in unpack(packed).items() if k not in names}
            journal.execute("UPDATE specs SET spec = ? WHERE number = ?", (pack(spec), number))


def test_every_command_of_a_dead_server_says_so(open_kernel: OpenKernel) -> None:
    """Within seconds, in one line, and what to do."""
    kernel = open_kernel()
    kernel.do(SERVE)
    kernel.do("%%async_run --name one\nx = 1")
    kernel.do("%async_gather one")
    kill_everything()
    for magic in ("%async_gather one", "%async_cancel one", "%async_attach one"):
        told = kernel.run(magic)
        assert told.error is not None
        assert "%async_run_server" in told.text
        assert told.seconds < 20
    done = subprocess.run(
        [sys.executable, "-m", "dask_async_run", "jobs"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "one" in done.stdout
