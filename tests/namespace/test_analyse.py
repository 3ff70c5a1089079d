"""What `analyse` says about cells, as a table, and what it must hold for any cell."""

from __future__ import annotations

import builtins
import sys
from dataclasses import dataclass, fields

import pytest
from IPython.core.inputtransformer2 import TransformerManager

from dask_async_run.namespace.analyse import Analysis, analyse, global_names


def transform(cell: str) -> str:
    return str(TransformerManager().transform_cell(cell))


BUILTINS = frozenset(dir(builtins))


@dataclass(frozen=True)
class Case:
    """A cell and what is expected of it: names as words; what is not given must be empty.

    Builtins and ``__name__`` are left out of `reads`, and `certain` is the same as
    `binds` unless given.
    """

    cell: str
    reads: str = ""
    binds: str = ""
    certain: str | None = None
    deletes: str = ""
    discarded: str = ""
    weak: str = ""
    imports: str = ""
    mutates: str = ""
    dynamic: bool = False
    star: bool = False
    awaits: bool = False
    opaque: bool = False
    unpickles: bool = False
    python: tuple[int, int] = (3, 11)

    def __str__(self) -> str:
        return self.cell.replace("\n", " / ")[:60]


BINDING = [
    Case("x = y", "y", "x"),
    Case("x = y = [z]", "z", "x y"),
    Case("a, (b, *c) = d", "d", "a b c"),
    Case("x: int", ""),
    Case("x: T = 1", "T", "x"),
    Case(
        "from __future__ import annotations\nx: T = 1\ndef f(a: U): pass",
        "",
        "x f annotations",
        imports="__future__",
    ),
    Case(
        "a: T = 1\nfrom __future__ import annotations\nx: U = 1",
        "T",
        "a x annotations",
        imports="__future__",
    ),
    Case("x += y", "x y", "x", mutates="x"),
    Case("x = 0\nx += y", "y", "x", mutates="x"),
    Case("x = x + 1", "x", "x"),
    Case("(n := f()) and g(n)", "f g", "n", mutates="n"),
    Case("a and (n := f())", "a f", "n", certain=""),
    Case("t = [k := i for i in q]", "q", "t k", certain="t"),
    Case("[i for i in i]", "i"),
    Case("{k: v for k, v in d.items() if k in w}", "d w"),
    Case("t = sum(a * i for i in r for j in i if j)", "a r", "t"),
    Case("for i, (j, k) in z:\n  t = i\nelse:\n  e = 1", "z", "i j k t e", certain="e"),
    Case("for i in z:\n  pass\nprint(i)", "z i", "i", certain=""),
    Case("for i in z:\n  t = 1\n  u = t", "z", "i t u", certain=""),
    Case("while c:\n  c = f(c)", "c f", "c", certain=""),
    Case("while True:\n  x = f()\n  if x: break\nx", "f", "x"),
    Case("with o(p) as f, g() as h:\n  t = f", "o p g", "f h t", certain="f"),
    Case("with o() as f:\n  t = g()\nt", "o g t", "f t", certain="f"),
    Case("if c:\n  x = 1\nelse:\n  x = 2\nx", "c", "x"),
    Case("if c:\n  x = 1\nx", "c x", "x", certain=""),
    Case("if c:\n  x = 1\nelse:\n  raise E\nx", "c E", "x"),
    Case("if False:\n  x = y"),
    Case("if TYPE_CHECKING:\n  from t import T", "TYPE_CHECKING", "T", certain="", imports="t"),
    Case("try:\n  x = f()\nexcept E as e:\n  x = e\nx", "f E", "x e", certain="x", deletes="e"),
    Case("try:\n  x = f()\nexcept E:\n  pass\nx", "f E x", "x", certain=""),
    Case("try:\n  x = f()\nfinally:\n  y = 1\nx, y", "f", "x y"),
    Case("try:\n  x = 1\n  x = f()\nexcept E:\n  x", "f E", "x", certain="x"),
    Case("try:\n  f()\nexcept* E as e:\n  e", "f E", "e", certain="", deletes="e"),
    Case("import a.b, c as d\nfrom e.f import g as h, i", "", "a d h i", imports="a c e"),
    Case("from . import z", "", "z"),
    Case("from m import *\nx", "x", "", imports="m", star=True),
    Case(
        "match p:\n  case {'k': c, **d}: 1\n  case [a, *b] | (a, b): 1\n  case K(z=q) as w: 1",
        "p K",
        "a b c d q w",
        certain="",
        weak="k",
    ),
    Case("match p:\n  case C.D: x = 1\n  case _: x = 2\nx", "p C", "x"),
    Case("del x", "x", deletes="x", discarded="x"),
    Case("del x, y.z, w[0]", "x y w", deletes="x", discarded="x", mutates="y w"),
    Case("x = 1\ndel x", "", "x", certain="", deletes="x"),
    Case("print(x)\ndel x", "x", deletes="x"),
    Case("del x\nx", "x", deletes="x", discarded="x"),  # NameError either way
    Case("x = 1\nif c:\n  del x\nx", "c", "x", certain="", deletes="x"),
    Case("'a text'\nx", "x"),
    Case("type X = list[Y]\nX", "Y", "X", python=(3, 12)),
    Case("type X = list[Y]\nX.__value__", "Y", "X", python=(3, 12)),
    Case("def f[T: B](x: T) -> C: return x", "B C", "f", python=(3, 12)),
    Case("def f[T](x: T) -> T: return y\nf(1)", "y", "f", python=(3, 12)),
    Case("class A[T](B[T]): x: T", "B", "A", python=(3, 12)),
]

FUNCTIONS = [
    Case("def f(a, b=c, *d, e: g = h, **i) -> j: pass", "c g h j", "f"),
    Case("def f(a): return a + x", "", "f"),  # nothing runs it in this cell
    Case("def f(a): return a + x\nf(1)", "x", "f"),
    Case("x = 1\ndef f(): return x\nf()", "", "x f"),
    Case("def f(): return x\nx = 1\nf()", "", "x f"),
    Case("def f(): return x\nf()\nx = 1", "x", "x f"),
    Case("def f(): return x\ng()\nx = 1", "x g", "x f"),  # g may call f by its name
    Case("def f(): return x\nif c: x = 1\nf()", "c x", "x f", certain="f"),
    Case("def main(): helper()\ndef helper(): other()\nmain()", "other", "main helper"),
    Case("def f(n): return f(n - 1)\nf(3)", "", "f"),
    Case("@lru_cache(maxsize=None)\ndef f(n): return f(n - 1)\nf(3)", "lru_cache", "f"),
    Case("@deco\ndef f(n): return f(n - 1)", "deco f", "f"),
    Case("f = lambda n, d=k: f(n) + d + m\nf(1)", "k m", "f"),
    Case("def f():\n  x = 1\n  def g(): return x + y\n  return g\nf()", "y", "f"),
    Case("def f():\n  global x\n  x = 1\n  x\nf()", "", "f x", certain="f"),
    Case("def f():\n  global x\n  x += 1\nf()", "x", "f x", certain="f", mutates="x"),
    Case("def f():\n  global x\n  del x\nf()", "x", "f", deletes="x", discarded="x"),
    Case("def f():\n  import m\n  from n.o import p\n  p()\nf()", "", "f", imports="m n"),
    Case("async def f():\n  async for i in x: yield i\nf()", "x", "f"),
    Case("def f():\n  for r in rows: r.append(1)\nf()", "rows", "f", mutates="rows"),
    Case("def f(rows):\n  rows.append(1)\nf(x)", "x", "f", mutates="x"),
    Case("g = (a for a in x if a in y)", "x y", "g"),
    Case("def f(x: 'Later') -> None: ...\nf(1)", "", "f", weak="Later"),
]

CLASSES = [
    Case("class A:\n  x = 1\n  y = x + z", "z", "A"),
    Case("class A:\n  if c: x = 1\n  y = x", "c x", "A"),
    Case("class A:\n  class B:\n    x = y\n    def f(self): return z", "y", "A"),
    Case("class A:\n  x = 1\n  del x\n  y = x", "x", "A"),
    Case("class A:\n  x = 1\n  def f(self): return x\nA().f()", "x", "A"),  # not the class's x
    Case("class A:\n  x = 1\n  z = [x for _ in y]", "x y", "A"),
    Case("class A(B, metaclass=M):\n  def f(self): return super().f() + w", "B M w", "A"),
    Case("class A:\n  def f(self): return B()\nclass B: pass\nA().f()", "", "A B"),
    Case("class A:\n  def f(self): return __class__\nA()", "", "A"),
    Case("class A:\n  def f(self): return __x\nA()", "_A__x", "A"),
    Case("class A:\n  global x\n  x = 1\nx", "x", "A x", certain="A"),
    Case("class A:\n  a = property(lambda self: q)\n  a = b(a)", "q b", "A"),
    Case("@dataclass\nclass A:\n  x: int = 0\n  def f(self): return A()\nA()", "dataclass", "A"),
    Case("@dataclass\nclass A:\n  x: 'V[U]' = 0", "dataclass", "A", weak="V U"),
    Case("class A: 'mentions x'\nA()", "", "A", weak="mentions x"),
    Case("class A: 'mentions x'", "", "A"),  # nobody can look for names in it here
]

STRINGS = [
    Case("df.query('a > @limit')", "df", weak="a limit"),
    Case("y = f'{a.b!r:>{w}} and {c}'", "a w c", "y", weak="and"),
    Case("y = '{a} {b.c}'.format(**d)", "d", "y", weak="a b c"),
    Case("y = '%(a)s' % d", "d", "y", weak="a s"),
    Case("eval('a + b')", "a b"),
    Case("eval('(q := a)')", "a", "q", certain=""),
    Case("def f(a):\n  return eval('a + b')\nf(1)", "b", "f", weak="a"),
    Case("y = eval('no python')", "", "y", weak="no python"),
    Case("y = eval(s)", "s", "y", dynamic=True),
    Case("exec('x = 1')", "", weak="x", dynamic=True),
    Case("def eval(s): return s\neval(t)", "t", "eval", mutates="t"),
    Case("x = 'y'\ny", "y", "x"),
]

DYNAMIC = [
    Case("globals()['x'] = 1", "", weak="x", dynamic=True),
    Case("g = globals", "", "g", dynamic=True),
    Case("def f(): return globals()\nf()", "", "f", dynamic=True),
    Case("locals()", dynamic=True),
    Case("vars()", dynamic=True),
    Case("vars(x)", "x"),
    Case("dir()", dynamic=True),
    Case("dir(x)", "x"),
    Case("def f(a): return locals()\nf(1)", "", "f"),
    Case("import __main__", "", "__main__", imports="__main__", dynamic=True),
    Case(
        "import sys\nsys.modules['__main__']",
        "",
        "sys",
        imports="sys",
        weak="__main__",
        dynamic=True,
    ),
    Case("get_ipython().user_ns['x']", "get_ipython", weak="x", dynamic=True),
    Case(
        "ip = get_ipython()\nip.push({'x': y})",
        "get_ipython y",
        "ip",
        weak="x",
        dynamic=True,
        mutates="ip y",
    ),
    Case("f.__globals__", "f", dynamic=True),
    Case(
        "import unittest\nunittest.main()",
        "",
        "unittest",
        imports="unittest",
        dynamic=True,
        mutates="unittest",
    ),
    Case("import pickle\nx = pickle.load(f)", "f", "pickle x", imports="pickle", unpickles=True),
    Case("x = pd.read_pickle(f)", "pd f", "x", unpickles=True),
    Case("import json\nx = json.load(f)", "f", "json x", imports="json"),
    Case("Out[3], In, _, _3", "Out In _ _3"),
]

AWAITS = [
    Case("x = await f(y)", "f y", "x", awaits=True),
    Case("async for i in a:\n  i", "a", "i", certain="", awaits=True),
    Case("async with a as b:\n  pass", "a", "b", awaits=True),
    Case("x = [i async for i in a]", "a", "x", awaits=True),
    Case("await q.put(x)", "q x", awaits=True, mutates="q x"),
]

MUTATIONS = [
    Case("rows.append(x)", "rows x", mutates="rows x"),
    Case("shuffle(x)", "shuffle x", mutates="x"),
    Case("random.shuffle(x[0].y)", "random x", mutates="random x"),
    Case("ax.plot(x, c=y)", "ax x y", mutates="ax x y"),
    Case("fig.add_subplot().plot(x)", "fig x", mutates="fig x"),
    Case("clf.fit(X, y)", "clf X y", mutates="clf X y"),
    Case("model = clf.fit(X, y)", "clf X y", "model", mutates="clf"),
    Case("y = rows.pop()", "rows", "y", mutates="rows"),
    Case("y = next(it)", "it", "y", mutates="it"),
    Case("y = f(x)", "f x", "y"),
    Case("r = f(x)\nr['a'] = 1", "f x", "r", mutates="r", weak="a"),
    Case("print(x)", "x"),
    Case("print(x, file=f)", "x f", mutates="f"),
    Case("df.head()", "df"),
    Case("df.drop(c, inplace=True)", "df c", mutates="df c"),
    Case("x.y = z", "x z", mutates="x"),
    Case("x[0], y.z = w", "x y w", mutates="x y"),
    Case("x[i] += 1", "x i", mutates="x"),
    Case("f().a[0] = 1", "f"),
    Case("x.f(g(y)).a = 1", "x g y", mutates="x y"),
    Case("for row in rows:\n  row.append(1)", "rows", "row", certain="", mutates="rows row"),
    Case("for x[0] in y: pass", "x y", mutates="x"),
    Case("v = a.reshape(3)\nv[0] = 1", "a", "v", mutates="a v"),
    Case("a = b\na.append(1)", "b", "a", mutates="a b"),
    Case("with l as k:\n  k.n = 1", "l", "k", mutates="l k"),
    Case("[a.append(i) for i in r]", "a r", mutates="a r"),
    Case("c and a.append(1)", "c a", mutates="a"),
    Case("a.append(1) if c else b.append(2)", "a b c", mutates="a b"),
    Case("setattr(x, n, 1)", "x n", mutates="x n"),
    Case("log(f'{x}', a < b)", "log x a b"),
]

MAGICS = [
    Case("%time x = f(y)", "f y", "x"),
    Case("%time -x", "x"),
    Case("%time --no-raise-error x = 1", "", "x", certain=""),
    Case("z = %time f(x)\nz", "f x", "z", mutates="x"),
    Case("%%time\nx = 1\ny + x", "y", "x"),
    Case("if c:\n  %time x = 1\nx", "c x", "x", certain=""),
    Case("%timeit -n3 -r 2 f(x)", "f x", mutates="x"),
    Case("r = %timeit -o -n1 f(x); y = x; y", "f x", "r", mutates="x"),
    Case("%timeit -v res x", "x", "res", certain=""),
    Case("%%timeit z = a\nz + u; t = 3; t", "a u"),
    Case("%%timeit\nglobal g\ng = x", "x", "g", certain=""),
    Case("%prun -l 5 -s cumulative f(x)", "f x", mutates="x"),
    Case("%%prun x = 1\ny = x", "", "x y"),
    Case("%memit -r 3 f(x)", "f x", mutates="x"),
    Case("%lprun -f g -f h.k f(x)", "f h x", mutates="x"),
    Case("%%capture out --no-stderr\ny = f()", "f", "out y", certain="out"),
    Case("%%capture out\ny;", "y out", "out", certain="", deletes="out", discarded="out"),
    Case("%%capture\n%time y = f()", "f", "y", certain=""),
    Case("%%time\n%%capture out\n!ls {p}", "p", "out"),
    Case("%%async_run --name a -q\nx = y", "y", "x", certain=""),
    Case("%matplotlib inline\nx", "x"),
    Case("%config A.b = {'k': y}", "y", weak="k"),
    Case("%config InlineBackend.figure_format = 'retina'", weak="retina"),
    Case("%env A={x}", "x"),
    Case("%cd $folder", "folder"),
    Case("x?", "x"),
    Case("x.y??", "x"),
    Case("%store x y", "x y"),
    Case("%store -r x", "", "x", certain="", opaque=True),
    Case("%xdel x", "x", deletes="x", discarded="x"),
    Case("%reset -f", dynamic=True),
    Case("%who", dynamic=True),
    Case("%run a.py {x}", "x", dynamic=True),
    Case("%load_ext autoreload\n%autoreload 2"),
    Case("%pylab inline", star=True, opaque=True),
    Case("%sc a=ls", "", "a", certain=""),
    Case("%async_gather train", weak="train", opaque=True),
    Case("!echo {x.y} $z.w '$no' $$k {{u}}", "x z"),
    Case("y = !ls {x[0:2]}", "x", "y"),
    Case("!!ls $x", "x"),
    Case("!awk '{print $1}' file", weak="print"),
    Case("def f(a):\n  !ls {a} {b}\nf(1)", "b", "f", weak="a"),
    Case("def f(a):\n  %time b = g(a)\nf(1)", "g", "f b", certain="f", weak="a"),
    Case("%%bash --out o --err e {p}\necho $HOME {x}", "p", "o e"),
    Case("%%script --bg --proc w sh\nls", "", "w", certain=""),
    Case("%%html\n<b>{x}</b>"),
    Case("%%writefile {name}\nx = y", "name"),
    Case("%%!\nls $x", "x"),
    Case("%%cython -a\ndef f(x): pass", weak="a def f x pass", opaque=True),
    Case("%sql select * from $t", "t", weak="select from t", opaque=True),
    Case(
        "get_ipython().run_line_magic(m, 'x')", "get_ipython m", weak="x", dynamic=True, mutates="m"
    ),
    Case("get_ipython().magic('timeit f(x)')", "f x", mutates="x"),
    Case("%time x +", weak="x"),  # fails when it runs, not before
]

CASES = [*BINDING, *FUNCTIONS, *CLASSES, *STRINGS, *DYNAMIC, *AWAITS, *MUTATIONS, *MAGICS]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_cell(case: Case) -> None:
    """Each set holds exactly the names that the case says."""
    if sys.version_info < case.python:
        pytest.skip("newer syntax")
    result = analyse(transform(case.cell), transform)

    for name in ("binds", "deletes", "discarded", "imports", "mutates"):
        assert getattr(result, name) == set(getattr(case, name).split()), name
    reads = set(case.reads.split())
    assert {n for n in result.reads if n not in BUILTINS | {"__name__"}} | reads == reads
    assert reads <= result.reads.keys()
    assert result.weak == set(case.weak.split()) - reads
    certain = case.binds if case.certain is None else case.certain
    assert result.certain == set(certain.split())
    for name in ("dynamic", "star", "awaits", "opaque", "unpickles"):
        assert getattr(result, name) is getattr(case, name), name


def test_fields() -> None:
    """The table looks at every field that there is; the others have tables of their own."""
    elsewhere = {"imported", "rebinds", "removes", "lists", "sets_up", "effects"}
    assert {f.name for f in fields(Analysis)} - elsewhere <= {f.name for f in fields(Case)}


@pytest.mark.parametrize(
    ("source", "lists"),
    [
        ("%who", True),
        ("names = dir()", True),
        ("for name in list(vars()): print(name)", True),
        ("dir(x)", False),
        ("def f(): return dir()", False),
        ("%run a.py", False),
    ],
)
def test_which_cells_ask_for_all_names(source: str, lists: bool) -> None:
    """They wait for all jobs that bind any."""
    assert analyse(transform(source), transform).lists is lists


@pytest.mark.parametrize(
    ("source", "rebinds"),
    [
        ("%run a.py", True),
        ("exec(text)", True),
        ("%who", False),
        ("eval(text)", False),
        ("globals()['x'] = 1", False),
        ("from math import *", False),
    ],
)
def test_code_that_nobody_knows_here(source: str, rebinds: bool) -> None:
    """It may bind names anew that are there; the others are found by what they say."""
    assert analyse(transform(source), transform).rebinds is rebinds


@pytest.mark.parametrize(
    ("source", "imported"),
    [
        ("import os, os.path, json as j", {"os": ("os", ""), "j": ("json", "")}),
        ("import os.path as p", {"p": ("os.path", "")}),
        ("from a.b import c, d as e", {"c": ("a.b", "c"), "e": ("a.b", "d")}),
        ("from . import x", {"x": (".", "x")}),
        ("import os\nos = 1", {}),
        ("import os\ndel os", {}),
        ("if c:\n  import os", {}),
        ("def f():\n  import os", {}),
        ("import os\nfor os in x: pass", {}),
        ("import os\nexec(s)", {}),
    ],
)
def test_what_only_imports_bind(source: str, imported: dict[str, tuple[str, str]]) -> None:
    """A cell that imports what is there already changes nothing that a later one reads."""
    assert analyse(source).imported == imported


@pytest.mark.parametrize(
    "cell",
    [
        "random.seed(1)",
        "import numpy as np\nSEED = 3\nnp.random.seed(SEED); pd.set_option('display.precision', 2)",
        "'Settings.'\nplt.rcParams['font.size'] = 8\nplt.rcParams.update({'font.size': 8})",
        "pd.options.display.max_rows = 5",
        "os.makedirs('a')\nos.chdir('a')\ntrain()",
        "%cd a\nmodel = fit(X)",
        "decimal.getcontext().prec = 6",
        "plt.style.use('ggplot')",
        "os.environ['A'] = 'b'",
        "if p not in sys.path:\n  sys.path.append(str(p))",
        "try:\n  import seaborn\n  seaborn.set_theme()\nexcept ImportError:\n  pass",
        "old = np.seterr(all='ignore')",
        "def seed_all(n):\n  random.seed(n)\nseed_all(3)",
        "log = 'x'\nlogging.getLogger(log).setLevel(10)",
        "%matplotlib inline\n%precision 3",
        "%cd ..",
        "sys.setrecursionlimit(10 ** 6)",
        "import numpy as np\nnp.random.seed(1)\nprint('numpy', np.__version__); np.__version__",
    ],
)
def test_cell_that_sets_things_up(cell: str) -> None:
    """Later cells wait for one that does nothing else."""
    assert analyse(transform(cell), transform).sets_up


@pytest.mark.parametrize(
    "cell",
    [
        "",
        "import numpy as np",
        "x = 1",
        "random.seed(1)\ntrain()",
        "np.random.seed(1)\nmodel = fit(X)",
        "random.seed(1)\nfor i in range(3): pass",
        "random.seed(1)\nrandom.random()",
        "random.seed(1)\nif slow(): pass",
        "random.seed(1)\nprint(slow())",
        "random.seed(1)\nawait slow",
        "random.seed(1)\nrows = [f(x) for x in xs]",
        "with pd.option_context('display.precision', 2): print(df)",
        "def f():\n  random.seed(1)",
        "time.sleep(3)",
        "%time train()",
        "!make",
        "plt.plot(x)",
    ],
)
def test_cell_that_does_something_else(cell: str) -> None:
    """Not for one that may take long: it has names that tell who needs it."""
    assert not analyse(transform(cell), transform).sets_up


@pytest.mark.parametrize(
    ("cell", "line"),
    [
        ("a\nb = (\n  x)", 3),
        ("def f():\n  pass\n  return x\nf()", 3),
        ("%%time\n\na = 1\nx", 4),
        ("%%time\n%%capture o\n\n\nx", 5),
        ("a\n%time x", 2),
        ("a\n\n!ls {x}", 3),
        ("x = 1 if x else 2\nx", 1),
        ("a\nb\neval('x')", 3),
    ],
)
def test_line(cell: str, line: int) -> None:
    """A name comes with the first line that reads it, in magics' bodies too."""
    assert analyse(transform(cell), transform).reads["x"] == line


@pytest.mark.parametrize(
    ("cell", "line"),
    [
        ("a = 1\nb = (", 2),
        ("a = 1\nreturn a", 2),
        ("yield 1", 1),
        ("a\ndef f():\n  x = 1\n  global x", 4),
        ("%%time\na = 1\nb +", 3),
        ("%%time\n\n\nb +", 4),
        ("%%capture\n%%time\na\nreturn", 4),
        ("def f():\n  await g()", 2),
        ("a = 1\nfrom __future__ import nothing", 2),
    ],
)
def test_syntax_error(cell: str, line: int) -> None:
    """A syntax error is reported at the cell's own line."""
    with pytest.raises(SyntaxError) as caught:
        analyse(transform(cell), transform)
    assert caught.value.lineno == line


def test_null_bytes() -> None:
    """What is no text for Python is a syntax error on every version."""
    with pytest.raises(SyntaxError):
        analyse("x = '\0'")


def test_warning_is_left_to_the_run() -> None:
    """A SyntaxWarning would be seen twice if the analysis gave it too (here: an error)."""
    assert analyse("x is 1\ny = '\\d'").binds == {"y"}


def test_long_text_is_bounded() -> None:
    """Data in a cell's source does not make the analysis slow: words are read up to a bound."""
    result = analyse(f"x = f({'first ' + 'w ' * (1 << 20) + 'last'!r})")
    assert "first" in result.weak
    assert "last" not in result.weak


def names_of(source: str, name: str = "f") -> tuple[set[str], set[str], set[str]]:
    namespace: dict[str, object] = {}
    exec(source, namespace)
    found = global_names(namespace[name].__code__)  # type: ignore[attr-defined]
    return set(found.reads), set(found.binds), set(found.weak)


@pytest.mark.parametrize(
    ("source", "reads", "binds", "weak"),
    [
        ("def f(a): return a.b + c(d=1)", "c", "", ""),
        ("def f():\n  'doc'\n  x = 'a text'\n  return x", "", "", "doc a text"),
        ("def f():\n  global x, y, z\n  x = 1\n  del y\n  z += 1", "y z", "x y z", ""),
        ("def f():\n  def g():\n    return [h(i) for i in j]\n  return lambda: k", "h j k", "", ""),
        (
            "def f():\n  class A(B):\n    x = 1\n    y = x + z\n    def m(self): return w",
            "B __name__ z w",
            "",
            "",
        ),
        ("def f(a):\n  from m import b\n  return a, b", "", "", ""),
        ("def f(a):\n  return a.query('x > @y')", "", "", "x y"),
        ("def f(a):\n  match a:\n    case {'k': v}: return v", "", "", "k"),
        ("def f(a): return f'{a:>{w}} of {n}'", "w n", "", "of"),
        ("class C:\n  def f(self): return super().f(__x)\nf = C.f", "super _C__x", "", ""),
    ],
)
def test_global_names(source: str, reads: str, binds: str, weak: str) -> None:
    """The global names of a function, those of the code inside it included."""
    assert names_of(source) == (set(reads.split()), set(binds.split()), set(weak.split()))


def test_global_names_flags() -> None:
    """Dynamic access, unpickling and imports inside a function are told."""
    assert global_names((lambda s: eval(s)).__code__).dynamic
    assert not global_names((lambda s: s.evaluate()).__code__).dynamic

    def load(path: str) -> object:
        import pickle

        with open(path, "rb") as file:  # noqa: PTH123
            return pickle.load(file)

    assert global_names(load.__code__).unpickles
    assert global_names(load.__code__).imports == {"pickle"}


def test_global_names_of_module_code() -> None:
    """Module code binds what it stores."""
    names = global_names(compile("x = y\ndef f(): z", "<test>", "exec"))
    assert names.binds == {"x", "f"}
    assert names.reads == {"y", "z"}
