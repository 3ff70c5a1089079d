"""What large inputs cost on a cluster that shares no folder with the kernel, beside plain Dask.

    python benchmarks/remote.py [--rounds N] [--size 1e9]

Prints JSON: seconds by way, and what each way has the scheduler's process hold, in bytes. The
scheduler alone sees its state folder, in a mount namespace of its own (`unshare`, which a
machine may refuse: then nothing is measured); all connections are TCP, on the loopback.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client

from watching import Watched

WAYS = "dask_async_run", "dask, direct", "dask"
HIDE = 'mount -t tmpfs -o mode=0700 none "$0" && exec "$@"'
"""What a shell in a mount namespace does: hides a folder from all others, then is the command."""


def _own_memory(pid: int) -> float:
    """Bytes that are a process's own."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024.0 * int(next(line.split()[1] for line in lines if line.startswith("RssAnon")))


def namespace() -> list[str] | None:
    """The command that gives a process a mount namespace; None: this machine has none."""
    if unshare := shutil.which("unshare"):
        for options in (["--mount"], ["-Urm"]):
            if subprocess.run([unshare, *options, "true"], capture_output=True).returncode == 0:
                return [unshare, *options]
    return None


@contextmanager
def cluster(home: Path, apart: list[str]) -> Iterator[tuple[str, int]]:
    """Start a scheduler and a worker; answer the scheduler's address and process."""
    hidden, file = home / "hidden", home / "scheduler.json"
    hidden.mkdir()
    dask = [sys.executable, "-m", "dask"]
    scheduler = [*apart, "sh", "-c", HIDE, str(hidden), *dask, "scheduler", "--no-dashboard"]
    scheduler += ["--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file)]
    worker = [*dask, "worker", "--scheduler-file", str(file), "--nthreads", "1", "--no-nanny"]
    worker += ["--no-dashboard", "--local-directory", str(home)]
    environ = {**os.environ, "DASK_ASYNC_RUN_STATE": str(hidden)}
    with (home / "dask.log").open("w") as log:
        processes = [
            subprocess.Popen(command, stdout=log, stderr=log, env=environ, cwd=home)
            for command in (scheduler, worker)
        ]
        try:
            while not file.exists():
                time.sleep(0.05)
            yield json.loads(file.read_text())["address"], processes[0].pid
        finally:
            for process in reversed(processes):
                process.terminate()
                process.wait()


def measure(rounds: int, size: int) -> dict[str, dict[str, list[float]]]:
    """Answer, by way, the seconds until a cell or task has used an array that is new each time,

    ``there``; until the call returns, ``returns``; and the scheduler's memory meanwhile, ``held``.
    """
    import dask_async_run

    apart = namespace()
    if apart is None:
        return {}
    found: dict[str, dict[str, list[float]]] = {
        way: {"there": [], "returns": [], "held": []} for way in WAYS
    }
    with tempfile.TemporaryDirectory(prefix="dar-") as home, ExitStack() as stack:
        os.environ["IPYTHONDIR"] = f"{home}/ipython"
        address, scheduler = stack.enter_context(cluster(Path(home), apart))
        client: Client = Client(address, set_as_default=False)
        client.wait_for_workers(1, timeout=60)
        space: dict[str, Any] = {}
        with client, dask_async_run.connect(client=client, namespace=space) as session:

            def ours(x: Any) -> tuple[float, Callable[[], object]]:
                space["x"] = x
                job = session.run("y = float(x[0] + x[-1])")
                return time.perf_counter(), job.wait

            def dasks(x: Any, direct: bool) -> tuple[float, Callable[[], object]]:
                [data] = client.scatter([x], direct=direct, hash=False)
                future = client.submit(lambda x: float(x[0] + x[-1]), data, pure=False)
                return time.perf_counter(), future.result

            for number in range(rounds + 1):
                for way in WAYS:
                    x = np.random.default_rng().random(size // 8)
                    with Watched(partial(_own_memory, scheduler)) as watched:
                        begun = time.perf_counter()
                        if way == WAYS[0]:
                            returned, wait = ours(x)
                        else:
                            returned, wait = dasks(x, way == WAYS[1])
                        wait()
                        ended = time.perf_counter()
                    if number:  # the first one warms up
                        found[way]["there"].append(ended - begun)
                        found[way]["returns"].append(returned - begun)
                        found[way]["held"].append(watched.more)
                    del x, wait
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=float, default=1e9, help="bytes of the arrays")
    options = parser.parse_args(arguments)
    print(json.dumps(measure(options.rounds, int(options.size))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
