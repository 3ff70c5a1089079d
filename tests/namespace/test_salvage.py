"""What of a stream is loaded where some of it cannot be."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest

from dask_async_run.namespace.salvage import Items, NotLoadedError
from notebook import Notebook

FRAGILE = (
    "import os, enum, collections\n"
    "class Fragile:\n"
    "    def __init__(self, *parts): self.parts = parts\n"
    "    def __reduce__(self): return Fragile.again, (os.getpid(), *self.parts)\n"
    "    @staticmethod\n"
    "    def again(pid, *parts):\n"
    "        assert pid == os.getpid(), 'gone'\n"
    "        return Fragile(*parts)\n"
)


def lost(notebook: Notebook, setup: str, names: str, *shared: str) -> set[str]:
    """Mention names in a cell; answer which of them are not there, and gather."""
    notebook.here(FRAGILE + setup)
    there = f"[n for n in '{names}'.split() if n not in globals()]"
    notebook.there(f"missing = {there}")
    for pair in shared:
        assert notebook.here(pair)
    return set(notebook["missing"])


@pytest.mark.parametrize(
    ("value", "is_lost"),
    [
        ("[fragile]", True),
        ("(1, {'k': fragile})", True),
        ("{fragile}", True),
        ("frozenset([fragile])", True),
        ("{fragile: 1}", True),
        ("collections.OrderedDict(k=fragile)", True),
        ("collections.deque([fragile])", True),
        ("enum.Enum('E', {'A': fragile})", True),
        ("lambda: fragile", False),
        ("(lambda f: lambda: f)(fragile)", True),
        ("type('Late', (), {'f': fragile})", True),
        ("type('Late', (), {'f': fragile})()", True),
        ("fragile.parts", False),
        ("Fragile", False),
        ("[[1], 'a', shared]", False),
    ],
)
def test_what_holds_it_is_lost_and_nothing_else(
    notebook: Notebook, value: str, is_lost: bool
) -> None:
    """A name is left out if what cannot be loaded is a part of it, or it is made of that."""
    setup = f"shared = [1]; fragile = Fragile(shared)\nvalue = {value}; after = shared"
    expected = {"fragile", "value"} if is_lost else {"fragile"}
    assert lost(notebook, setup, "fragile value shared after Fragile") == expected


def test_what_comes_before_its_parts_break_is_lost_too(notebook: Notebook) -> None:
    """Of objects that hold one another none is whole if one is not."""
    setup = (
        "class Node: pass\n"
        "a, b, c = Node(), Node(), Node(); a.b, b.a, a.c = b, a, c; a.last = Fragile()\n"
        "ring = []; ring.append((ring, {})); ring.append(Fragile()); inside = ring[0][1]"
    )
    assert lost(notebook, setup, "a b c ring inside Node") == {"a", "b", "ring"}


def test_what_it_shares_with_others_is_still_shared(notebook: Notebook) -> None:
    """Arrays, instances and functions that a lost name has too are there, as one object."""
    setup = (
        "import numpy as np\n"
        "class Point: pass\n"
        "fragile = Fragile(np.zeros(3), Point(), {'k': [1]})\n"
        "array, point, found = fragile.parts; also = np.ones(2); both = [point, array]"
    )
    notebook.here(FRAGILE + setup)
    notebook.there(
        "'fragile Point np also'\n"
        "exec('array += also.sum(); point.x = both[0] is point; found[\"k\"].append(2)')"
    )
    assert notebook.here("[a is b for a, b in zip(fragile.parts, [array, point, found])]") == (
        [True] * 3
    )
    assert notebook.here("(list(array), point.x, found)") == ([2.0] * 3, True, {"k": [1, 2]})


def test_none_of_the_users_code_sees_what_is_not_whole(notebook: Notebook) -> None:
    """``__setstate__``, ``__hash__`` and constructors are not called with a stand-in."""
    setup = (
        "class Seen:\n"
        "    def __init__(self, part): self.part = part\n"
        "    def __setstate__(self, state): seen.append(type(state['part']).__name__)\n"
        "class Key(Seen):\n"
        "    def __hash__(self): return len(seen)\n"
        "    def __getnewargs__(self): return (self.part,)\n"
        "    def __new__(cls, part): seen.append(type(part).__name__); return object.__new__(cls)\n"
        "seen = []; one = Seen(Fragile()); other = {Key(Fragile()): 1}; seen.clear()"
    )
    notebook.here(FRAGILE + setup)
    job = notebook.there("'one other Seen Key'\nresult = list(eval('seen'))")
    assert job.load().bound["result"] == []


def test_a_name_that_the_cell_reads_is_an_error_by_name(notebook: Notebook) -> None:
    """Restoring fails with the name and what was raised; nothing was run."""
    notebook.here(FRAGILE + "fragile = Fragile(); other = 1")
    job = notebook.submit("fragile.parts")
    with pytest.raises(AssertionError, match=r"fragile cannot be loaded \(AssertionError: gone\)"):
        job.run()


def test_what_cannot_be_loaded_is_neither_bound_nor_deleted(notebook: Notebook) -> None:
    """Gathering leaves such a name as it is; what the cell binds it to comes."""
    notebook.here(FRAGILE + "a = b = Fragile(); number = 12345.5")
    job = notebook.submit("globals()['b'] = 'new'; number, copy = 1, number")
    assert not job.gather().conflicts
    assert not job.load().deleted
    assert notebook.here("(type(a).__name__, b, number, copy)") == ("Fragile", "new", 1, 12345.5)


def test_a_modules_other_values_are_there(notebook: Notebook) -> None:
    """A module made here that has one value which cannot be loaded has the others."""
    notebook.here(
        FRAGILE + "import types, sys\n"
        "tools = types.ModuleType('tools'); tools.x = 5; tools.fragile = Fragile()"
    )
    notebook.there("'tools'\nseen = eval('tools.x'), hasattr(eval('tools'), 'fragile')")
    assert notebook["seen"] == (5, False)


def test_a_job_that_builds_on_it_runs_as_well(notebook: Notebook) -> None:
    """What its inputs lacked, a later job lacks too, and has all else."""
    notebook.here(FRAGILE + "fragile = Fragile(); rows = [1]")
    first = notebook.submit("exec('rows.append(2)'); made = [rows]")
    second = notebook.submit("made[0].append(3); exec('n = len(rows)')", parents=[first])
    first.gather()
    second.gather()
    assert notebook.here("(rows, made[0] is rows, n, type(fragile).__name__)") == (
        [1, 2, 3],
        True,
        3,
        "Fragile",
    )


def test_a_result_has_all_that_does_not_hold_it(notebook: Notebook) -> None:
    """An array that comes after a value which cannot be loaded comes all the same."""
    notebook.here(FRAGILE)
    job = notebook.submit(
        "import numpy as np\nbad = Fragile(np.ones(2)); array = bad.parts[0]; more = np.zeros(1)"
    )
    with pytest.raises(NotLoadedError, match="bad cannot be loaded") as raised:
        job.load()
    assert list(raised.value.lost) == ["bad"]
    part = job.record.load(job.run(), notebook.records, only=["array", "more"])
    assert part.bound["array"].sum() == 2
    assert part.bound["more"].shape == (1,)


def test_a_buffer_that_is_not_there_takes_what_is_made_of_it() -> None:
    """Be it writable or not; buffers behind it still belong to whom they belonged."""
    file, buffers = io.BytesIO(), list[object]()
    pickler = pickle.Pickler(file, protocol=5, buffer_callback=buffers.append)
    shared = np.arange(5.0)
    values = {
        "first": shared,
        "writable": np.arange(6.0),
        "text": pickle.PickleBuffer(b"read-only"),
        "holder": [shared, {"k": 1}],
        "last": np.arange(7.0),
    }
    for name, value in values.items():
        pickler.dump(("bind", name, value))
    pickler.dump(("end",))
    buffers[1:3] = [OSError("gone"), OSError("gone too")]
    found = list(Items(file.getvalue(), buffers, {}, None, False, False, True))
    assert [item[1] for item, why in found if why is None] == ["first", "holder", "last"]
    assert [str(why) for _, why in found if why is not None] == ["gone", "gone too"]
    assert found[3][0][2][0] is found[0][0][2]
    assert found[4][0][2].tolist() == [*range(7)]


@pytest.mark.parametrize("kind", ["SystemExit", "type('PanicException', (BaseException,), {})"])
def test_what_is_raised_need_not_be_an_exception(notebook: Notebook, kind: str) -> None:
    """A library in Rust that panics, or a ``__reduce__`` that exits, loses its object only."""
    notebook.here(
        f"Kind = {kind}\n"
        "class Panics:\n    def __reduce__(self): raise Kind('no')\n"
        "class Late:\n    x = 1\n    def __setstate__(self, state): raise Kind('no')\n"
        "panics = Panics(); late = Late(); late.x = 2"
    )
    notebook.there("there = [n for n in ('panics', 'late') if n in globals()]; made = Panics()")
    assert notebook["there"] == []
    assert "made" not in notebook
