"""What functions do to a notebook when they are called, by their sources."""

from __future__ import annotations

import ast

import pytest

from dask_async_run.namespace._mutations import changes
from dask_async_run.namespace.analyse import analyse
from dask_async_run.namespace.effects import learn
from dask_async_run.namespace.functions import functions_of

LEARNED = [
    ("def f(x): x.append(1)", "f", ""),
    ("def f(x): return x + 1", "", ""),
    ("def f(x): y = list(x); y.append(1)", "", ""),
    ("def g(x): f(x)\ndef f(x): x[0] = 1", "f g", ""),
    ("def f(x): seen.append(1)", "", "seen"),
    ("def f(seen): seen.append(1)", "f", ""),
    ("class A:\n  def go(self): self.n += 1", "go", ""),
    ("class A:\n  def go(self): return self.n", "", ""),
    ("class A:\n  def __init__(self, all): all.append(self)", "A __init__", ""),
    ("class A:\n  def __init__(self): self.x = 1", "__init__", ""),
    ("class A:\n  all = []\n  def __init__(self): self.all.append(self)", "__init__", "A"),
    ("class A:\n  n = 0\n  def __init__(self): type(self).n += 1", "__init__", "A"),
    ("class A:\n  def __init__(self): self.all = []; self.all.append(1)", "__init__", ""),
    ("class A:\n  n = 0\n  def __init__(self): self.n += 1", "__init__", ""),
    ("class A:\n  one = None\n  def __new__(cls): cls.one = 1", "__new__", "A"),
    ("class A:\n  @property\n  def x(self): self.n += 1", ".x", ""),
    ("class A:\n  @property\n  def x(self): return self.n", "", ""),
    ("class A:\n  @cached_property\n  def x(self): return 1\n  def y(self): self.x", ".x y", ""),
    (
        "class A:\n  def __len__(self): self.n += 1\ndef f(a): return len(a)",
        "(shown) __len__ f",
        "",
    ),
]


@pytest.mark.contract(12)
@pytest.mark.parametrize(("source", "changing", "names"), LEARNED)
def test_what_functions_change(source: str, changing: str, names: str) -> None:
    """Their arguments, those of functions that they call, and what they have from elsewhere."""
    learned = learn(functions_of(ast.parse(source).body))
    assert learned.changing.keys() - learn(()).changing.keys() == set(changing.split())
    assert learned.names | learned.operated == set(names.split())


DEFINED = """\
class Model:
    def train(self, data, *, log=None, **options): self.w = data.sum(); log.append(1)
    def tidy(self, data): data.clear(); return data
    @staticmethod
    def sort(rows): rows.sort()
def note(x, into, *rest): into[0] = x
def each(*rows): rows[0].append(1)
def teach(model, x):
    model.fit(x)
    return model.score(x)
def mix(a, b):
    heapq.heapify(a)
    shuffle(b)
class Listed:
    def __init__(self, x, all): all[0] = x
class Log:
    def __init__(self, rows, start=0, *, other=()):
        self.rows, self.n = rows, start; self.o = list(other)
    def add(self, x): self.rows.append(x); self.o.append(x)
    def count(self, other): self.n = self.n + 1; other.clear()
@dataclass
class Sheet:
    title: str
    cells: dict = field(default_factory=dict)
    best: ClassVar[int] = 0
    def put(self, key, title): note(key, self.cells)
class Reading:
    def __init__(self, rows): self.rows = rows
    def total(self): self.rows = sorted(self.rows); return sum(self.rows)
"""
GIVEN = [
    ("y = m.train(x)", "m"),
    ("y = m.train(x, log=seen)", "m seen"),
    ("y = m.train(x, **more)", "m more"),
    ("y = m.tidy(x)", "x"),
    ("y = m.sort(x)", "x"),
    ("y = note(a, b, c)", "b"),
    ("y = note(a, into=b)", "b"),
    ("y = note(a, *rest)", "rest"),
    ("y = note(*rest, b)", "rest b"),
    ("y = each(a, b)", "a b"),
    ("y = Listed(a, b)", "b"),
    ("y = Log(a, b, other=c)", "a"),
    ("y = Sheet(a, b)", "b"),
    ("y = Sheet(title=a, cells=b)", "b"),
    ("y = Reading(a)", ""),
    ("y = other(a, b)", ""),
    ("y = rng.choice(a)", "rng"),
    ("y = random.shuffle(a)", "random a"),
    ("y = teach(m, x)", "m"),
    ("y = mix(a, b)", "a b"),
]


@pytest.mark.contract(12)
@pytest.mark.parametrize(("call", "changed"), GIVEN)
def test_which_arguments_are_changed(call: str, changed: str) -> None:
    """Cells that only read the others may run side by side."""
    learned = learn(functions_of(ast.parse(DEFINED).body))
    assert changes(ast.parse(call).body).names(learned.changing) == set(changed.split())


OPERATIONS = """\
class A:
    def __contains__(self, x): self.n += 1
    def __call__(self): self.n += 1
    def __getitem__(self, x): self.n += 1
    def __enter__(self): self.n += 1
    def __add__(self, x): self.n += 1
    def __getattr__(self, x): self.n += 1
    def __iter__(self): self.n += 1
    def __lt__(self, x): self.n += 1
    def __neg__(self): self.n += 1
    def __eq__(self, x): return self is x
"""
OPERATED = [
    ("y = 5 in a", "a"),
    ("y = a()", "a"),
    ("y = a[b]", "a"),
    ("with a as y: pass", "a"),
    ("y = a + b", "a"),
    ("y = a.x", "a"),
    ("y = [0 for x in a]", "a"),
    ("y = list(a)", "a"),
    ("y = b > a", "a"),
    ("y = -a", "a"),
    ("f'{a}'", "a"),
    ("y = a == b", ""),
    ("y = a - b", ""),
    ("y = f(a)", "f"),
]


@pytest.mark.contract(12)
@pytest.mark.parametrize(("code", "changed"), OPERATED)
def test_what_operations_change(code: str, changed: str) -> None:
    """As far as a class of the notebook has such a method, and that changes its object."""
    found = changes(ast.parse(code).body)
    learned = learn(functions_of(ast.parse(OPERATIONS).body))
    assert found.names(learned.changing) == set(changed.split())
    assert found.names(learned.changing, without={"a", "f"}) == set()
    assert found.names(learn(()).changing) == set()


@pytest.mark.contract(12)
def test_functions_called_in_functions_are_not_what_is_changed() -> None:
    """Or all cells that call the same one would wait for one another."""
    source = "class A:\n  def __call__(self): self.n += 1\ndef f(): return g(), h.append(1)"
    learned = learn(functions_of(ast.parse(source).body))
    assert learned.names == {"h"}
    assert learned.operated == {"g"}


@pytest.mark.contract(12)
def test_functions_that_change_what_is_around_them() -> None:
    """What a decorator remembers counts like what it counts."""
    source = "def memo(f):\n  seen = {}\n  def g(x):\n    seen[x] = f(x)\n  return g\n"
    found = {function.name: function for function in functions_of(ast.parse(source).body)}
    assert found["g"].moves
    assert found["memo"].keeps
    assert not found["memo"].moves
    effects = analyse(f"{source}@memo\ndef f(x): return x").effects
    assert effects.streams(learn(effects.functions).keepers) == {"f"}
    own = "def memo(f):\n  seen = {}\n  def g(x):\n    seen = {}\n    seen[x] = 1\n  return g\n"
    assert not any(function.moves for function in functions_of(ast.parse(own).body))


@pytest.mark.contract(12)
@pytest.mark.parametrize(
    ("source", "streams"),
    [
        ("g = (i for i in x)", "g"),
        ("g = iter(x); n = len(x)", "g"),
        ("rng = np.random.default_rng(1)", "rng"),
        ("def f(): yield 1\ng = f()\nx = h()", "g"),
        ("def f():\n  n = 0\n  def up():\n    nonlocal n\n    n += 1\n  return up\nup = f()", "up"),
    ],
)
def test_what_moves_on_with_each_use(source: str, streams: str) -> None:
    """Generators, iterators, random generators, closures that count."""
    effects = analyse(source).effects
    assert effects.streams(learn(effects.functions).keepers) == set(streams.split())


@pytest.mark.contract(11)
def test_what_a_definition_needs() -> None:
    """Names that are read when it is made, or when it is used."""
    effects = analyse("class A(B):\n  def go(self): return f(k)\ntable = {1: lambda: k}").effects
    assert effects.definitions == {"A"}
    assert effects.needs["A"] >= {"B", "f", "k"}
    assert effects.needs["table"] == {"k"}


@pytest.mark.contract(12)
def test_functions_that_move_on() -> None:
    """Those that change one of their defaults."""
    learned = learn(functions_of(ast.parse("def f(a, b=[], *, c=[]): b.append(a)").body))
    assert learned.moving == {"f"}
    assert not learn(functions_of(ast.parse("def f(a, b=1): a.x = b").body)).moving


@pytest.mark.contract(2, 11)
def test_texts_that_are_evaluated() -> None:
    """Their words may be names; those of other texts are not waited for."""
    effects = analyse("df.query('a > @limit'); print('b'); eval(f'{c} + d')").effects
    assert effects.spelled >= {"limit", "d"}
    assert "b" not in effects.spelled
