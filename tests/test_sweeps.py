"""Names and words about sweeps."""

from __future__ import annotations

from dataclasses import replace

from dask_async_run.job import JobSpec, JobView, State
from dask_async_run.namespace.axes import Axis
from dask_async_run.quantities import age
from dask_async_run.sweeps import as_sweep, member_id, shortfall, standing, table_name


def test_the_table_is_called_as_the_sweep() -> None:
    """Made a name that Python takes, if it is none."""
    names = ["lr", "fit-all", "cell-7", "7", "class", "é+x", "---"]
    assert [table_name(name) for name in names] == [
        "lr", "fit_all", "cell_7", "sweep_7", "class_", "é_x", "___",
    ]  # fmt: skip


def test_ids_of_members_follow_from_the_sweeps() -> None:
    """A submission that is repeated makes the same ones; another one others."""
    first, second = "1" * 32, "2" * 32
    assert member_id(first, 3) == member_id(first, 3)
    assert len({member_id(job, n) for job in (first, second) for n in range(50)}) == 100


def test_how_far_it_is() -> None:
    """What has ended of what there is, and how long the rest will take at that pace."""
    view = JobView(
        "i", "n", "lr", state="running", started=100.0, sweep={"size": 10},
        members={"finished": 3, "failed": 1, "running": 2, "pending": 4},
    )  # fmt: skip
    assert standing(view, 140.0, age) == "4/10 members, 1 failed, 2 running, about 1 min left"
    assert shortfall({State.FINISHED: 3}) == ""
    assert shortfall({State.FINISHED: 3, State.LOST: 2}) == "2 of 5 members did not finish: 2 lost"


def test_templates_import_what_collecting_a_sweep_needs() -> None:
    """Once, and only where the table is to be a DataFrame."""
    spec = JobSpec("i", "n", "lr", "", "", "", warm=["numpy"])
    axes = [Axis(("rate",), [0.1, 0.01])]
    assert as_sweep(spec, axes, 0, frame=True).warm == ["numpy", "pandas"]
    assert as_sweep(spec, axes, 0, frame=False).warm == ["numpy"]
    both = replace(spec, warm=["numpy", "pandas"])
    assert as_sweep(both, axes, 0, frame=True).warm == ["numpy", "pandas"]
