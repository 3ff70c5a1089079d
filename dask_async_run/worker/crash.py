"""What a cell was doing when its process crashed, for people."""

from __future__ import annotations

import re

_FRAME = re.compile(r'  File "(.*)", line (\d+) in (.*)')
_FATAL = "Fatal Python error: "


def readable_crash(report: str, filename: str, execution_count: int | None) -> str:
    """Return the cell's part of a report of `faulthandler`, empty if there is none.

    Parameters
    ----------
    report : str
        May be empty, or anything else than such a report: the process was dying.
    filename : str
        What the cell's code is called.
    execution_count : int or None
        ``n`` of ``In[n]``.
    """
    head, _, rest = report.partition("\n")
    if not head.startswith(_FATAL):
        return ""
    lines = [head, "Where the cell was, last call first:"]
    _, _, stack = rest.partition("Current thread ")
    for line in stack.splitlines()[1:]:
        frame = _FRAME.fullmatch(line)
        if frame is None or "/IPython/core/interactiveshell.py" in frame[1]:
            break  # from here on it is what ran the cell
        place = f"File {frame[1]}:{frame[2]}"
        if frame[1] == filename:
            place = f"Cell In[{execution_count or 1}], line {frame[2]}"
        lines.append(f"  {place}, in {frame[3]}")
    return "\n".join(lines) + "\n" if len(lines) > 2 else head + "\n"
