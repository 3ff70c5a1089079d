"""Lines 10 to 13: a free kernel, pending names, the order of jobs, private inputs."""

from __future__ import annotations

import pytest

from .driving import WAIT, do, let_go, shown, submit, value
from .kernels import RemoteKernel

pytestmark = pytest.mark.timeout(300)


@pytest.mark.contract(10)
def test_the_kernel_stays_free(kernel: RemoteKernel) -> None:
    """A job can wait for what the kernel does after it was submitted."""
    submit(kernel, "free", WAIT.format("go") + "x = 1")
    assert value(kernel, "1 + 1") == 2
    let_go(kernel, "go")
    do(kernel, "%async_gather free")
    assert value(kernel, "x") == 1


@pytest.mark.contract(11)
def test_a_pending_name_is_waited_for_on_the_cluster(kernel: RemoteKernel) -> None:
    """A cell that reads what a pending job makes gets the new value, never gathered here."""
    do(kernel, "x = 'old'")
    submit(kernel, "maker", WAIT.format("go") + "x = 'new'; fresh = [x]")
    submit(kernel, "reader", "y = x + ' seen'; fresh.append(y); print(fresh)")
    assert value(kernel, "'y' in globals()") is False
    let_go(kernel, "go")
    said = do(kernel, "%async_gather reader")
    assert "['new', 'new seen']" in said
    assert value(kernel, "y") == "new seen"
    do(kernel, "%async_gather maker")
    assert value(kernel, "x") == "new"


QUEUES = {
    "changes in place": (
        ["rows = []; other = rows", "rows.append(1)", "other.append(2)", "seen = list(rows)"],
        "rows, other is rows, seen",
        ([1, 2], True, [1, 2]),
    ),
    "objects in objects": (
        ["inner = [0]; outer = {'inner': inner}", "outer['inner'][0] = 5", "seen = inner[0]"],
        "seen, outer['inner'] is inner",
        (5, True),
    ),
    "an object of this kernel in a pending one": (
        ["held = [here]", "held[0].append(1)", "here.append(2)", "seen = list(held[0])"],
        "here, seen, held[0] is here",
        ([1, 2], [1, 2], True),
    ),
    "an object of this kernel that a pending one holds": (
        ["held = [here]", "seen = held[0] is here; here.append(1)", "held[0].append(2)"],
        "seen, here, held[0] is here",
        (True, [1, 2], True),
    ),
    "names that functions read": (
        [
            "def f(): return k + g()",
            "def g(): return base",
            "k = 1",
            "a = f()",
            "k = 2",
            "b = f()",
        ],
        "a, b",
        (11, 12),
    ),
    "names that methods read": (
        [
            "class A:\n  total = 0\n  def go(self): A.total += helper(); return A.total",
            "def helper(): return base",
            "made = A()",
            "first = made.go()",
            "second = made.go()",
            "A.go = lambda self: 'patched'",
            "third = made.go()",
        ],
        "first, second, third, A.total",
        (10, 20, "patched", 20),
    ),
    "names that functions bind": (
        ["k = 0\ndef bump():\n    global k\n    k += 1", "bump()", "a = k", "bump()", "b = k"],
        "a, b, k",
        (1, 2, 2),
    ),
    "a function of this kernel binds": (
        ["count()", "a = counted", "count()"],
        "a, counted",
        (1, 2),
    ),
    "a function of this kernel changes": (
        ["note('a')", "a = list(notes)", "b = note('b')"],
        "a, notes",
        (["a"], ["a", "b"]),
    ),
    "functions that change what they get": (
        ["def add(rows): rows.append(1)\nmine = []", "x = add(mine)", "y = add(mine)"],
        "mine",
        [1, 1],
    ),
    "generators": (
        ["gen = (i for i in range(9))", "a = next(gen)", "b = sum(x for x in gen if x < 3)"],
        "a, b, list(gen)",
        (0, 3, []),
    ),
    "closures that count": (
        [
            "def counter():\n  n = 0\n  def up():\n    nonlocal n; n += 1; return n\n  return up",
            "up = counter()",
            "a = up()",
            "b = up()",
        ],
        "a, b",
        (1, 2),
    ),
    "a database in memory": (
        [
            "import sqlite3; con = sqlite3.connect(':memory:'); cur = con.cursor()",
            "cur.execute('create table t (a)'); None",
            "cur.executemany('insert into t values (?)', [(1,), (2,)]); con.commit()",
            "rows = con.execute('select * from t').fetchall()",
        ],
        "rows",
        [(1,), (2,)],
    ),
    "mutable defaults": (
        ["def rows(found=[]): found.append(len(found)); return found", "a = rows()", "b = rows()"],
        "b, rows.__defaults__[0] is b",
        ([0, 1], True),
    ),
    "decorators that register": (
        [
            "from functools import singledispatch\n@singledispatch\ndef kind(x): return 'other'",
            "@kind.register\ndef _(x: int): return 'int'",
            "a = kind(1), kind('')",
        ],
        "a",
        ("int", "other"),
    ),
    "names that nobody knows before": (
        ["from string import *", "a = capwords('a b')", "exec('made = 5')", "b = made"],
        "a, b",
        ("A B", 5),
    ),
    "names that are looked up": (
        ["x = 1; base += 1", "del x", "a = sorted({'x', 'base', 'b'} & globals().keys()); b = 1"],
        "a",
        ["base"],
    ),
    "names in texts that are evaluated": (
        ["k = 1", "j = 'k'; k = 2", "a = eval('k + 1'); b = eval(j)"],
        "a, b",
        (3, 2),
    ),
    "a generator of this kernel": (
        ["a = next(numbers)", "b = next(numbers)", "c = next(numbers)"],
        "a, b, c, next(numbers)",
        (0, 1, 2, 3),
    ),
    "a magic that a pending cell makes": (
        [
            "from IPython.core.magic import register_line_magic",
            "@register_line_magic\ndef twice(line): return 2 * int(line)",
            "a = 4",
            "b = %twice 21",
        ],
        "b",
        42,
    ),
    "another folder": (
        [
            "import os\nos.makedirs('elsewhere'); os.chdir('elsewhere')",
            "a = os.path.basename(os.getcwd()); os.chdir('..')",
        ],
        "a",
        "elsewhere",
    ),
    "axes": (
        [
            "from matplotlib.figure import Figure; fig = Figure(); ax = fig.add_subplot()",
            "line, = ax.plot([1, 2])",
            "bars = ax.bar([1], [2])",
            "seen = len(fig.axes[0].lines), len(ax.patches)",
        ],
        "seen, ax.lines[0] is line",
        ((1, 1), True),
    ),
    "an array that others are views of": (
        ["grid += 1", "seen = row.tolist(), held['column'].tolist(), row.base is grid"],
        "seen, grid.tolist(), row.base is grid",
        (([1, 1], [1, 1], True), [[1, 1], [1, 1]], True),
    ),
    "a view of an array": (
        ["row += 1", "seen = grid.tolist(); held['column'][0] = 7", "last = grid.tolist()"],
        "seen, last, grid.tolist(), row.base is grid",
        ([[0, 0], [1, 1]], [[0, 7], [1, 1]], [[0, 7], [1, 1]], True),
    ),
    "random generators": (
        ["import random; rnd = random.Random(1)", "a = rnd.random()", "b = rnd.random()"],
        "[a, b] == [(r := random.Random(1)).random(), r.random()]",
        True,
    ),
    "views of an array without a name": (
        ["flat += 1", "seen = top.tolist(); top[0] = 7", "last = flat.tolist()"],
        "seen, last, flat.tolist()",
        ([1, 2], [[7, 2], [3, 4]], [[7, 2], [3, 4]]),
    ),
    "what a decorator remembers": (
        [
            "a = square(3)",
            "def again(x): return square(x)",
            "b = again(4)",
            "c = sorted(square.seen)",
        ],
        "c, sorted(square.seen)",
        ([3, 4], [3, 4]),
    ),
    "properties": (
        [
            "class A:\n  n = 0\n  @property\n  def next(self): self.n += 1; return self.n\na = A()",
            "first = a.next",
            "second = a.next",
            "last = a.n",
        ],
        "first, second, last, a.n",
        (1, 2, 2, 2),
    ),
    "operators": (
        [
            "class P(list):\n  def __contains__(self, x): self.append(x); return True\np = P()",
            "1 in p",
            "2 in p",
            "seen = list(p)",
        ],
        "seen, p",
        ([1, 2], [1, 2]),
    ),
    "missing keys": (
        [
            "class Memo(dict):\n  def __missing__(self, k): self[k] = -k; return -k\nm = Memo()",
            "a = m[1]",
            "b = m[2]",
            "seen = dict(m)",
        ],
        "seen, m",
        ({1: -1, 2: -2}, {1: -1, 2: -2}),
    ),
    "code that nobody knows here": (
        ["exec('base = 5')", "seen = base", "%run other.py", "last = base"],
        "seen, last, base",
        (5, 6, 6),
    ),
    "a database": (
        [
            "import sqlite3; db = sqlite3.connect(':memory:'); db.execute('create table t (a)')",
            "db.execute('insert into t values (1)').rowcount",
            "count = db.execute('update t set a = a + 1').rowcount; db.commit()",
            "seen = db.execute('select a from t').fetchall()",
        ],
        "count, seen, db.execute('select a from t').fetchall()",
        (1, [(2,)], [(2,)]),
    ),
    "what a class knows of its instances": (
        [
            "class A:\n  all = []\n  def __init__(self): self.all.append(self)\nclass B(A): pass",
            "a = B()",
            "b = B()",
            "seen = len(A.all)",
        ],
        "seen, A.all[0] is a, A.all[1] is b",
        (2, True, True),
    ),
    "which names there are": (
        ["base = 5", "made = 2", "import collections as c", "%who_ls int", "seen = sorted(_)"],
        "[n for n in seen if n in ('base', 'made')]",
        ["base", "made"],
    ),
    "looking up what is not there": (
        [
            "from collections import defaultdict; import time; found = defaultdict(list)",
            "def each(d): time.sleep(0.3); return [d[k] for k in 'ab']",
            "lists = each(found)",
            "time.sleep(0.3); both = found['c'], missing[0][1]",
            "seen = list(found); other = list(missing[0])",
        ],
        "seen, list(found), other, dict(missing[0])",
        (["a", "b", "c"], ["a", "b", "c"], [1], {1: 0}),
    ),
    "calls whose answer is used": (
        [
            "import queue, heapq, collections; q = queue.Queue(); d = collections.deque('abc')",
            "put = [q.put(n) for n in range(3)]; turned = d.rotate(1); heap = [3, 1]",
            "first = q.get(); made = heapq.heapify(heap); head = d.popleft()",
            "second = q.get(); least = heapq.heappop(heap); same = here_adds(1)",
            "left = q.qsize(), list(d), heap, here_adds.__self__",
        ],
        "left, first, second, head, least, here, table.columns.tolist()",
        ((1, ["a", "b"], [3], [1]), 0, 1, "c", 1, [1], ["a", "b"]),
    ),
    "changes that are asked for by a keyword": (
        ["none = table.drop(columns='a', inplace=True)", "seen = list(table)", "table['c'] = 1"],
        "seen, list(table)",
        (["b"], ["b", "c"]),
    ),
    "names that a cell binds and deletes": (
        [
            "first = second = third = 'old'",
            "first = 1\ntry:\n    del first\nexcept NameError:\n    pass",
            "for second in range(2): pass\ndel second",
            "try:\n    base\nexcept NameError as third:\n    pass",
        ],
        "[name for name in ('first', 'second', 'third') if name in globals()]",
        ["third"],
    ),
    "the last result, of which loops make a variable": (
        ["for _ in []: pass\n[7]", "seen = _[0]", "for _ in range(3): pass", "'shown'", "n = _"],
        "seen, n, _",
        (7, 2, 2),
    ),
    "files": (
        [
            "from pathlib import Path; import time; OUT = Path('out')",
            "def save(text): time.sleep(0.3); OUT.mkdir(); (OUT / f'{text}.txt').write_text(text)",
            "save('first')",
            "seen = open('out/first.txt').read()",
            "time.sleep(0.3); again = open('out/first.txt').read()",
            "!echo second > out/first.txt",
            "last = open('out/first.txt').read().strip()",
        ],
        "seen, again, last",
        ("first", "first", "second"),
    ),
}


@pytest.mark.contract(11, 12)
@pytest.mark.parametrize(("cells", "asked", "expected"), QUEUES.values(), ids=QUEUES.keys())
def test_queued_cells_are_as_if_run_one_after_another(
    kernel: RemoteKernel, cells: list[str], asked: str, expected: object
) -> None:
    """What a queued cell reads, it has as the cells before it leave it, however they do it."""
    do(
        kernel,
        "here = []\nbase = 10\ncounted = 0\nnotes = []\nnumbers = (i for i in range(9))\n"
        "def count():\n    global counted\n    counted += 1\n"
        "def note(text): notes.append(text)\n"
        "import numpy as np\ngrid = np.zeros((2, 2), int); row = grid[1]\n"
        "held = {'column': grid[:, 1]}\nflat = np.arange(4).reshape(2, 2); top = flat[0]\n"
        "def memo(f):\n"
        "    seen = {}\n"
        "    def remembering(x):\n"
        "        seen[x] = seen[x] if x in seen else f(x)\n"
        "        return seen[x]\n"
        "    remembering.seen = seen\n"
        "    return remembering\n"
        "@memo\ndef square(x): return x * x\n"
        "import collections; missing = [collections.defaultdict(int)]\n"
        "import pandas as pd; table = pd.DataFrame({'a': [1], 'b': [2]}); here_adds = here.append\n"
        "with open('other.py', 'w') as file: file.write('base = 6')",
    )
    for number, cell in enumerate(cells):
        submit(kernel, f"queued{number}", cell)
    said = do(kernel, "%async_gather " + " ".join(f"queued{n}" for n in range(len(cells))))
    assert "left alone" not in said
    assert "new object" not in said
    assert value(kernel, asked) == expected


@pytest.mark.contract(12)
def test_a_job_that_did_not_see_a_change_which_no_code_tells(kernel: RemoteKernel) -> None:
    """It is named when the change is gathered, whether its own result was or not."""
    do(
        kernel,
        "import configparser\nparsers = [configparser.ConfigParser() for _ in range(3)]\n"
        "first, second, third = parsers\n"
        "from typing import Protocol, runtime_checkable\n"
        "@runtime_checkable\nclass Named(Protocol):\n    def name(self): ...",
    )
    submit(kernel, "checks", "isinstance(first, Named)")  # Python keeps in it what it looks for
    submit(kernel, "names", "class Point(Named): pass")
    assert "Named" not in do(kernel, "%async_gather checks names")
    submit(kernel, "makes", "made = configparser.ConfigParser()")
    submit(kernel, "reads", "_ = first.read_dict({'a': {}}), made.read_dict({'b': {}})")
    submit(kernel, "before", "seen = first.sections()")
    submit(kernel, "after", "also_seen = made.sections(), third.sections()")
    submit(kernel, "apart", "other = third.sections()")
    submit(kernel, "asked", "asked = first.sections()", "--independent")
    do(kernel, "%async_gather before asked apart")
    said = do(kernel, "%async_gather makes reads")
    assert "reads: it has changed first, which its code did not tell: before got" in said
    assert "reads: it has changed made, which its code did not tell: after got" in said
    assert "apart" not in said
    assert "asked" not in said
    submit(kernel, "now", "now_seen = first.sections()")
    assert "which its code" not in do(kernel, "%async_gather reads after now")
    assert value(kernel, "seen, also_seen, now_seen") == ([], ([], []), ["a"])


@pytest.mark.contract(7)
def test_jobs_that_draw_the_same_random_numbers_are_told(kernel: RemoteKernel) -> None:
    """Until the first one is gathered; not where a cell seeds them, or draws none."""
    do(kernel, "import random\nrandom.seed(3)\ndef draw(): return random.random()")
    told = "the same random numbers as"
    assert told not in submit(kernel, "one", "a = random.random()")
    assert told not in submit(kernel, "own", "random.seed(4); c = random.random()")
    assert told not in submit(kernel, "none", "e = 1")
    assert f"{told} one" in submit(kernel, "two", "b = draw()")
    do(kernel, "%async_gather one two")
    assert value(kernel, "a == b") is True
    assert told not in submit(kernel, "three", "d = draw()")


@pytest.mark.contract(7)
def test_jobs_whose_libraries_draw_the_same_random_numbers_are_told(kernel: RemoteKernel) -> None:
    """When they are gathered, for no code tells it; not where they build on one another."""
    do(
        kernel,
        "import numpy as np, pandas as pd\n"
        "np.random.seed(3); frame = pd.DataFrame({'a': range(9)})",
    )
    for name in "abc":
        submit(kernel, name, f"{name} = frame.sample(3)")
    submit(kernel, "d", "np.random.seed(5); d = frame.sample(3)")
    submit(kernel, "e", "e = c.index, frame.sample(3)")
    assert "random numbers" not in do(kernel, "%async_gather a")
    assert "b: it drew the same random numbers as a" in do(kernel, "%async_gather b")
    said = do(kernel, "%async_gather d e")
    assert said.count("random numbers") == 1
    assert "c: it drew the same random numbers as a" in said
    assert value(kernel, "a.equals(b) and a.equals(c) and not a.equals(e[1])") is True
    do(kernel, "np.random.seed(3)")
    submit(kernel, "again", "again = frame.sample(3)")
    assert "random numbers" not in do(kernel, "%async_gather again")
    assert value(kernel, "a.equals(again)") is True


@pytest.mark.contract(7, 19)
def test_random_numbers_that_were_seeded_here_since_stay(kernel: RemoteKernel) -> None:
    """As of any other state: what the notebook did after submission counts."""
    do(kernel, "import random\nrandom.seed(3)")
    submit(kernel, "drew", "x = random.random()")
    do(kernel, "random.seed(4); expected = random.random(); random.seed(4)")
    assert "random is as those left it" in do(kernel, "%async_gather drew")
    assert value(kernel, "random.random() == expected") is True


@pytest.mark.contract(12, 23)
def test_how_things_are_shown_is_waited_for(kernel: RemoteKernel) -> None:
    """A formatter that a queued cell registers shows what the next one answers."""
    do(kernel, "class Odd: pass")
    way = "get_ipython().display_formatter.formatters['text/plain']"
    submit(kernel, "formats", f"{way}.for_type(Odd, lambda obj, p, cycle: p.text('<odd>'));")
    submit(kernel, "shows", "Odd()")
    assert "<odd>" in do(kernel, "%async_gather formats shows")


@pytest.mark.contract(11, 12)
def test_what_was_gathered_meanwhile_counts(kernel: RemoteKernel) -> None:
    """A pending job has an object as it was; a later cell that needs both has it as it is."""
    do(kernel, "rows = [1]")
    submit(kernel, "early", "held = [rows]")
    do(kernel, "%%async_run --name now --gather --independent\nrows.append(2)")
    submit(kernel, "late", "seen = list(rows), len(held)")
    do(kernel, "%async_gather early late")
    assert value(kernel, "seen") == ([1, 2], 1)


@pytest.mark.contract(19)
def test_gathering_what_came_with_a_later_job_again(kernel: RemoteKernel) -> None:
    """Its names are the later job's now: that is no conflict."""
    submit(kernel, "first", "n = 0")
    submit(kernel, "second", "n += 1")
    submit(kernel, "third", "n += 1")
    do(kernel, "%async_gather third")
    assert "n was" not in do(kernel, "%async_gather first second")
    assert value(kernel, "n") == 2


@pytest.mark.contract(19)
def test_a_queue_is_gathered_by_a_kernel_that_did_not_submit_it(kernel: RemoteKernel) -> None:
    """One job after another: what an earlier one brought makes place for a later one's."""
    submit(kernel, "made", "n = 1; _ = 'own'")
    submit(kernel, "moved", "n += 1; _ = 'later'")
    submit(kernel, "gone", "seen = n; del n")
    do(kernel, "%async_wait made moved gone")
    do(kernel, "%reload_ext dask_async_run")  # which forgets what it has submitted
    for job in ("made", "moved"):
        assert "left alone" not in do(kernel, f"%async_gather {job}")
    assert value(kernel, "n") == 2
    assert "left alone" not in do(kernel, "%async_gather gone")
    assert value(kernel, "seen, 'n' in globals()") == (2, False)


@pytest.mark.contract(19)
def test_what_is_bound_in_the_other_kernel_is_not_overwritten(kernel: RemoteKernel) -> None:
    """By the user, since an earlier job of the queue was gathered there."""
    submit(kernel, "made", "n = 1")
    submit(kernel, "moved", "n += 1")
    do(kernel, "%async_wait made moved\n%reload_ext dask_async_run\n%async_gather made")
    do(kernel, "n = 50")
    assert "n is here already" in do(kernel, "%async_gather moved")
    assert value(kernel, "n") == 50


@pytest.mark.contract(13, 19)
def test_two_jobs_that_change_what_a_third_made_are_told_apart(kernel: RemoteKernel) -> None:
    """Where nobody could see that the second had to wait for the first, it is a conflict."""
    submit(kernel, "makes", "rows = []\ndef hidden(x, item): exec('x.append(item)')")
    submit(kernel, "one", "a = hidden(rows, 1)")
    submit(kernel, "two", "b = hidden(rows, 2)")
    assert "left alone" not in do(kernel, "%async_gather makes one")
    assert "rows was changed in place here since" in do(kernel, "%async_gather two")
    assert value(kernel, "rows, b") == ([1], None)
    do(kernel, "%async_gather two --overwrite")
    assert value(kernel, "rows") == [2]


@pytest.mark.contract(19)
def test_what_was_changed_here_of_an_earlier_job_is_not_overwritten(kernel: RemoteKernel) -> None:
    """Also where the later job was submitted before it was here; what nobody touched is merged."""
    made = "import pandas as pd; rows = []; df = pd.DataFrame({'a': [1]})\n"
    made += "deep = {'b': [0]}; fine = []; gen = iter(range(9))\nclass C: n = 0"
    submit(kernel, "makes", made)
    submit(kernel, "one", "rows.append(1); df['b'] = 1; deep['b'].append(1); fine.append(1)")
    submit(kernel, "two", "next(gen); C.n += 1; fine.append(2)")
    do(kernel, "%async_gather makes")
    do(kernel, "rows.append(99); df['c'] = 1; deep['b'].append(99); next(gen); C.n = 99")
    told = do(kernel, "%async_gather one")
    for name in ("rows", "df", "deep"):
        assert f"one: {name} was changed in place here since; it was left alone." in told
    told += do(kernel, "%async_gather two")
    for name in ("gen", "C"):
        assert f"two: {name} was changed in place here since; it was left alone." in told
    assert "fine" not in told
    assert value(kernel, "rows, [*df], deep, fine") == ([99], ["a", "c"], {"b": [0, 99]}, [1, 2])
    assert value(kernel, "C.n, next(gen)") == (99, 1)
    do(kernel, "%async_gather one two --overwrite")
    assert value(kernel, "rows, [*df], deep") == ([1], ["a", "b"], {"b": [0, 1]})
    assert value(kernel, "C.n, fine") == (1, [1, 2])


@pytest.mark.contract(19)
def test_what_was_left_alone_stays_so_for_the_next_job(kernel: RemoteKernel) -> None:
    """Two jobs change an object one after the other, and the notebook has meanwhile, too."""
    do(kernel, "rows = []; n = [0]\nclass C: n = 0")
    submit(kernel, "one", "rows.append(1); n[0] += 1; C.n += 1")
    submit(kernel, "two", "rows.append(2); n[0] += 1; C.n += 1")
    do(kernel, "rows.append(99); C.n = 99")
    for job in ("one", "two"):
        told = do(kernel, f"%async_gather {job}")
        for name in ("rows", "C"):
            assert f"{job}: {name} was changed in place here since; it was left alone." in told
    assert value(kernel, "rows, n, C.n") == ([99], [2], 99)


@pytest.mark.contract(19)
def test_what_was_changed_in_another_kernel_of_an_earlier_job(kernel: RemoteKernel) -> None:
    """It is not overwritten there either; a cell that changes nothing is no reason to say so."""
    submit(kernel, "makes", "rows = []; fine = []")
    submit(kernel, "one", "rows.append(1); fine.append(1)")
    submit(kernel, "two", "fine.append(2)")
    do(kernel, "%async_wait makes one two\n%reload_ext dask_async_run\n%async_gather makes")
    do(kernel, "rows.append(99)")
    assert "rows was changed in place here since" in do(kernel, "%async_gather one")
    assert "left alone" not in do(kernel, "%async_gather two")
    assert value(kernel, "rows, fine") == ([99], [1, 2])


@pytest.mark.contract(21)
def test_last_results_after_a_queue(kernel: RemoteKernel) -> None:
    """Those of its cells, and then what was there before it: no jobs."""
    do(kernel, "'before'")
    for name, cell in (("one", "1"), ("none", "a = 1"), ("three", "'three'")):
        submit(kernel, name, cell)
    do(kernel, "%async_gather one none three")
    assert value(kernel, "_, __, ___") == ("three", 1, "before")


@pytest.mark.contract(21)
def test_last_results_after_a_queue_that_shows_nothing(kernel: RemoteKernel) -> None:
    """They are those before it, however many jobs have been on top of them."""
    do(kernel, "'before'")
    names = [f"quiet{number}" for number in range(5)]
    for name in names:
        submit(kernel, name, f"{name} = 1")
    do(kernel, f"%async_gather {' '.join(names)}")
    assert value(kernel, "_") == "before"


@pytest.mark.contract(21)
def test_last_results_after_a_queue_that_shows_little(kernel: RemoteKernel) -> None:
    """A cell that shows nothing leaves them as they were before all of the queue."""
    do(kernel, "'before'")
    for name, cell in (
        ("a", "a = 1"),
        ("b", "b = 2"),
        ("c", "'c'"),
        ("d", "d = 4"),
        ("e", "e = 5"),
    ):
        submit(kernel, name, cell)
    for name in "abcde":
        do(kernel, f"%async_gather {name}")
    assert value(kernel, "_, __") == ("c", "before")
    assert "Job" not in value(kernel, "repr(___)")


@pytest.mark.contract(11, 21)
def test_a_queued_cell_has_the_last_result_of_a_pending_job(kernel: RemoteKernel) -> None:
    """The last one that shows something, also by its number; objects are the same ones."""
    do(kernel, "'before'")
    submit(kernel, "shows", "[6 * 7]")
    submit(kernel, "quiet", "a = 1; a;")
    submit(kernel, "none", "print(a)")
    number = value(kernel, "len(In) - 4")
    submit(kernel, "last", "x = _; x.append(a)")
    submit(kernel, "numbered", f"y = Out[{number}], _{number}")
    do(kernel, "%async_gather last numbered")
    assert value(kernel, f"x, y[0] is x, y[1] is x, Out[{number}] is x") == (
        [42, 1],
        True,
        True,
        True,
    )


@pytest.mark.contract(21)
def test_the_result_before_the_last_one_cannot_be_queued(kernel: RemoteKernel) -> None:
    """Which one it is only shows when all jobs before it have run: it is refused."""
    submit(kernel, "shows", "6 * 7")
    submit(kernel, "later", "8")
    refused = kernel.execute("%%async_run --name last\nx = __")
    assert "the result of shows" in refused.error
    assert "%async_gather shows" in refused.error
    do(kernel, "%async_gather shows later")
    submit(kernel, "last", "x = __")
    do(kernel, "%async_gather last")
    assert value(kernel, "x") == 42


@pytest.mark.contract(11, 12)
def test_a_queued_cell_waits_for_no_other_objects(kernel: RemoteKernel) -> None:
    """What an earlier cell imports and defines is changed by nobody who only uses it."""
    submit(
        kernel,
        "setup",
        "import math\ndef double(x): return 2 * twin(x, math.sin)\ndef twin(x, f): return x\n"
        "class Counted:\n  def __call__(self): self.n = 1\n  def __len__(self): self.n = 2",
    )
    count = "counted = Counted(); counted(); del counted\n"
    submit(
        kernel, "left", f"a = []\n{count}" + WAIT.format("go") + "a.append(math.sqrt(double(8)))"
    )
    submit(kernel, "right", f"b = [math.sqrt(double(2))]; {count}b.append(1)")
    do(kernel, "%async_gather right")  # while the other one has not ended
    assert value(kernel, "b") == [2.0, 1]
    let_go(kernel, "go")
    do(kernel, "%async_gather left")
    assert value(kernel, "a") == [4.0]


@pytest.mark.contract(11)
def test_a_pending_name_that_is_not_made_after_all_is_the_one_before(kernel: RemoteKernel) -> None:
    """What a job may bind and does not is as an earlier job left it, or as it is here."""
    do(kernel, "n = 3; a = b = ['here']")
    submit(kernel, "makes", WAIT.format("go") + "a = ['made']")
    submit(kernel, "may", "if n > 5: a = b = 'never'\nfor c in []: pass")
    submit(kernel, "reads", "seen = a, b; b.append('seen')")
    let_go(kernel, "go")
    do(kernel, "first = b\n%async_gather reads")
    assert value(kernel, "seen, b, first is b") == (
        (["made"], ["here", "seen"]),
        ["here", "seen"],
        True,
    )
    do(kernel, "%async_gather makes may")
    assert value(kernel, "a") == ["made"]


@pytest.mark.contract(12)
def test_an_object_is_the_same_before_and_after_its_job_was_gathered(kernel: RemoteKernel) -> None:
    """A pending job holds it, as that job's; another one changes it, as what is here."""
    submit(kernel, "makes", "rows = [1]")
    submit(kernel, "holds", WAIT.format("go") + "rows.append(2); held = [rows]")
    do(kernel, "%async_gather makes")
    submit(kernel, "changes", "rows.append(3)")
    submit(kernel, "reads", "seen = list(held[0])")
    let_go(kernel, "go")
    do(kernel, "%async_gather reads")
    assert value(kernel, "seen, held[0] is rows") == ([1, 2, 3], True)


@pytest.mark.contract(11)
def test_what_an_earlier_job_made_of_a_name_is_older_than_what_is_here(
    kernel: RemoteKernel,
) -> None:
    """A cell builds on a job for other names: what that bound, and is bound anew here, is not it.

    It counts where a pending job may bind the name, and does not: the value is the one here.
    """
    submit(kernel, "makes", "rows = ['first']; kept = []")
    submit(kernel, "changes", "kept.append(rows)")
    do(kernel, "%async_gather makes")
    do(kernel, "rows = ['second']")
    submit(kernel, "may", WAIT.format("go") + "if len(kept) > 5: rows = 'never'")
    submit(kernel, "reads", "seen = list(rows), len(kept)")
    let_go(kernel, "go")
    do(kernel, "%async_gather reads")
    assert value(kernel, "seen") == (["second"], 1)


@pytest.mark.contract(11)
def test_what_somebody_else_forgot_is_pending_no_more(kernel: RemoteKernel) -> None:
    """This kernel knew that it had finished; from a shell it was forgotten."""
    do(kernel, "import sys\nx = 'here'")
    submit(kernel, "maker", "x = 'made'")
    do(kernel, "%async_wait maker")
    assert "maker makes it" in do(kernel, "x")
    do(kernel, "!{sys.executable} -m dask_async_run forget maker")
    assert "maker" not in do(kernel, "x")
    submit(kernel, "reader", "y = x")
    do(kernel, "%async_gather reader")
    assert value(kernel, "y") == "here"


@pytest.mark.contract(11, 7)
def test_surroundings_of_a_pending_job_are_inherited(kernel: RemoteKernel) -> None:
    """What an earlier job draws, sets and changes around it is where the later one begins."""
    do(kernel, "import os, random\nfrom fractions import Fraction\nrandom.seed(3)")
    do(kernel, "os.makedirs('below', exist_ok=True)")
    expected = value(kernel, "[random.random(), random.random()]")
    do(kernel, "random.seed(3)")
    submit(
        kernel,
        "first",
        WAIT.format("go")
        + "a = random.random(); os.environ['SET_THERE'] = 'yes'\n"
        + "os.chdir('below'); Fraction.twice = lambda self: 2 * self",
    )
    submit(
        kernel,
        "second",
        "b = [a, random.random()]\n"
        "seen = os.environ['SET_THERE'], os.path.basename(os.getcwd()), str(Fraction(1).twice())",
    )
    let_go(kernel, "go")
    do(kernel, "%async_gather second")
    assert value(kernel, "b") == expected
    assert value(kernel, "seen") == ("yes", "below", "2")
    do(kernel, "os.chdir('..'); del Fraction.twice, os.environ['SET_THERE']")


@pytest.mark.contract(12, 7)
def test_a_cell_that_only_sets_things_up_is_waited_for(kernel: RemoteKernel) -> None:
    """Seeds and settings of a job that was not gathered are those of all later ones."""
    do(kernel, "import decimal, random, sys\nlimit = sys.getrecursionlimit()")
    expected = value(kernel, "random.Random(3).random()")
    submit(kernel, "settings", "random.seed(3); decimal.getcontext().prec = 5")
    submit(kernel, "magic", "%precision 2")
    submit(kernel, "deep", "if limit:\n    sys.setrecursionlimit(limit + 1)")
    submit(kernel, "apart", "c = decimal.getcontext().prec", "--independent")
    submit(
        kernel,
        "user",
        "a = random.random(), decimal.getcontext().prec\nb = sys.getrecursionlimit()",
    )
    submit(kernel, "shown", "1 / 3")
    assert "0.33" in do(kernel, "%async_gather shown")
    do(kernel, "%async_gather user apart")
    assert value(kernel, "a, b - limit, c") == ((expected, 5), 1, 28)
    do(kernel, "%async_gather\n%precision\nsys.setrecursionlimit(limit)")
    do(kernel, "decimal.getcontext().prec = 28")


@pytest.mark.contract(24, 12)
def test_lines_of_what_came_with_an_earlier_job_are_shown(kernel: RemoteKernel) -> None:
    """The class of an object that an earlier job may change is no input of the later one."""
    do(
        kernel,
        "class Account:\n    def __init__(self): self.paid = []\n    def pay(self, value):\n"
        "        self.paid.append(value)\n        if value < 0: raise ValueError(value)\n"
        "account = Account()",
    )
    submit(kernel, "pays", "account.pay(1)")
    submit(kernel, "fails", "account.pay(-1)")
    failed = kernel.execute("%async_gather fails")
    assert failed.error == "ValueError: -1"
    assert "if value < 0: raise ValueError(value)" in shown(failed)


@pytest.mark.contract(19)
def test_jobs_that_warn_are_in_no_conflict(kernel: RemoteKernel) -> None:
    """What Python notes of warnings in a namespace, the shell drops before each cell."""
    do(kernel, "import warnings")
    for number in range(3):
        submit(kernel, f"warning{number}", f"warnings.warn('heard {number}')\nw{number} = 1")
    for number in range(3):
        said = do(kernel, f"%async_gather warning{number}")
        assert f"heard {number}" in said
        assert "left alone" not in said
    assert value(kernel, "[w0, w1, w2]") == [1, 1, 1]


@pytest.mark.contract(7)
def test_a_change_to_a_library_that_cannot_go_along_is_told(kernel: RemoteKernel) -> None:
    """The cell that mentions it is submitted without it, and the user hears of it."""
    do(kernel, "import math, threading\nmath.guard = threading.Lock()")
    said = do(kernel, "%%async_run --name told\nx = hasattr(math, 'guard')")
    assert "math.guard does not go along: TypeError" in said
    do(kernel, "%async_gather told\ndel math.guard")
    assert value(kernel, "x") is False


@pytest.mark.contract(11)
def test_independent_jobs_run_side_by_side(kernel: RemoteKernel) -> None:
    """Two jobs that can only end if both run at once do end."""
    submit(kernel, "left", "open('left', 'w').close()\n" + WAIT.format("right") + "a = 1")
    submit(kernel, "right", "open('right', 'w').close()\n" + WAIT.format("left") + "b = 2")
    do(kernel, "%async_gather left right")
    assert value(kernel, "a + b") == 3


@pytest.mark.contract(11)
def test_importing_what_is_there_makes_nobody_wait(kernel: RemoteKernel) -> None:
    """A module that the notebook has is not pending because a job imports it once more."""
    do(kernel, "import os, time\nfrom os import path")
    submit(kernel, "importer", WAIT.format("go") + "from os import path\na = 1")
    submit(kernel, "user", "b = time.time() > 0, path.exists('go'), os.sep")
    do(kernel, "%async_gather user")  # which the importer, that has not ended, does not hold up
    assert value(kernel, "b") == (True, False, "/")
    assert "importer" not in do(kernel, "time.time()")
    let_go(kernel, "go")
    do(kernel, "%async_gather importer")


@pytest.mark.contract(11)
def test_a_cell_here_is_told_of_a_pending_name(kernel: RemoteKernel) -> None:
    """Reading a stale or missing name here is announced, with the job that makes it."""
    do(kernel, "x = 'old'")
    submit(kernel, "slowmaker", WAIT.format("go") + "x = 'new'; z = 1")
    told = do(kernel, "y = x")
    assert "x" in told
    assert "slowmaker" in told
    told = shown(kernel.execute("z"))
    assert "slowmaker" in told
    assert "slowmaker" not in do(kernel, "unrelated = 1")
    do(kernel, "%config AsyncRun.pending = 'ignore'")
    try:
        assert "slowmaker" not in do(kernel, "y = x")
    finally:
        do(kernel, "%config AsyncRun.pending = 'warn'")
        let_go(kernel, "go")
        do(kernel, "%async_gather slowmaker")


@pytest.mark.contract(11)
def test_a_cell_here_is_told_of_a_file_that_a_job_writes(kernel: RemoteKernel) -> None:
    """While the job has not ended; not of the files that it reads."""
    submit(kernel, "writer", WAIT.format("go") + "open('x.csv', 'w').write('1')")
    told = shown(kernel.execute("open('x.csv')"))
    assert "x.csv is to be written yet: writer" in told
    assert "go is to" not in shown(kernel.execute("open('go')"))
    assert "writer" not in shown(kernel.execute("open('y.csv')"))
    let_go(kernel, "go")
    do(kernel, "%async_wait writer")
    assert "to be written" not in do(kernel, "open('x.csv').close()")
    do(kernel, "%async_gather writer")


@pytest.mark.contract(11)
def test_the_run_that_makes_a_pending_name_is_told(kernel: RemoteKernel) -> None:
    """By the name that gathers it, where the same cell was submitted again since."""
    submit(kernel, "twice", WAIT.format("go") + "x = 'first'")
    submit(kernel, "twice", "y = 1")
    assert "twice@1 makes it. %async_gather twice@1 brings it." in shown(kernel.execute("x"))
    let_go(kernel, "go")
    do(kernel, "%async_gather twice@1 twice")
    assert value(kernel, "x") == "first"


@pytest.mark.contract(1, 11, 19)
@pytest.mark.parametrize("here", ["x = 100", "x = 1", "x = 2\nx = 1"])
def test_a_name_that_was_bound_here_since_is_nobody_elses(kernel: RemoteKernel, here: str) -> None:
    """A later cell reads it as it is here and waits for nobody; be it what it was before, too."""
    do(kernel, "x = 1")
    submit(kernel, "rebinds", WAIT.format("go") + "x = 5")
    do(kernel, here)
    assert "rebinds" not in do(kernel, "expected = x + 1")
    submit(kernel, "later", "y = x + 1")
    do(kernel, "%async_gather later")
    assert value(kernel, "y == expected") is True
    let_go(kernel, "go")
    assert "x was rebound here since" in do(kernel, "%async_gather rebinds")
    assert value(kernel, "x + 1 == expected") is True


@pytest.mark.contract(11)
def test_a_name_that_was_deleted_here_since_is_not_there_for_later_cells(
    kernel: RemoteKernel,
) -> None:
    """As it would not be if both had run here."""
    do(kernel, "import numpy as np\nlarge = np.ones(1000)")
    submit(kernel, "makes-again", WAIT.format("go") + "large = 5")
    do(kernel, "del large")
    submit(kernel, "asks", "there = 'large' in globals()")
    do(kernel, "%async_gather asks")
    assert value(kernel, "there") is False
    let_go(kernel, "go")
    assert "large was deleted here since" in do(kernel, "%async_gather makes-again")
    assert value(kernel, "'large' in globals()") is False


@pytest.mark.contract(11)
def test_a_name_that_a_later_job_has_brought_is_that_jobs(kernel: RemoteKernel) -> None:
    """And not an earlier one's that has not ended."""
    submit(kernel, "same", WAIT.format("go") + "w = 5")
    submit(kernel, "same", "w = 6")
    do(kernel, "%async_gather same")
    submit(kernel, "after", "v = w + 1")
    do(kernel, "%async_gather after")
    assert value(kernel, "(w, v)") == (6, 7)
    let_go(kernel, "go")
    do(kernel, "%async_gather same@1")
    assert value(kernel, "w") == 6


@pytest.mark.contract(11)
def test_a_cell_that_submits_does_not_count_what_it_bound_before(kernel: RemoteKernel) -> None:
    """As a loop over submissions, or a script: the job comes after."""
    code = "q = 1\nget_ipython().run_cell_magic('async_run', '--name inner', 'q = 2'); None"
    do(kernel, code)
    do(kernel, "%async_gather inner")
    assert value(kernel, "q") == 2


@pytest.mark.contract(11)
def test_a_cell_here_may_wait_for_a_pending_name(kernel: RemoteKernel) -> None:
    """With ``pending = "wait"`` a cell that reads a pending name gathers it first."""
    do(kernel, "x = 'old'")
    do(kernel, "%config AsyncRun.pending = 'wait'")
    try:
        submit(kernel, "waited", "x = 'new'")
        assert "new" in do(kernel, "print(x)")
    finally:
        do(kernel, "%config AsyncRun.pending = 'warn'")


@pytest.mark.contract(11)
def test_a_cell_here_that_reads_what_a_job_has_changed_is_told(kernel: RemoteKernel) -> None:
    """By what the job did, not by what it may have done; what is only called is not meant."""
    do(
        kernel,
        "import functools; rows = [1]; table = {'a': rows}; seen = [2]; own = [3]\n"
        "@functools.cache\ndef double(n): return 2 * n",
    )
    submit(kernel, "grows", "rows.append(double(2)); own.append(1); print(seen)")
    do(kernel, "%async_wait grows")
    do(kernel, "own = [3]")
    assert "rows is as it was here: grows has changed it." in do(kernel, "print(rows)")
    assert " is as it was here" not in do(kernel, "print(seen, own, double(3))\nrows = [1]")
    do(kernel, "%async_gather grows")
    assert " is as it was here" not in do(kernel, "print(rows, own)")


@pytest.mark.contract(11)
def test_a_cell_here_may_wait_for_a_change(kernel: RemoteKernel) -> None:
    """With ``pending = "wait"`` a cell gathers jobs that may change what it reads, in order."""
    do(kernel, "rows = []; other = []")
    do(kernel, "%config AsyncRun.pending = 'wait'")
    try:
        submit(kernel, "apart", WAIT.format("go") + "other.append(1)")
        submit(kernel, "one", "rows.append(1)")
        submit(kernel, "two", "rows.append(2)")
        assert "[1, 2]" in do(kernel, "print(rows)")
        submit(kernel, "makes", "made = []")
        submit(kernel, "fills", "made.append(1)")
        assert "[1]" in do(kernel, "print(made)")
        submit(kernel, "short-lived", "gone = 1")
        do(kernel, "del gone")
        assert value(kernel, "'gone' in globals()") is False
    finally:
        do(kernel, "%config AsyncRun.pending = 'warn'")
    let_go(kernel, "go")
    do(kernel, "%async_gather apart")
    assert value(kernel, "other") == [1]


@pytest.mark.contract(12)
def test_changes_in_place_keep_their_order(kernel: RemoteKernel) -> None:
    """A job that may change what an earlier one changes runs after it."""
    do(kernel, "rows = []; same = rows; table = {'rows': rows}")
    submit(kernel, "first", WAIT.format("go") + "rows.append(1)")
    submit(kernel, "second", "rows.append(2)")
    submit(kernel, "third", "table['rows'].append(3)")
    let_go(kernel, "go")
    do(kernel, "%async_gather first second third")
    assert value(kernel, "rows, same is rows, table['rows'] is rows") == ([1, 2, 3], True, True)


@pytest.mark.contract(12)
def test_after_adds_an_order(kernel: RemoteKernel) -> None:
    """`--after` makes a job wait for one that it shares no name with."""
    submit(kernel, "writer", WAIT.format("go") + "open('made', 'w').close()")
    submit(kernel, "checker", "import os; there = os.path.exists('made')", "--after writer")
    let_go(kernel, "go")
    do(kernel, "%async_gather checker writer")
    assert value(kernel, "there") is True


@pytest.mark.contract(12, 13)
def test_independent_drops_the_order(kernel: RemoteKernel) -> None:
    """An independent job sees the value as it is here, and not what the other did to it."""
    do(kernel, "rows = ['here']")
    submit(kernel, "one", WAIT.format("go") + "rows.append('one')")
    submit(kernel, "other", "rows.append('other'); seen = list(rows)", "--independent --only seen")
    do(kernel, "%async_gather other")
    let_go(kernel, "go")
    do(kernel, "%async_gather one")
    assert value(kernel, "seen, rows") == (["here", "other"], ["here", "one"])


@pytest.mark.contract(11, 12)
def test_a_job_whose_maker_failed_does_not_run(kernel: RemoteKernel) -> None:
    """It is cancelled, and says whose failure that is."""
    submit(kernel, "broken", "base = 1 / 0")
    submit(kernel, "built", "top = base + 1")
    kernel.execute("%async_gather broken")
    told = shown(kernel.execute("%async_gather built"))
    assert "broken" in told
    assert value(kernel, "'top' in globals()") is False


@pytest.mark.contract(13, 2)
def test_looking_at_a_result_leaves_classes_as_they_are(kernel: RemoteKernel) -> None:
    """Those of this kernel: neither the job's changes come, nor the values that went."""
    do(kernel, "class Counter:\n    seen = []\n    kind = 'first'")
    submit(kernel, "counts", "Counter.seen.append('cell'); Counter.kind = 'theirs'; y = Counter()")
    do(kernel, "counts = _")
    do(kernel, "%async_wait counts")
    do(kernel, "Counter.seen.append('here'); Counter.kind = 'second'")
    assert value(kernel, "type(counts['y']) is Counter") is True
    assert value(kernel, "Counter.seen, Counter.kind") == (["here"], "second")


@pytest.mark.contract(2)
def test_what_cells_have_shown_goes_along_but_for_jobs(kernel: RemoteKernel) -> None:
    """Each submission shows a job, its notebook's own: ``Out`` can be read all the same."""
    submit(kernel, "shows", "a = 1")
    shown_at = value(kernel, "min(n for n, shown in Out.items() if type(shown).__name__ == 'Job')")
    submit(kernel, "reads", f"numbers = list(Out); job = Out.get({shown_at}, 'none')")
    do(kernel, "%async_gather reads")
    assert value(kernel, f"{shown_at} in numbers, job") == (False, "none")
    assert value(kernel, f"type(Out[{shown_at}]).__name__") == "Job"
    submit(kernel, "misses", f"Out[{shown_at}]")
    told = shown(kernel.execute("%async_gather misses"))
    assert f"'Out[{shown_at}]' of the notebook is not in this cell" in told


@pytest.mark.contract(13)
def test_a_result_is_not_changed_by_who_reads_it(kernel: RemoteKernel) -> None:
    """A later job's changes reach neither the earlier job's result nor a third job."""
    do(kernel, "import numpy as np")
    submit(kernel, "base", "big = np.zeros(100_000); small = [0]")
    submit(kernel, "spoiler", "big[:] = 7; small.append(7)", "--only nothing")
    do(kernel, "%async_wait spoiler")
    do(kernel, "%async_gather base")
    assert value(kernel, "float(big.sum()), small") == (0.0, [0])


@pytest.mark.contract(7)
def test_what_is_made_side_by_side_has_ids_of_its_own(kernel: RemoteKernel) -> None:
    """A library counts what it makes; two jobs that know nothing of one another count apart."""
    do(kernel, "from bokeh.models import Range1d\nfrom sympy import Dummy")
    for name in ("one", "two"):
        submit(kernel, name, f"{name} = Range1d(), Dummy('x')")
    do(kernel, "%async_gather two one")
    submit(kernel, "three", "three = Range1d(), Dummy('x')")
    do(kernel, "%async_gather three\nhere = Range1d(), Dummy('x')")
    assert value(kernel, "len({made.id for made, _ in (one, two, three, here)})") == 4
    assert value(kernel, "len({dummy for _, dummy in (one, two, three, here)})") == 4
