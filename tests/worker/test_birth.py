"""What a process does before it is a cell."""

from __future__ import annotations

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
