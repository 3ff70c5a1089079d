"""Random notebooks: queued and gathered in part, at once or at the end, they are as a plain run."""

from __future__ import annotations

import random

import pytest

from .compare import Judge, differing
from .kernels import Kernel, RemoteKernel, side_by_side
from .random_notebooks import RandomNotebook
from .trial import error_of

CELLS = 12
_LAST_RESULTS = "[get_ipython().user_ns.pop(name, None) for name in ('_', '__', '___')]"


def _look(kernel: Kernel) -> dict[str, str]:
    """Look at what is there, but for what was shown last: that depends on who was gathered last."""
    kernel.silently(_LAST_RESULTS)
    return kernel.look()


def _plainly(kernel: Kernel, cells: list[str]) -> dict[str, str]:
    for number, cell in enumerate(cells, 1):
        assert not error_of(kernel.plainly(number, cell)), cell
    return _look(kernel)


def _queued(kernel: RemoteKernel, cells: list[str], chance: random.Random) -> dict[str, str]:
    """Submit all cells; gather some now and then, out of order, and the rest at the end."""
    waiting: list[int] = []
    for number, cell in enumerate(cells, 1):
        submitted = kernel.submit(number, cell)
        assert not submitted.refused, cell
        waiting.append(number)
        if chance.random() < 0.3:
            kernel.gather(waiting.pop(chance.randrange(len(waiting))))
    for number in waiting:
        assert not error_of(kernel.gather(number))
    return _look(kernel)


@pytest.mark.contract(11, 12, 16, 17)
@pytest.mark.timeout(150)
@pytest.mark.parametrize("seed", range(15))
def test_a_random_notebook_is_the_same(remote_pair: Judge, seed: int) -> None:
    """Names, values, and who shares which object with whom."""
    plain, other = remote_pair.plain, remote_pair.other
    assert isinstance(other, RemoteKernel)
    name = f"random-{seed}"
    side_by_side(lambda: plain.reset(name), lambda: other.reset(name))
    other.prefix = f"{name}-"
    cells = RandomNotebook(seed).cells(CELLS)
    looked, looked_there = side_by_side(
        lambda: _plainly(plain, cells), lambda: _queued(other, cells, random.Random(seed))
    )
    found = differing(looked, looked_there).values()
    assert not found, "\n".join([*found, "", *cells])
