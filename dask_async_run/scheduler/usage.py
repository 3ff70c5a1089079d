"""Usage: what a running cell has used over time, in a bounded number of samples."""

from __future__ import annotations

from dataclasses import dataclass, field

MOST = 240
"""Samples that are kept at most; when there are so many, every other one is dropped."""


@dataclass(slots=True)
class Usage:
    """Samples over the whole of a cell's run, the later the further apart.

    Parameters
    ----------
    samples : list of (float, float, float)
        Seconds since the epoch, bytes, percent.
    apart : float
        Seconds that two samples are apart at least.
    """

    samples: list[tuple[float, float, float]] = field(default_factory=list)
    apart: float = 0.5

    def add(self, now: float, memory: float, cpu: float) -> None:
        if self.samples and 0 <= now - self.samples[-1][0] < self.apart:
            return
        self.samples.append((now, memory, cpu))
        if len(self.samples) >= MOST:
            del self.samples[1::2]
            self.apart *= 2
