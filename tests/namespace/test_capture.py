"""What `capture` takes along, and what it says where it cannot."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dask_async_run.errors import NotPickledError
from notebook import Notebook, in_child


def taken(notebook: Notebook, setup: str, cell: str) -> dict[str, str]:
    notebook.here(setup)
    return {found.name: found.why for found in notebook.capture(cell).inputs}


def test_only_what_the_cell_reads_goes_along(notebook: Notebook) -> None:
    """A name that nothing reads stays here."""
    assert taken(notebook, "a = 1; b = 2", "c = a") == {"a": "read"}


def test_what_a_function_reads_goes_along_at_any_depth(notebook: Notebook) -> None:
    """Globals of functions that functions call are found, and say by whom they are read."""
    setup = "k = 2\ndef g(): return k\nclass C:\n    def m(self): return g()\nc = C()"
    read = {"c": "read", "g": "read by c", "k": "read by g"}
    assert taken(notebook, setup, "c.m()") == read | {"C": "mentioned"}


def test_a_mentioned_name_goes_along_if_it_can(notebook: Notebook) -> None:
    """A word in a string is taken; one that cannot be pickled is left out and named."""
    notebook.here("import threading\nlimit = 3\nlock = threading.Lock()")
    found = notebook.capture("query('a > @limit and lock')")
    assert [(i.name, i.why) for i in found.inputs] == [("limit", "mentioned")]
    assert "lock" in found.left_out


def test_a_dynamic_cell_takes_everything_that_it_can(notebook: Notebook) -> None:
    """`globals()` takes all names but those that cannot be pickled."""
    notebook.here("import threading\na = 1\nlock = threading.Lock()\ndel threading")
    found = notebook.capture("globals()['a']")
    assert [i.name for i in found.inputs] == ["a"]
    assert list(found.left_out) == ["lock"]


def test_what_only_a_mentioned_name_leads_to_is_left_out(notebook: Notebook) -> None:
    """A function that is only mentioned needs nothing that cannot be pickled; a read one does."""
    notebook.here(
        "import threading\nlock = threading.Lock()\ndef ask(): return lock\ndef f(): return ask()"
    )
    found = notebook.capture("print('f')")
    assert [i.name for i in found.inputs] == ["f", "ask"]
    assert list(found.left_out) == ["lock"]
    with pytest.raises(NotPickledError):
        notebook.capture("print('f')\nask")


def test_what_loading_calls_finds_its_names(notebook: Notebook) -> None:
    """Functions that make an object again come with what they read, each name once."""
    notebook.here(
        "class Point:\n"
        "    def __reduce__(self): return type(self).again, ()\n"
        "    @classmethod\n"
        "    def again(cls): return made()\n"
        "point = Point()\n"
        "def made(): return Point()"
    )
    names = [i.name for i in notebook.capture("point").inputs]
    assert sorted(names) == ["Point", "made", "point"]
    assert names.index("made") < names.index("point")


def test_what_cannot_be_pickled_is_explained(notebook: Notebook) -> None:
    """The error names the value, its type, the way to it, the cell's line and a way out."""
    notebook.here(
        "import threading\nlock = threading.Lock()\n"
        "def cache(): return lock\ndef fit(): return cache()"
    )
    with pytest.raises(NotPickledError) as caught:
        notebook.capture("x = 1\nfit()")
    error = caught.value
    assert (error.name, error.type_name) == ("lock", "_thread.lock")
    assert error.path == ("fit", "cache", "lock")
    assert error.line == 2
    assert "inside the cell" in error.advice


def test_the_part_that_cannot_be_pickled_is_found(notebook: Notebook) -> None:
    """The way leads through items and attributes to the culprit."""
    notebook.here(
        "class Box: pass\n"
        "def stuck():\n    try: 1 / 0\n    except ZeroDivisionError: yield\n"
        "box = Box(); box.rows = [1, stuck()]; next(box.rows[1])"
    )
    with pytest.raises(NotPickledError) as caught:
        notebook.capture("box")
    assert caught.value.path == ("box", ".rows", "[1]")
    assert caught.value.type_name == "generator"
    assert "list" in caught.value.advice


LIST = (
    "class Node: next = None\n"
    "nodes = [Node() for _ in range({count})]\n"
    "for one, other in zip(nodes, nodes[1:]): one.next = other\n"
    "head = nodes[0]; del nodes"
)
"""A linked list: pickling goes as deep as it is long."""


@pytest.mark.parametrize("limit", [1_000, 1_000_000])
def test_a_long_linked_list_goes_along(notebook: Notebook, limit: int) -> None:
    """As long as the largest stack has place for it; else it is refused, and nothing crashes.

    Also where the notebook has raised the limit of recursion, which makes no stack larger.
    """
    notebook.here(LIST.format(count=3_000))

    def captured() -> list[str]:
        sys.setrecursionlimit(limit)
        return [found.name for found in notebook.capture("head").inputs]

    assert "head" in in_child(captured)
    notebook.here(LIST.format(count=200_000))

    def refused() -> str:
        sys.setrecursionlimit(limit)
        with pytest.raises(NotPickledError) as caught:
            notebook.capture("head")
        return f"{caught.value} {caught.value.line}"

    assert "its parts hang on one another, as the nodes of a linked list do" in in_child(refused)


def test_an_open_file_is_refused(notebook: Notebook) -> None:
    """A file is not silently turned into a copy of its text."""
    notebook.here("import os\nfile = open(os.devnull)")
    try:
        with pytest.raises(NotPickledError, match="Open the file inside the cell"):
            notebook.capture("file.read()")
    finally:
        notebook["file"].close()


def test_submodules_that_the_cell_mentions_are_imported_there(notebook: Notebook) -> None:
    """`import a.b` binds `a`; there, `a.b` works too."""
    notebook.here("import xml.etree.ElementTree")
    notebook.there("tag = xml.etree.ElementTree.Element('x').tag")
    assert notebook["tag"] == "x"


def test_an_array_and_its_view_share_memory_there(notebook: Notebook) -> None:
    """A write through the view is seen in the array, there and here."""
    notebook.here("import numpy as np\na = np.zeros(100_000); v = a[3:6]")
    notebook.there("v[:] = 7; seen = a[4]")
    assert notebook["seen"] == 7
    assert notebook["a"][3:6].tolist() == [7, 7, 7]
    assert notebook["v"].base is notebook["a"]


def test_views_that_overlap_share_memory_without_their_base(notebook: Notebook) -> None:
    """The array that owns the memory need not have a name."""
    notebook.here("import numpy as np\na = np.arange(10); v = a[2:5]; w = a[4:8]\ndel a")
    notebook.there("v[2] = 77; seen = w[0]")
    assert notebook["seen"] == 77
    assert np.shares_memory(notebook["v"], notebook["w"])


def test_a_frame_and_its_array_come_apart_no_further_than_here(notebook: Notebook) -> None:
    """Whether an array is changed with a frame that was made of it is pandas' to say."""
    setup = "import numpy as np, pandas as pd\na = np.zeros((3, 2)); df = pd.DataFrame(a)"
    cell = "df.loc[0, 0] = 5.0; total = a.sum()"
    plain: dict[str, Any] = {}
    exec(f"{setup}\n{cell}", plain)
    notebook.here(setup)
    notebook.there(cell)
    assert notebook["total"] == plain["total"] == notebook["a"].sum()
    assert notebook["df"].loc[0, 0] == 5


def test_a_name_from_elsewhere_is_not_taken(notebook: Notebook) -> None:
    """What a pending job binds is told apart, not sent stale."""
    notebook.here("x = 1")
    earlier = notebook.submit("x = 2")
    later = notebook.submit("y = x + 1", parents=[earlier])
    assert later.captured.elsewhere == {"x"}
    assert "x" not in later.captured.values


HASHED = """
import threading
factor = 3
def h(x): return x * factor
class P:
    def __init__(self, x): self.x = x; self.lock = threading.Lock()
    def __hash__(self): return h(self.x)
    def __eq__(self, other): return self.x == other.x
    def __getstate__(self): return {"x": self.x}
    def __setstate__(self, state): self.x = state["x"]; self.lock = threading.Lock()
"""


def test_what_loading_runs_finds_the_names_that_it_reads(notebook: Notebook) -> None:
    """`__hash__` and `__setstate__` run before the cell does, and read globals."""
    notebook.here(HASHED + "known = {(p := P(1)), P(2)}\ntable = {p: 1}")
    notebook.there("known.add(P(3)); value = table[P(1)]")
    assert notebook["value"] == 1
    assert notebook.here("len(known), P(3) in known") == (3, True)


def test_what_gathering_runs_finds_the_names_that_come_with_it(notebook: Notebook) -> None:
    """A class with `__setstate__`, its imports and an instance may come from one cell."""
    notebook.there(HASHED + "p = P(4); known = {p}")
    assert notebook.here("p in known and p.lock is not None")


def test_a_file_that_is_mapped_to_be_written_to_is_named(
    notebook: Notebook, tmp_path: Path
) -> None:
    """It is no snapshot but everybody's; one that is only read is as good as one."""
    notebook.here(
        f"import numpy as np; file = {str(tmp_path / 'mapped.dat')!r}\n"
        "held = [np.memmap(file, dtype='f8', mode='w+', shape=(10,))]\n"
        "only_read = np.memmap(file, mode='r')"
    )
    shared = notebook.capture("held[0][0] = only_read[0]").shared
    assert list(shared) == ["held"]
    assert shared["held"].endswith("mapped.dat")
