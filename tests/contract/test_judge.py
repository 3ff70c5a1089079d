"""The judge sees what it must see, and nothing else: two plain kernels run two different cells."""

from __future__ import annotations

import pytest

from .compare import Judge, differing, differing_outputs

SETUP = """
import collections, functools, itertools, types
class Base:
    __slots__ = ("a", "__dict__")
def shared():
    count = 0
    def up():
        nonlocal count
        count += 1
        return count
    def now():
        return count
    return up, now
"""

FRIENDS = """
class Friend: pass
x = [Friend() for _ in range(12)]
for friend in x: friend.all = set(x)
"""
DIFFERENT = {
    "value": ("x = 1", "x = 2"),
    # Each leads to the set of all: as many ways as there are orders of them.
    "one of a set of friends": (
        f"{FRIENDS}for i, friend in enumerate(x): friend.n = i",
        f"{FRIENDS}for friend in x: friend.n = 1",
    ),
    "type": ("x = 1", "x = True"),
    "missing": ("x = 1", "pass"),
    "additional": ("pass", "x = 1"),
    "alias": ("a = [1]; b = a", "a = [1]; b = [1]"),
    "alias inside": ("a = {}; b = [(1, a)]", "a = {}; b = [(1, {})]"),
    "alias of an attribute": (
        "a = Base(); b = Base(); a.a = b.x = []",
        "a = Base(); b = Base(); a.a = []; b.x = []",
    ),
    "slot": ("a = Base(); a.a = 1", "a = Base(); a.a = 2"),
    "cycle": ("a = []; a.append(a)", "a = []; a.append([a])"),
    "order of a dict": ("x = {'a': 1, 'b': 2}", "x = {'b': 2, 'a': 1}"),
    "kind of dict": ("x = collections.OrderedDict(a=1)", "x = dict(a=1)"),
    "default factory": ("x = collections.defaultdict(int)", "x = collections.defaultdict(list)"),
    "maxlen": ("x = collections.deque([1], 3)", "x = collections.deque([1])"),
    "place of an iterator": ("x = iter([1, 2]); next(x)", "x = iter([1, 2])"),
    "place behind zip": ("x = zip([1, 2]); next(x)", "x = zip([1, 2])"),
    "place of a count": ("x = itertools.count(); next(x)", "x = itertools.count()"),
    "place of a generator": (
        "x = (i for i in range(3)); next(x)",
        "x = (i for i in range(3))",
    ),
    "who shares an iterator": ("x = iter('ab'); y = [x]", "x = iter('ab'); y = [iter('ab')]"),
    "code": ("def f(x): return x + 1", "def f(x): return x + 2"),
    "name in code": ("def f(x): return x + k", "def f(x): return x + l"),
    "defaults": ("def f(x=[]): return x", "def f(x=[1]): return x"),
    "function's attribute": ("def f(): pass\nf.n = 1", "def f(): pass\nf.n = 2"),
    "frozen globals": (
        "def f(): return k",
        "def f(): return k\ng = types.FunctionType(f.__code__, dict(globals()), 'f')\nf = g\ndel g",
    ),
    "frozen globals of a method": (
        "class A:\n    def f(self): return k",
        (
            "class A:\n    def f(self): return k\n"
            "A.f = types.FunctionType(A.f.__code__, dict(globals()), 'f')"
        ),
    ),
    "shared closure": ("up, now = shared()", "up, _ = shared(); _, now = shared(); del _"),
    "closure's value": ("up, now = shared()", "up, now = shared(); up()"),
    "source of a function": ("def f(x): return x", "def f(x): return  x"),
    "class of an instance": (
        "class A: pass\na = A()",
        "class A: pass\na = A()\nclass A: pass",
    ),
    "class attribute": ("class A: k = 1", "class A: k = 2"),
    "base class": ("class A(Base): pass", "class A: pass"),
    "cache": (
        "f = functools.lru_cache(abs); f(1)",
        "f = functools.lru_cache(abs)",
    ),
    "bound method": ("a = Base(); a.x = [1]; f = a.x.pop", "a = Base(); a.x = [1]; f = [1].pop"),
    "identity of nan": (
        "import numpy as np; x = [np.nan]",
        "import numpy as np; x = [float('nan')]",
    ),
    "dtype": (
        "import numpy as np; x = np.arange(3)",
        "import numpy as np; x = np.arange(3, dtype='i4')",
    ),
    "content of an array": (
        "import numpy as np; x = np.zeros(5000)",
        "import numpy as np; x = np.zeros(5000); x[4000] = 1",
    ),
    "order in memory": (
        "import numpy as np; x = np.zeros((3, 4))",
        "import numpy as np; x = np.zeros((4, 3)).T",
    ),
    "view": (
        "import numpy as np; x = np.arange(9); y = x[3:6]",
        "import numpy as np; x = np.arange(9); y = x[3:6].copy()",
    ),
    "read-only": (
        "import numpy as np; x = np.arange(9)",
        "import numpy as np; x = np.arange(9); x.flags.writeable = False",
    ),
    "object array": (
        "import numpy as np; a = []; x = np.array([a, None], dtype=object)",
        "import numpy as np; a = []; x = np.array([[], None], dtype=object)",
    ),
    "generator": (
        "import numpy as np; x = np.random.default_rng(1)",
        "import numpy as np; x = np.random.default_rng(1); y = x.random(); del y",
    ),
    "column": (
        "import pandas as pd; x = pd.DataFrame({'a': [1, 2]})",
        "import pandas as pd; x = pd.DataFrame({'a': [1, 3]})",
    ),
    "dtype of a column": (
        "import pandas as pd; x = pd.DataFrame({'a': [1, 2]})",
        "import pandas as pd; x = pd.DataFrame({'a': [1., 2.]})",
    ),
    "names of an index of many levels": (
        "import pandas as pd; x = pd.MultiIndex.from_tuples([(1, 2)])",
        "import pandas as pd; x = pd.MultiIndex.from_tuples([(1, 2)], names=['a', 'b'])",
    ),
    "index": (
        "import pandas as pd; x = pd.Series([1, 2])",
        "import pandas as pd; x = pd.Series([1, 2], index=[1, 0])",
    ),
    "axes' figure": (
        "import matplotlib.pyplot as plt; fig, ax = plt.subplots(); plt.close(fig)",
        (
            "import matplotlib.pyplot as plt; fig, ax = plt.subplots(); plt.close(fig)\n"
            "other, ax = plt.subplots(); plt.close(other); del other"
        ),
    ),
    "line of a plot": (
        "fig, ax = plt.subplots(); ax.plot([1, 2]); plt.close(fig)",
        "fig, ax = plt.subplots(); ax.plot([1, 3]); plt.close(fig)",
    ),
    "fitted": (
        "from sklearn.linear_model import LinearRegression as L; m = L().fit([[1]], [1])",
        "from sklearn.linear_model import LinearRegression as L; m = L()",
    ),
    "coefficients": (
        "from sklearn.linear_model import LinearRegression as L; m = L().fit([[1], [2]], [1, 2])",
        "from sklearn.linear_model import LinearRegression as L; m = L().fit([[1], [2]], [1, 3])",
    ),
    "symbol": ("import sympy; x = sympy.Symbol('x')", "import sympy; x = sympy.Symbol('y')"),
    "random": ("import random", "import random; random.random()"),
    "numpy.random": ("import numpy as np", "import numpy as np; np.random.rand()"),
    "folder": ("import os; os.mkdir('d')", "import os; os.mkdir('d'); os.chdir('d')"),
    "environment": ("import os", "import os; os.environ['CONTRACT'] = '1'"),
    "sys.path": ("import sys", "import sys; sys.path.append('/nowhere')"),
    "rcParams": (
        "import matplotlib.pyplot as plt",
        "import matplotlib.pyplot as plt; plt.rcParams['lines.linewidth'] = 7",
    ),
    "pandas option": (
        "import pandas as pd",
        "import pandas as pd; pd.set_option('display.max_rows', 7)",
    ),
    "warning filter": ("import warnings", "import warnings; warnings.simplefilter('error')"),
    "precision": ("%precision 3", "%precision 4"),
    "formatter": (
        "f = get_ipython().display_formatter.formatters['text/plain']",
        (
            "f = get_ipython().display_formatter.formatters['text/plain']\n"
            "f.for_type(Base, lambda o, p, c: p.text('B'))"
        ),
    ),
    "text": ("print(1)", "print(2)"),
    "text or nothing": ("print(1)", "pass"),
    "channel": ("print(1)", "import sys; print(1, file=sys.stderr)"),
    "colour": ("print('\\x1b[31mred')", "print('red')"),
    "carriage return": ("print('a\\rb')", "print('b')"),
    "last expression": ("1 + 1", "1 + 1;"),
    "order of displays": ("display(1); print(2)", "print(2); display(1)"),
    "cleared": (
        "from IPython.display import clear_output\nprint(1)",
        "from IPython.display import clear_output\nprint(1); clear_output()",
    ),
    "result or display": ("7", "display(7)"),
    "Out": ("x = [1]\nx", "x = [1]\n[1]"),
    "size of a figure": (
        "fig, ax = plt.subplots(figsize=(3, 3)); x = 1",
        "fig, ax = plt.subplots(figsize=(4, 3)); x = 1",
    ),
    "content of a figure": ("plt.plot([1, 2, 1]);", "plt.plot([1, 2, 2]);"),
    "error": ("1 / 0", "raise ValueError"),
    "text of an error": ("raise ValueError('a')", "raise ValueError('b')"),
    "line of an error": ("1 / 0\npass\npass", "pass\n1 / 0\npass"),
    "frames of an error": ("def f(): 1 / 0\nf()", "def f(): 1 / 0\n(lambda: f())()"),
    "cause": (
        "try: 1 / 0\nexcept ZeroDivisionError as e: raise KeyError from e",
        "try: 1 / 0\nexcept ZeroDivisionError as e: raise KeyError from None",
    ),
}

SAME = {
    "address": ("x = object()\nx", "y = [object() for _ in range(9)]; del y; x = object()\nx"),
    "order of a set": ("x = {'a', 8, None}", "x = {None, 8, 'a'}"),
    "timing": ("%%time\nx = 1", "%%time\nx = sum(range(1000)) * 0 + 1"),
    "split streams": ("print(1); print(2)", "print(1, flush=True); print(2, flush=True)"),
    "time of flushes": (
        "import sys; print(1); print(2, file=sys.stderr); print(3)",
        "import sys; print(2, file=sys.stderr); print(1); print(3)",
    ),
    "blank lines below": ("def f(): return 1\n\n\n", "def f(): return 1"),
    "identical strings": ("a = 'x' * 99; b = a", "a = 'x' * 99; b = 'x' * 99"),
    "whose index": (
        "import pandas as pd; a = pd.Series([1]); b = a.index",
        "import pandas as pd; a = pd.Series([1]); b = a.index.copy()",
    ),
}


def judged(judge: Judge, cells: tuple[str, str], name: str) -> list[str]:
    """Differences after the two cells, from a fresh start."""
    for kernel in (judge.plain, judge.other):
        kernel.reset(name.replace(" ", "-").replace("'", ""))
        kernel.plainly(1, SETUP)
        if "plt." in cells[0]:
            kernel.plainly(2, "import matplotlib.pyplot as plt")
    steps = [k.plainly(3, cell) for k, cell in zip((judge.plain, judge.other), cells, strict=True)]
    looks = judge.plain.look(), judge.other.look()
    read = judge.plain.document.read(3, steps[0]), judge.other.document.read(3, steps[1])
    return [*differing_outputs(*read), *differing(*looks).values()]


@pytest.mark.parametrize("name", DIFFERENT)
def test_the_judge_sees(plain_pair: Judge, name: str) -> None:
    """Two cells that leave different notebooks are told apart."""
    assert judged(plain_pair, DIFFERENT[name], name)


@pytest.mark.parametrize("name", SAME)
def test_the_judge_does_not_see(plain_pair: Judge, name: str) -> None:
    """What differs between any two runs is no difference."""
    assert not judged(plain_pair, SAME[name], name)


@pytest.mark.parametrize("name", DIFFERENT)
def test_a_cell_is_like_itself(plain_pair: Judge, name: str) -> None:
    """The same cell in two kernels is the same: the judge makes nothing up."""
    first = DIFFERENT[name][0]
    assert not judged(plain_pair, (first, first), name)
