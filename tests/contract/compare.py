"""The judge: is a notebook the same, run plainly and run through `%%async_run`?

Both kernels get the same cells. After each, the outputs, the error and the whole
namespace (values, types, who shares which object with whom) are compared. The
share of cells that come out the same is the number for docs/namespace-contract.md.

    python -m tests.contract.compare NOTEBOOK.ipynb...   # plain against remote
    python -m tests.contract.compare --plain ...         # plain against plain: the judge itself
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import nbformat

from .kernels import Kernel, KernelDiedError, RemoteKernel, side_by_side
from .outputs import Step

_OF_ONE_RUN = re.compile(r"(?:fit|score)_time_?'\]$|\.uuid$")
"""Paths at which scikit-learn keeps how long something took, and pandas a random name."""
MOST = 12
"""Differences shown of one cell."""


@dataclass(frozen=True)
class Verdict:
    """How one cell compared.

    Parameters
    ----------
    number : int
        The cell's place among the notebook's code cells, from 1.
    source : str
        The cell.
    differences : tuple of str
        What differs and did not differ before this cell; empty if it is the same.
    refused : str
        The error with which it was refused, empty if it ran.
    seconds : tuple of float
        How long it took in either kernel.
    """

    number: int
    source: str
    differences: tuple[str, ...] = ()
    refused: str = ""
    seconds: tuple[float, float] = (0.0, 0.0)

    @property
    def same(self) -> bool:
        return not self.differences and not self.refused

    def __str__(self) -> str:
        first = "\n".join(f"    | {line}" for line in self.source.splitlines())
        told = [f"refused: {self.refused}"] if self.refused else []
        told += self.differences[:MOST]
        if len(self.differences) > MOST:
            told.append(f"and {len(self.differences) - MOST} more")
        return f"  cell {self.number}\n{first}\n" + "\n".join(f"    {line}" for line in told)


@dataclass
class Score:
    """The verdicts on a notebook."""

    name: str
    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def same(self) -> int:
        return sum(verdict.same for verdict in self.verdicts)

    def __str__(self) -> str:
        total = len(self.verdicts)
        plain, remote = (sum(v.seconds[i] for v in self.verdicts) for i in (0, 1))
        return (
            f"{self.name}: {self.same} of {total} cells the same "
            f"({100 * self.same / max(total, 1):.1f} %); {plain:.1f} s plainly, {remote:.1f} s so"
        )


def differing(plain: dict[str, str], other: dict[str, str]) -> dict[str, str]:
    """Paths of two descriptions that differ, each with a line that says how."""
    found = {}
    for path in {**plain, **other}:
        one, two = plain.get(path), other.get(path)
        if None in (one, two) and path.startswith("surroundings"):
            continue  # of a module that is only loaded in one of the kernels
        if _OF_ONE_RUN.search(path):
            continue
        if one is None:
            found[path] = f"{path}: not there plainly; {_short(str(two))}"
        elif two is None:
            found[path] = f"{path}: missing; plainly {_short(one)}"
        elif one != two and path.startswith("surroundings"):
            found[path] = f"{path}: {_lines(one, two)}"
        elif one != two:
            found[path] = f"{path}: {_where(one, two)}"
    return found


def _lines(plain: str, other: str) -> str:
    one, two = plain.splitlines(), other.splitlines()
    only = [_short(x) for x in one if x not in two], [_short(x) for x in two if x not in one]
    return f"plainly {only[0]}, here {only[1]}"


def _short(text: str, length: int = 200) -> str:
    return text if len(text) <= length else f"{text[:length]}…"


def _where(plain: str, other: str) -> str:
    at = next(
        (i for i, (a, b) in enumerate(zip(plain, other, strict=False)) if a != b),
        min(len(plain), len(other)),
    )
    start = max(0, at - 60)
    return f"plainly {plain[start : at + 120]!r}, here {other[start : at + 120]!r}"


def differing_outputs(plain: Sequence[str], other: Sequence[str]) -> list[str]:
    """Lines that say how two cells' outputs differ."""
    if list(plain) == list(other):
        return []
    if len(plain) != len(other):
        shown = [_short(t) for t in plain], [_short(t) for t in other]
        head = f"{len(other)} outputs instead of {len(plain)}:"
        return [f"{head}\n      plainly {shown[0]}\n      here    {shown[1]}"]
    return [
        f"output {i}: {_where(one, two)}"
        for i, (one, two) in enumerate(zip(plain, other, strict=True), 1)
        if one != two
    ]


class Judge:
    """Runs cells in two kernels and compares what they leave."""

    def __init__(self, plain: Kernel, other: Kernel) -> None:
        self.plain = plain
        self.other = other
        self.numbers = (plain.numbers, other.numbers)
        self._known: dict[str, str] = {}

    def cell(self, number: int, source: str) -> Verdict:
        """Run one cell both ways.

        A refused cell is then run plainly in the other kernel too, so that the
        next ones are judged by themselves.
        """
        (plain, looked, seconds), (other, looked_there, seconds_there) = side_by_side(
            lambda: self._one(self.plain, number, source),
            lambda: self._one(self.other, number, source),
        )
        looks = looked, looked_there
        outputs = self.plain.document.read(number, plain), self.other.document.read(number, other)
        refused = other.refused if differing_outputs(*outputs) else ""
        if refused:
            self.other.plainly(number, source)
            looks = looks[0], self.other.look()
        found = differing(*looks)
        told = [] if refused else differing_outputs(*outputs)
        told += [text for path, text in found.items() if self._known.get(path) != text]
        self._known = found
        return Verdict(number, source, tuple(told), refused, (seconds, seconds_there))

    def _one(self, kernel: Kernel, number: int, source: str) -> tuple[Step, dict[str, str], float]:
        """Run a cell in one kernel; what it showed and left, and the seconds that it took."""
        begun = time.monotonic()
        try:
            step = kernel.cell(number, self.numbered(source, kernel))
        except TimeoutError as error:
            if kernel is self.plain:
                raise
            step = Step([], lines_added=1, refused=f"took too long: {error}")
        seconds = time.monotonic() - begun
        return step, kernel.look(), seconds

    def in_both_kernels(self, number: int, source: str) -> None:
        """Run a cell plainly in both kernels; it is not judged."""

        def run(kernel: Kernel) -> dict[str, str]:
            kernel.plainly(number, self.numbered(source, kernel))
            return kernel.look()

        looks = side_by_side(lambda: run(self.plain), lambda: run(self.other))
        self._known = differing(*looks)

    def numbered(self, source: str, kernel: Kernel) -> str:
        """`source` with ``Out[3]``, ``In[3]``, ``_3``, ``_i3`` as they are numbered in `kernel`."""
        counts = {number: count for count, number in kernel.numbers.items()}

        def renumber(match: re.Match[str]) -> str:
            number = int(match[2])
            return f"{match[1]}{counts.get(number, number)}{match[3]}"

        source = re.sub(r"\b((?:Out|In|_oh|_ih)\[)(\d+)(\])", renumber, source)
        return re.sub(r"(?<![\w.])(_i?)(\d+)(\b)", renumber, source)


def code_cells(path: Path) -> list[tuple[str, bool]]:
    """Sources of a notebook's code cells that have any, and whether each is tagged ``in-kernel``.

    A cell with that tag makes what can't travel; nobody would send it elsewhere.
    """
    notebook = nbformat.read(path, as_version=4)
    cells = [c for c in notebook.cells if c.cell_type == "code" and c.source.strip()]
    return [(c.source, "in-kernel" in c.metadata.get("tags", ())) for c in cells]


def judge_notebook(path: Path, judge: Judge) -> Score:
    """Compare a notebook cell by cell, from a fresh pair of kernels on."""
    score = Score(path.name)
    for number, (source, in_kernel) in enumerate(code_cells(path), 1):
        try:
            if in_kernel:
                judge.in_both_kernels(number, source)
            else:
                score.verdicts.append(judge.cell(number, source))
        except (KernelDiedError, TimeoutError) as error:
            score.verdicts.append(Verdict(number, source, (f"the judge gave up: {error}",)))
            break
    return score


def _prepare(folder: Path, notebook: Path | None) -> Path:
    """Make a kernel's folder, with what lies beside the notebook if it is not much."""
    folder.mkdir(parents=True)
    if notebook is not None:
        beside = [p for p in notebook.parent.rglob("*") if p.is_file() and p.suffix != ".ipynb"]
        if sum(p.stat().st_size for p in beside) < 50e6:
            for file in beside:
                target = folder / file.relative_to(notebook.parent)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
    return folder


@contextmanager
def folder_of_server() -> Iterator[Path]:
    """A folder for a server's state and for kernels; the server is stopped at the end."""
    # A short path: sockets' names must fit into 107 bytes.
    base = Path(tempfile.mkdtemp(prefix="judge-", dir="/tmp"))
    try:
        yield base
    finally:
        if (base / "runtime").exists():
            command = [sys.executable, "-m", "dask_async_run", "stop", "--force"]
            subprocess.run(command, env={**os.environ, **environment(base)}, capture_output=True)
        shutil.rmtree(base, ignore_errors=True)


def environment(base: Path) -> dict[str, str]:
    """Variables that give a kernel the server of `folder_of_server`."""
    return {
        "DASK_ASYNC_RUN_STATE": str(base / "state"),
        "DASK_ASYNC_RUN_RUNTIME": str(base / "runtime"),
        "IPYTHONDIR": str(base / "ipython"),
    }


@contextmanager
def kernel_pair(base: Path, remote: bool = True, notebook: Path | None = None) -> Iterator[Judge]:
    """A judge with two fresh kernels.

    Parameters
    ----------
    base : Path
        What `folder_of_server` gave; pairs may share it.
    remote : bool
        False: both kernels run plainly.
    notebook : Path or None
        What lies beside it is copied into either kernel's folder.
    """
    own = Path(tempfile.mkdtemp(dir=base))
    env = {**environment(base), "JPY_SESSION_NAME": str(own / "notebook.ipynb")}
    with ExitStack() as stack:
        plain = stack.enter_context(Kernel(_prepare(own / "plain", notebook), env))
        kind = RemoteKernel if remote else Kernel
        other = stack.enter_context(kind(_prepare(own / "other", notebook), env))
        yield Judge(plain, other)


def compare(notebooks: Sequence[Path], remote: bool = True) -> list[Score]:
    """Judge notebooks one after another on one server, printing each score as it is known."""
    scores = []
    with folder_of_server() as base:
        for notebook in notebooks:
            with kernel_pair(base, remote, notebook) as judge:
                score = judge_notebook(notebook, judge)
            scores.append(score)
            print(score, flush=True)
            for verdict in score.verdicts:
                if not verdict.same:
                    print(verdict, flush=True)
    return scores


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.contract.compare", description=__doc__)
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--plain", action="store_true", help="run both kernels plainly")
    options = parser.parse_args(arguments)
    # A judge that is told to end still stops its kernels and its server.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    scores = compare(options.notebooks, remote=not options.plain)
    cells = sum(len(score.verdicts) for score in scores)
    same = sum(score.same for score in scores)
    print(f"total: {same} of {cells} cells the same ({100 * same / max(cells, 1):.1f} %)")
    return 0 if same == cells else 1


if __name__ == "__main__":
    sys.exit(main())
