"""Workers on a machine of their own: another address, another /dev/shm, and a cable."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from quickstart import check, execute
from realkernel import RealKernel
from waiting import wait_for

OpenKernel = Callable[..., RealKernel]

pytestmark = pytest.mark.timeout(400)


@dataclass
class Cable:
    """Two machines: this one, and a network namespace, with a cable between them."""

    name: str
    here: str
    there: str

    def ip(self, *words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    def plug(self) -> None:
        self.ip("link", "set", self.name, "up")

    def pull(self) -> None:
        self.ip("link", "set", self.name, "down")


@pytest.fixture
def cable() -> Iterator[Cable]:
    """Make the other machine; skip where nobody may."""
    number = uuid.uuid4().int % 200 + 20
    made = Cable(f"dar-{uuid.uuid4().hex[:8]}", f"10.251.{number}.1", f"10.251.{number}.2")
    if shutil.which("ip") is None or os.getuid() != 0:
        pytest.skip("network namespaces need `ip` (iproute2) and root")
    try:
        made.ip("netns", "add", made.name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespace here: {error.stderr.decode().strip()}")
    try:
        peer = f"{made.name[:12]}-p"
        made.ip("link", "add", made.name, "type", "veth", "peer", "name", peer)
        made.ip("link", "set", peer, "netns", made.name)
        made.ip("addr", "add", f"{made.here}/24", "dev", made.name)
        made.ip("-n", made.name, "addr", "add", f"{made.there}/24", "dev", peer)
        made.ip("-n", made.name, "link", "set", peer, "up")
        made.ip("-n", made.name, "link", "set", "lo", "up")
        made.plug()
        yield made
    finally:
        made.ip("netns", "del", made.name)  # and the cable with it


@dataclass
class Site:
    """A scheduler here, and workers there that see none of this machine's shared memory."""

    file: str
    start_worker: Callable[[], None]


@pytest.fixture
def site(cable: Cable, tmp_path: Path) -> Iterator[Site]:
    file = tmp_path / "scheduler.json"
    started: list[subprocess.Popen[bytes]] = []
    log = tmp_path / "dask.log"

    def start(*command: str) -> None:
        command = (*command, "--no-dashboard", "--scheduler-file", str(file))
        started.append(subprocess.Popen(command, stdout=logs, stderr=logs, start_new_session=True))

    def start_worker() -> None:
        apart = ["ip", "netns", "exec", cable.name, "unshare", "--mount", "sh", "-c"]
        apart += ['mount -t tmpfs none /dev/shm && exec "$@"', "sh"]
        scratch = str(tmp_path / f"there-{len(started)}")
        start(
            *(*apart, sys.executable, "-m", "dask", "worker", "--host", cable.there),
            *("--nworkers", "1", "--nthreads", "2", "--local-directory", scratch),
        )

    with log.open("w") as logs:
        try:
            start(sys.executable, "-m", "dask", "scheduler", "--host", cable.here, "--port", "0")
            wait_for(file.exists, 120)
            start_worker()
            yield Site(str(file), start_worker)
        finally:
            cable.plug()
            for process in reversed(started):
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
    print(log.read_text()[-4000:])


def test_the_quick_start_on_another_machine(site: Site, tmp_path: Path) -> None:
    """Unchanged but for the server's line: its workers have another address and another memory."""
    check(execute(tmp_path, server=f"%async_run_server --scheduler-file {site.file}"))


def test_a_cable_is_pulled(
    site: Site, cable: Cable, open_kernel: OpenKernel, tmp_path: Path
) -> None:
    """What finished is here, and is not made again; what ran there is lost, says so, and has
    its output so far. A worker that comes when the cable is back runs the next job."""
    kernel = open_kernel()
    kernel.do(f"%load_ext dask_async_run\n%async_run_server {site.file}", timeout=200)
    kernel.do("import numpy as np\na = np.arange(1_000_000.0)")
    kernel.do("%%async_run --name one\nb = a * 2\nopen('ran', 'a').write('x')")
    kernel.do("%async_wait one", timeout=200)
    cell = "print('begun')\\nimport time\\ntime.sleep(3600)"
    kernel.do(f"two = get_ipython().run_cell_magic('async_run', '--name two', \"{cell}\")")
    wait_for(lambda: kernel.value("two.view.last_line") == "begun", 120)
    cable.pull()
    kernel.do("%async_gather one")
    assert kernel.value("float(b[-1])") == 2.0 * 999_999
    wait_for(lambda: kernel.value("str(two.state)") == "lost", 200)
    assert "worker" in kernel.value("two.view.reason")
    cable.plug()
    site.start_worker()
    kernel.do("%%async_run --name three\nc = float(a.sum())")
    kernel.do("%async_gather three", timeout=200)
    assert kernel.value("c") == sum(range(1_000_000))
    told = kernel.run("%async_gather two")
    assert told.stdout == "begun\n"
    assert "is lost" in told.traceback
    assert (tmp_path / "ran").read_text() == "x"
