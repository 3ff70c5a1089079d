"""Modules beside the notebook, and other objects that their processes keep something of."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from notebook import Notebook

MODULE = """
import threading
_MISSING = object()
_lock = threading.Lock()
count = 0
log = []
class Tool:
    made = 0
    def __init__(self): Tool.made += 1
def add(value, default=_MISSING):
    global count
    with _lock:
        count += 1000
        log.append(value)
        return default is _MISSING
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module that lies beside the notebook."""
    (tmp_path / "contract_beside.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "contract_beside"
    sys.modules.pop("contract_beside", None)


def test_what_a_module_keeps_goes_along_and_comes_back(notebook: Notebook, module: str) -> None:
    """Whether the cell reads the module, or a function of it, or imports it."""
    notebook.here(f"import {module} as m; from {module} import add; m.add(1); log = m.log")
    notebook.there("m.add(2)")
    notebook.there("add(3); m2 = m")
    notebook.there(f"import {module}; {module}.Tool(); alone = {module}.add(4)")
    assert notebook.here("(m.count, m.log, m.log is log, m.Tool.made, alone)") == (
        4000,
        [1, 2, 3, 4],
        True,
        1,
        True,
    )


def test_a_module_changed_here_too_is_a_conflict(notebook: Notebook, module: str) -> None:
    """It is told by its name, also where the notebook has none for it."""
    notebook.here(f"from {module} import add")
    job = notebook.submit("add(1)")
    notebook.here("add(2)")
    plan = job.gather()
    assert plan.conflicts[module] == "was changed in place here since"
    assert notebook.here(f"__import__('sys').modules['{module}'].count") == 1000


def test_looking_at_a_result_leaves_modules_alone(notebook: Notebook, module: str) -> None:
    """Copies of what went in, or came back, are loaded without a change of what is here."""
    notebook.here(f"import {module} as m; x = [1]")
    job = notebook.submit("m.add(1); x.append(2)")
    notebook.here("m.log = ['mine']; m.count = 7")
    job.gather()
    assert notebook.here("(m.log, m.count, x)") == (["mine"], 7, [1, 2])


def test_a_finaliser_stays_with_its_object(notebook: Notebook) -> None:
    """One that came back is called when its object goes here; copies have spent ones."""
    notebook.here("import weakref\ngone = []\nclass Thing: pass")
    notebook.there("thing = Thing(); end = weakref.finalize(thing, gone.append, 1)")
    assert notebook.here("(end.alive, end.peek()[0] is thing)") == (True, True)
    notebook.there("also = [thing, end]")
    assert notebook.here("(also[0] is thing, also[1] is end, gone)") == (True, True, [])
    assert notebook.here("(end(), end.alive, gone)") == (None, False, [1])
    notebook.there("alive = end.alive")
    assert notebook.here("alive") is False


def test_a_weak_reference_to_nothing_travels(notebook: Notebook) -> None:
    """It refers to nothing there and here."""
    notebook.here("import weakref\nclass Thing: pass\nold = weakref.ref(Thing())")
    notebook.there("seen = old(); new = weakref.ref(Thing())")
    assert notebook.here("(old(), seen, new())") == (None, None, None)


def test_instances_go_on_sharing_their_attributes(notebook: Notebook) -> None:
    """Also one that the cell makes, and with who holds the dict itself."""
    notebook.here(
        "class Borg:\n    shared = {}\n    def __init__(self): self.__dict__ = self.shared\n"
        "a = Borg(); b = Borg(); a.x = 1; held = vars(a)"
    )
    notebook.there("b.y = 2; c = Borg(); c.z = a.y; held['w'] = c.x")
    notebook.here("c.v = 5")
    assert notebook.here("(a.w, b.z, a.v, held is vars(c) is Borg.shared)") == (1, 2, 5, True)


def test_what_a_cell_deletes_goes_here_when_it_is_gathered(notebook: Notebook) -> None:
    """And it is told that the cell could not see it go."""
    notebook.here("import weakref\nclass Thing: pass\nthing = Thing(); seen = weakref.ref(thing)")
    job = notebook.submit("del thing; there = seen() is not None")
    loaded = job.load()
    assert loaded.late_ends == ["what thing was before"]
    assert loaded.bound["there"] is True


def test_a_base_that_pickles_its_own_way_has_its_say(notebook: Notebook) -> None:
    """Also where somebody holds the ``__dict__``: its state is more than that."""
    notebook.here(
        "import random\nclass Dice(random.Random): pass\ndice = Dice(3); held = vars(dice)"
    )
    notebook.there("first = dice.random(); made = Dice(4); kept = vars(made)")
    assert notebook.here("first == random.Random(3).random()")
    assert notebook.here("made.random() == random.Random(4).random()")


def test_a_formulas_design_travels_both_ways(notebook: Notebook) -> None:
    """What is fitted to a formula holds it; it looks names up in the notebook."""
    notebook.here(
        "import patsy, pandas as pd\nframe = pd.DataFrame({'x': [1.0, 2.0]}); k = 2\n"
        "def power(v): return v ** k\ninfo = patsy.dmatrix('power(x)', frame).design_info"
    )
    notebook.there(
        "there = patsy.build_design_matrices([info], frame)[0].tolist()\n"
        "made = patsy.dmatrix('power(x) - 1', frame).design_info"
    )
    assert notebook.here("there") == [[1.0, 1.0], [1.0, 4.0]]
    assert notebook.here("patsy.build_design_matrices([made], frame)[0].tolist()") == [[1], [4]]
