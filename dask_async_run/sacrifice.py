"""Sacrifice: whom the system ends first where the machine has no memory left (Linux).

It chooses the process that has the most, which may well be the notebook's kernel: there its
variables are, and they are nowhere else. A cell has a job that says how it ended, and its inputs
are kept; and what a snapshot has is the kernel's own memory, of which it keeps it from letting go.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

CELL = 500
SNAPSHOT = 1000
"""Thousandths of the machine's memory that count as theirs beyond what they have."""


def offer(pid: int, score: int) -> None:
    """Have a process of this user ended before others; nothing where that is not known.

    Parameters
    ----------
    pid : int
    score : int
        As `CELL`; one that has more already keeps that. What it starts later inherits it.
    """
    file = Path(f"/proc/{pid}/oom_score_adj")
    with suppress(OSError):
        file.write_text(str(max(score, int(file.read_text()))))
