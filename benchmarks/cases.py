"""What is measured: one number of seconds for each peer and round."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from peers import Ours, Peer

SHARED_MEMORY = Path("/dev/shm")
SMALL = "y = 1"
READS = "y = float(x[0] + x[-1])"
"""A cell that does not read `x` would not have it sent."""

PRINTING = "import time; t = time.perf_counter()\nfor i in range(100_000): print(i)\n"
BURST = 30
TEXTS = 10_000_000
"""Bytes of the strings, if arrays are not smaller: larger ones take Dask minutes."""
INTS = 1_000_000
"""Items of the largest dict; as many as numbers in an array, if that is smaller."""


@dataclass(frozen=True)
class Case:
    """One line of the table.

    Parameters
    ----------
    name : str
    measure : callable
        Of a peer and a size in bytes; answers seconds.
    peers : tuple of str
        Beginnings of the names of those that can do it; all if empty.
    unit : int
        How many of them are measured at once.
    plotted : bool
        Whether it is measured at several sizes, for the plot.
    """

    name: str
    measure: Callable[[Any, int], float]
    peers: tuple[str, ...] = ()
    unit: int = 1
    plotted: bool = False


def _seconds(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def fresh(size: int) -> Any:
    """An array that nobody has seen; its memory has been touched."""
    array = np.empty(size // 8)
    array[:] = np.random.default_rng().random()
    return array


def _submitting(peer: Peer, value: Any, code: str) -> float:
    peer.put(value)
    jobs: list[Any] = []
    seconds = _seconds(lambda: jobs.append(peer.submit(code)))
    peer.finish(jobs[0])
    return seconds


def _there_and_back(peer: Peer, value: Any, code: str) -> float:
    peer.put(value)
    return _seconds(lambda: peer.finish(peer.submit(code)))


def submit_small(peer: Peer, size: int) -> float:
    return _submitting(peer, 1, SMALL)


def round_trip_small(peer: Peer, size: int) -> float:
    return _there_and_back(peer, 1, SMALL)


def burst(peer: Peer, size: int) -> float:
    peer.put(1)

    def work() -> None:
        for job in [peer.submit(SMALL) for _ in range(BURST)]:
            peer.finish(job)

    return _seconds(work)


def first_line(peer: Ours, size: int) -> float:
    peer.put(1)
    job = peer.submit("import time; print(time.monotonic(), flush=True); time.sleep(0.3); y = 1")
    printed = float(peer.follow(job))
    seconds = time.monotonic() - printed
    peer.finish(job)
    return seconds


def submit_large(peer: Peer, size: int) -> float:
    return _submitting(peer, fresh(size), READS)


def use_large(peer: Peer, size: int) -> float:
    return _there_and_back(peer, fresh(size), READS)


def use_large_again(peer: Peer, size: int) -> float:
    peer.put(fresh(size))
    peer.finish(peer.submit(READS))
    return _seconds(lambda: peer.finish(peer.submit(READS)))


def result_large(peer: Peer, size: int) -> float:
    peer.put(1)
    job = peer.submit(f"import numpy as np\ny = np.ones({size // 8})")
    peer.ready(job)  # gathering is what is measured
    seconds = _seconds(lambda: peer.finish(job))
    peer.forget(job)
    return seconds


def ten_pages(peer: Ours, size: int) -> float:
    peer.put(fresh(size))
    step = size // 8 // 10
    job = peer.submit(f"x[::{step}] += 1; y = 1")
    peer.ready(job)
    return _seconds(lambda: peer.finish(job))


def strings(peer: Peer, size: int) -> float:
    import pandas as pd

    frame = pd.DataFrame({"text": _texts(size)})
    return _there_and_back(peer, frame, "y = len(x)")


def list_of_strings(peer: Peer, size: int) -> float:
    return _there_and_back(peer, _texts(size), "y = len(x)")


def _texts(size: int) -> list[str]:
    """Texts of which no two are one."""
    first = time.time_ns()
    return [f"{first + number:020d}" for number in range(min(size, TEXTS) // 20)]


def _ints(size: int) -> dict[int, int]:
    return {n: n for n in range(min(size // 8, INTS))}


def many_variables(peer: Peer, size: int) -> float:
    return _there_and_back(peer, {f"v{n}": [n] for n in range(1000)}, "y = len(x)")


def changed_variables(peer: Peer, size: int) -> float:
    value = {f"v{n}": [n] for n in range(1000)}
    return _there_and_back(peer, value, "for v in x.values(): v.append(1)\ny = x")


def million_ints(peer: Peer, size: int) -> float:
    return _there_and_back(peer, _ints(size), "y = len(x)")


def print_lines(peer: Ours, size: int) -> float:
    peer.put(1)
    return float(peer.finish(peer.submit(PRINTING + "y = time.perf_counter() - t")))


OURS = ("dask_async_run",)
KEPT = ("dask_async_run", "dask, published", "ipyparallel", "ray", "afar")
"""Those whose result does not go with the client, and the three that have no such thing."""
KEPT_LARGE = KEPT[:-1]
LARGE = ("dask", "ipyparallel", "ray")
"""Without afar, which has everything go through the scheduler, as a part of the graph."""
NO_DICTS = ("dask_async_run", "ipyparallel", "ray")
"""Dask's own encoding of a dict of a million ints takes a minute."""

CASES = (
    Case("a small cell: the call returns", submit_small, KEPT),
    Case("a small cell: there and back", round_trip_small),
    Case(f"{BURST} small cells at once, each", burst, unit=BURST),
    Case("a printed line is seen", first_line, OURS),
    Case("a large array: the call returns", submit_large, KEPT_LARGE),
    Case("a large array: there, used, and back", use_large, LARGE, plotted=True),
    Case("the same array again, unchanged", use_large_again, LARGE),
    Case("a large result, gathered", result_large, LARGE),
    Case("a large array, changed in 10 places, gathered", ten_pages, OURS),
    Case("10 MB in strings (pandas)", strings, LARGE),
    Case("10 MB in strings (list)", list_of_strings, LARGE),
    Case("a dict of 1,000 lists", many_variables),
    Case("1,000 lists there, changed, and back", changed_variables),
    Case("a dict of 1,000,000 ints", million_ints, NO_DICTS),
    Case("100,000 printed lines, in the cell", print_lines, OURS),
)


def limits(size: int) -> dict[str, float]:
    """What this machine can do: seconds."""
    source = fresh(size)
    target = np.empty_like(source)
    target[:] = 0
    found = {f"memcpy of {size / 1e6:.0f} MB": _seconds(lambda: np.copyto(target, source))}
    folders = {"tmpfs": str(SHARED_MEMORY) if SHARED_MEMORY.is_dir() else None, "disk": None}
    for name, folder in folders.items():
        with tempfile.TemporaryFile(dir=folder) as file:
            found[f"write of {size / 1e6:.0f} MB to {name}"] = _seconds(lambda: file.write(source))
            if name == "tmpfs":
                mapping = f"mapping {size / 1e6:.0f} MB"
                found[mapping] = _seconds(lambda: np.memmap(file, mode="c"))

    def lines() -> None:
        with Path(os.devnull).open("w") as null:
            for number in range(100_000):
                print(number, file=null)

    return found | {
        f"{size / 1e6:.0f} MB over loopback TCP": _over_loopback(source),
        "pickle round trip of 10 MB in strings": _pickled(_texts(size)),
        "pickle round trip of 1,000 lists": _pickled({f"v{n}": [n] for n in range(1000)}),
        "pickle round trip of 1,000,000 ints": _pickled(_ints(size)),
        "100,000 lines to /dev/null": _seconds(lines),
    }


def _pickled(value: Any) -> float:
    return _seconds(lambda: pickle.loads(pickle.dumps(value, protocol=5)))


def _over_loopback(source: Any) -> float:
    """From one process to another one's touched memory: seconds until it says that it has it."""
    received = (
        "import socket, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1])));"
        "left = int(sys.argv[2]); b = memoryview(bytearray(b'1') * left); s.sendall(b'r')\n"
        "while left: left -= s.recv_into(b[:left])\n"
        "s.sendall(b'd')"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        command = [sys.executable, "-c", received, str(port), str(source.nbytes)]
        with subprocess.Popen(command) as process:
            connection, _ = server.accept()
            with connection:
                connection.recv(1)

                def there() -> None:
                    connection.sendall(source)
                    connection.recv(1)

                seconds = _seconds(there)
            process.wait()
    return seconds
