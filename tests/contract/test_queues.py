"""Whole notebooks whose cells are queued, and gathered when all of them are."""

from __future__ import annotations

from pathlib import Path

import pytest

from .compare import Judge, code_cells, differing, differing_outputs, kernel_pair
from .kernels import Kernel, RemoteKernel, side_by_side
from .outputs import Step

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


def _plainly(kernel: Kernel, cells: list[str]) -> tuple[list[Step], dict[str, str]]:
    return [kernel.plainly(n, source) for n, source in enumerate(cells, 1)], kernel.look()


def _queued(kernel: Kernel, cells: list[str]) -> tuple[list[Step], dict[str, str]]:
    """Submit all, then gather all in order."""
    assert isinstance(kernel, RemoteKernel)
    submitted = [kernel.submit(n, source) for n, source in enumerate(cells, 1)]
    assert not [step.refused for step in submitted if step.refused]
    return [kernel.gather(n) for n in range(1, len(cells) + 1)], kernel.look()


def _differences(judge: Judge, cells: list[str]) -> list[str]:
    (plain, looked), (other, looked_there) = side_by_side(
        lambda: _plainly(judge.plain, cells), lambda: _queued(judge.other, cells)
    )
    found = list(differing(looked, looked_there).values())
    for number, steps in enumerate(zip(plain, other, strict=True), 1):
        read = [
            kernel.document.read(number, step)
            for kernel, step in zip((judge.plain, judge.other), steps, strict=True)
        ]
        found += [f"cell {number}: {text}" for text in differing_outputs(*read)]
    return found


@pytest.mark.contract(11, 12)
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "name", ["simulation_objects", "puzzles_norvig_style", "forecasting_models"]
)
def test_a_queued_notebook_is_the_same(server_folder: Path, name: str) -> None:
    """No cell waits for the kernel, and all is as if they had run in it one by one."""
    notebook = NOTEBOOKS / f"{name}.ipynb"
    with kernel_pair(server_folder, notebook=notebook) as judge:
        found = _differences(judge, [source for source, _ in code_cells(notebook)])
    assert not found, "\n".join(found)
