"""Disks: whether so much waits to be written that the disk had better be left alone.

The system keeps what is written in its cache and brings it to the disk later. Until too much waits
there: then who writes waits too, and a gigabyte takes as long as the disk needs for it.
"""

from __future__ import annotations

from pathlib import Path


def is_behind() -> bool:
    """Whether so much waits to be written to disks that those who write are slowed down, soon."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
        facts = dict(line.split() for line in lines if line.startswith(("nr_dirty", "nr_writeb")))
        waiting = int(facts["nr_dirty"]) + int(facts["nr_writeback"])
        # From there on the system writes, and beyond a multiple of it everybody waits for it.
        return waiting > int(facts["nr_dirty_background_threshold"])
    except (OSError, KeyError, ValueError):
        return False
