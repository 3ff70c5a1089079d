"""What a server does under load: how long calls take then, and what its process holds.

``python benchmarks/load.py --markdown docs/load.md``. One server, whose journal has 10,000 jobs,
with a second worker that runs 100 cells side by side; everything on this machine. Each row
is a state of affairs, in which the same calls are made.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import psutil

import growth
from dask_async_run.job import JobView
from dask_async_run.server.control import stop_server
from peers import Ours
from run import placed

SERVER = "load"
LINES = "while True: print('a line of output, as cells in a hurry write them')"
SLEEPS = "import time; time.sleep(3600)"
MB = 1e6

CALLS = "submit", "Dask's submit and publish", "show one", "`%async_jobs`", "attach", "memory, MB"


@dataclass(frozen=True)
class Scale:
    """How many of each."""

    journal: int
    slots: int
    pending: int
    published: int
    attached: int
    seconds: float
    rounds: int


FULL = Scale(10_000, 100, 500, 1000, 50, 20.0, 9)
QUICK = Scale(100, 4, 8, 4, 2, 1.0, 2)


@dataclass
class Load:
    """A kernel's shell, its server with many slots, and what was measured there.

    Attributes
    ----------
    rows : dict
        Medians in ms, and MB, by state of affairs and call.
    """

    shell: Any
    scale: Scale
    rows: dict[str, dict[str, float]] = field(default_factory=dict)
    _count: int = 0

    @property
    def session(self) -> Any:
        return self.shell.magics_manager.registry["AsyncRun"].session

    def submit(self, code: str, options: str = "") -> str:
        self._count += 1
        name = f"load-{self._count}"
        self.shell.run_cell_magic("async_run", f"--name {name} {options}", code)
        return name

    def publish(self) -> None:
        """What plain Dask offers for a task that is to outlive its client."""
        client = self.session.client
        client.publish_dataset(client.submit(abs, 1, pure=False, priority=-5), name="beside")

    def magic(self, name: str, line: str = "") -> None:
        with redirect_stdout(StringIO()):
            self.shell.run_line_magic(name, line)

    def look(self, row: str) -> None:
        """Make every call some times."""
        taken: dict[str, list[float]] = {call: [] for call in CALLS[:-1]}
        for _ in range(self.scale.rounds):
            taken[CALLS[0]].append(_ms(partial(self.submit, "y = 1", "--priority -5")))
            job = self.session.jobs([f"load-{self._count}"])[0].id
            taken[CALLS[1]].append(_ms(self.publish))
            self.session.client.unpublish_dataset("beside")
            taken[CALLS[2]].append(_ms(partial(self.session.registry.show, job)))
            taken[CALLS[3]].append(_ms(partial(self.magic, "async_jobs")))
            taken[CALLS[4]].append(_ms(partial(self.session.registry.outputs, job)))
        self.rows[row] = {call: statistics.median(values) for call, values in taken.items()}
        self.rows[row][CALLS[-1]] = self.memory()
        print(row, self.rows[row], file=sys.stderr)

    def memory(self) -> float:
        process = psutil.Process(self.session.connection.pid)
        return float(process.memory_info().rss / MB)

    def running(self, names: list[str]) -> list[JobView]:
        """Wait until jobs run, all of them."""
        while any(view.state != "running" for view in self.session.jobs(names)):
            time.sleep(0.2)
        views: list[JobView] = self.session.jobs(names)
        return views

    def cancel(self, names: list[str]) -> None:
        ids = [view.id for view in self.session.jobs(names)]
        self.session.registry.cancel(ids)
        self.session.registry.wait(ids, 600)

    @contextmanager
    def attached(self, views: list[JobView]) -> Iterator[None]:
        """Follow jobs in turns in a thread, as `%async_attach` does, as their output comes."""
        over = threading.Event()
        registry = self.session.registry

        def follow() -> None:
            seen = dict.fromkeys((view.id for view in views), 0)
            while not over.is_set():
                for job in seen:
                    news = registry.outputs(job, seen[job], 0.02)
                    seen[job] = max([seen[job], *(output.seq for output in news.outputs)])

        thread = threading.Thread(target=follow)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _ms(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - begun)


def measure(load: Load) -> None:
    """Bring about one state of affairs after the other."""
    scale = load.scale
    load.look(f"nothing runs; {scale.journal:,} jobs in the journal")
    talk = [load.submit(LINES) for _ in range(scale.slots)]
    views = load.running(talk)
    time.sleep(scale.seconds)
    load.look(f"{scale.slots} cells print at full speed")
    with load.attached(views[: scale.attached]):
        time.sleep(scale.seconds)
        load.look(f"the same, {scale.attached} of them followed")
    load.cancel(talk)
    load.look("they are cancelled")
    asleep = [load.submit(SLEEPS) for _ in range(scale.slots + scale.pending)]
    load.look(f"{scale.slots} cells sleep, {scale.pending} wait")
    load.cancel(asleep)
    quick = [load.submit("y = 1") for _ in range(scale.published)]
    load.magic("async_wait", " ".join(quick[-10:]))
    load.session.registry.wait([view.id for view in load.session.jobs(quick)], 1800)
    load.look(f"{scale.published:,} more have finished, and are published")


@contextmanager
def opened(scale: Scale) -> Iterator[Load]:
    """Start server and worker; stop them afterwards."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    with ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory(prefix="dar-"))
        os.environ["DASK_ASYNC_RUN_STATE"] = f"{home}/state"
        os.environ["DASK_ASYNC_RUN_RUNTIME"] = f"{home}/runtime"
        os.environ["IPYTHONDIR"] = f"{home}/ipython"
        growth.fill(SERVER, scale.journal)
        config = Config()
        config.HistoryManager.enabled = False
        shell: Any = InteractiveShell.instance(config=config)
        shell.run_line_magic("load_ext", "dask_async_run")
        stack.callback(stop_server, SERVER, force=True)
        Ours(shell).use(SERVER)
        stack.callback(shell.run_line_magic, "unload_ext", "dask_async_run")
        load = Load(shell, scale)
        stack.enter_context(_worker(load, Path(home)))
        yield load


@contextmanager
def _worker(load: Load, home: Path) -> Iterator[None]:
    """Have a worker of many threads: each is a slot for a cell."""
    connection = load.session.connection
    command = [sys.executable, "-m", "dask", "worker", connection.address]
    command += ["--nthreads", str(load.scale.slots), "--no-nanny", "--no-dashboard"]
    command += ["--local-directory", str(home)]
    for option, text in connection.tls.items():
        path = home / f"{option}.pem"
        path.touch(0o600)
        path.write_text(text)
        command += ["--tls-ca-file" if option == "ca" else f"--tls-{option}", str(path)]
    with (home / "worker.log").open("w") as log:
        worker = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        load.session.client.wait_for_workers(2, timeout=120)
        yield
    finally:
        worker.terminate()
        with suppress(subprocess.TimeoutExpired):
            worker.wait(30)
        worker.kill()
        worker.wait()


def table(rows: dict[str, dict[str, float]]) -> str:
    lines = ["| ms, medians | " + " | ".join(CALLS) + " |", "| --- " + "| --: " * len(CALLS) + "|"]
    for row, found in rows.items():
        lines.append(f"| {row} | " + " | ".join(f"{found[call]:.0f}" for call in CALLS) + " |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="does it work: few of everything")
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args(arguments)
    scale = QUICK if options.quick else FULL
    begun = time.time()
    with opened(scale) as load:
        measure(load)
    text = (
        f"{time.strftime('%Y-%m-%d')}; {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} cores, Python {platform.python_version()}; medians of "
        f"{scale.rounds}, {time.time() - begun:.0f} s\n\n{table(load.rows)}\n"
    )
    print(text)
    if options.markdown:
        options.markdown.write_text(placed(options.markdown, text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
