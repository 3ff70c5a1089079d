"""A soak: random jobs, faults and gathers; then every job is right and nothing is left over.

``pytest tests/e2e/test_soak.py --soak-seconds 600 --seed 7`` is a long one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from observer import Observer
from realkernel import RealKernel
from soak import Soak


def test_soak(
    open_kernel: Callable[..., RealKernel],
    observer: Observer,
    tmp_path: Path,
    soak_seconds: float,
    seed: int,
) -> None:
    """Nothing lost, nothing run twice, nothing left over, whatever happens when."""
    print(f"seed {seed}, {soak_seconds:g} s", file=sys.stderr)
    soak = Soak(tmp_path, open_kernel, observer, seed)
    try:
        soak.run(soak_seconds)
        soak.settle()
    except BaseException:
        print(f"the last of {soak.trail[-20:]}:", *soak.log(), sep="\n", file=sys.stderr)
        raise
    print(soak.summary(), file=sys.stderr)
    soak.judge()
    soak.judge_handles()
    soak.judge_leftovers()
    told = [f"seed {seed}, the last of {soak.trail[-20:]}:", *soak.problems]
    assert not soak.problems, "\n".join(told)
