"""What went in and comes back: as what stands in the memo, without a call for each object."""

from __future__ import annotations

from typing import Any

import pytest

from dask_async_run.job import Payload
from dask_async_run.namespace.salvage import Items
from dask_async_run.namespace.seeds import Recalled, held_elsewhere
from notebook import Notebook, Run

FRAGILE = (
    "import os\n"
    "class Fragile:\n"
    "    def __reduce__(self): return Fragile.again, (os.getpid(),)\n"
    "    @staticmethod\n"
    "    def again(pid):\n"
    "        assert pid == os.getpid(), 'gone'\n"
    "        return Fragile()\n"
)


def stream(job: Run) -> Any:
    return job.record.stream(Payload.from_message(job.run().payload))


def recalled(job: Run) -> Recalled:
    """Answer what stands before the stream of a job's result."""
    return Recalled.read(stream(job).data)


SAME = {
    "list": "x = [1]",
    "dict": "x = {'k': 1}",
    "set": "x = {1}",
    "tuple": "x = (1, [2])",
    "text": "x = 'some text'",
    "bytes": "x = b'some bytes'",
    "instance": "class P: pass\nx = P()",
    "class": "class x: pass",
    "function": "def x(): pass",
    "array": "import numpy as np; x = np.arange(3)",
    "view": "import numpy as np; whole = np.arange(9); x = whole[2:5]",
    "frame": "import pandas as pd; x = pd.DataFrame({'a': [1, 2]})",
    "complex": "x = 1 + 2j",
    "integer": "x = 123456",
    "float": "x = 1.25",
    "deque": "import collections; x = collections.deque([1])",
    "bytearray": "x = bytearray(b'abc')",
}


@pytest.mark.parametrize("setup", SAME.values(), ids=SAME)
def test_what_went_in_is_the_same_object_where_it_comes_back(
    notebook: Notebook, setup: str
) -> None:
    """Under another name, and in what is new."""
    notebook.here(setup)
    notebook.there("y = x; z = [x, {'k': x}]; y is z[0]")
    assert notebook.here("y is x and z[0] is x and z[1]['k'] is x")


def test_many_objects_do_not_cost_a_call_each(notebook: Notebook) -> None:
    """A thousand of them stand before the stream, those that occur; the rest are not told."""
    notebook.here("n = 5000; x = [{'id': i, 'tags': [i]} for i in range(1000)]")
    job = notebook.there("y = [r for r in x if r['id'] % 2]; m = n + 1")
    assert len(recalled(job).tokens) == 500
    assert recalled(job).count > 2000
    assert notebook.here("all(a is b for a, b in zip(y, x[1::2], strict=True))")


def test_where_nothing_of_it_comes_back_nothing_is_told(notebook: Notebook) -> None:
    """A number that was computed takes no places with it."""
    notebook.here("x = [[i] for i in range(1000)]")
    assert recalled(notebook.there("y = len(x)")) == Recalled()


@pytest.mark.parametrize(
    ("code", "is_told"),
    [
        ("y = [x]", True),
        ("y = n; k = len(x)", True),
        ("y = [n, x]", False),
        ("x.append(n); y = 1", False),
        ("del n; y = x", True),
        ("m = n; del n; y = x", True),
        ("x.append(n); del n", False),
    ],
)
def test_numbers_that_are_held_by_more_than_names_are_asked_for(
    notebook: Notebook, code: str, is_told: bool
) -> None:
    """They have no place in a memo: each object is asked for then, and the number is that one."""
    notebook.here("n = 123456; kept = n; x = [1]")
    job = notebook.there(code)
    assert (recalled(job).count > 0) is is_told
    for found in ("y", "m", "y[0]", "x[-1]"):
        try:
            value = notebook.here(found)
        except (NameError, TypeError, IndexError):
            continue
        assert value is notebook["kept"] or value != notebook["kept"]


def test_who_holds_a_number_is_found() -> None:
    """Only names, any number of them, are no reason."""
    numbers = [int("123456"), float("1.5")]
    names = {"a": numbers[0], "b": numbers[0], "c": numbers[1]}
    del numbers
    assert not held_elsewhere(names.values(), (names,))
    other = [names["c"]]
    assert held_elsewhere(names.values(), (names,))
    del other
    assert not held_elsewhere(names.values(), (names,))


def test_what_only_looks_like_a_place_does_no_harm(notebook: Notebook) -> None:
    """Bytes of the cell's own may be those of the operation; the object is looked up in vain."""
    notebook.here("x = [[i] for i in range(1000)]")
    job = notebook.there("y = b''.join(b'j' + (256 + i).to_bytes(4, 'little') for i in range(900))")
    assert recalled(job) == Recalled()
    job = notebook.there("z = [y, x[0]]; w = y + b'!'")
    assert len(recalled(job).tokens) > 800
    assert notebook.here("z[0] is y and z[1] is x[0] and w == y + b'!'")


def test_a_seed_that_is_gone_costs_those_that_hold_it(notebook: Notebook) -> None:
    """The others are whole, whatever stands before them in the stream."""
    notebook.here("x = [[i] for i in range(300)]")
    job = notebook.submit("a = [x[5]]; b = [x[6], {1}]; c = {'k': x[7]}; d = [a, 1.5]")
    found = stream(job)
    objects = notebook.records[job.record.id].kept
    assert objects is not None
    gone = notebook["x"][5]

    def resolve(token: Any) -> Any:
        obj = objects.object(token[1])
        if obj is gone:
            raise KeyError(token)
        return obj

    items = Items(found.data, found.buffers, notebook.namespace, resolve, True, True, True)
    bound = {item[1]: (item[2], why) for item, why in items if item[0] == "bind"}
    assert {name for name, (_, why) in bound.items() if why is not None} == {"a", "d"}
    assert bound["b"][0][0] is notebook["x"][6]
    assert bound["c"][0]["k"] is notebook["x"][7]


def test_a_change_that_cannot_be_loaded_is_told_and_the_others_come(notebook: Notebook) -> None:
    """Changes in place are one item of the stream; each of them stands for itself."""
    notebook.here(FRAGILE + "x = [[i] for i in range(10)]; z = {}")
    job = notebook.submit("x[3].append(Fragile()); x[4].append('whole'); z['k'] = x[5]")
    found = stream(job)
    kept = notebook.records[job.record.id].kept
    assert kept is not None
    items = Items(
        found.data,
        found.buffers,
        notebook.namespace,
        lambda token: kept.object(token[1]),
        True,
        True,
        True,
    )
    found_items = list(items)
    [updates] = [item[1] for item, why in found_items if item[0] == "updates" and why is None]
    states = {kind: state for _, kind, state in updates}
    assert states == {"list": [4, "whole"], "dict": {"k": notebook["x"][5]}}
    assert [type(why) for item, why in found_items if item[0] == "update"] == [AssertionError]


def test_a_change_that_cannot_be_pickled_is_told_by_name(notebook: Notebook) -> None:
    """Of many, the others come."""
    notebook.here("names = [[] for _ in range(50)]; bad = []; worse = {}")
    job = notebook.there(
        "import threading\n"
        "for each in names: each.append(1)\n"
        "bad.append(threading.Lock()); worse['k'] = threading.Lock()"
    )
    assert set(job.run().failed) == {"change of bad", "change of worse"}
    assert notebook.here("names == [[1]] * 50 and bad == [] and worse == {}")


def test_sets_of_many_objects_are_walked_in_their_order(notebook: Notebook) -> None:
    """A set is found among all else that was written, though many places look like one."""
    notebook.here("many = [[i] for i in range(40_000)]")
    notebook.there("s = {8 * i for i in (5, 0, 1)}; y = [*many[37_000:39_000], s]; w = list(s)")
    assert notebook.here("list(y[-1]) == w and y[0] is many[37_000]")
