"""Whether objects are as they were sent: many lists and dicts at once, and one by one."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest

from dask_async_run.namespace.compare import Comparison, all_alike
from notebook import Notebook


def rows() -> dict[int, Any]:
    """Answer objects as they are sent, by their memo index."""
    inner, text = [1, 2.5, "a text", None, math.nan], {"k": 1}
    return {3: [inner, text, 7], 5: inner, 8: text, 9: {"in": inner, (1, "k"): text, 2: b"b"}}


def change(expression: str) -> tuple[dict[int, Any], dict[int, Any]]:
    """Answer objects after a change, and copies from before."""
    mine = rows()
    sent = copy.deepcopy(mine)
    exec(expression, {"of": mine})
    return mine, sent


@pytest.mark.parametrize(
    ("expression", "alike"),
    [
        ("pass", True),
        ("of[5].append(1)", False),
        ("of[5][0] = True", False),
        ("of[5][0] = 1.0", False),
        ("of[8]['k'] = 2", False),
        ("of[8]['k'], of[8]['l'] = 1, 1; del of[8]['l']", True),
        ("of[9]['in'] = of[9].pop('in')", False),
        ("of[3][0] = list(of[5])", False),
        ("of[3][0], of[3][1] = of[3][1], of[3][0]", False),
        ("of[5][2] = 'another'", False),
        ("of[8].clear()", False),
    ],
)
def test_many_are_known_to_be_alike_only_if_each_is(expression: str, alike: bool) -> None:
    """By what they hold: the same atoms, and what stands at the same places of the stream."""
    mine, sent = change(expression)
    assert all_alike(mine, sent, [3, 5, 8, 9]) is alike
    closer = Comparison(
        {id(obj): index for index, obj in mine.items()},
        {id(obj): index for index, obj in sent.items()},
    )
    looked_at = all(closer.own_state(mine[index], sent[index]) for index in mine)
    assert looked_at is alike


def test_an_equal_list_in_the_place_of_one_is_a_conflict(notebook: Notebook) -> None:
    """The cell changed the one that was there; equal tuples and texts are nobody's to change."""
    notebook.here("inner = [1]; rows = [inner, (2, 'a')]; table = {'k': inner, 't': (3,)}")
    job = notebook.submit("rows.append(4); table['new'] = 5")
    notebook.here("rows[0] = [1]; rows[1] = tuple([2, 'a']); table['t'] = tuple([3])")
    assert job.gather().conflicts.keys() == {"rows"}
    assert notebook.here("rows, table") == ([[1], (2, "a")], {"k": [1], "t": (3,), "new": 5})
    notebook.here("table['k'].append(6)")
    assert notebook.here("inner, rows[0]") == ([1, 6], [1])


@pytest.mark.parametrize("part", ["len", "object()", "type('P', (), {})()", "iter([])"])
def test_of_what_else_there_is_nothing_is_known_soon(part: str) -> None:
    """None of the user's code is called for it."""
    mine, sent = change(f"of[5].append({part})")
    sent[5].append(mine[5][-1])
    assert not all_alike(mine, sent, [3, 5, 8, 9])


def test_one_of_many_that_was_changed_here_is_a_conflict(notebook: Notebook) -> None:
    """All the others get what the cell gave them."""
    notebook.here("x = [[i] for i in range(100)]; y = [{'i': i} for i in range(100)]; z = x[7]")
    job = notebook.submit("for each in x: each.append(0)\nfor each in y: each['j'] = 1")
    notebook.here("x[7].append('here')")
    plan = job.gather()
    assert plan.conflicts == {"x": "was changed in place here since"}
    assert notebook.here("x[7] == [7, 'here'] and [e for e in x if e[1:] != [0]] == [x[7]]")
    assert notebook.here("all(e['j'] == 1 for e in y)")


def test_many_that_nobody_touched_get_what_the_cell_gave_them(notebook: Notebook) -> None:
    """As the same objects."""
    notebook.here("x = [[i] for i in range(100)]; kept = list(x)")
    plan = notebook.there("for each in x: each.append(0)")
    assert plan.result is not None
    assert notebook.here("all(a is b and a[1] == 0 for a, b in zip(x, kept, strict=True))")


def test_what_could_not_be_loaded_again_is_not_known_to_be_alike() -> None:
    """Nor is it an error."""
    mine, sent = change("pass")
    del sent[5]
    assert not all_alike(mine, sent, [3, 5])
