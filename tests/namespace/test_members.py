"""The table of a sweep: what each member found out, and nothing that it did to another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dask_async_run.errors import NotPickledError
from dask_async_run.namespace.axes import Axis, count
from dask_async_run.namespace.capture import capture
from dask_async_run.namespace.inputs import Stream, collect, restore
from dask_async_run.namespace.members import Member, MemberLoader, rows, table
from notebook import Notebook, forget_classes, fresh_main, in_child, run


class Sweep:
    """The members of a cell, each run in a child when they are made."""

    def __init__(self, notebook: Notebook, code: str, *axes: Axis) -> None:
        given = [name for axis in axes for name in axis.names]
        wanted = replace(notebook.wanted(code, not_here=given), axes=axes)
        captured = capture(notebook.namespace, wanted)
        inputs = Stream(captured.stream, captured.buffers)
        self.loader = MemberLoader([], inputs)

        def member(number: int) -> Member:
            def work() -> tuple[bytes, list[bytes], str]:
                forget_classes()
                namespace = fresh_main()
                restored = restore(inputs, namespace, member=number)
                error, out = None, ()
                try:
                    out = run(code, namespace)
                except Exception as raised:
                    error = raised
                found = collect(restored, error, out)
                return found.stream, [bytes(b) for b in found.buffers], repr(error or "")

            stream, buffers, why = in_child(work)
            why = why.strip("'")
            return Member(number, "failed" if why else "finished", why, Stream(stream, buffers))

        self.members = [member(number) for number in range(count(axes))]

    def rows(self, *only: str) -> list[dict[str, Any]]:
        return rows(self.members, self.loader, only)


def test_a_row_has_the_parameters_and_what_was_bound(notebook: Notebook) -> None:
    """In this order; values of the last expression too; no modules, functions, classes."""
    notebook.here("lr = 'mine'; base = 10")
    code = (
        "import math\n_hidden = 1\ndef f(): return lr + base\nclass K: pass\nacc = f()\n"
        "if lr == 2: raise ValueError(lr)\nlast = [lr]\nacc / 2"
    )
    made = Sweep(notebook, code, Axis(("lr",), [1, 2]))
    assert made.rows() == [
        {"lr": 1, "acc": 11, "last": [1], "Out": 5.5, "state": "finished", "error": ""},
        {
            "lr": 2, "acc": 12, "last": None, "Out": None,
            "state": "failed", "error": "ValueError(2)",
        },
    ]  # fmt: skip
    assert notebook["lr"] == "mine"


def test_members_do_not_see_what_others_change(notebook: Notebook) -> None:
    """Inputs are loaded again for one that changed them; parameters count as inputs."""
    notebook.here("rows = [0]; params = [{'a': 1}, {'a': 2}]")
    code = "rows.append(p['a']); p['b'] = 3; mine = rows; same = p\nbefore = len(rows)"
    made = Sweep(notebook, code, Axis(("p",), notebook["params"]))
    first, second = made.rows()
    assert (first["mine"], second["mine"]) == ([0, 1], [0, 2])
    assert (first["same"], second["same"]) == ({"a": 1, "b": 3}, {"a": 2, "b": 3})
    assert (first["before"], second["before"]) == (2, 2)
    assert (first["p"], second["p"]) == ({"a": 1}, {"a": 2})
    assert notebook["rows"] == [0]


def test_parameters_are_objects_of_the_notebook(notebook: Notebook) -> None:
    """Its classes and functions, with what these need, aliased with what is read."""
    notebook.here(
        "k = 5\ndef helper(x): return x * k\n"
        "class Model:\n    def fit(self): return helper(2)\n"
        "shared = Model()"
    )
    code = "out = m.fit() if not isinstance(m, type) else m().fit()\nsame = m is shared"
    made = Sweep(notebook, code, Axis(("m",), [notebook["Model"], notebook["shared"]]))
    assert [(row["out"], row["same"]) for row in made.rows()] == [(10, False), (10, True)]


def test_a_name_of_ours_gives_way(notebook: Notebook) -> None:
    """Columns that a parameter or a variable is called as keep their meaning."""
    made = Sweep(notebook, "error = state + 1", Axis(("state",), [1]))
    assert made.rows() == [{"state": 1, "error": 2, "state_": "finished", "error_": ""}]


def test_the_table_is_a_frame_of_values_as_they_are(notebook: Notebook) -> None:
    """Numbers are numbers; what is a list, an array or a dict is one cell; else a list of dicts."""
    made = Sweep(notebook, "x = n * 1.5; y = [n, n]; z = {'n': n}", Axis(("n",), [2, 3]))
    frame = table(made.members, made.loader, (), frame=True)
    assert frame.index.tolist() == [0, 1]
    assert [str(kind) for kind in frame.dtypes[:2]] == ["int64", "float64"]
    assert (frame.y[1], frame.z[0]) == ([3, 3], {"n": 2})
    assert table(made.members, made.loader, ["x"], frame=False) == made.rows("x")
    objects = Sweep(
        notebook, "v = n", Axis(("n",), [np.arange(3), pd.Series([1]), pd.DataFrame({"a": [1]})])
    )
    frame = table(objects.members, objects.loader, (), frame=True)
    assert [type(v).__name__ for v in frame.v] == ["ndarray", "Series", "DataFrame"]
    assert table([], made.loader, (), frame=True).empty


def test_a_parameter_that_cannot_travel_is_named(notebook: Notebook) -> None:
    notebook.here("import threading; lock = threading.Lock()")
    with pytest.raises(NotPickledError, match="'guard' cannot be sent: a lock"):
        Sweep(notebook, "guard", Axis(("guard",), [1, notebook["lock"]]))
