"""Dask's dataframes, bags and delayed values in cells: `tox -e clusters` has what they need."""

from __future__ import annotations

import pytest

from slot import Slot

pytest.importorskip("pyarrow", reason="not installed: tox -e clusters has it")

pytestmark = pytest.mark.timeout(300)

NOTEBOOK = """\
import dask
import dask.bag as db
import dask.dataframe as dd
import pandas as pd
table = pd.DataFrame({"g": list("abcabcab"), "v": range(8), "s": ["x", "y", None, "z"] * 2})
df = dd.from_pandas(table, npartitions=3)
big = df[df.v > 2]
bag = db.from_sequence(range(10), npartitions=3)
lazy = dask.delayed(sum)([1, 2])
mine = df, big, bag, lazy
"""
UNCHANGED = "all(old is new for old, new in zip(mine, (df, big, bag, lazy)))"

READS = """\
%%async_run --name reads
sums = df.groupby("g").v.sum().compute()
told = [len(big), bag.map(lambda n: n + 1).sum().compute(), lazy.compute(), df.npartitions]
top = df.head(2), repr(df), df.describe().compute()
"""

MAKES = """\
%%async_run --name makes
other = dd.from_pandas(pd.DataFrame({"v": range(0, 8, 2), "w": range(4)}), npartitions=2)
merged = df.merge(other, on="v")
total = int(merged.w.sum().compute())
kept = merged.persist()
counts = kept.groupby("g").w.sum().persist()
by_value = df.set_index("v").persist()
bags = bag.persist()
first = dask.delayed(abs)(-21).persist()
then = dask.delayed(abs)(first)
plan = df.assign(double=df.v * 2)
"""

USES = """\
%%async_run --name uses
used = [float(kept.w.mean().compute()), int(counts.compute().sum()), bags.sum().compute(),
        first.compute(), then.compute(), len(by_value.loc[2:3]), int(plan.double.max().compute())]
alias = kept
"""


def test_dataframes_bags_and_delayed(slot: Slot) -> None:
    """Read from the notebook, shuffled and persisted in a cell, used in the notebook and later."""
    kernel = slot.kernel
    kernel.do(NOTEBOOK)
    kernel.do(READS)
    # What a collection notes of itself, here and there, is no change of it.
    kernel.do("df.divisions, df.optimize(), big.dtypes, bag.npartitions, lazy.key, len(df)")
    assert kernel.do("%async_gather reads", 120).text == ""
    assert kernel.value("(told, sums.to_dict())") == ([5, 55, 3, 3], {"a": 9, "b": 12, "c": 7})
    assert kernel.value(UNCHANGED) is True

    kernel.do(MAKES)
    kernel.do("%async_gather makes", 120)
    assert kernel.do("%async_gather makes").text == ""
    made = "kept, counts, by_value, bags, first, then, plan"
    kernel.do(f"made = {made}")
    assert kernel.value(
        "(total, sorted(kept.compute().w), counts.compute().to_dict(), by_value.divisions, "
        "bags.compute(), first.compute(), then.compute(), int(plan.double.sum().compute()))"
    ) == (
        *(6, [0, 1, 2, 3], {"a": 3, "b": 2, "c": 1}, (0, 3, 6, 7)),
        *(list(range(10)), 21, 21, 56),
    )
    assert kernel.value(UNCHANGED) is True

    kernel.do(USES)
    kernel.do("%async_forget makes")
    kernel.do("kept.divisions, len(kept), repr(by_value), plan.optimize()")
    assert kernel.do("%async_gather uses", 120).text == ""
    assert kernel.value("used") == [1.5, 6, 45, 21, 21, 2, 14]
    same = f"all(old is new for old, new in zip(made, ({made})))"
    assert kernel.value(f"({same}, alias is kept, {UNCHANGED})") == (True, True, True)


def test_a_dataframe_that_is_changed(slot: Slot) -> None:
    """A column more, as Dask has it: the same object has it here; changed twice is a conflict."""
    kernel = slot.kernel
    kernel.do(NOTEBOOK)
    kernel.do('%%async_run --name more\ndf["new"] = df.v * 10\nall_of_it = [df, bag]')
    kernel.do("df.optimize(), df.columns")
    assert kernel.do("%async_gather more", 120).text == ""
    assert kernel.value(
        f"({UNCHANGED}, list(df.columns), int(mine[0].new.sum().compute()), "
        "all_of_it[0] is df, all_of_it[1] is bag)"
    ) == (True, ["g", "v", "s", "new"], 280, True, True)
    kernel.do("%%async_run --name twice\ndf.columns = [name.upper() for name in df.columns]")
    kernel.do('df["here"] = 1')
    told = kernel.do("%async_gather twice", 120).text
    assert "twice: df was changed in place here since; it was left alone." in told
    assert kernel.value("list(df.columns)") == ["g", "v", "s", "new", "here"]
