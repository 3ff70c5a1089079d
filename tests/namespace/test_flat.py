"""Large lists, dicts and sets of numbers and text: written apart, and otherwise as all others."""

from __future__ import annotations

from typing import Any

import pytest

from dask_async_run.namespace import flat
from dask_async_run.namespace.capture import Wanted, capture
from notebook import Notebook


def captured(value: Any) -> Any:
    reads = {"x": 1}
    nothing: frozenset[str] = frozenset()
    wanted = Wanted(
        reads=reads,
        mentions=nothing,
        attributes=nothing,
        everything=False,
        not_here=nothing,
        uncertain=nothing,
        hidden=nothing,
    )
    return capture({"x": value, "__name__": "__main__"}, wanted)


@pytest.mark.parametrize(
    "make",
    [
        lambda texts: texts,
        lambda texts: set(texts),
        lambda texts: dict(zip(texts, range(len(texts)), strict=True)),
        lambda texts: {number: text.encode() for number, text in enumerate(texts)},
        lambda texts: [None, True, 1.5, 10**30, *texts],
    ],
    ids=["list", "set", "keys", "values", "mixed"],
)
def test_no_text_is_noted(make: Any) -> None:
    """The notes are what would be dear."""
    value = make([str(number) for number in range(flat.FROM)])
    found = captured(value)
    assert [index for index, obj in found.objects.items() if obj is value] == [-1]
    assert found.inputs[0].nbytes > 5 * flat.FROM


@pytest.mark.parametrize(
    "value",
    [
        [[number] for number in range(flat.FROM)],
        {number: {} for number in range(flat.FROM)},
        ["a", "b"] * flat.FROM,
        [str(number) for number in range(10)],
    ],
    ids=["of lists", "of dicts", "the same texts", "small"],
)
def test_others_are_written_as_ever(value: Any) -> None:
    """Objects in them may have aliases; a text that is there often is written once."""
    assert not any(index < 0 for index in captured(value).objects)


def test_a_flat_list_keeps_its_aliases(notebook: Notebook) -> None:
    """Whether it is met by its name first, or inside of something else."""
    notebook.here(f"x = [str(i) for i in range({flat.FROM})]; a = {{'x': x}}; z = (x, a)")
    job = notebook.submit("same = a['x'] is x and z[0] is x and z[1] is a; kept = [x]")
    assert not job.gather().conflicts
    assert notebook["same"] is True
    assert notebook.here("kept[0] is x")


def test_a_flat_dict_is_changed_in_place(notebook: Notebook) -> None:
    """By one job and by the next, which reads it there."""
    notebook.here(f"x = {{i: str(i) for i in range({flat.FROM})}}; mine = x")
    first = notebook.submit("x['new'] = [1]")
    second = notebook.submit("x['new'].append(2); n = len(x)", parents=[first])
    first.gather()
    second.gather()
    assert notebook.here("mine is x and mine['new'] == [1, 2]")
    assert notebook["n"] == flat.FROM + 1


def test_a_flat_list_that_was_changed_here_is_a_conflict(notebook: Notebook) -> None:
    """It is compared with what was sent."""
    notebook.here(f"x = [str(i) for i in range({flat.FROM})]")
    job = notebook.submit("x.append('there')")
    job.run()
    notebook.here("x.append('here')")
    assert "x" in job.gather().conflicts
    assert notebook.here("x[-1]") == "here"
