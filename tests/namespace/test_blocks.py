"""Arrays on the memory of pandas objects, when a cell changes these."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pandas as pd
import pytest

from dask_async_run.namespace.blocks import memory_of, show_what_was_written, written_in_place
from dask_async_run.namespace.opaque import special_kind
from notebook import Notebook

pytestmark = pytest.mark.contract(17)

SETUP = """\
import pandas as pd, numpy as np
df = pd.DataFrame({'a': [1., 2.], 'b': [3., 4.], 'n': [1, 2], 't': ['x', 'y']})
v = df[['a', 'b']].values; a = df['a'].to_numpy(); n = df['n'].values
s = pd.Series([1., 2.]); w = s.values; kept = df['b']
"""
CHANGES = [
    "df.loc[0, 'a'] = 9.0",
    "df.loc[0, 'b'] = 9.0",
    "df['a'] = df['a'] * 2",
    "df.iloc[1, 2] = 7",
    "df.loc[0, 'n'] = 5; df.loc[0, 't'] = 'z'",
    "df['new'] = 1",
    "df['new'] = 1.0; df.loc[0, 'a'] = 9.0",
    "del df['n']; df.loc[1, 'a'] = 9.0",
    "df.insert(0, 'first', 1); df.loc[1, 'a'] = 9.0",
    "df[:] = df.sort_values('a', ascending=False).values",
    "df.loc[2] = [5., 6., 7, 'w']",
    "df.columns = list('wxyz'); df.loc[0, 'w'] = 9.0",
    "s.iloc[0] = 9.0",
    "s += 1",
    "s[:] = 5.0; df.loc[0, 'a'] = 8.0",
]
ASKED = "a.tolist(), n.tolist(), w.tolist(), v.tolist(), kept.tolist(), df.to_dict(), s.tolist()"


@pytest.mark.parametrize("cell", CHANGES)
def test_arrays_show_what_they_would_have_shown(notebook: Notebook, cell: str) -> None:
    """What the cell wrote to the memory that was there, and nothing of what has new memory."""
    notebook.here(SETUP)
    plainly: dict[str, object] = {}
    exec(SETUP + cell, plainly)
    assert not notebook.submit(cell).gather().conflicts
    expected = eval(ASKED, plainly)
    assert notebook.here(ASKED) == expected
    more = "df.iloc[0, 0] = -1.0; s.iloc[1] = -1.0"
    exec(more, plainly)
    notebook.here(more)
    assert notebook.here(ASKED) == eval(ASKED, plainly)


def test_memory_that_nobody_shows_is_replaced() -> None:
    """A copy of it would take its time; what a merge that fails wrote is taken back."""
    frame, other = pd.DataFrame({"a": [1.0, 2.0]}), pd.DataFrame({"a": [5.0, 2.0]})
    old = frame._mgr.blocks[0]
    assert written_in_place(frame._mgr, memory_of(frame._mgr)) == ((0, 0),)
    show_what_was_written(frame._mgr, other._mgr, ((0, 0),))()
    assert other._mgr.blocks[0].values is not old.values
    shown = frame.values
    undo = show_what_was_written(frame._mgr, other._mgr, ((0, 0),))
    assert other._mgr.blocks[0].values is old.values
    assert np.array_equal(shown, [[5.0], [2.0]])
    undo()
    assert np.array_equal(shown, [[1.0], [2.0]])


def test_what_is_known_of_a_frame_does_not_keep_its_memory() -> None:
    """It is asked after until the job is gathered, and may be large."""
    frame = pd.DataFrame({"a": np.ones(1000)})
    values = weakref.ref(frame._mgr.blocks[0].values)
    kind = special_kind(frame)
    assert kind is not None
    snapshot = kind.snapshot(frame)
    assert values() is not None
    del frame
    gc.collect()
    assert values() is None
    assert snapshot is not None


def test_memory_to_which_nothing_was_written_is_kept() -> None:
    """With the count of who has it, also where the new state has it from the same one."""
    frame = pd.DataFrame({"a": [1.0, 2.0]})
    other, state = frame.copy(deep=False), frame.copy(deep=False)
    shown, (old,) = frame["a"].to_numpy(), frame._mgr.blocks
    undo = show_what_was_written(frame._mgr, state._mgr, ((0, 0),))
    (new,) = state._mgr.blocks
    assert np.shares_memory(new.values, shown)
    assert new.refs is old.refs is other._mgr.blocks[0].refs
    assert len(new.refs.referenced_blocks) < 10
    undo()
    assert frame._mgr.blocks[0].refs.has_reference()
