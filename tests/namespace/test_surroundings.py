"""What surrounds a cell is read, given to another process, and what changed comes back."""

# ruff: noqa: E501 - a case is a line of its table

from __future__ import annotations

import importlib
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dask_async_run import surroundings
from dask_async_run.namespace import parts
from dask_async_run.surroundings import patches, process
from notebook import Notebook, in_child


@dataclass(frozen=True)
class Change:
    """A change in the cell process, and how to see it."""

    saver: str
    code: str
    seen: str


CHANGES = [
    Change("folder", "import os; os.chdir('/')", "__import__('os').getcwd()"),
    Change("path", "import sys; sys.path.append('/tmp')", "__import__('sys').path"),
    Change("environment", "import os; os.environ['DAR_T'] = '1'", "__import__('os').environ.get('DAR_T')"),
    Change("environment", "import os; os.environ.pop('HOME', None)", "__import__('os').environ.get('HOME')"),
    Change("random", "import random; random.seed(7)", "__import__('random').getstate()"),
    Change("numpy.random", "import numpy; numpy.random.seed(7)", "__import__('numpy').random.get_state()[1].tolist()"),
    Change("numpy.printoptions", "import numpy; numpy.set_printoptions(precision=3)", "__import__('numpy').get_printoptions()['precision']"),
    Change("pandas", "import pandas; pandas.set_option('display.max_rows', 7)", "__import__('pandas').get_option('display.max_rows')"),
    Change("warnings", "import warnings; warnings.simplefilter('ignore', UserWarning)", "__import__('warnings').filters[0]"),
    Change("csv", "import csv; csv.field_size_limit(99)", "__import__('csv').field_size_limit()"),
    Change("gc", "import gc; gc.disable()", "__import__('gc').isenabled()"),
    Change("digits of integers", "import sys; sys.set_int_max_str_digits(5000)", "__import__('sys').get_int_max_str_digits()"),
    Change("sockets", "import socket; socket.setdefaulttimeout(5)", "__import__('socket').getdefaulttimeout()"),
    Change("mpmath", "import mpmath; mpmath.mp.dps = 33", "__import__('mpmath').mp.dps"),
    Change("dask", "import dask.config; dask.config.set({'a.b': 3})", "__import__('dask').config.get('a.b', None)"),
    Change("decimal", "import decimal; decimal.getcontext().prec = 5", "__import__('decimal').getcontext().prec"),
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.code)
def test_a_change_is_noticed_and_can_be_made_elsewhere(change: Change) -> None:
    """`changes` holds the savers that saw one, and `merge` makes another process alike."""
    import numpy  # noqa: F401 - imported before, its import is no change
    import pandas  # noqa: F401

    exec("import decimal, random", {})
    eval(change.seen, {})

    def cell() -> tuple[dict[str, Any], Any]:
        before = surroundings.state(None)
        exec(change.code, {})
        return surroundings.changes(before, None), eval(change.seen, {})

    changed, expected = in_child(cell)
    assert set(changed) == {change.saver}

    def kernel() -> Any:
        surroundings.merge(changed, None)
        return eval(change.seen, {})

    assert in_child(kernel) == expected
    assert eval(change.seen, {}) != expected


def test_nothing_changed_means_nothing_comes_back() -> None:
    """Reading twice without a change in between gives no changes."""
    assert surroundings.changes(surroundings.state(None), None) == {}


def test_only_the_notebooks_own_environment_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that were there before the package was imported stay here."""
    first = dict(os.environ)
    monkeypatch.setenv("DAR_NEW", "1")
    monkeypatch.delenv("PATH")
    changes = process.environment_changes(first)
    assert {"DAR_NEW": "1", "PATH": None}.items() <= changes.items()
    assert changes.keys() == {"DAR_NEW", "PATH", "MPLBACKEND"}


def test_a_folder_that_is_not_there_is_not_entered(tmp_path: Path) -> None:
    """Another host may lack the kernel's folder: the cell stays where it is."""
    before = Path.cwd()
    surroundings.write({"folder": str(tmp_path / "missing")}, None)
    assert Path.cwd() == before


def test_own_paths_of_the_other_process_stay(tmp_path: Path) -> None:
    """The kernel's folders come first, there or not; what the process needs itself is kept."""

    missing = str(tmp_path / "missing")

    def child() -> list[str]:
        sys.path[:] = ["/own"]
        surroundings.write({"path": [str(tmp_path), missing]}, None)
        return list(sys.path)

    assert in_child(child) == [str(tmp_path), missing, "/own"]


def test_a_library_that_is_not_imported_here_is_not_imported_for_its_options() -> None:
    """Gathering brings pandas' options to kernels that have pandas, and to no other."""

    def child() -> bool:
        sys.modules.pop("pandas", None)
        surroundings.merge({"pandas": {"display.max_rows": 7}}, None)
        return "pandas" in sys.modules

    assert in_child(child) is False


def test_paths_that_came_meanwhile_stay(tmp_path: Path) -> None:
    """What the cell did to `sys.path` is done here; what was done here meanwhile stands."""

    def cell() -> dict[str, Any]:
        sys.path[:] = ["/a", "/b"]
        before = surroundings.state(None)
        sys.path[:] = ["/front", "/b", "/back"]
        return surroundings.changes(before, None)

    changed = in_child(cell)

    def kernel() -> list[str]:
        sys.path[:] = ["/a", "/b", "/mine"]
        surroundings.merge(changed, None)
        return list(sys.path)

    assert in_child(kernel) == ["/front", "/b", "/mine", "/back"]


def test_forked_processes_differ_in_their_random_states() -> None:
    """A cell without a kernel's state draws other numbers than its siblings."""

    def draw() -> float:
        import random

        surroundings.freshen()
        return random.random()

    assert in_child(draw) != in_child(draw)


def test_functions_that_go_along_bring_their_source(notebook: Notebook) -> None:
    """`sources` answers the text of interactive cells, not of files."""
    import linecache

    text = "def f(): pass\n"
    linecache.cache["<dar-cell>"] = (len(text), None, [text], "<dar-cell>")
    try:
        assert surroundings.sources({"<dar-cell>", __file__}, None) == {"<dar-cell>": (None, text)}
    finally:
        del linecache.cache["<dar-cell>"]


def test_filters_for_a_module_that_is_not_imported_do_not_import_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They filter its warnings once it is, and come back as they were."""
    (tmp_path / "noisy.py").write_text("class Noise(Warning): pass\nclass Din(Noise): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with warnings.catch_warnings():
        noisy = importlib.import_module("noisy")
        monkeypatch.setitem(sys.modules, "noisy", noisy)
        warnings.simplefilter("error", noisy.Noise)
        read = surroundings.read(None, early=False)["warnings"]

    def cell() -> list[Any]:
        del sys.modules["noisy"]
        surroundings.write({"warnings": read}, None)
        found: list[Any] = ["noisy" in sys.modules]
        noisy = importlib.import_module("noisy")
        for category in (noisy.Noise, noisy.Din):
            try:
                warnings.warn("text", category, stacklevel=1)
                found.append("passed")
            except category as raised:
                found.append(type(raised).__name__)
        return [*found, surroundings.read(None, early=False)["warnings"] == read]

    assert in_child(cell) == [False, "Noise", "Din", True]


@pytest.mark.contract(7)
@pytest.mark.parametrize(
    ("source", "paths"),
    [
        ("a.b = 1", {("a", "b")}),
        ("a.b.c += 1; x = a.d", {("a", "b", "c")}),
        ("a.b, (c, d.e) = 1, (2, 3)", {("a", "b"), ("d", "e")}),
        ("del a.b", {("a", "b")}),
        ("setattr(a.b, 'c', 1); setattr(a, name, 1)", {("a", "b", "c")}),
        ("def f():\n    a.b = 1", {("a", "b")}),
        ("f(x=a.b); a.b == 1; a[0].b = 1; f().b = 1; b = 1", set()),
        ("a.b = (", set()),
    ],
)
def test_dotted_names_that_code_assigns_to(source: str, paths: set[tuple[str, ...]]) -> None:
    """Every form of assignment to an attribute counts, of what is a plain dotted name."""
    assert patches.assigned(source) == paths


@pytest.mark.contract(7)
@pytest.mark.parametrize(
    ("source", "paths"),
    [
        ("@patch\ndef f(self: a.B, x: c): pass", {("a", "B")}),
        ("@patch\ndef f(self: (A, a.B)): pass", {("A",), ("a", "B")}),
        ("@add_to(A)\nasync def f(self): pass", {("A",)}),
        ("for n in names: setattr(A, n, 1)", {("A",)}),
        ("def f(self: A): pass\nf(B)", set()),
        ("@patch\ndef f(self, x: A): pass", set()),
    ],
)
def test_names_of_what_may_get_methods(source: str, paths: set[tuple[str, ...]]) -> None:
    """A decorator may put a function on a class that it is given, or that is its first argument's."""
    assert patches.extended(source) == paths


def test_packages_are_those_that_are_loaded_now(tmp_path: Path) -> None:
    """Those that were noted before, without what is gone since, and what came since."""
    for name in ("early", "gone", "late"):
        (tmp_path / f"{name}.py").write_text(f"__version__ = '{name}-1'")

    def cell() -> list[str]:
        sys.path.insert(0, str(tmp_path))
        loaded = [importlib.import_module(name) for name in ("gone", "early")]
        surroundings.note()
        loaded[1].__version__ = "not looked at again"  # type: ignore[attr-defined]
        del sys.modules["gone"]
        importlib.import_module("late")
        packages = surroundings.environment()["packages"]
        assert list(packages) == sorted(packages)
        return [packages.get(name, "") for name in ("early", "gone", "late", "psutil")]

    import psutil

    assert in_child(cell) == ["early-1", "", "late-1", psutil.__version__]


def test_packages_are_looked_for_anew_where_much_is_gone() -> None:
    """As a notebook does that has its modules loaded again."""

    def cell() -> bool:
        before = surroundings.environment()
        surroundings.note()
        names = [name for name in sys.modules if name.startswith("numpy.")]
        for name in names:
            sys.modules[name] = sys.modules.pop(name)
        return bool(surroundings.environment() == before and len(names) > 20)

    importlib.import_module("numpy")
    assert in_child(cell)


def test_what_is_refused_here_keeps_the_rest_from_nobody() -> None:
    """A cell may set what this process is too deep for: its job can still be gathered."""

    def gathered() -> tuple[list[str], list[str]]:
        found = {"recursion limit": 1, "arguments": ["it.py"]}
        refused = surroundings.merge(found, None)
        return list(refused), sys.argv

    assert in_child(gathered) == (["recursion limit"], ["it.py"])


def test_a_function_is_found_that_its_name_does_not_lead_to_any_more() -> None:
    """Whatever took its place does not say what it calls."""

    def found() -> bool:
        import builtins

        own = builtins.print
        builtins.print = eval("lambda *args: None", {"__name__": "__main__"})
        return parts.find_own("builtins", "print") is own

    assert in_child(found)
