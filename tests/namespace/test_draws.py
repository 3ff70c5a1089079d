"""What code does with random numbers of which there is one row."""

from __future__ import annotations

import ast

import pytest

from dask_async_run.namespace.draws import used_of_random


@pytest.mark.contract(7)
@pytest.mark.parametrize(
    ("source", "used"),
    [
        ("x = np.random.rand(3)", "draws"),
        ("x = random.choice(rows)", "draws"),
        ("np.random.seed(1)", "seeds"),
        ("random.seed(2); x = random.random()", "seeds draws"),
        ("def f(): return numpy.random.normal(size=3)", "draws"),
        ("rng = np.random.default_rng(1); x = rng.random(3)", ""),
        ("x = random.Random(1).random()", ""),
        ("x = rng.random(); random = 3", ""),
    ],
)
def test_what_code_draws(source: str, used: str) -> None:
    """Generators of one's own are something else."""
    assert used_of_random([ast.parse(source)]) == set(used.split())
