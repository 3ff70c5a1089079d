"""Lines 9, 14, 18, 19 and 21: plans, cancels, merges that fail, conflicts, numbered results."""

from __future__ import annotations

import re

import pytest

from .driving import WAIT, do, gather_elsewhere, let_go, shown, submit, until_printed, value
from .kernels import RemoteKernel

pytestmark = pytest.mark.timeout(300)


@pytest.mark.contract(14)
def test_what_was_done_before_a_cancel_stands(kernel: RemoteKernel) -> None:
    """Names bound and objects changed before a cancel come back."""
    do(kernel, "rows = [0]")
    submit(kernel, "endless", "x = 5; rows.append(1); print('begun')\n" + WAIT.format("never"))
    until_printed(kernel, "begun")
    do(kernel, "%async_cancel endless")
    kernel.execute("%async_gather endless")
    assert value(kernel, "x, rows") == (5, [0, 1])


@pytest.mark.contract(14)
def test_what_was_done_before_a_timeout_stands(kernel: RemoteKernel) -> None:
    """Names bound before a timeout come back."""
    submit(kernel, "late", "x = 5\n" + WAIT.format("never"), "--timeout 3s")
    told = shown(kernel.execute("%async_gather late"))
    assert "timed" in told.lower()
    assert value(kernel, "x") == 5


FRAGILE = """
import os
class Fragile:
    kernel = {pid}
    def __init__(self): self.x = 1
    def __getstate__(self): return {{'x': 1}}
    def __setstate__(self, state):
        if os.getpid() == self.kernel and not os.path.exists('mended'):
            raise RuntimeError('too fragile')
        self.__dict__.update(state)
"""


@pytest.mark.contract(18)
def test_a_merge_that_fails_leaves_everything_as_it_was(kernel: RemoteKernel) -> None:
    """A value that can't be unpickled here: nothing is merged or lost, the cause is named."""
    pid = value(kernel, "__import__('os').getpid()")
    do(kernel, FRAGILE.format(pid=pid) + "rows = [1]; y = 'old'")
    submit(kernel, "fragile", "f = Fragile(); rows.append(2); y = 'new'")
    before = kernel.look()
    failed = kernel.execute("%async_gather fragile")
    assert not failed.ok
    assert "too fragile" in shown(failed)
    after = kernel.look()
    assert {k: v for k, v in after.items() if k in ("rows", "y", "f")} == {
        k: v for k, v in before.items() if k in ("rows", "y", "f")
    }
    let_go(kernel, "mended")
    do(kernel, "%async_gather fragile")
    assert value(kernel, "rows, y, f.x") == ([1, 2], "new", 1)


@pytest.mark.contract(18)
def test_what_can_be_loaded_is_brought_by_name(kernel: RemoteKernel) -> None:
    """The name of a value that can't be loaded is told; `--only` and `job[...]` give the others."""
    pid = value(kernel, "__import__('os').getpid()")
    do(kernel, FRAGILE.format(pid=pid) + "rows = [1]; y = 'old'")
    cell = "first = [3]; f = Fragile(); rows.append(2); y = 'new'; holder = [f]; after = [first]"
    submit(kernel, "fragile", cell)
    told = shown(kernel.execute("%async_gather fragile"))
    assert "f cannot be loaded (RuntimeError: too fragile)" in told
    assert "--only first,y,after brings" in told
    do(kernel, "%async_gather fragile --only first,y,after")
    assert value(kernel, "first, y, after, rows") == ([3], "new", [[3]], [1])
    assert value(kernel, "after[0] is first, 'f' in globals(), 'holder' in globals()") == (
        True,
        False,
        False,
    )
    do(kernel, "import dask_async_run; job = dask_async_run.connect().job('fragile')")
    assert value(kernel, "job['rows'], job['after']") == ([1, 2], [[3]])
    assert "holder cannot be loaded" in shown(kernel.execute("job['holder']"))


@pytest.mark.contract(18)
def test_a_merge_that_fails_does_not_keep_others_from_theirs(kernel: RemoteKernel) -> None:
    """Those that build on it wait, the rest is merged; the failure is told at the end."""
    pid = value(kernel, "__import__('os').getpid()")
    do(kernel, FRAGILE.format(pid=pid))
    submit(kernel, "fragile", "f = Fragile()")
    submit(kernel, "above", "g = f.x")
    submit(kernel, "beside", "y = 'new'")
    failed = kernel.execute("%async_gather")
    assert not failed.ok
    assert "too fragile" in shown(failed)
    assert value(kernel, "y, 'g' in globals()") == ("new", False)
    let_go(kernel, "mended")
    do(kernel, "%async_gather")
    assert value(kernel, "g, f.x") == (1, 1)


@pytest.mark.contract(19)
def test_a_conflict_is_listed_and_the_rest_merged(kernel: RemoteKernel) -> None:
    """The clean names arrive; the job keeps the other value."""
    do(kernel, "x = 1; y = 1")
    submit(kernel, "both", "x = 'theirs'; y = 'theirs'")
    do(kernel, "job = _; x = 'mine'")
    told = do(kernel, "%async_gather both")
    assert re.search(r"\bx\b", told)
    assert "--overwrite" in told
    assert value(kernel, "x, y, job['x']") == ("mine", "theirs", "theirs")
    do(kernel, "%async_gather both --overwrite")
    assert value(kernel, "x") == "theirs"


@pytest.mark.contract(19)
def test_gathering_again_is_harmless(kernel: RemoteKernel) -> None:
    """Neither what was done here since nor identity suffers from a second gather."""
    do(kernel, "rows = [1]; same = rows")
    submit(kernel, "twice", "rows.append(2); n = len(rows)")
    do(kernel, "%async_gather twice")
    do(kernel, "rows.append(3); n = 'mine'")
    do(kernel, "%async_gather twice")
    assert value(kernel, "rows, same is rows, n") == ([1, 2, 3], True, "mine")


@pytest.mark.contract(17)
def test_what_a_later_cell_has_deleted_does_not_come_back(kernel: RemoteKernel) -> None:
    """Whichever is gathered first; the later one may be a job, or have been run here."""
    for name in "ij":
        submit(kernel, f"makes-{name}", f"{name} = 5; made_{name} = 1")
    submit(kernel, "loops", "for i in range(3): pass\ndel i")
    do(kernel, "%async_gather loops")
    do(kernel, "for j in range(3): pass\ndel j")
    for name in "ij":
        assert f"{name} was deleted here since" in do(kernel, f"%async_gather makes-{name}")
    assert value(kernel, "made_i, made_j, {'i', 'j'} & {*globals()}") == (1, 1, set())
    submit(kernel, "later", "i = 6")
    assert "deleted" not in do(kernel, "%async_gather later")
    do(kernel, "%async_gather makes-j --overwrite")
    assert value(kernel, "i, j") == (6, 5)


@pytest.mark.contract(14)
def test_what_was_gathered_is_the_notebooks_own(kernel: RemoteKernel) -> None:
    """Deleted here, its memory is free; a second gather tells that it was deleted."""
    do(kernel, "import gc, weakref\nimport numpy as np\nclass Net: pass\nrows = [0]")
    submit(kernel, "made", "net = Net(); net.weights = np.ones(1_000_000); rows.append(1)")
    do(kernel, "%async_gather made\nnet.seen = True")
    do(kernel, "%async_gather made")
    assert value(kernel, "net.seen, rows") == (True, [0, 1])
    do(kernel, "refs = [weakref.ref(net), weakref.ref(net.weights)]; del net; gc.collect()")
    assert value(kernel, "[ref() is None for ref in refs]") == [True, True]
    assert "net" in do(kernel, "%async_gather made")
    assert value(kernel, "'net' in globals()") is False
    do(kernel, "%async_gather made --overwrite")
    assert value(kernel, "float(net.weights.sum()), rows") == (1e6, [0, 1])


@pytest.mark.contract(14, 17)
def test_what_a_chain_brought_is_the_notebooks_own(kernel: RemoteKernel) -> None:
    """Its memory is free once the notebook lets go of it, be it changed by later links."""
    do(kernel, "import gc, weakref\nimport numpy as np\nclass Net: pass")
    submit(kernel, "made", "net = Net(); net.weights = np.ones(1_000_000); rows = [Net()]")
    submit(kernel, "used", "net.weights[0] = 7; total = net.weights.sum(); rows.append(Net())")
    submit(kernel, "next", "last = total + len(rows)")
    do(kernel, "%async_gather")
    assert value(kernel, "(float(net.weights[0]), len(rows), float(last))") == (7.0, 2, 1000008.0)
    do(kernel, "refs = [*map(weakref.ref, (net, net.weights, *rows))]; del net, rows")
    submit(kernel, "another", "n = 1")
    do(kernel, "%async_gather another")
    assert value(kernel, "(gc.collect() >= 0, [ref() is None for ref in refs])")[1] == [True] * 4
    assert "net was deleted here since" in do(kernel, "%async_gather made")
    do(kernel, "%async_gather made used next --overwrite")
    assert value(kernel, "(float(net.weights[0]), len(rows), float(last))") == (7.0, 2, 1000008.0)


@pytest.mark.contract(17, 19)
def test_a_link_is_gathered_again_when_what_it_refers_to_is_gone(kernel: RemoteKernel) -> None:
    """What others changed of it is not to be had alone: this is told, and how to have it."""
    submit(kernel, "first", "items = [1]; kept = [0]")
    submit(kernel, "second", "items.append(2)")
    submit(kernel, "third", "print('third'); both = {'items': items, 'kept': kept}")
    do(kernel, "%async_gather")
    do(kernel, "del items, both")
    submit(kernel, "another", "n = 1")
    do(kernel, "%async_gather another")
    told = do(kernel, "%async_gather third")
    assert "third\n" in told
    assert "all of it was merged before; both cannot be loaded (it has an object of first" in told
    assert value(kernel, "'both' in globals(), kept") == (False, [0])
    failed = kernel.execute("%async_gather third --overwrite").error
    assert "gather first and those together with this one, with --overwrite" in failed
    do(kernel, "%async_gather first second third --overwrite")
    assert value(kernel, "both") == {"items": [1, 2], "kept": [0]}
    assert value(kernel, "both['items'] is items, both['kept'] is kept") == (True, True)
    do(kernel, "%async_rerun third")
    do(kernel, "%async_gather third --overwrite")
    assert value(kernel, "both['items'] is items, items") == (True, [1, 2])


@pytest.mark.contract(12, 19)
def test_another_run_is_gathered_by_itself(kernel: RemoteKernel) -> None:
    """What it brought is no old value that the first one will make anew."""
    do(kernel, "rows = [1]")
    submit(kernel, "twice", "new = 5; rows.append(2)")
    do(kernel, "%async_wait twice\nfirst = _")
    do(kernel, "%async_rerun twice\n%async_gather twice")
    assert do(kernel, "print(new, rows)").split() == ["5", "[1,", "2]"]
    assert "rows was changed in place here since" in do(kernel, "%async_gather twice@1")
    assert value(kernel, "new, rows") == (5, [1, 2])


@pytest.mark.contract(17)
def test_a_chain_that_changes_what_it_made_is_gathered_again(kernel: RemoteKernel) -> None:
    """Its first link's objects have the later ones' changes, once."""
    submit(kernel, "begun", "rows = []; both = {'rows': rows}")
    submit(kernel, "went", "rows.append(1)")
    do(kernel, "%async_gather begun went")
    for _ in range(2):
        do(kernel, "%async_gather begun went --overwrite")
        assert value(kernel, "rows, both['rows'] is rows") == ([1], True)
    do(kernel, "rows.append(5)")
    do(kernel, "%async_gather begun --overwrite")
    do(kernel, "%async_gather went --overwrite")
    assert value(kernel, "rows, both['rows'] is rows") == ([1], True)


@pytest.mark.contract(17, 19)
def test_an_array_of_an_earlier_link_is_as_the_job_had_it(kernel: RemoteKernel) -> None:
    """`--overwrite` undoes what was changed here meanwhile, where the cell wrote and elsewhere."""
    do(kernel, "import numpy as np")
    submit(kernel, "begun", "values = np.zeros(200_000)")
    submit(kernel, "went", "values[3] = 1")
    do(kernel, "%async_gather begun\nvalues[150_000] = 5; same = values")
    do(kernel, "%async_gather went --overwrite")
    assert value(kernel, "float(values.sum()), same is values") == (1.0, True)


@pytest.mark.contract(17, 19)
def test_what_was_gathered_of_a_forgotten_job_is_still_what_others_change(
    kernel: RemoteKernel,
) -> None:
    """Its objects are the notebook's: a later link's change reaches them, now and again."""
    submit(kernel, "base", "items = [1]")
    submit(kernel, "built", "items.append(2); print('built'); last = items")
    do(kernel, "%async_gather base\nsame = items\n%async_wait built")
    gather_elsewhere(kernel, "built")
    do(kernel, "%async_forget base")
    do(kernel, "%async_gather built")
    assert value(kernel, "items, last is items is same") == ([1, 2], True)
    do(kernel, "items.append(3)")
    assert do(kernel, "%async_gather built").split() == ["built"]
    assert value(kernel, "items, last is items") == ([1, 2, 3], True)


@pytest.mark.contract(11, 12)
def test_a_cell_that_builds_on_what_builds_on_a_forgotten_job(kernel: RemoteKernel) -> None:
    """That is told, by name, and it is submitted again once what is left was gathered."""
    submit(kernel, "base", "items = [1]; n = 1")
    submit(kernel, "built", "items.append(2); m = n + 1")
    do(kernel, "%async_gather base\n%async_wait built")
    gather_elsewhere(kernel, "built")
    do(kernel, "%async_forget base")
    refused = kernel.execute("%%async_run --name seeing\nprint(items)").error
    assert "job 'built' is finished: the cell reads what it may have changed, and" in refused
    submit(kernel, "lacking", "last = m + 1")
    failed = kernel.execute("%async_gather built lacking").error
    assert "it has objects of a job that it builds on, and that was forgotten. Gather" in failed
    submit(kernel, "seeing", "seen = list(items), m")
    do(kernel, "%async_gather seeing")
    assert value(kernel, "items, seen") == ([1, 2], ([1, 2], 2))


@pytest.mark.contract(19, 20)
def test_what_is_made_of_a_forgotten_jobs_objects_is_told(kernel: RemoteKernel) -> None:
    """Where they never were: the rest can be had."""
    submit(kernel, "base", "items = [1]")
    submit(kernel, "built", "last = items; n = 2")
    do(kernel, "%async_wait built")
    refused = kernel.execute("%async_forget base").error
    assert "it cannot be forgotten before 'built' is gathered, whose result builds" in refused
    gather_elsewhere(kernel, "built")
    do(kernel, "%async_forget base")
    told = kernel.execute("%async_gather built").error
    assert "last cannot be loaded (it has objects of a job that it builds on, and that was" in told
    assert "forgotten). " in told
    do(kernel, "%async_gather built --only n")
    assert value(kernel, "n, 'last' in globals()") == (2, False)


@pytest.mark.contract(9)
def test_the_plan_shows_what_would_travel(kernel: RemoteKernel) -> None:
    """Names with sizes, and nothing is submitted."""
    do(kernel, "import numpy as np; big = np.zeros(1_000_000); unused = 1\ndef f(): return big")
    told = submit(kernel, "planned", "y = f().sum()", "--plan")
    assert "big" in told
    assert re.search(r"\d(\.\d)? ?Mi?B", told)
    assert "unused" not in told
    assert "there already" not in told
    submit(kernel, "sent", "n = big.size")
    told = submit(kernel, "planned", "y = f().sum()", "--plan")
    assert [line for line in told.splitlines() if "there already" in line] != []
    do(kernel, "big[3] = 1")
    assert "there already" not in submit(kernel, "planned", "y = f().sum()", "--plan")
    failed = kernel.execute("%async_gather planned")
    assert "planned" in failed.error


@pytest.mark.contract(1, 13)
def test_a_file_that_is_mapped_to_be_written_to_is_told_by_name(kernel: RemoteKernel) -> None:
    """It is no snapshot: the plan says so, and submitting does."""
    make = "np.memmap('mapped.dat', dtype='f8', mode='w+', shape=(10,))"
    do(kernel, f"import numpy as np; held = {{'m': {make}}}; r = np.memmap('mapped.dat', mode='r')")
    told = submit(kernel, "planned", "held['m'][0] = 2; r[0]", "--plan")
    shared = [line.split()[0] for line in told.splitlines() if "shared: the file" in line]
    assert shared[0] == "held"  # as text; as HTML then
    assert "r" not in shared
    told = submit(kernel, "mapping", "held['m'][0] = 2; r[0]")
    assert "held goes along as the file" in told
    assert "r goes along" not in told
    do(kernel, "%async_gather mapping")
    assert value(kernel, "float(held['m'][0])") == 2.0


@pytest.mark.contract(3, 17)
def test_a_frame_and_an_array_on_one_memory_stay_on_it(kernel: RemoteKernel) -> None:
    """In the cell, here, and where a queued cell gets them from another one's result."""
    do(
        kernel,
        "import numpy as np, pandas as pd\nnumbers = np.zeros((2, 2))\n"
        "frame = pd.DataFrame(numbers, columns=list('ab'), copy=False)",
    )
    assert "memory" not in submit(kernel, "sharing", "numbers[0] = 7; n = float(frame.sum().sum())")
    do(kernel, "%async_gather sharing")
    assert value(kernel, "(n, float(frame.iloc[0, 0]))") == (14.0, 7.0)
    do(kernel, "table = pd.DataFrame({'a': [1.0, 2.0]}); shown = table['a'].to_numpy()")
    submit(kernel, "showing", "table.loc[0, 'a'] = 5.0; n = float(shown.sum())")
    submit(kernel, "more", "table.loc[1, 'a'] = 6.0; m = float(shown.sum())")
    submit(kernel, "making", "own = pd.Series([1.0, 2.0]); part = own.to_numpy()")
    submit(kernel, "using", "own.iloc[0] = 9.0; k = float(part.sum())")
    do(kernel, "%async_gather showing more making using")
    assert value(kernel, "(n, m, k, float(shown.sum()), float(part.sum()))") == (7, 11, 11, 11, 11)
    do(kernel, "own.iloc[1] = 5.0; table.loc[0, 'a'] = 1.0")
    assert value(kernel, "(float(shown.sum()), float(part.sum()))") == (7.0, 14.0)


@pytest.mark.contract(3)
def test_what_cannot_be_as_it_is_here_is_told_before_the_cell_runs(kernel: RemoteKernel) -> None:
    """A key that is not found any more; what a cursor tells of what it did is as it is here."""
    do(
        kernel,
        "class P:\n    def __hash__(self): return hash(self.x)\n"
        "p = P(); p.x = 1; places = {p: 5}; p.x = 2; numbers = {1: 2}\n"
        "import sqlite3; con = sqlite3.connect(':memory:')\n"
        "con.execute('create table t (a)'); cur = con.execute('insert into t values (1)')",
    )
    told = submit(kernel, "keys", "n = len(places) + len(numbers)")
    assert "places has a P as a key" in told
    assert "numbers has" not in told
    told = submit(kernel, "cursor", "done = cur.lastrowid, cur.rowcount, con.total_changes")
    assert "does not go along" not in told
    do(kernel, "%async_gather keys cursor")
    do(kernel, "assert done == (1, 1, 1)")
    do(kernel, "con.close()")


@pytest.mark.contract(9)
def test_only_the_notebooks_own_changes_of_the_environment_go(kernel: RemoteKernel) -> None:
    """What the kernel's process was started with is not part of what is sent."""
    do(kernel, "import os; os.environ['CONTRACT_OWN'] = 'mine'")
    told = submit(kernel, "env", "import os; own = os.environ['CONTRACT_OWN']", "--plan")
    assert "JPY_SESSION_NAME" not in told
    submit(kernel, "env", "import os; own = os.environ['CONTRACT_OWN']")
    do(kernel, "%async_gather env")
    assert value(kernel, "own") == "mine"


@pytest.mark.contract(21)
def test_results_are_numbered_as_the_cell_was(kernel: RemoteKernel) -> None:
    """``Out[n]`` and ``_n`` belong to the cell that was submitted; ``In[n]`` holds it."""
    sent = kernel.execute("%%async_run --name numbered\nvalue = [1]\nvalue")
    n = sent.reply["execution_count"]
    do(kernel, "%async_gather numbered")
    assert value(kernel, f"_ is value, Out[{n}] is value, _{n} is value") == (True, True, True)
    assert value(kernel, f"'value = [1]' in In[{n}]") is True
