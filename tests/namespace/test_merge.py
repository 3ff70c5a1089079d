"""Merging a result: what it changes, what it leaves alone, and what it says."""

# ruff: noqa: E501 - a case is a line of its table

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass

import pytest

from dask_async_run.namespace.kinds import NotInPlace
from dask_async_run.namespace.salvage import NotLoadedError
from notebook import Notebook


def test_names_are_bound_rebound_and_deleted(notebook: Notebook) -> None:
    """What the cell did to names is done here."""
    notebook.here("a = 1; b = 2; c = 3")
    notebook.there("a = 10; del b; d = 4")
    assert notebook.here("(a, c, d)") == (10, 3, 4)
    assert "b" not in notebook


@dataclass(frozen=True)
class Conflict:
    """What happens here between submission and gathering, and what is said of it."""

    setup: str
    cell: str
    meanwhile: str
    name: str
    why: str
    mine: str
    theirs: str


CONFLICTS = [
    Conflict("x = 1", "x = 2", "x = 3", "x", "was rebound here since", "x == 3", "x == 2"),
    Conflict("x = 1", "x += 1", "del x", "x", "was deleted here since", "'x' not in globals()", "x == 2"),
    Conflict("", "x = 2", "x = 3", "x", "was bound here since", "x == 3", "x == 2"),
    Conflict("x = 1", "x; del x", "x = 3", "x", "was rebound here since", "x == 3", "'x' not in globals()"),
    Conflict("x = [1]", "x.append(2)", "x.append(3)", "x", "was changed in place here since", "x == [1, 3]", "x == [1, 2]"),
    Conflict("x = [1]", "x.append(2)", "x = [9]", "x", "was rebound here since", "x == [9]", "x == [1, 2]"),
    Conflict("x = [1]", "x.append(2)", "del x", "x", "was deleted here since", "'x' not in globals()", "x == [1, 2]"),
    Conflict("import numpy as np; x = np.zeros(3)", "x[0] = 1", "x = None", "x", "was rebound here since", "x is None", "list(x) == [1, 0, 0]"),
    Conflict("x = {'a': [1]}", "x['a'].append(2)", "x['a'].append(3)", "x", "was changed in place here since", "x['a'] == [1, 3]", "x['a'] == [1, 2]"),
    Conflict("class C: n = 1", "C.n = 2", "C.n = 3", "C", "was changed in place here since", "C.n == 3", "C.n == 2"),
    Conflict("import numpy as np; x = np.zeros(3)", "x += 1", "x += 2", "x", "was changed in place here since", "x[0] == 2", "x[0] == 1"),
    Conflict("class C: pass\nx = C(); x.a = 1", "x.a = 2", "x.a = 3", "x", "was changed in place here since", "x.a == 3", "x.a == 2"),
]  # fmt: skip


@pytest.mark.parametrize(
    "case", CONFLICTS, ids=lambda case: f"{case.setup} / {case.cell} / {case.meanwhile}"
)
def test_a_conflict_is_left_alone_and_named(notebook: Notebook, case: Conflict) -> None:
    """What changed here meanwhile stays, unless asked otherwise; the clean names are merged."""
    notebook.here(case.setup)
    job = notebook.submit(case.cell + "\nclean = 1")
    notebook.here(case.meanwhile)
    assert job.gather().conflicts == {case.name: case.why}
    assert notebook.here(case.mine)
    assert notebook["clean"] == 1


@pytest.mark.parametrize(
    "case", CONFLICTS, ids=lambda case: f"{case.setup} / {case.cell} / {case.meanwhile}"
)
def test_overwrite_takes_the_jobs_value(notebook: Notebook, case: Conflict) -> None:
    """`overwrite` leaves no conflict, whether the job had been gathered without it or not."""
    for before in (False, True):
        notebook.here(case.setup or "globals().pop('x', None)")
        job = notebook.submit(case.cell)
        notebook.here(case.meanwhile)
        if before:
            assert job.gather().conflicts
        assert not job.gather(overwrite=True).conflicts
        assert notebook.here(case.theirs)


def test_what_was_left_alone_is_taken_later_and_nothing_twice(notebook: Notebook) -> None:
    """One of several changes in place is in conflict: it alone is made when asked for."""
    notebook.here("a = [1]; b = [1]; c = iter(range(9)); d = [1]; same = d")
    job = notebook.submit("a.append(2); b.append(2); next(c); d.append(2)")
    notebook.here("a.append(9); del d")
    assert sorted(job.gather().conflicts) == ["a", "d"]
    notebook.here("b.append(7)")
    assert sorted(job.gather().conflicts) == ["a", "d"]
    assert notebook.here("(a, b, same)") == ([1, 9], [1, 2, 7], [1, 2])
    assert not job.gather(overwrite=True).conflicts
    assert notebook.here("(a, b, next(c), d is same)") == ([1, 2], [1, 2, 7], 1, True)


UNCHANGED = [
    "import numpy as np; x = np.arange(100.)[::2]",
    "import numpy as np; x = np.ma.array([1, 2], mask=[0, 1])",
    "import operator, types; x = types.SimpleNamespace(a=operator.itemgetter(1))",
    "import io; x = io.StringIO('a')",
    "from functools import cache\nx = cache(lambda n: n); x(1)",
    "import pandas as pd; x = pd.DataFrame({'a': [1, 2]}).set_index('a')",
    "import random; x = random.Random(1)",
    "from collections import Counter; x = Counter('aab')",
    "x = {(1, 2): {3}, 'k': frozenset([4])}",
    "class C:\n  def __getstate__(self): return {}\nx = C(); x.f = 1",
]


@pytest.mark.parametrize("setup", UNCHANGED)
def test_what_nobody_changed_here_is_no_conflict(notebook: Notebook, setup: str) -> None:
    """An object of any kind is known to be as it was sent; a change there is merged."""
    changes = ["x += 1", "x[0] = 5", "x.b = 1", "x.write('b')", "x(2)", "x['n'] = 1", "x.random()"]
    notebook.here(setup)
    mine = notebook["x"]
    cell = "".join(f"try:\n  {change}\nexcept Exception: pass\n" for change in changes)
    job = notebook.submit(cell)
    plan = job.gather()
    assert not plan.conflicts
    assert job.load().updates or plan.bind
    assert notebook["x"] is mine or job.load().notes


@pytest.mark.contract(17, 19)
@pytest.mark.parametrize("elsewhere", [False, True])
def test_only_restricts_changes_in_place(notebook: Notebook, elsewhere: bool) -> None:
    """To what the names lead to, be it by values that came; the others can be had later."""
    notebook.here("a = [1]; b = [1]; c = [1]; d = [1]")
    job = notebook.submit("for each in (a, b, c, d): each.append(2)\nboth = {'c': c}; d = (d,)")
    if elsewhere:
        notebook.restart([job])
        notebook.here("b = [1]; d = [1]")
    job.gather(only=["a"])
    assert notebook.here("(a, b, d, globals().get('c') in ([1], None))") == ([1, 2], [1], [1], True)
    job.gather(only=["both"])
    assert notebook.here("(b, both, d)") == ([1], {"c": [1, 2]}, [1])
    job.gather()
    assert notebook.here("(a, b, c, d)") == ([1, 2], [1, 2], [1, 2], ([1, 2],))
    assert notebook.here("both['c'] is c")


def test_only_restricts_the_merge(notebook: Notebook) -> None:
    """With `only`, other names stay as they are; they can be had later."""
    notebook.here("a = b = 0")
    job = notebook.submit("a = 1; b = 2")
    job.gather(only=["a"])
    assert notebook.here("(a, b)") == (1, 0)
    job.gather()
    assert notebook.here("(a, b)") == (1, 2)


def test_a_fresh_kernel_gets_copies_with_the_changes(notebook: Notebook) -> None:
    """In a kernel that did not submit the job, names are bound, shared objects shared."""
    notebook.here("class P:\n  def get(self): return self.x\np = P(); p.x = 1; rows = [p]; k = 5")
    job = notebook.submit("p.x = 2; new = [p, rows]\ndef f(): return k\nk = 6")
    notebook.restart([job])
    assert not job.gather().conflicts
    assert notebook.here("p.get() == 2 and rows[0] is p and new[0] is p and new[1] is rows")
    assert notebook.here("f() == 6 and type(p) is P if 'P' in globals() else f() == 6")


def test_a_fresh_kernel_keeps_its_own_values(notebook: Notebook) -> None:
    """There, a name that is bound already is a conflict, unless it has the same value."""
    notebook.here("a = [1]; same = [2]")
    job = notebook.submit("a.append(2); b = 1; c = same")
    notebook.restart([job])
    notebook.here("a = 'mine'; c = [2]")
    assert job.gather().conflicts == {"a": "is here already, with another value"}
    assert notebook.here("(a, b, c)") == ("mine", 1, [2])


def test_a_value_that_cannot_be_loaded_leaves_everything_untouched(notebook: Notebook) -> None:
    """A failing ``__setstate__`` raises before anything is changed; later it can be gathered."""
    notebook.here(
        "class F:\n"
        "    def __setstate__(self, state):\n"
        "        if fail: raise OSError('no')\n"
        "        self.__dict__.update(state)\n"
        "fail = False; rows = [1]"
    )
    job = notebook.submit("rows.append(2); f = F(); f.v = 7; new = 1")
    notebook.here("fail = True")
    with pytest.raises(NotLoadedError, match=r"^f cannot be loaded \(OSError: no\)$") as raised:
        job.gather()
    assert isinstance(raised.value.__cause__, OSError)
    assert notebook["rows"] == [1]
    assert "new" not in notebook
    notebook.here("fail = False")
    job.gather()
    assert notebook.here("(rows, f.v, new)") == ([1, 2], 7, 1)


def test_changes_before_one_that_fails_are_taken_back(notebook: Notebook) -> None:
    """All changes in place are made, or none."""
    notebook.here(
        "import numpy as np, collections\nclass P: pass\np = P(); p.x = 1; d = {'k': 1}\n"
        "rows = [1]; base = np.zeros(2); a = base[:]; q = collections.deque([1]); s = {1}; c = P()\n"
        "def f(v=[1]): f.n = v\nb = bytearray(b'a')"
    )
    job = notebook.submit(
        "rows.append(2); p.x = 2; d['z'] = 2; q.append(2); s.add(2); f(); b += b'b'\n"
        "P.n = 3; a += 1; new = 1"
    )
    notebook.here("base.flags.writeable = a.flags.writeable = False")
    merger = job.merger()
    plan = merger.plan(overwrite=True)
    with pytest.raises(NotInPlace):
        merger.apply(plan)
    assert notebook.here("(rows, p.x, d, list(q), s, vars(f), b, hasattr(P, 'n'), a.sum())") == (
        [1], 1, {"k": 1}, [1], {1}, {}, b"a", False, 0,
    )  # fmt: skip
    assert "new" not in notebook


def test_gathering_twice_is_harmless(notebook: Notebook) -> None:
    """The second time nothing is left to do, also after changes here."""
    notebook.here("x = [1]; it = iter('abc')")
    job = notebook.submit("x.append(2); next(it); y = [x]")
    job.gather()
    notebook.here("x.append(3)")
    job.gather()
    assert notebook["x"] == [1, 2, 3]
    assert notebook.here("next(it)") == "b"


def test_what_cannot_change_in_place_is_rebound_and_said_so(notebook: Notebook) -> None:
    """Names of such an object, and what holds it, get the new one, with the change in it."""
    notebook.here("import itertools\na = itertools.islice([1, 2, 3], 2); box = {'a': a}")
    job = notebook.submit("next(a); box")
    plan = job.gather()
    assert "a" in plan.bind
    assert "a" in job.load().notes
    assert notebook["box"]["a"] is notebook["a"]
    assert next(notebook["a"]) == 2


def test_a_value_that_cannot_be_pickled_spoils_nothing(notebook: Notebook) -> None:
    """It is reported by name with the reason, the others come back."""
    job = notebook.there("import threading\nlock = threading.Lock(); a = 1")
    assert "lock" not in notebook
    assert "TypeError" in job.run().failed["lock"]
    assert notebook["a"] == 1


def test_what_was_done_before_an_exception_stands(notebook: Notebook) -> None:
    """Names and changes in place come back, and so does the exception, as its own type."""
    notebook.here("class Mine(ValueError): pass\nx = []")
    job = notebook.there("x.append(1); y = 2; raise Mine('no'); z = 3")
    assert notebook.here("(x, y, 'z' in globals())") == ([1], 2, False)
    assert type(job.load().error) is notebook["Mine"]


def test_only_and_also_of_the_submission(notebook: Notebook) -> None:
    """`only` narrows and `also` widens what the result holds."""
    notebook.here("a = 0; c = [1]")
    notebook.there("a = 1; b = 2; c", only=["b"])
    assert notebook.here("(a, b)") == (0, 2)
    job = notebook.there("a; d = 1", also=["a"])
    assert sorted(job.run().bound) == ["a", "d"]


def test_a_copy_of_a_coroutine_says_nothing_of_its_end(notebook: Notebook) -> None:
    """That nobody awaited what was only made to compare with is no news to the user."""
    notebook.here("import gc\nasync def one(): return 1\ncoroutine = one(); rows = [1]")
    job = notebook.submit("rows.append(2); coroutine")
    job.gather()
    assert job.record._original is not None
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        job.record.release(built_on=False, changed={})
        del job
        notebook.records.clear()
        notebook.here("gc.collect()")
    assert [str(warning.message) for warning in told] == []
    notebook.here("coroutine.close()")


@pytest.mark.contract(17, 20)
def test_matches_that_are_left_come_back(notebook: Notebook) -> None:
    """``re.finditer`` goes on where a cell left it, in the next one and here."""
    notebook.there("import re\nit = re.finditer('[a-z]', 'a1b2c3d4'); first = next(it)[0]")
    notebook.there("second = next(it)[0]")
    assert notebook.here("first, second, next(it)[0], type(it).__name__") == (
        "a",
        "b",
        "c",
        "callable_iterator",
    )
    assert notebook.here("[match[0] for match in it]") == ["d"]


@pytest.mark.contract(5, 17)
def test_other_base_classes_come_back(notebook: Notebook) -> None:
    """Also where the cell makes them, and they stay in later cells."""
    notebook.here(
        "class A:\n    def who(self): return 'A'\n"
        "class B(A): pass\n"
        "class C(A):\n    def who(self): return 'C'\n"
        "b = B()"
    )
    notebook.there("B.__bases__ = (C,)")
    assert notebook.here("b.who(), B.__bases__ == (C,)") == ("C", True)
    notebook.there("B.x = 1")
    assert notebook.here("b.who(), B.__bases__ == (C,)") == ("C", True)
    notebook.there("class D(C):\n    def who(self): return 'D'\nB.__bases__ = (D, A)")
    assert notebook.here("b.who(), B.__bases__ == (D, A)") == ("D", True)


@pytest.mark.contract(5, 18)
def test_other_base_classes_go_where_the_merge_fails(notebook: Notebook) -> None:
    """With the attributes that were set until then."""
    notebook.here(
        "class Meta(type):\n"
        "    closed = False\n"
        "    def __setattr__(cls, name, value):\n"
        "        if Meta.closed and name == 'last': raise TypeError('no')\n"
        "        super().__setattr__(name, value)\n"
        "class A(metaclass=Meta): pass\n"
        "class B(A): x = 1\n"
        "class C(A): pass\n"
    )
    job = notebook.submit("B.__bases__ = (C,); B.x = 2; B.y = 3; B.last = 4")
    notebook.here("type.__setattr__(Meta, 'closed', True)")
    with pytest.raises(TypeError, match="no"):
        job.gather()
    assert notebook.here("B.__bases__ == (A,), B.x, 'y' in vars(B)") == (True, 1, False)


@pytest.mark.contract(17, 18)
def test_changes_go_where_keys_that_changed_cannot_be_put_in(notebook: Notebook) -> None:
    """A notebook's own ``__hash__`` is called last."""
    notebook.here(
        "class K:\n"
        "    open = True\n"
        "    def __init__(self, n): self.n = n\n"
        "    def __eq__(self, other): return self.n == other.n\n"
        "    def __hash__(self):\n"
        "        if not K.open and self.n == 2: raise ValueError('shut')\n"
        "        return self.n\n"
        "k = K(1); d = {k: 1}; rows = [0]"
    )
    job = notebook.submit("rows.append(1); k.n = 2; new = {k: 2}")
    job.run()
    notebook.here("K.open = False")
    with pytest.raises(ValueError, match="shut"):
        job.gather()
    notebook.here("K.open = True")
    assert notebook.here("rows, k.n, len(d)") == ([0], 1, 1)


@pytest.mark.contract(5)
def test_a_librarys_class_whose_module_nobody_has_imported(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is that class on either side, not one that was made at run time."""
    monkeypatch.delitem(sys.modules, "numpy.rec", raising=False)
    notebook.here(
        "import numpy as np\n"
        "table = np.zeros(2, [('x', 'i4'), ('y', 'f8')]); rec = table.view(np.recarray)"
    )
    notebook.there("rec.y = [1, 2]; other = np.rec.array([(1, 2.0)])")
    notebook.here("rec.x[0] = 9")
    assert notebook["table"].tolist() == [(9, 1.0), (0, 2.0)]
    assert notebook.here("type(rec) is type(other) is np.recarray")
