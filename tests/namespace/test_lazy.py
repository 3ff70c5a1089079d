"""Dask's collections in a notebook: using one is no change of it."""

from __future__ import annotations

from notebook import Notebook

SETUP = """
import dask, dask.bag
import dask.array as da
dask.config.set(scheduler="sync")
x = da.arange(6, chunks=3); y = x; later = dask.delayed(sum)([1, 2]); bag = dask.bag.range(3, 2)
"""


def test_using_a_collection_changes_nothing(notebook: Notebook) -> None:
    """Nothing of it travels back, and it is the same object in what the cell made."""
    notebook.here(SETUP)
    job = notebook.submit(
        "total = int(x.sum().compute()), later.compute(), bag.sum().compute()\n"
        "held = [x, later, bag, x.persist(), x.shape, x.__dask_keys__()]"
    )
    assert job.run().mutated == []
    assert not job.gather().conflicts
    assert notebook["total"] == (15, 3, 3)
    assert notebook.here("held[0] is x is y and held[1] is later and held[2] is bag")
    assert notebook.here("int(held[3].sum().compute()) == 15")


def test_a_collection_is_changed_in_place(notebook: Notebook) -> None:
    """So that every name that has it sees the change; not if it was changed here meanwhile."""
    notebook.here(SETUP)
    job = notebook.submit("x[x > 3] = 0")
    assert job.run().mutated == ["x"]
    assert not job.gather().conflicts
    assert notebook.here("x is y and y.compute().tolist() == [0, 1, 2, 3, 0, 0]")
    job = notebook.submit("x[0] = 7")
    notebook.here("x[1] = 8")
    assert "x" in str(job.gather().conflicts)
    assert notebook.here("y.compute().tolist() == [0, 8, 2, 3, 0, 0]")
