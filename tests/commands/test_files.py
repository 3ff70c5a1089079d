"""Values as files."""

from __future__ import annotations

import csv
import importlib.util
import json
import pickle
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from dask_async_run.commands.files import write
from dask_async_run.errors import ExportError

TABLE = pd.DataFrame({"a": [1, 2], "b": ["x", None]})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, 2.5, None, "é"]}, {"a": [1, 2.5, None, "é"]}),
        ([np.float64(1.5), np.arange(2), np.bool_(True)], [1.5, [0, 1], True]),
        (TABLE, [{"a": 1, "b": "x"}, {"a": 2, "b": None}]),
        (pd.Series([1, 2], index=["p", "q"]), {"p": 1, "q": 2}),
        (pl.DataFrame({"a": [1]}), [{"a": 1}]),
        (date(2026, 11, 28), "2026-11-28"),
    ],
)
def test_json(value: Any, text: Any, tmp_path: Path) -> None:
    write({"v": value}, tmp_path / "v.json", single=True)
    assert json.loads((tmp_path / "v.json").read_text()) == text


@pytest.mark.parametrize(
    ("value", "rows"),
    [
        (TABLE, [["a", "b"], ["1", "x"], ["2", ""]]),
        (TABLE.set_index("b"), [["b", "a"], ["x", "1"], ["", "2"]]),
        (pl.DataFrame({"a": [1]}), [["a"], ["1"]]),
        (np.array([[1, 2], [3, 4]]), [["1", "2"], ["3", "4"]]),
        ([{"p": 1}, {"p": 2, "q": 3}], [["p", "q"], ["1", ""], ["2", "3"]]),
        ([1, "a,b"], [["1"], ["a,b"]]),
    ],
)
def test_csv(value: Any, rows: list[list[str]], tmp_path: Path) -> None:
    write({"v": value}, tmp_path / "v.csv", single=True)
    with (tmp_path / "v.csv").open(newline="") as stream:
        assert list(csv.reader(stream)) == rows


def test_pickles_and_arrays(tmp_path: Path) -> None:
    """One value is itself, several are a dict."""
    write({"a": 1, "b": {2}}, tmp_path / "v.pkl", single=False)
    assert pickle.loads((tmp_path / "v.pkl").read_bytes()) == {"a": 1, "b": {2}}
    write({"a": 1}, tmp_path / "v.pkl", single=False)
    assert pickle.loads((tmp_path / "v.pkl").read_bytes()) == {"a": 1}
    write({"a": 1}, tmp_path / "v.pkl", single=True)
    assert pickle.loads((tmp_path / "v.pkl").read_bytes()) == 1
    write({"a": [1.5, 2]}, tmp_path / "v.npy", single=False)
    assert np.load(tmp_path / "v.npy").tolist() == [1.5, 2]


def test_parquet(tmp_path: Path) -> None:
    """By polars itself; by pandas where it has what it needs, else it is said what is missing."""
    path = tmp_path / "v.parquet"
    write({"v": pl.DataFrame({"a": [1, 2]})}, path, single=True)
    assert pl.read_parquet(path)["a"].to_list() == [1, 2]
    if importlib.util.find_spec("pyarrow") or importlib.util.find_spec("fastparquet"):
        write({"v": TABLE["a"]}, path, single=True)
        assert pd.read_parquet(path)["a"].tolist() == [1, 2]
    else:
        with pytest.raises(ExportError, match=r"pandas needs 'pyarrow' for that\. Install it"):
            write({"v": TABLE}, path, single=True)


@pytest.mark.parametrize(
    ("values", "name", "problem"),
    [
        ({"f": print}, "v.json", r"JSON has no form for a builtin.*\. Write a \.pkl\."),
        ({"x": float("nan")}, "v.json", "ValueError"),
        ({"o": [object()]}, "v.npy", r"a list is no array of numbers\. Write a \.pkl\."),
        ({"n": 5}, "v.csv", r"a int is no table"),
        ({"n": [1]}, "v.parquet", r"a list is no table"),
        ({"a": 1, "b": 2}, "v.npy", r"\.npy is for one of them\. Choose it with --var"),
        ({"a": 1}, "v.xyz", r"its suffix has to be one of \.pkl, .*\.parquet\."),
        ({"a": 1}, "none/v.pkl", "No such file or directory"),
        ({"g": (i for i in [1])}, "v.pkl", "TypeError: .*generator"),
    ],
)
def test_what_a_form_has_no_place_for_is_refused(
    values: dict[str, Any], name: str, problem: str, tmp_path: Path
) -> None:
    """In one line; what was there stays, and nothing else is left."""
    path = tmp_path / name
    if path.parent.exists():
        path.write_text("before")
    with pytest.raises(ExportError, match=problem) as caught:
        write(values, path, single=len(values) == 1)
    assert "\n" not in str(caught.value)
    if path.parent.exists():
        assert path.read_text() == "before"
        assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    write({"a": 1}, tmp_path / "link.json", single=True)
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "real.json").read_text()) == 1
