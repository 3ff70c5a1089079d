"""The preflight: what is said of a cluster that has other versions."""

from __future__ import annotations

import fractions

import pytest

from dask_async_run.courier import ON_WORKERS, facts
from dask_async_run.kernel.preflight import (
    Facts,
    able,
    differences,
    distributions,
    in_use,
    other_pythons,
    refusal,
)

HERE = Facts((3, 11, 7), versions={"numpy": "2.3.0", "pandas": "2.2.3"})


def there(*python: int, implementation: str = "cpython", **versions: str) -> Facts:
    return Facts(python, implementation, versions=versions)


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        (there(3, 11, 2), ""),
        (there(3, 12, 1), "3.12.1 on tcp://a"),
        (there(3, 11, 7, implementation="pypy"), "pypy 3.11.7 on tcp://a"),
    ],
)
def test_another_python_is_refused(facts: Facts, told: str) -> None:
    """By its minor version, with both versions and where it is."""
    reason = refusal(HERE, there(3, 11, 9), {"tcp://a": facts})
    assert told in reason
    assert bool(reason) is bool(told)
    assert not told or "this notebook's Python is 3.11.7" in reason


def test_one_worker_of_this_python_is_enough() -> None:
    """The others are told; a scheduler of another Python is refused in any case."""
    workers = {"tcp://a": there(3, 12, 1), "tcp://b": there(3, 11, 2)}
    assert refusal(HERE, HERE, workers) == refusal(HERE, HERE, {}) == ""
    assert other_pythons(HERE, workers) == "3.12.1 on tcp://a"
    assert set(able(HERE, workers)) == {"tcp://b"}
    assert "3.12.1 on the scheduler" in refusal(HERE, there(3, 12, 1), {"tcp://b": HERE})


def test_differences_are_named_with_both_versions() -> None:
    """Each distribution once for each version, with its workers if it is not all of them."""
    workers = {
        "tcp://a": there(3, 11, 7, numpy="2.3.0", pandas="1.5"),
        "tcp://b": there(3, 11, 7, numpy="2.0.1", pandas="1.5"),
        "tcp://c": there(3, 11, 7, pandas="1.5"),
    }
    assert differences(HERE, workers) == [
        "numpy 2.0.1 on tcp://b (here 2.3.0)",
        "numpy missing on tcp://c (here 2.3.0)",
        "pandas 1.5 (here 2.2.3)",
    ]
    assert differences(HERE, {}) == []


def test_what_values_are_made_of() -> None:
    """Modules, and where classes, functions and instances come from; not the standard library."""
    import numpy
    import tornado
    from tornado.escape import url_escape

    values = [numpy.ones(2), tornado, url_escape, fractions.Fraction(1), 3, facts]
    assert in_use(values) == {"numpy", "tornado", "dask_async_run"}
    assert distributions({"tornado", "json", "nowhere"}) == {"tornado"}


def test_facts_of_a_process_that_lacks_something() -> None:
    """What is not installed has no version; what cannot be found is missing."""
    found = Facts.of(facts(["numpy", "nowhere"], [*ON_WORKERS, "nowhere"]))
    assert set(found.versions) == {"numpy"}
    assert found.missing == ("nowhere",)
    assert refusal(Facts.here(), found, {"x": found}) == ""
