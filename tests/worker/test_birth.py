"""What a process does before it is a cell."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cells import Cells


def test_a_rehearsal_ends_when_the_cell_is_there_and_leaves_nothing(cells: Cells) -> None:
    """Where processes follow one another without a pause it would only take their time."""
    code = (
        "from dask_async_run.worker.birth import rehearse\n"
        "before = set(globals())\n"
        "def parts(most):\n"
        "    asked = []\n"
        "    rehearse(get_ipython(), lambda: bool(asked.append(1)) or len(asked) > most)\n"
        "    return len(asked) - 1\n"
        "parts(2), parts(99) > 2, set(globals()) - before - {'before', 'parts'}"
    )
    ended = cells.run(code, shell={"class": "Terminal", "kernel": False})  # where no loop runs
    assert ended.shown.result == "(2, True, set())"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux is told whom to end first")
def test_a_cell_is_ended_before_others_where_memory_runs_out(cells: Cells) -> None:
    """Its job says so; of a kernel, a worker or a server nobody would."""
    code = (
        "import os\n"
        "def score(pid): return int(open(f'/proc/{pid}/oom_score_adj').read())\n"
        "score('self'), score(os.getppid())"
    )
    here = int(Path("/proc/self/oom_score_adj").read_text())
    assert cells.run(code).shown.result == f"({max(500, here)}, {here})"
