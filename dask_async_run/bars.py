"""Text that later text of the same line writes over, as progress bars do. Pure.

A bar of three hours is a hundred thousand outputs, of which a page shows the last one. Who wants
the end of a job's text would have to read them all to find what was printed above the bar; so
it is noted, as they come, which outputs nothing is to be seen of any more.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from dask_async_run.job import Message
from dask_async_run.messages import unpack_output

JOBS = 1000
"""Jobs of which is known what was written over, the latest ones."""
LONGEST = 4096
"""Bytes of an output that may be nothing but a bar."""
PLACES = 200
"""Displays of a job that are updated, the latest ones."""
RANGES = 200
"""Ranges of outputs of a job that were written over, the latest ones."""

_COLOURS = re.compile(r"\x1b\[([0-9;]*)m")
_MOVES = re.compile(r"[\x00-\x1f\x7f]")
_OFF = ("", "0")

Range = tuple[int, int]


def width(text: str) -> int | None:
    """Answer how many columns text takes that stands in one line.

    None where that is not all that there is to it: it moves the cursor, or leaves a colour
    behind.
    """
    colours = _COLOURS.findall(text)
    plain = _COLOURS.sub("", text)
    if _MOVES.search(plain) or (colours and colours[-1] not in _OFF):
        return None
    return len(plain)


def collapsed(text: str) -> str:
    """Leave out what is written over within the text, but for the last time that it is."""
    return "\n".join(map(_collapsed_line, text.split("\n"))) if "\r" in text else text


def _collapsed_line(line: str) -> str:
    begun, *again = line.split("\r")
    kept: list[str] = []
    covered = written = 0
    for part in reversed(again):
        shown, columns = width(part.rstrip(" ")), width(part) or 0
        # With two of them the line is seen to be one that is written over.
        if written < 2 or shown is None or shown > covered:
            kept.append(part)
            written += columns > 0
        covered = max(covered, columns)
    return "\r".join([begun, *reversed(kept)])


def bar(output: Message) -> tuple[int, int] | None:
    """Answer what an output does that does nothing but to write its line anew, else None.

    Returns
    -------
    (int, int)
        The columns in which something is to be seen, and those that it writes over.
    """
    if output.get("output_type") != "stream":
        return None
    text: str = output["text"]
    if text[:1] != "\r":
        return None
    parts = text[1:].split("\r")
    columns = [column for part in parts if (column := width(part)) is not None]
    if len(columns) < len(parts):
        return None
    return max(width(part.rstrip(" ")) or 0 for part in parts), max(columns)


@dataclass(slots=True)
class _Bars:
    """Of one job: what may be written over, and the ranges of what was.

    `last` has the last two bars of each stream, `updates` the last update of each display.
    """

    updates: OrderedDict[str, int] = field(default_factory=OrderedDict)
    last: dict[str, list[tuple[int, tuple[int, int]]]] = field(default_factory=dict)
    ranges: list[Range] = field(default_factory=list)

    def add(self, number: int, output: Message) -> None:
        place = (output.get("transient") or {}).get("display_id")
        if output.get("output_type") == "update_display_data" and place is not None:
            self._update(number, place)
        if output.get("output_type") != "stream":
            return
        columns = bar(output)
        if columns is None:
            self.last.pop(output["name"], None)
            return
        last = self.last.setdefault(output["name"], [])
        last.append((number, columns))
        # The last but one stays, too: it shows that the line is one that is written over.
        if len(last) == 3:
            hidden, (shown, _) = last.pop(0)
            _, (_, covered) = last[0]
            if shown <= covered and covered:
                self._hide(hidden)

    def _update(self, number: int, place: str) -> None:
        before = self.updates.pop(place, None)
        if before is not None:
            self._hide(before)
        self.updates[place] = number
        if len(self.updates) > PLACES:
            self.updates.popitem(last=False)

    def _hide(self, number: int) -> None:
        ranges = self.ranges
        place = bisect(ranges, (number, number))
        first = last = number
        if place < len(ranges) and ranges[place][0] == number + 1:
            last = ranges.pop(place)[1]
        if place and ranges[place - 1][1] == number - 1:
            place -= 1
            first = ranges.pop(place)[0]
        ranges.insert(place, (first, last))
        del ranges[:-RANGES]


class Overwritten:
    """Which outputs of which jobs were written over; of the latest jobs, as they came."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, _Bars] = OrderedDict()

    def add(self, job: str, number: int, output: Message) -> None:
        """Take note of an output that was recorded under a number."""
        bars = self._jobs.setdefault(job, _Bars())
        self._jobs.move_to_end(job)
        bars.add(number, output)
        while len(self._jobs) > JOBS:
            self._jobs.popitem(last=False)

    def add_packed(self, job: str, number: int, packed: bytes) -> None:
        """Take note of an output as the journal has it; a long one is no bar."""
        if len(packed) <= LONGEST:
            self.add(job, number, unpack_output(packed))
        elif job in self._jobs:
            self._jobs[job].last.clear()

    def ranges(self, job: str) -> Sequence[Range]:
        """Answer the first and last numbers of what was written over, in order."""
        bars = self._jobs.get(job)
        return bars.ranges if bars is not None else ()
