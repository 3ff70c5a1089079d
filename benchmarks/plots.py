"""Plots of what was measured: time against size, and against the number of jobs."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure


def save(measured: dict[str, Any], folder: Path) -> None:
    """Write ``size.svg`` and ``jobs.svg``."""
    sizes: dict[int, dict[str, list[float]]] = measured["sizes"]
    lines: dict[str, dict[float, list[float]]] = {}
    for size, peers in sizes.items():
        for name, seconds in peers.items():
            lines.setdefault(name, {})[size / 1e6] = seconds
    _plot(lines, "array, MB", "there, used, and back", folder / "size.svg")
    jobs = {"dask_async_run": measured["jobs"]}
    _plot(jobs, "jobs in the journal", "a small cell, there and back", folder / "jobs.svg")


def _plot(lines: dict[str, dict[Any, list[float]]], x: str, title: str, path: Path) -> None:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, points in lines.items():
        medians = [1000 * statistics.median(seconds) for seconds in points.values()]
        spread = [
            [m - 1000 * min(s) for m, s in zip(medians, points.values(), strict=True)],
            [1000 * max(s) - m for m, s in zip(medians, points.values(), strict=True)],
        ]
        axes.errorbar(list(points), medians, spread, label=name, marker="o", capsize=3)
    axes.set(xscale="log", yscale="log", xlabel=x, ylabel="ms", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path)
