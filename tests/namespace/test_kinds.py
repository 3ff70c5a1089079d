"""Each kind of object: its state now, whether it changed, and the new state applied and undone."""

# ruff: noqa: E501 - a case is a line of its table

from __future__ import annotations

import logging
import queue
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dask_async_run.namespace.classify import kind_of
from dask_async_run.namespace.digests import KnownBuffers
from dask_async_run.namespace.iterators import moves_on
from dask_async_run.namespace.kinds import NotInPlace
from dask_async_run.namespace.opaque import fingerprinting
from notebook import Notebook


@dataclass(frozen=True)
class Case:
    """An object ``x``, a change of it, and what shows the change."""

    kind: str
    setup: str
    change: str
    seen: str
    undone: bool = True


CLASS = "class P: pass\n"
CASES = [
    Case("list", "x = [1, [2]]", "x[1:] = [3, 4]", "x"),
    Case("dict", "x = {1: 2, 3: 4}", "del x[1]; x[1] = 5", "list(x.items())"),
    Case("set", "x = {1, 2}", "x.discard(1); x.add(7)", "sorted(x)"),
    Case("bytearray", "x = bytearray(b'abc')", "x += b'd'", "bytes(x)"),
    Case("deque", "import collections; x = collections.deque([1, 2], 2)", "x.append(3)", "list(x), x.maxlen"),
    Case("weak container", f"import weakref\n{CLASS}k = P(); l = P(); x = weakref.WeakSet([k])", "x.add(l)", "len(x)"),
    Case("weak container", f"import weakref\n{CLASS}k = P(); x = weakref.WeakKeyDictionary()", "x[k] = 3", "list(x.values())"),
    Case("instance", f"{CLASS}x = P(); x.a = 1", "x.b = [2]; del x.a", "vars(x)"),
    Case("instance", "class T(str): pass\nx = T('a'); x.a = [x]", "x.b = [2]; del x.a", "vars(x), str(x)"),
    Case("instance", "class S: __slots__ = ('a', 'b')\nx = S(); x.a = 1", "x.b = 2; del x.a", "getattr(x, 'a', 0), getattr(x, 'b', 0)"),
    Case("instance", "import collections; x = collections.defaultdict(list, a=1)", "x['b'].append(1); x.default_factory = set", "dict(x), x.default_factory"),
    Case("instance", "import collections; x = collections.OrderedDict(a=1, b=2)", "x.move_to_end('a')", "list(x)"),
    Case("instance", "import collections; x = collections.Counter('aab')", "x['z'] += 2", "dict(x)"),
    Case("instance", "class L(list): pass\nx = L([1]); x.t = 1", "x.append(2); x.t = 2", "list(x), x.t"),
    Case("tuple with attributes", "class T(tuple): pass\nx = T([1]); x.t = 1", "x.u = 2", "vars(x)"),
    Case("function", "def x(a, b=[1]): return a", "x.n = 1; x.__defaults__ = (3,); x.__doc__ = 'd'", "x.__defaults__, x.__doc__, vars(x)"),
    Case("class", "class x: a = 1; b = 2", "x.a = 3; x.c = 4\ndel x.b", "{k: v for k, v in vars(x).items() if k in 'abc'}"),
    Case("class", "import abc\nclass x(abc.ABC): pass", "x.register(int)", "issubclass(int, x)", undone=False),
    Case("cell", "def f():\n  n = 1\n  return lambda: n\nx = f().__closure__[0]", "x.cell_contents = 5", "x.cell_contents"),
    Case("lru_cache", "import functools\nx = functools.lru_cache(lambda n: n); x(1)", "x(2); x(1)", "x.cache_info()"),
    Case("iterator", "x = iter([1, 2, 3])", "next(x)", "x.__length_hint__()", undone=False),
    Case("iterator", "import itertools; x = itertools.count(3, 2)", "next(x)", "repr(x)", undone=False),
    Case("iterator", "x = iter('ab')", "list(x)", "x.__reduce__()[0].__name__, next(iter(x), None)", undone=False),
    Case("array", "import numpy as np; x = np.arange(6.).reshape(2, 3)", "x[1] = 7", "x.tolist()"),
    Case("array", "import numpy as np; x = np.arange(6)[::2]", "x[1] = 7", "x.tolist()"),
    Case("array", "import numpy as np; x = np.arange(6)", "x.flags.writeable = False", "x.flags.writeable"),
    Case("array with attributes", "import numpy as np; x = np.rec.array([(1, 2.)], dtype=[('a', int), ('b', float)])", "x.a = 7", "x.a.tolist()"),
    Case("array of objects", "import numpy as np; x = np.array([[1], None], dtype=object)", "x[1] = x[0]", "x.tolist()"),
    # Its numbers, and the mask that it has, are arrays of their own.
    Case("masked array", "import numpy as np; x = np.ma.array([1, 2])", "x[0] = np.ma.masked; x.harden_mask()", "x.tolist(), x.hardmask"),
    Case("pandas", "import pandas as pd; x = pd.DataFrame({'a': [1]})", "x['b'] = 2; x.attrs['k'] = 1", "x.to_dict(), x.attrs"),
    Case("pandas", "import pandas as pd; x = pd.Series([1, 2], name='s')", "x[0] = 5; x.name = 't'", "x.tolist(), x.name"),
    Case("random", "import random; x = random.Random(1)", "x.random()", "x.getstate()"),
    Case("random generator", "import numpy as np; x = np.random.default_rng(1)", "x.random()", "x.bit_generator.state"),
    Case("bit generator", "import numpy as np; x = np.random.PCG64(1)", "x.random_raw()", "x.state"),
    Case("array with attributes", "import numpy as np\nclass Q(np.ndarray): pass\nx = np.arange(3).view(Q); x.u = [1]", "x += 1; x.u = 2; x.w = 3", "x.tolist(), vars(x)"),
    Case("array with attributes", "import numpy as np\nclass Q(np.ndarray): pass\nx = np.arange(4).view(Q)", "import warnings; warnings.simplefilter('ignore')\nx.shape = (2, 2); x.flags.writeable = False", "x.tolist(), x.flags.writeable"),
    Case("leaf with attributes", "import datetime\nclass D(datetime.date): pass\nx = D(2020, 1, 2); x.a = [1]", "x.b = 2; del x.a", "vars(x)"),
    Case("random with attributes", "import random\nclass R(random.Random): pass\nx = R(1); x.a = [1]", "x.b = x.random()", "x.getstate(), vars(x)", undone=False),
    Case("partial with attributes", "import functools; x = functools.partial(max, 1)", "x.b = [2]", "vars(x)"),
    Case("instance", "class C(complex): pass\nx = C(3)", "x.u = 1", "vars(x)"),
    Case("random state", "import numpy as np; x = np.random.RandomState(1)", "x.rand()", "x.get_state()[2]"),
    Case("array.array", "import array; x = array.array('i', [1])", "x.append(2)", "x.tolist()"),
    Case("opaque", "import types; x = types.SimpleNamespace(a=1)", "x.b = 2; del x.a", "vars(x)"),
    Case("instance", "class I(int): pass\nx = I(3)", "x.u = 1", "vars(x)"),
    Case("opaque", "import itertools; x = itertools.chain('a', 'bc'); next(x)", "list(x)", "x.__reduce__()[1:]", undone=False),
    Case("buffer", "import io; x = io.StringIO('ab')", "x.read(1); x.seek(0, 2); x.write('c')", "x.getvalue(), x.tell()", undone=False),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _fingerprints() -> Iterator[None]:
    with fingerprinting({}, KnownBuffers()):
        yield


def make(case: Case) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(case.setup, namespace)
    return namespace


def see(case: Case, namespace: dict[str, Any]) -> Any:
    return repr(eval(case.seen, namespace))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}: {case.setup}")
def test_a_change_is_seen_applied_and_undone(case: Case) -> None:
    """Unchanged until changed; its state gives a twin the change; undoing takes it back."""
    there, here = make(case), make(case)
    x = there["x"]
    kind = kind_of(x)
    assert kind is not None
    assert kind.name == case.kind
    snapshot = kind.snapshot(x)
    assert kind.unchanged(x, snapshot)
    exec(case.change, there)
    assert not kind.unchanged(x, snapshot)
    state = kind.state(x, snapshot)
    before, after = see(case, here), see(case, there)
    assert before != after
    # The twin has its own class and keys: those of the state are `there`'s.
    if kind.name not in ("weak container", "instance") or "class" not in case.setup:
        undo = kind.apply(here["x"], state)
        assert see(case, here) == after
        if case.undone:
            undo()
            assert see(case, here) == before
    full = kind_of(x)
    assert full is kind


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}: {case.setup}")
def test_a_snapshot_stays_what_it_was(case: Case) -> None:
    """A change back is no change: the snapshot does not follow the object."""
    namespace = make(case)
    x = namespace["x"]
    kind = kind_of(x)
    assert kind is not None
    snapshot = kind.snapshot(x)
    exec(case.change, namespace)
    assert not kind.unchanged(x, snapshot)
    assert kind.unchanged(x, kind.snapshot(x))


ATOMS = ["1", "'a'", "None", "len", "__import__('os')", "dict", "__import__('os').environ"]
ATOMS += ["__import__('random')._inst", "__import__('json').dumps"]


@pytest.mark.parametrize("code", ATOMS)
def test_what_libraries_own_is_not_looked_at(code: str) -> None:
    """Numbers, text, modules, library functions, classes and singletons are atoms."""
    assert kind_of(eval(code)) is None


@pytest.mark.parametrize(
    "code",
    ["[].append", "(1, 2)", "zip([1])", "__import__('datetime').date.min"],
)
def test_what_cannot_change_refuses_a_new_state(code: str) -> None:
    """Immutable kinds are never changed, and refuse to be."""
    x = eval(code)
    kind = kind_of(x)
    assert kind is not None
    assert kind.unchanged(x, kind.snapshot(x))
    with pytest.raises(NotInPlace):
        kind.apply(x, None)


def test_a_type_written_in_c_is_not_taken_for_a_python_class() -> None:
    """Slots of C types hold pointers; copying them would crash the kernel."""
    import operator

    kind = kind_of(operator.itemgetter(1))
    assert kind is not None
    assert kind.name == "opaque"


def test_what_an_object_finds_out_about_itself_is_no_change() -> None:
    """Nor what pandas' arrays of dates keep of that."""
    pandas = pytest.importorskip("pandas")
    dates = pandas.to_datetime(["2024-01-01", "2024-01-02"])
    frame = pandas.DataFrame({"a": [1, 2], "b": dates, "c": dates - dates})
    kind = kind_of(frame)
    assert kind is not None
    with fingerprinting({}, KnownBuffers()):
        before = kind.snapshot(frame)
        assert len(frame.query("a > 1")) == 1
        assert kind.unchanged(frame, before)
        frame.loc[0, "b"] = dates[1]
        assert not kind.unchanged(frame, before)


def test_an_iterator_cannot_go_back() -> None:
    """Iterators are changed in place by advancing them, and only so."""
    x = iter([1, 2, 3])
    kind = kind_of(x)
    assert kind is not None
    next(x)
    ahead = kind.snapshot(x)
    with pytest.raises(NotInPlace):
        kind.state(iter([1, 2, 3]), ahead)


def test_a_stream_that_came_to_lead_to_a_file_has_no_place(tmp_path: Path) -> None:
    """A program's stderr that was a pipe at first: nobody can read it, or tell where it stands."""
    code = (
        "import os, sys; from dask_async_run.namespace.files import FILE;"
        f"os.dup2(os.open({str(tmp_path / 'log')!r}, os.O_CREAT | os.O_WRONLY), 2);"
        "print(FILE.snapshot(sys.stderr))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "cannot pickle an open file that cannot be read\n")


def test_a_change_of_a_class_as_earlier_versions_wrote_it_is_applied() -> None:
    """Results are gathered after an upgrade, too: these said nothing of base classes."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec("class B: pass\nclass C(B): a = 1; b = 2", namespace)
    kept = namespace["C"]
    kind = kind_of(kept)
    assert kind is not None
    undo = kind.apply(kept, ({"a": 3}, ["b"], []))
    assert (kept.a, hasattr(kept, "b"), kept.__bases__) == (3, False, (namespace["B"],))
    undo()
    assert (kept.a, kept.b) == (1, 2)


DICTS = ["dict(a=1, b=2, c=3)", "Counter('aabc')", "defaultdict(int, a=1, b=2, c=3)"]
WAYS = ["iter(d)", "iter(d.values())", "iter(d.items())", "reversed(d)", "accumulate(d.values())"]


@pytest.mark.contract(14, 17)
@pytest.mark.parametrize("made", [*DICTS, "OrderedDict(a=1, b=2, c=3)"])
@pytest.mark.parametrize("way", WAYS)
def test_what_walks_a_dict_goes_on_there_and_here(notebook: Notebook, made: str, way: str) -> None:
    """Where it was, and over the very dict: it shows what is assigned there later."""
    setup = (
        "from collections import Counter, OrderedDict, defaultdict\n"
        f"from itertools import accumulate\nd = {made}; x = {way}; next(x)"
    )
    for before, cell in (("pass", setup), (setup, "y = next(x)")):
        plainly: dict[str, object] = {}
        exec(f"{before}\n{cell}\nd['a'] = d['b'] = d['c'] = 9", plainly)
        notebook.here(before)
        notebook.there(cell)
        notebook.here("d['a'] = d['b'] = d['c'] = 9")
        assert notebook.here("list(x)") == eval("list(x)", plainly)


@pytest.mark.parametrize(
    ("value", "moves"),
    [
        (iter([]), True),
        (queue.Queue(), True),
        ([].append, True),
        (Case("", "", "", "").__repr__, True),
        (random.Random(1).choice, True),
        (random.choice, False),
        (np.random.rand, False),
        (logging.getLogger("x").info, False),
        (dict.fromkeys, False),
        (len, False),
        ([1], False),
    ],
)
def test_what_is_another_one_each_time_that_it_is_used(value: Any, moves: bool) -> None:
    """Two cells that draw with ``from random import choice`` run side by side."""
    assert moves_on(value) is moves
