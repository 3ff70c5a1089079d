"""Progress: what a progress bar at the end of a job's text says. Pure.

Understood are tqdm's bars, and lines in the manner of rich, Keras and pip: a bar or a
line that is written over, with a percentage or a count. A percentage alone is not
progress: an accuracy of 97 % is not 97 % of the way.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dask_async_run.screen import Line

_NUMBER = r"\d[\d.,]*[kKMGTi]*B?"
_TQDM = re.compile(
    rf"^(?:(?P<what>.*?):\s*)?\s*(?P<percent>\d{{1,3}})%\|[^|]*\|\s*(?P<count>{_NUMBER}\s*/\s*{_NUMBER})"
    r"(?:\s*\[(?P<spent>[\d:]+)<(?P<left>[^,\]]+)(?:,\s*(?P<rate>[^,\]]+))?)?"
)
_LEFT_BEHIND = re.compile(r"%\|[^|]*\|[^|\]]*\[[^\]]*\]\s*\S")
_PERCENT = re.compile(r"(?<![\d.])(\d{1,3}(?:\.\d+)?)\s?%")
_COUNT = re.compile(rf"(?<![\w./])({_NUMBER})\s*/\s*({_NUMBER})(?![\w/])")
_BAR = re.compile(r"[━╸╺█▉▊▋▌▍▎▏░▒▓■□▰▱⣿]{3,}|\[[=#\-.>\s]{6,}\]|\[[=#]{2,}>?")
_LEFT = re.compile(
    r"(?:ETA:?|eta|remaining:?)\s*([\d:]+\w*)|(?<![\d:])(\d+:\d\d(?::\d\d)?)(?![\d:])"
)
_RATE = re.compile(rf"({_NUMBER}\s?(?:[A-Za-z]+)?/(?:s|sec|step|it)\b)")

LAST = 4
"""Lines from the end in which progress is looked for: several bars, or a word after one."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far something is.

    Parameters
    ----------
    line : int
        Number of the line that says so, from the end: -1 is the last.
    percent : float
        0 to 100.
    what, count, rate, left : str
        In the bar's own words: "epoch 3", "36/80", "7.1it/s", "00:06"; empty if not told.
    """

    line: int
    percent: float
    what: str = ""
    count: str = ""
    rate: str = ""
    left: str = ""


def find_progress(lines: Sequence[Line]) -> Progress | None:
    """Answer the progress that the last lines tell of, the outermost of nested bars.

    tqdm prints the outermost bar first and moves up to it, so of several bars in
    consecutive lines the first one is meant that is not full: full ones above it are those of
    loops that have ended. One that something was printed behind is not moved up to any more:
    it counts only until there is a newer one.
    """
    bars: list[Progress] = []
    left: Progress | None = None
    for number in range(-1, -min(LAST, len(lines)) - 1, -1):
        progress = _progress(lines[number], number)
        if progress is not None and _LEFT_BEHIND.search(lines[number].text):
            left = left or progress
            progress = None
        if progress is not None:
            bars.append(progress)
        elif bars:
            break
    going = [bar for bar in bars if bar.percent < 100]
    return going[-1] if going else bars[0] if bars else left


def _progress(line: Line, number: int) -> Progress | None:
    text = line.text.strip()
    if tqdm := _TQDM.match(text):
        left = (tqdm["left"] or "").strip()
        rate = (tqdm["rate"] or "").strip()
        return Progress(
            line=number,
            percent=min(100.0, float(tqdm["percent"])),
            what=(tqdm["what"] or "").strip(),
            count=re.sub(r"\s", "", tqdm["count"]),
            rate="" if "?" in rate else rate,
            left="" if "?" in left else left,
        )
    bar = _BAR.search(text)
    if bar is None and not line.rewritten:
        return None
    percent, count = _PERCENT.search(text), _COUNT.search(text)
    part = _share(*count.groups()) if count else None
    if percent is not None and float(percent[1]) <= 100:
        share = float(percent[1])
    elif part is not None:
        share = part
    else:
        return None
    before = text[: min(m.start() for m in (bar, percent, count) if m is not None)]
    left, rate = _LEFT.search(text), _RATE.search(text)
    return Progress(
        line=number,
        percent=share,
        what=before.strip(" :-|[("),
        count=re.sub(r"\s", "", count[0]) if count and part is not None else "",
        rate=rate[1] if rate else "",
        left=(left[1] or left[2]) if left else "",
    )


def _share(done: str, total: str) -> float | None:
    """Answer "12" of "80" in percent; None if that makes no sense."""
    try:
        part, whole = float(done.replace(",", "")), float(total.replace(",", ""))
    except ValueError:
        return None
    return 100 * part / whole if 0 <= part <= whole and whole > 0 else None
