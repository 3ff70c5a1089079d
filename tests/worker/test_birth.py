"""What a process does before it is a cell."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cells import Cells
from dask_async_run.warmable import WARMABLE


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


_LOADED = """
import os
import subprocess
import sys
from dask_async_run import surroundings
{setup}
known = {{saver.module for saver in surroundings.SAVERS if saver.module}}
print(*sorted(known & sys.modules.keys()))
"""
_KERNEL = """
from ipykernel.zmqshell import ZMQInteractiveShell
shell = ZMQInteractiveShell.instance()
shell.run_cell("1 + 1")
shell.run_line_magic("load_ext", "dask_async_run")
"""
_TEMPLATE = """
from dask_async_run.worker import rehearsal, template
rehearsal.rehearsed_shell()
"""


def test_a_cell_imports_nothing_for_the_settings_of_a_plain_kernel(tmp_path: Path) -> None:
    """What each kernel has imported the template has too, or imports ahead once it is told."""
    loaded = []
    for setup in (_KERNEL, _TEMPLATE):
        ran = subprocess.run(
            [sys.executable, "-c", _LOADED.format(setup=setup)],
            env=os.environ | {"IPYTHONDIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        loaded.append(set(ran.stdout.split()))
    kernel, template = loaded
    assert "sqlite3.dbapi2" in kernel
    assert {name.partition(".")[0] for name in kernel - template} <= WARMABLE
