"""What a notebook defines survives the way there and back, and stays itself."""

# ruff: noqa: E501 - a case is a line of its table

from __future__ import annotations

import argparse
import builtins
import inspect
import io
import math
import pickle
import pickletools
import types
import weakref
from dataclasses import dataclass
from typing import Any

import cloudpickle
import pytest
from cloudpickle import cloudpickle as _cp

from dask_async_run.namespace import pickling, standard, unpickling
from dask_async_run.namespace.pickling import NamespacePickler, meets_constants
from dask_async_run.namespace.unpickling import NamespaceUnpickler
from notebook import Notebook


@dataclass(frozen=True)
class Trip:
    """Something defined here, used there, and what must hold here afterwards."""

    name: str
    setup: str
    cell: str
    after: str


TRIPS = [
    Trip("namespace live", "def f(): return k\nk = 1", "k = 10; r = f()", "r == 10 and f() == 10"),
    Trip("where code was written", "def f():\n  return lambda: 1\nname = f.__code__.co_filename", "r = f.__code__.co_filename, f().__code__.co_filename", "r == (name, name) and 'dynamic' not in name"),
    Trip("defined there", "k = 1", "def f(): return k", "f.__globals__ is globals() and f() == 1"),
    Trip("recursive closure", "def outer():\n  def fact(n): return 1 if n < 2 else n * fact(n - 1)\n  return fact\nf = outer()", "r = f(5); g = f", "r == 120 and g is f"),
    Trip("shared cell", "def make():\n  n = None\n  def get(): return n\n  def put(v):\n    nonlocal n; n = v\n  return get, put\nget, put = make()", "was = get(); put(3); r = get()", "was is None and r == 3 and get() == 3"),
    Trip("decorator", "import functools\ndef deco(f):\n  @functools.wraps(f)\n  def w(*a): w.n += 1; return f(*a)\n  w.n = 0\n  return w\n@deco\ndef sq(x): return x * x\nsq(2)", "r = sq(3)", "sq.n == 2 and r == 9"),
    Trip("mutable default", "def f(x, acc=[]): acc.append(x); return acc\nf(1)", "f(2)", "f(3) == [1, 2, 3]"),
    Trip("super", "class B:\n  def f(s): return 'B'\nclass C(B):\n  def f(s): return super().f() + 'C'\nc = C()", "r = c.f(); d = C()", "r == 'BC' == d.f() and type(d) is C"),
    Trip("slots", "class S:\n  __slots__ = ('a', '__b')\n  def __init__(s): s.a = 1; s.__b = 2\n  def g(s): return s.__b\ns = S(); t = s", "r = s.g(); s.a = [3]; u = S()", "r == 2 and t is s and s.a == [3] and not hasattr(u, '__dict__')"),
    Trip("metaclass", "class M(type):\n  made = []\n  def __new__(m, n, b, d):\n    c = super().__new__(m, n, b, d); m.made.append(n); return c\nclass A(metaclass=M): pass", "class B(A): pass\nr = list(M.made)", "r == ['A', 'B'] == M.made and type(B) is M"),
    Trip("init_subclass", "class A:\n  subs = {}\n  def __init_subclass__(c, name): A.subs[name] = c\nclass B(A, name='b'): pass", "class C(A, name='c'): pass\nr = len(A.subs)", "r == 2 and A.subs == {'b': B, 'c': C}"),
    Trip("enum", "from enum import Enum\nclass E(Enum):\n  A = 1\n  B = 2\ne = E.A", "x = e; y = E(2); z = {E.A: 1}", "x is E.A and y is E.B and z[E.A] == 1"),
    Trip("dataclass", "from dataclasses import dataclass, field\n@dataclass\nclass D:\n  x: int\n  y: list = field(default_factory=list)\nd = D(1)", "d.y.append(3); e = D(2)", "d == D(1, [3]) and e == D(2)"),
    Trip("frozen slots", "from dataclasses import dataclass\n@dataclass(slots=True, frozen=True)\nclass D:\n  b: list\nd = D([]); l = d.b", "d.b.append(1); e = D(d.b)", "l == [1] and e.b is l and not hasattr(e, '__dict__')"),
    Trip("generic", "from typing import Generic, TypeVar\nT = TypeVar('T')\nclass G(Generic[T]):\n  def __init__(s, x): s.x = x\ng = G[int](1)", "h = G[str]('a'); y = T", "type(h) is G and y is T"),
    Trip("abc register", "from abc import ABC\nclass B(ABC): pass\nclass C: pass", "B.register(C); r = isinstance(C(), B)", "r and isinstance(C(), B)"),
    Trip("cached_property", "from functools import cached_property\nclass Q:\n  @cached_property\n  def v(s): return [1]\nq = Q()", "w = q.v", "q.v is w"),
    Trip("singledispatch", "from functools import singledispatch\n@singledispatch\ndef f(x): return 'o'\nf(1)", "@f.register(int)\ndef _f(x): return 'i'\nr = len(f.registry)", "f(1) == 'i' and f('') == 'o' and r == 2 == len(f.registry)"),
    Trip("NamedTuple", "from typing import NamedTuple\nclass N(NamedTuple):\n  a: int\n  b: list\nn = N(1, []); b = n.b", "n.b.append(1); m = N(2, [3])", "b == [1] and type(m) is N and m.a == 2"),
    Trip("match", "import re; m = re.search('(b)(c)?', 'abc')", "x = m.span(1); y = m", "x == (1, 2) and y is m"),
    Trip("memoryview", "b = bytearray(b'abc'); m = memoryview(b)", "m[0] = 65; r = b[0]", "r == 65 and b == b'Abc' and m.obj is b"),
    Trip("weakref", "import weakref\nclass A: pass\na = A(); r = weakref.ref(a)", "alive = r() is not None", "alive and r() is a"),
    Trip("weak dict", "import weakref\nclass A: pass\na = A(); w = weakref.WeakKeyDictionary({a: 1})", "w[a] = 2; b = A(); w[b] = 3", "dict(w) == {a: 2, b: 3}"),
    Trip("weak values", "import weakref\nclass A: pass\na = A(); w = weakref.WeakValueDictionary({1: a})", "b = A(); w[2] = b", "w[1] is a and w[2] is b"),
    Trip("weak set", "import weakref\nclass A: pass\na = A(); w = weakref.WeakSet([a])", "b = A(); w.add(b); a", "set(w) == {a, b}"),
    Trip("getattr", "class R:\n  def __init__(s): s._d = {'q': 1}\n  def __getattr__(s, k): return s._d[k]\nr = R()", "x = r.q; t = R()", "x == 1 and type(t) is R"),
    Trip("items as attributes", "class D(dict):\n  def __getattr__(s, k): return s[k]\n  def __setattr__(s, k, v): s[k] = v\nd = D(a=1); e = d", "d.b = 2; f = D(c=3)", "e.b == 2 and f.c == 3 and type(f) is D"),
    Trip("setattr", "class F:\n  def __init__(s, x): object.__setattr__(s, 'x', x)\n  def __setattr__(s, k, v): raise AttributeError(k)\nf = F([1]); l = f.x", "g = F(f); f.x.append(2)", "l == [1, 2] and g.x is f"),
    Trip("own dict", "class Bunch(dict):\n  def __init__(s, **k): super().__init__(**k); s.__dict__ = s\nb = Bunch(a=1); c = b", "b.z = 2; y = b.a", "c['z'] == 2 and c.z == 2 and y == 1"),
    Trip("class changed", "class A: n = 0; z = 1\na = A()", "A.n += 1; A.m = lambda s: s.n\ndel A.z", "a.m() == 1 and not hasattr(A, 'z')"),
    Trip("class of instance", "class A: pass\nclass B: pass\na = A(); b = a", "a.__class__ = B", "type(b) is B"),
    Trip("bound method of a list", "stack = []; push = stack.append", "push(1)", "stack == [1]"),
    Trip("random's functions", "import random\nfrom random import randint", "random.seed(0); r = randint(1, 10**9)", "random.seed(0) or r == randint(1, 10**9)"),
    Trip("numpy's functions", "import numpy as np\nfrom numpy.random import rand", "np.random.seed(0); r = rand()", "np.random.seed(0) or r == rand()"),
    Trip("environ", "from os import environ", "environ['DAR_T'] = '1'; import os; r = 'DAR_T' in os.environ", "r"),
    Trip("own reduce", "class V:\n  def __init__(s, x): s.x = x\n  def __reduce__(s): return V, (s.x,)\nv = V(1); w = v", "v.x = 2; l = [v]", "w.x == 2 and l[0] is w"),
    Trip("int subclass", "class I(int): pass\ni = I(3); j = i", "i.u = [1]; l = [i]", "j.u == [1] and l[0] is j"),
    Trip("file of the code", "def f(): return lambda: 1\nclass A:\n  def m(s): pass\nfile = f.__code__.co_filename", "r = [g.__code__.co_filename for g in (f, f(), A.m)]", "r == [file] * 3"),
    Trip("logger", "import logging; log = logging.getLogger('dar')", "log.setLevel(10); l = log", "l is log"),
]  # fmt: skip


@pytest.mark.parametrize("trip", TRIPS, ids=lambda trip: trip.name)
def test_it_is_as_if_the_cell_had_run_here(notebook: Notebook, trip: Trip) -> None:
    """Identity, contents and behaviour are those that running the cell here would leave."""
    notebook.here(trip.setup)
    job = notebook.submit(trip.cell)
    assert not job.gather().conflicts
    assert not job.run().failed
    assert job.load().error is None
    assert notebook.here(trip.after)


def test_a_class_attribute_changed_here_meanwhile_stays(notebook: Notebook) -> None:
    """Loading a result never puts a class back to what it was at submission."""
    notebook.here("class P: n = 0")
    job = notebook.submit("p = P()")
    notebook.here("P.n = 5")
    job.gather()
    assert notebook.here("P.n, type(p) is P") == (5, True)


def test_the_namespace_is_not_in_the_way_while_a_result_is_loaded(notebook: Notebook) -> None:
    """Names that are lent to what loading runs are gone when the merge is planned."""
    job = notebook.submit("a = 1; b = 2")
    job.load()
    assert "a" not in notebook
    job.gather(only=["a"])
    assert "b" not in notebook


def test_the_internals_of_cloudpickle_are_as_expected() -> None:
    """The functions that `pickling` builds on exist and answer what it takes apart."""

    def function() -> None:
        pass

    kind = type("Kind", (), {"__module__": "__main__"})
    state, slots = _cp._function_getstate(function)
    assert isinstance(state, dict)
    assert {"__globals__", "__closure__", "_cloudpickle_submodules"} <= slots.keys()
    maker, args, (attributes, _), *_ = reduced = _cp._class_reduce(kind)
    assert len(reduced) == 6
    assert maker is _cp._make_skeleton_class
    assert args[:3] == (type, "Kind", (object,))
    assert isinstance(args[3], dict)
    assert args[-2] in _cp._DYNAMIC_CLASS_TRACKER_BY_ID
    assert isinstance(attributes, dict)
    maker, args = _cp._code_reduce(function.__code__)
    assert maker is types.CodeType
    assert args[9:12:2] == (function.__code__.co_varnames, function.__code__.co_name)
    assert _cp._lookup_module_and_qualname(inspect.getsource) is not None
    assert list(inspect.signature(cloudpickle.Pickler._function_getnewargs).parameters) == [
        "self",
        "func",
    ]


def test_an_address_of_another_process_is_no_transforms_place() -> None:
    """What is computed from a transform of matplotlib hears of changes, whatever is made here."""
    transforms = pytest.importorskip("matplotlib.transforms")
    base = transforms.Affine2D()
    twice = base + transforms.Affine2D().scale(2)
    file, namespace = io.BytesIO(), dict[str, Any]()
    NamespacePickler(file, namespace).dump((base, twice))
    file.seek(0)
    loaded, loaded_twice = NamespaceUnpickler(file, namespace).load()
    assert loaded_twice.transform((0, 0)).tolist() == [0, 0]
    other = loaded + transforms.Affine2D()
    # As one does that is made where `twice` was in the process that wrote it.
    loaded._parents[id(twice)] = weakref.ref(other)
    loaded.translate(1, 0)
    assert loaded_twice.transform((0, 0)).tolist() == [2, 0]
    assert other.transform((0, 0)).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("value", "meets"),
    [
        ([1.5, math.nan], True),
        ({"k": -math.inf}, False),
        ((math.inf,), True),
        (argparse.SUPPRESS, True),
        ([kind for kind in vars(builtins).values() if isinstance(kind, type)], False),
        (["print", "__name__", "SUPPRESS"], False),
    ],
)
def test_it_is_known_whether_a_constant_may_have_been_written(value: Any, meets: bool) -> None:
    """Those that are asked for by identity; what merely is near them costs no second writing."""
    file = io.BytesIO()
    NamespacePickler(file, {}).dump(value)
    assert meets_constants(file.getvalue()) is meets


def test_the_builtins_are_a_constant() -> None:
    """`exec` puts them into a dict of the notebook's."""
    file = io.BytesIO()
    scope: dict[str, Any] = {}
    exec("def f(): return 1", scope)
    NamespacePickler(file, {}, known_globals={id(scope)}).dump(
        {name: value for name, value in scope["__builtins__"].items() if name.startswith("__b")}
    )
    assert meets_constants(file.getvalue())


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ([{1, 2}], True),
        ({"k": set()}, True),
        (type("Own", (set,), {})({1}), True),
        ([38031, frozenset({1}), [], {}], False),
        ([[] for _ in range(38_100)], False),
    ],
)
def test_it_is_known_whether_a_set_was_written(value: Any, written: bool) -> None:
    """Numbers, and the places of the memo, may have the bytes of the operations that make one."""
    file = io.BytesIO()
    pickler = NamespacePickler(file, {})
    pickler.dump(value)
    pickler.dump(list(value) if type(value) is list else value)  # by their places
    assert pickler.may_have_sets(file.getvalue()) is written


@pytest.mark.contract(5, 15)
def test_a_class_that_knows_virtual_subclasses_is_not_asked_about_them(notebook: Notebook) -> None:
    """What it is asked with reads names that come after it."""
    shape = (
        "import abc\nclass Shape(abc.ABC):\n"
        "    @classmethod\n    def __subclasshook__(cls, other):\n"
        "        return ('area' in vars(other)) or NotImplemented if cls is Shape else NotImplemented\n"
        "class Square(Shape): area = 1\nclass Other: area = 2\nclass Mine: pass\n"
    )
    asked = "[issubclass(kind, Shape) for kind in (Square, Other, Mine, int, str)]"
    notebook.here(shape + "Shape.register(Mine)")
    notebook.there(f"Shape.register(int); there = {asked}")
    assert notebook.here(f"there, {asked}") == ([True, True, True, True, False],) * 2
    assert "__subclasshook__" in vars(notebook["Shape"])
    notebook.there(shape + "Shape.register(Mine)")
    assert notebook.here(asked) == [True, True, True, False, False]


def test_streams_of_earlier_versions_are_loaded() -> None:
    """They say of all that they call that it is where the pickler is."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    code = """
import re, functools
def outer():
    n = 1
    class Kept:
        @functools.cached_property
        def two(self): return n + k
    return Kept
k, kept = 1, outer()()
match, views, walk = re.search('b', 'abc'), {1: 2}.keys(), iter({1: 2, 3: 4}.items())
next(walk)
"""
    exec(code, namespace)
    file = io.BytesIO()
    names = ("k", "outer", "kept", "match", "views", "walk")
    NamespacePickler(file, namespace).dump({name: namespace[name] for name in names})
    stream = file.getvalue()
    for module in (standard, unpickling):
        now, then = module.__name__.encode(), pickling.__name__.encode()
        short = pickle.SHORT_BINUNICODE
        assert short + bytes([len(now)]) + now in stream
        stream = stream.replace(short + bytes([len(now)]) + now, short + bytes([len(then)]) + then)
    there: dict[str, Any] = {"__name__": "__main__"}
    there |= NamespaceUnpickler(io.BytesIO(pickletools.optimize(stream)), there).load()
    there["k"] = 5
    assert (there["kept"].two, there["match"].span(), [*there["views"]]) == (6, (1, 2), [1])
    assert list(there["walk"]) == [(3, 4)]
