"""Measure this project beside its peers, interleaved in one run, and print one table.

    python benchmarks/run.py [--quick] [--rounds N] [--size 1e9] [--json FILE] [--markdown FILE]
                             [--plots FOLDER]

Machines are shared and noisy: the numbers that mean something are the ratios of one run. In
each round every peer has its turn at each case, so that what disturbs one disturbs all. What is
not installed is left out; ``pip install 'dask-async-run[benchmarks]'`` installs all peers.
``--markdown README.md`` puts the table in its place there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any

import goals
import growth
import totals
from cases import CASES, Case, limits
from peers import Ours, Peer, opened

Rounds = dict[str, list[float]]
"""Seconds, by peer or by limit."""

MARKS = ("<!-- measured -->", "<!-- end of measured -->")
"""Between them the table stands, in README."""

ELSEWHERE = {
    "returns": "a large array, to a worker without a shared folder: the call returns",
    "there": "the same: there and used",
    "held": "the same: more memory of the scheduler, MB",
}
SMALLEST = 8_000_000
"""Bytes of an array that is large for `remote`."""

_SHELL = "from IPython.core.interactiveshell import InteractiveShell as S; S.instance()"
IMPORTS = {
    "a shell": _SHELL,
    "a shell, import distributed": f"{_SHELL}; import distributed",
    "a shell, %load_ext": f"{_SHELL}.run_line_magic('load_ext', 'dask_async_run')",
}


def measure(
    rounds: int, size: int, counts: tuple[int, ...], plotted: bool, warm: bool = True
) -> dict[str, Any]:
    """Answer everything that is measured, as JSON can hold it; times in seconds.

    Not `warm`: without the round that nobody counts, with several programs at once, and no
    server but one.
    """
    found: dict[str, Rounds] = {case.name: {} for case in CASES}
    bounds: Rounds = {}
    sizes: dict[int, Rounds] = {}
    with opened() as peers:
        for number in range(0 if warm else 1, rounds + 1):
            for case in CASES:
                _measure(case, peers, size, found[case.name] if number else {})
            if number:
                for name, seconds in limits(size).items():
                    bounds.setdefault(name, []).append(seconds)
            print(f"round {number} of {rounds}", file=sys.stderr)
        if plotted:
            steps = sorted({size // 10**power for power in range(5)})
            for _ in range(rounds):
                for step in steps:
                    for case in CASES:
                        if case.plotted:
                            _measure(case, peers, step, sizes.setdefault(step, {}))
        ours = next(peer for peer in peers if isinstance(peer, Ours))
        all_totals = _totals(ours, size, warm)
        jobs = growth.measure(ours, counts, rounds, shared=not warm)
    compiled = tempfile.TemporaryDirectory(prefix="dar-")
    with compiled, ThreadPoolExecutor(1 if warm else len(IMPORTS)) as pool:
        for number in range(0 if warm else 1, rounds + 1):
            taken = pool.map(_seconds_of_program, IMPORTS.values(), repeat(compiled.name))
            for name, seconds in zip(IMPORTS, taken, strict=True):
                if number:
                    bounds.setdefault(name, []).append(seconds)
    elsewhere = _elsewhere(rounds, max(size, SMALLEST))
    return {
        "found": found,
        "totals": all_totals,
        "elsewhere": elsewhere,
        "limits": bounds,
        "sizes": sizes,
        "jobs": jobs,
    }


def _totals(peer: Ours, size: int, warm: bool) -> dict[str, float]:
    """What `totals` measures; of few only, where not `warm`."""
    with tempfile.TemporaryDirectory(prefix="dar-") as folder:
        return {
            "seen": totals.violations(peer, 1000 if warm else 10),
            "members": totals.members_per_second(peer, 1000 if warm else 10),
            **totals.memory(peer, max(size, SMALLEST), Path(folder)),
        }


def _elsewhere(rounds: int, size: int) -> dict[str, Any]:
    """What `remote` measures, in a program of its own: its cluster and kernel have no server."""
    script = Path(__file__).with_name("remote.py")
    command = [sys.executable, str(script), "--rounds", str(rounds), "--size", str(size)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _measure(case: Case, peers: list[Peer], size: int, found: Rounds) -> None:
    for peer in peers:
        if not case.peers or peer.name.startswith(case.peers):
            seconds = case.measure(peer, size)
            found.setdefault(peer.name, []).append(seconds / case.unit)


def _seconds_of_program(program: str, compiled: str) -> float:
    """Time a program whose modules' bytecode lies in a folder, as pip has compiled a user's."""
    with tempfile.TemporaryDirectory(prefix="dar-") as home:
        environment = os.environ | {
            "IPYTHONDIR": f"{home}/ipython",
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": compiled,
        }
        command = [sys.executable, "-c", program]
        begun = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
        return time.perf_counter() - begun


def table(measured: dict[str, Any]) -> str:
    """Markdown: medians in ms with the spread, and ours as a multiple of the best peer's."""
    found: dict[str, Rounds] = measured["found"]
    names = list(dict.fromkeys(name for peers in found.values() for name in peers))
    head = ["ms: median (least to most)", *names, "ours / best peer"]
    lines = [head, ["---"] + ["--:"] * (len(head) - 1)]
    for case, peers in found.items():
        row = [case, *(_cell(peers.get(name)) for name in names)]
        others = [statistics.median(v) for name, v in peers.items() if name != names[0]]
        ours = statistics.median(peers[names[0]])
        lines.append([*row, f"{ours / min(others):.2f}" if others else ""])
    for kind, label in ELSEWHERE.items():
        values = {way: each[kind] for way, each in measured["elsewhere"].items()}
        if values:
            middle = {way: statistics.median(each) for way, each in values.items()}
            unit = 1e-9 if kind == "held" else 1.0  # MB, as ms are of seconds
            cells = [_cell([unit * v for v in values.get(name, ())]) for name in names]
            best = min(value for way, value in middle.items() if way != names[0])
            ratio = "" if kind == "held" else f"{middle[names[0]] / best:.2f}"
            lines.append([label, *cells, ratio])
    empty = [""] * (len(head) - 2)
    for count, seconds in measured["jobs"].items():
        lines.append([f"a small cell, {int(count):,} jobs in the journal", _cell(seconds), *empty])
    for name, seconds in measured["limits"].items():
        lines.append([f"*{name}*", _cell(seconds), *empty])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(seconds: list[float] | None) -> str:
    if not seconds:
        return ""
    low, high = _ms(min(seconds)), _ms(max(seconds))
    return f"{_ms(statistics.median(seconds))} ({low} to {high})"


def _ms(seconds: float) -> str:
    ms = 1000 * seconds
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.1f}" if ms >= 1 else f"{ms:.2f}"


def placed(path: Path, text: str) -> str:
    """Answer a file's text with the table between its two marks; the table, if it has none."""
    before, mark, rest = (path.read_text() if path.exists() else "").partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    return f"{before}{mark}\n{text}\n{end}{after}" if end else text


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="does it work: small data, one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=float, default=1e9, help="bytes of the large arrays")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--plots", type=Path, help="a folder for SVG files; takes more time")
    options = parser.parse_args(arguments)
    rounds, size = (1, 800_000) if options.quick else (options.rounds, int(options.size))
    counts = (10,) if options.quick else (10, 1000, 10_000)
    begun = time.time()
    measured = measure(rounds, size, counts, options.plots is not None, not options.quick)
    where = (
        f"{time.strftime('%Y-%m-%d')}; {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} cores, Python {platform.python_version()}; load "
        f"{os.getloadavg()[0]:.1f} at the end; large arrays of {size / 1e6:.0f} MB, "
        f"{rounds} round{'s' if rounds > 1 else ''}, {time.time() - begun:.0f} s"
    )
    text = f"{where}\n\n{table(measured)}\n\n{goals.table(measured, size)}\n"
    print(text)
    if options.markdown:
        options.markdown.write_text(placed(options.markdown, text))
    if options.json:
        options.json.write_text(json.dumps({"where": where, "size": size, **measured}, indent=1))
    if options.plots:
        import plots

        options.plots.mkdir(parents=True, exist_ok=True)
        plots.save(measured, options.plots)
    return 0


if __name__ == "__main__":
    sys.exit(main())
