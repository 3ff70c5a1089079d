"""A kernel on a cluster that has one worker with one thread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from realkernel import RealKernel


@dataclass(frozen=True)
class Slot:
    """A kernel that the tests of a module share.

    Parameters
    ----------
    kernel : RealKernel
    connect : str
        What connects another one.
    env : mapping
        What that one needs.
    """

    kernel: RealKernel
    connect: str
    env: Mapping[str, str]

    def other(self, notebook: str) -> RealKernel:
        """Another kernel in the same folder, not started."""
        return RealKernel(self.kernel.cwd, notebook, self.env)
