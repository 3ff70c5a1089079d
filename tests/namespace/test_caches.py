"""Caches of notebook functions travel with what is in them."""

# ruff: noqa: E501 - a case is a line of its table

from __future__ import annotations

import pytest

from notebook import Notebook

FIB = "from functools import lru_cache, cache\n@{}\ndef fib(n): return n if n < 2 else fib(n-1) + fib(n-2)\n"


@pytest.mark.parametrize("maker", ["cache", "lru_cache", "lru_cache(maxsize=5)", "lru_cache(None)"])
def test_a_cache_goes_on_there_and_here(notebook: Notebook, maker: str) -> None:
    """Entries, hits and misses are what they would be, had the cell run here."""
    setup = FIB.format(maker) + "fib(10)"
    notebook.here(setup)
    mine = notebook["fib"]
    notebook.there("fib(12); fib(11)")
    plain: dict[str, object] = {"__name__": "__main__"}
    exec(setup + "\nfib(12); fib(11)", plain)
    assert notebook["fib"] is mine
    assert mine.cache_info() == plain["fib"].cache_info()  # type: ignore[attr-defined]
    assert notebook.here("fib(12)") == 144


def test_nothing_of_the_users_runs_to_fill_a_cache(notebook: Notebook) -> None:
    """Recorded results are put back, functions with effects are not called again."""
    notebook.here(
        "import functools\ncalls = []\n@functools.cache\ndef f(x):\n  calls.append(x); return [x]\nf(1)"
    )
    one = notebook.here("f(1)")
    notebook.there("f(2); f(1)")
    assert notebook["calls"] == [1, 2]
    assert notebook.here("f(1)") is one
    assert notebook.here("f(2)") == [2]
    assert notebook["calls"] == [1, 2]


def test_arguments_of_all_sorts_are_found_again(notebook: Notebook) -> None:
    """Keywords, tuples and typed caches keep their keys."""
    notebook.here(
        "import functools\n@functools.lru_cache(8, typed=True)\n"
        "def f(*a, **k): return a, sorted(k)\nf(1); f(1.0); f((1, 2), k=3); f()"
    )
    notebook.there("before = f.cache_info().misses; f(1); f(1.0); f((1, 2), k=3); f()")
    assert notebook["before"] == 4
    info = notebook["f"].cache_info()
    assert (info.hits, info.misses, info.currsize) == (4, 4, 4)


def test_a_cleared_cache_is_cleared_here(notebook: Notebook) -> None:
    """`cache_clear` is a change like any other."""
    notebook.here(FIB.format("cache") + "fib(5)")
    notebook.there("fib.cache_clear()")
    assert notebook["fib"].cache_info().currsize == 0
