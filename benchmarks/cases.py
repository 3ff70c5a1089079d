"""What is measured: one number of seconds for each peer and round."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from peers import Peer

SHARED_MEMORY = Path("/dev/shm")
SMALL = "y = 1"
LINES = "for i in range(100_000): print(i)\ny = 1"


@dataclass(frozen=True)
class Case:
    """One line of the table.

    Parameters
    ----------
    name : str
    measure : callable
        Of a peer and a size in bytes; answers seconds.
    large : bool
        Whether it depends on the size.
    peers : tuple of str
        Beginnings of the names of those that can do it; all if empty.
    """

    name: str
    measure: Callable[[Peer, int], float]
    large: bool = False
    peers: tuple[str, ...] = ()


def _seconds(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def fresh(size: int) -> Any:
    """An array that nobody has seen; its memory has been touched."""
    array = np.empty(size // 8)
    array[:] = np.random.default_rng().random()
    return array


def submit_small(peer: Peer, size: int) -> float:
    peer.put(1)
    jobs: list[Any] = []
    seconds = _seconds(lambda: jobs.append(peer.submit(SMALL)))
    peer.finish(jobs[0])
    return seconds


def round_trip_small(peer: Peer, size: int) -> float:
    peer.put(1)
    return _seconds(lambda: peer.finish(peer.submit(SMALL)))


def submit_large(peer: Peer, size: int) -> float:
    peer.put(fresh(size))
    jobs: list[Any] = []
    seconds = _seconds(lambda: jobs.append(peer.submit(SMALL)))
    peer.finish(jobs[0])
    return seconds


def use_large(peer: Peer, size: int) -> float:
    peer.put(fresh(size))
    return _seconds(lambda: peer.finish(peer.submit("y = float(x[0] + x[-1])")))


def use_large_again(peer: Peer, size: int) -> float:
    peer.put(fresh(size))
    peer.finish(peer.submit(SMALL))
    return _seconds(lambda: peer.finish(peer.submit("y = float(x[0] + x[-1])")))


def result_large(peer: Peer, size: int) -> float:
    peer.put(1)
    job = peer.submit(f"import numpy as np\ny = np.ones({size // 8})")
    ready = time.monotonic() + 2 + size / 200e6
    while time.monotonic() < ready:  # it is finished; gathering is what is measured
        time.sleep(0.05)
    return _seconds(lambda: peer.finish(job))


def many_variables(peer: Peer, size: int) -> float:
    peer.put({f"v{number}": [number] for number in range(1000)})
    return _seconds(lambda: peer.finish(peer.submit("y = len(x)")))


def million_ints(peer: Peer, size: int) -> float:
    peer.put({number: number for number in range(1_000_000)})
    return _seconds(lambda: peer.finish(peer.submit("y = len(x)")))


def print_lines(peer: Peer, size: int) -> float:
    peer.put(1)
    return _seconds(lambda: peer.finish(peer.submit(LINES)))


KEPT = ("dask_async_run", "dask, published", "ipyparallel", "ray")
"""Those whose result does not go with the client, and the two that have no such thing."""

CASES = (
    Case("a small cell: the call returns", submit_small, peers=KEPT),
    Case("a small cell: there and back", round_trip_small),
    Case("a large array: the call returns", submit_large, large=True),
    Case("a large array: there, used, and back", use_large, large=True),
    Case("the same array again, unchanged", use_large_again, large=True),
    Case("a large result, gathered", result_large, large=True),
    Case("a dict of 1,000 lists", many_variables),
    Case("a dict of 1,000,000 ints", million_ints, peers=("dask_async_run", "ipyparallel", "ray")),
    Case("100,000 printed lines", print_lines, peers=("dask_async_run",)),
)


def limits(size: int) -> dict[str, float]:
    """What this machine can do: seconds."""
    source = fresh(size)
    target = np.empty_like(source)
    target[:] = 0

    def copy() -> None:
        target[:] = source

    def write() -> None:
        with tempfile.TemporaryFile(dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None) as file:
            file.write(source)

    def lines() -> None:
        with Path(os.devnull).open("w") as null:
            for number in range(100_000):
                print(number, file=null)

    return {
        f"memcpy of {size / 1e6:.0f} MB": _seconds(copy),
        f"write of {size / 1e6:.0f} MB to tmpfs": _seconds(write),
        "100,000 lines to /dev/null": _seconds(lines),
    }
