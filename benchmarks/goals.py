"""The goals for speed, and how far they are met by what was measured in one run."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

OURS = "dask_async_run"
PUBLISHED, DIRECT, PLAIN = "dask, published", "dask, direct", "dask"


class Measured:
    """What `run.measure` answers, by name."""

    def __init__(self, measured: dict[str, Any], size: int) -> None:
        self._measured = measured
        self._mb = f"{size / 1e6:.0f} MB"

    def case(self, case: str, peer: str = OURS) -> float | None:
        """Median seconds; None where it was not measured."""
        values = self._measured["found"].get(case, {}).get(peer)
        return statistics.median(values) if values else None

    def limit(self, name: str) -> float | None:
        values = self._measured["limits"].get(name.replace("SIZE", self._mb))
        return statistics.median(values) if values else None

    def jobs(self, count: int) -> float | None:
        values = self._measured["jobs"].get(count)
        return statistics.median(values) if values else None

    def elsewhere(self, way: str, kind: str) -> float | None:
        values = self._measured["elsewhere"].get(way, {}).get(kind)
        return statistics.median(values) if values else None

    def total(self, name: str) -> float | None:
        value = self._measured["totals"].get(name)
        return None if value is None else float(value)


@dataclass(frozen=True)
class Goal:
    """One goal.

    Parameters
    ----------
    text : str
    value : callable
        Answers what is to be compared, of a `Measured`; None: not measured.
    bound : float
    least : bool
        Whether it is a least value; else a largest one.
    """

    text: str
    value: Callable[[Measured], float | None]
    bound: float
    least: bool = False

    def row(self, measured: Measured) -> list[str]:
        value = self.value(measured)
        wanted = f"{'≥' if self.least else '≤'} {self.bound:g}"
        if value is None:
            return [self.text, wanted, "", "not measured"]
        met = value >= self.bound if self.least else value <= self.bound
        missed = (self.bound / value if self.least else value / self.bound) if self.bound else value
        return [self.text, wanted, _number(value), "met" if met else f"missed {missed:.1f} times"]


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 0.1 or not value else f"{value:.3f}"


def _over(part: float | None, whole: float | None, less: float = 0.0) -> float | None:
    """A quotient, and None where one of the two was not measured."""
    return None if part is None or not whole else (part - less) / whole


def _beyond(seconds: float | None, pickling: float | None) -> float | None:
    return None if seconds is None or pickling is None else seconds - 2 * pickling


def _cases(ours: str, peer: str, theirs: str = "") -> Callable[[Measured], float | None]:
    """Ours as a multiple of a peer's."""
    return lambda m: _over(m.case(ours), m.case(theirs or ours, peer))


def _faster(ours: str, peer: str) -> Callable[[Measured], float | None]:
    """How many times as fast as a peer we are."""
    return lambda m: _over(m.case(ours, peer), m.case(ours))


SUBMIT, BACK = "a small cell: the call returns", "a small cell: there and back"
LARGE, USED = "a large array: the call returns", "a large array: there, used, and back"
AGAIN, RESULT = "the same array again, unchanged", "a large result, gathered"
LISTS = "1,000 lists there, changed, and back"

GOALS = (
    Goal("small cell submitted / Dask's submit and publish", _cases(SUBMIT, PUBLISHED), 0.5),
    Goal("small cell submitted / afar", _cases(SUBMIT, "afar"), 1.0),
    Goal("small cell, there and back / Dask's", _cases(BACK, PLAIN), 1.5),
    Goal("small cell, there and back / `%%px`", _cases(BACK, "ipyparallel"), 3.0),
    Goal("cells that saw a change made after they were submitted", lambda m: m.total("seen"), 0),
    Goal("a printed line is seen, s", lambda m: m.case("a printed line is seen"), 0.1),
    Goal(
        "large array submitted / small cell submitted",
        lambda m: _over(m.case(LARGE), m.case(SUBMIT)),
        1.5,
    ),
    Goal("large array submitted / Ray's put", _cases(LARGE, "ray"), 1.0),
    Goal(
        "large array in the cell, less a small cell / memcpy",
        lambda m: _over(m.case(USED), m.limit("memcpy of SIZE"), m.case(BACK) or 0.0),
        1.25,
    ),
    Goal("large array in the cell, times as fast as Dask direct", _faster(USED, DIRECT), 3, True),
    Goal("large array in the cell, times as fast as Dask", _faster(USED, PLAIN), 12, True),
    Goal("large array in the cell, times as fast as Ray", _faster(USED, "ray"), 1, True),
    Goal("frame of texts in the cell / Dask", _cases("10 MB in strings (pandas)", PLAIN), 0.25),
    Goal("1,000 lists in the cell / Dask", _cases("a dict of 1,000 lists", PLAIN), 0.05),
    Goal("more memory for an input / its size", lambda m: m.total("input"), 1.02),
    Goal("of it in the scheduler / its size", lambda m: m.total("scheduler"), 0.01),
    Goal("the same again, times as fast as Dask", _faster(AGAIN, PLAIN), 20, True),
    Goal("large result gathered, times as fast as Dask direct", _faster(RESULT, DIRECT), 50, True),
    Goal("large result gathered, times as fast as Ray", _faster(RESULT, "ray"), 50, True),
    Goal("most memory for one in and one out / its size", lambda m: m.total("peak"), 2.2),
    Goal(
        "1,000 lists there, changed, and back, s less twice pickling them",
        lambda m: (
            None
            if (a := m.case(LISTS)) is None
            or (b := m.limit("pickle round trip of 1,000 lists")) is None
            else a - 2 * b
        ),
        0.02,
    ),
    Goal(
        "100,000 lines printed / to /dev/null",
        lambda m: _over(
            m.case("100,000 printed lines, in the cell"), m.limit("100,000 lines to /dev/null")
        ),
        1.5,
    ),
    Goal("10,000 jobs in the journal / 10", lambda m: _over(m.jobs(10_000), m.jobs(10)), 1.2),
    Goal("members of a sweep, a second", lambda m: m.total("members"), 100, True),
    Goal(
        "`%load_ext` / import distributed, in a shell",
        lambda m: _over(m.limit("a shell, %load_ext"), m.limit("a shell, import distributed")),
        1.3,
    ),
    Goal(
        "array to a worker elsewhere, times as fast as Dask direct",
        lambda m: _over(m.elsewhere(DIRECT, "there"), m.elsewhere(OURS, "there")),
        0.8,
        True,
    ),
)


def table(measured: dict[str, Any], size: int) -> str:
    """Markdown: each goal, what was measured, and whether it is met."""
    known = Measured(measured, size)
    lines = [["goal", "wanted", "measured", ""], ["---", "--:", "--:", "---"]]
    lines += [goal.row(known) for goal in GOALS]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
