"""Columns of texts: packed where nobody else has them, the very texts where somebody has."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dask_async_run.namespace.pickling import NamespacePickler
from dask_async_run.namespace.sharing import SharedMemory
from dask_async_run.namespace.texts import make_texts, reduce_texts
from dask_async_run.namespace.unpickling import NamespaceUnpickler
from notebook import Notebook

COUNT = 2000
NAN = np.nan


def texts() -> list[Any]:
    return [f"text {number} é" for number in range(COUNT)]


def array_of(items: list[Any]) -> Any:
    array = np.empty(len(items), object)
    array[:] = items
    return array


def trip(value: Any) -> tuple[Any, int]:
    """Answer the copy, and how many objects pickle has noted."""
    file = io.BytesIO()
    pickler = NamespacePickler(file, {}, shared=SharedMemory())
    pickler.dump(value)
    file.seek(0)
    return NamespaceUnpickler(file, {}).load(), len(pickler.memo.copy())


@pytest.mark.parametrize("order", ["C", "F"])
def test_texts_are_packed(order: Any) -> None:
    """Neither shape nor order nor a missing value is lost, and no text is noted."""
    array = array_of(texts())
    array[7] = np.nan
    array = array.reshape(2, -1).copy(order)
    copy, noted = trip(array)
    assert noted < 20
    assert copy.flags.c_contiguous == (order == "C")
    assert copy.base is None
    assert copy[0, 7] is NAN
    same = [one is other or one == other for one, other in zip(array.flat, copy.flat, strict=True)]
    assert all(same)
    made = reduce_texts(array)
    assert made[0] is make_texts


def test_a_text_that_somebody_has_stays_that_text() -> None:
    """A list and an array of the same texts still share them."""
    items = texts()
    (first, second), _ = trip((items, array_of(items)))
    assert all(one is other for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize(
    "other", [None, 1, float("nan"), "x", ["a list"], b"bytes"], ids=lambda other: repr(other)
)
def test_what_is_not_only_texts_goes_as_it_is(other: Any) -> None:
    array = array_of(texts())
    array[3] = other
    assert reduce_texts(array) is NotImplemented
    copy, _ = trip(array)
    assert type(copy[3]) is type(other)
    assert copy[3] == other or other != other


@pytest.mark.parametrize("dtype", ["str", object])
def test_a_column_goes_there_and_back(notebook: Notebook, dtype: Any) -> None:
    """A cell changes one text of a column; the frame here gets that and stays itself."""
    notebook.here("import pandas as pd, numpy as np")
    column = pd.Series(texts(), dtype=dtype)
    column[5] = np.nan
    notebook.namespace["df"] = frame = pd.DataFrame({"text": column})
    del column
    job = notebook.there("n = len(df)")
    assert not job.load().updates
    assert notebook["n"] == COUNT
    notebook.there("df.loc[3, 'text'] = 'changed'\nlast = df.text.iloc[-1]\nd = df.text.dtype")
    assert notebook["df"] is frame
    assert list(frame.text[:3]) == texts()[:3]
    assert frame.text[3] == "changed"
    assert frame.text[5] is NAN
    assert notebook["last"] == texts()[-1]
    assert notebook["d"] == frame.text.dtype


def test_equal_objects_put_in_place_of_others_are_a_change(notebook: Notebook) -> None:
    """Objects of a column are compared by identity, so none is missed."""
    notebook.here("import pandas as pd\ndf = pd.DataFrame({'a': ['x' * 3, 7, None]}, dtype=object)")
    notebook.there("df.loc[1, 'a'] = 7.0")
    assert [type(item) for item in notebook["df"].a] == [str, float, type(None)]


def test_constants_stay_the_constants(notebook: Notebook) -> None:
    """``nan`` in a list is numpy's on both sides; a float that only equals it in bits is not."""
    notebook.here("import numpy as np, math\nrow = [np.nan, float('nan'), math.inf]")
    notebook.there("found = [np.nan in row, np.nan is row[1], row[0] is np.nan]")
    assert notebook["found"] == [True, False, True]


def test_thousands_of_changed_lists_are_merged_in_proportion(notebook: Notebook) -> None:
    """Each list is the same object afterwards, the one that was changed here left alone."""
    notebook.here("x = {n: [n] for n in range(3000)}")
    before = dict(notebook["x"])
    job = notebook.submit("for v in x.values(): v.append(1)")
    assert not job.gather().conflicts
    assert all(notebook["x"][n] is before[n] == [n, 1] for n in before)
    job = notebook.submit("for v in x.values(): v.append(2)")
    notebook["x"][7].append("here")
    assert "x" in job.gather().conflicts
    assert notebook["x"][7] == [7, 1, "here"]
