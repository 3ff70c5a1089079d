"""How states, amounts and spans of time look, wherever they are shown."""

from __future__ import annotations

import re

from dask_async_run.job import State

SIGNS: dict[State, str] = {
    State.PENDING: "○",
    State.RUNNING: "▶",
    State.FINISHED: "✔",
    State.FAILED: "✘",
    State.CANCELLED: "■",
    State.TIMED_OUT: "◔",
    State.LOST: "?",
}

# Four to one against white and against black at least: a saved page does not know which it is on.
COLOURS: dict[State, str] = {
    State.PENDING: "#7d7d7d",
    State.RUNNING: "#2f7fd6",
    State.FINISHED: "#2b8a3e",
    State.FAILED: "#d93f3f",
    State.CANCELLED: "#9a7200",
    State.TIMED_OUT: "#9a7200",
    State.LOST: "#d93f3f",
}


_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


def without_escapes(text: str) -> str:
    """Leave out what a terminal does not show: colours, titles, moves of the cursor."""
    return _ESCAPES.sub("", text)


def one_line(text: str, width: int, more: str = "…") -> str:
    """Cut a text to one line of at most `width` characters, `more` included.

    Colours are left out. What moves a terminal's cursor, or begins another line, is a space in
    it: a table stays one whatever a cell has printed or raised.
    """
    begin = without_escapes(text[: 8 * width])
    shown = "".join(c if c.isprintable() else " " for c in begin)
    shown = " ".join(shown.split())
    if len(shown) <= width and len(text) <= 8 * width:
        return shown
    return shown[: width - len(more)] + more


def bytes_text(count: float) -> str:
    """Say a number of bytes: "1.2 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def span(seconds: float) -> str:
    """Say a span of time so that one sees it pass: "3 min 05 s"."""
    seconds = max(0, int(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02} s"
    if seconds < 86400:
        return f"{seconds // 3600} h {seconds // 60 % 60:02} min"
    return f"{seconds // 86400} d {seconds // 3600 % 24} h"
