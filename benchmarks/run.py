"""Measure this project beside its peers, interleaved in one run, and print one table.

    python benchmarks/run.py [--quick] [--rounds N] [--size 1GB] [--json FILE] [--markdown FILE]

Machines are shared and noisy: the numbers that mean something are the ratios of one run. In
each round every peer has its turn at each case, so that what disturbs one disturbs all. What is
not installed is left out; ``pip install 'dask-async-run[benchmarks]'`` installs all peers.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from cases import CASES, limits
from peers import opened

Seconds = dict[str, dict[str, list[float]]]


def measure(rounds: int, size: int) -> tuple[Seconds, dict[str, list[float]]]:
    """Answer seconds by case and peer, and by limit."""
    found: Seconds = {case.name: {} for case in CASES}
    bounds: dict[str, list[float]] = {}
    with opened() as peers:
        for number in range(rounds + 1):
            for case in CASES:
                for peer in peers:
                    if case.peers and not peer.name.startswith(case.peers):
                        continue
                    seconds = case.measure(peer, size)
                    if number:  # the first round warms up
                        found[case.name].setdefault(peer.name, []).append(seconds)
            if number:
                for name, seconds in limits(size).items():
                    bounds.setdefault(name, []).append(seconds)
            print(f"round {number} of {rounds}", file=sys.stderr)
    return found, bounds


def table(found: Seconds, bounds: dict[str, list[float]]) -> str:
    """Markdown: median (minimum) in ms, and ours as a multiple of the best peer's median."""
    names = list(dict.fromkeys(name for peers in found.values() for name in peers))
    head = ["ms: median (minimum)", *names, "ours / best peer"]
    lines = [head, ["---"] + ["--:"] * (len(head) - 1)]
    for case, peers in found.items():
        row = [case, *(_cell(peers.get(name)) for name in names)]
        others = [statistics.median(v) for name, v in peers.items() if name != names[0]]
        ours = statistics.median(peers[names[0]])
        lines.append([*row, f"{ours / min(others):.2f}" if others else ""])
    for name, seconds in bounds.items():
        lines.append([f"*limit: {name}*", _cell(seconds), *[""] * (len(head) - 2)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(seconds: list[float] | None) -> str:
    if not seconds:
        return ""
    return f"{1000 * statistics.median(seconds):.1f} ({1000 * min(seconds):.1f})"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small data, one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=float, default=1e9, help="bytes of the large arrays")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args(arguments)
    rounds, size = (1, 8_000_000) if options.quick else (options.rounds, int(options.size))
    begun = time.time()
    found, bounds = measure(rounds, size)
    where = f"{platform.machine()}, Python {platform.python_version()}, {platform.system()}"
    text = (
        f"{time.strftime('%Y-%m-%d')}, {where}; {size / 1e6:.0f} MB arrays, {rounds} rounds, "
        f"{time.time() - begun:.0f} s\n\n{table(found, bounds)}\n"
    )
    print(text)
    if options.markdown:
        options.markdown.write_text(text)
    if options.json:
        result: dict[str, Any] = {"where": where, "size": size, "found": found, "limits": bounds}
        options.json.write_text(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
