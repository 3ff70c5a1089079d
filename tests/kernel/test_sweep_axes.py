"""What `--sweep` means: every way of writing it, and what is said about a wrong one."""

from __future__ import annotations

from typing import Any

import pytest

from dask_async_run.errors import OptionError
from dask_async_run.kernel.sweep_axes import parse, sweep_axes
from dask_async_run.namespace.axes import count, parameters

NAMESPACE: dict[str, Any] = {
    "grid": [{"C": 1}, {"C": 2}],
    "pairs": {(1, "a"), (2, "b")} and [(1, "a"), (2, "b")],
    "deep": 3,
}


def members(*said: str, **options: Any) -> list[dict[str, Any]]:
    axes = sweep_axes(said, dict(NAMESPACE), **options)
    return [parameters(axes, number) for number in range(count(axes))]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            ["lr=[0.1, 0.01] depth=range(2, deep + 1)"],
            [
                {"lr": 0.1, "depth": 2},
                {"lr": 0.1, "depth": 3},
                {"lr": 0.01, "depth": 2},
                {"lr": 0.01, "depth": 3},
            ],
        ),
        (["a=[1], b=(2,)"], [{"a": 1, "b": 2}]),
        (["a = 1, 2"], [{"a": 1}, {"a": 2}]),
        (["a=[x == 1 for x in (1, 2)]"], [{"a": True}, {"a": False}]),
        (["a=[dict(x=1)]"], [{"a": {"x": 1}}]),
        (["params in grid"], [{"params": {"C": 1}}, {"params": {"C": 2}}]),
        (["x, y in pairs"], [{"x": 1, "y": "a"}, {"x": 2, "y": "b"}]),
        (["(x, y) in zip([1], [2])"], [{"x": 1, "y": 2}]),
        (["x, in [3]"], [{"x": 3}]),
        (["x, y in pairs", "z=[0]"], [{"x": 1, "y": "a", "z": 0}, {"x": 2, "y": "b", "z": 0}]),
        (["a=['x=1 in y', \"b = 2\"]"], [{"a": "x=1 in y"}, {"a": "b = 2"}]),
    ],
)
def test_what_is_written_is_what_runs(said: list[str], expected: list[dict[str, Any]]) -> None:
    """In the order in which it is written, the last parameter goes round fastest."""
    assert members(*said) == expected


def test_a_mapping_means_the_same() -> None:
    """As the Python API takes it."""
    axes = sweep_axes({"a": (1, 2), ("b", "c"): [(3, 4)]}, {})
    assert [parameters(axes, n) for n in range(2)] == [
        {"a": 1, "b": 3, "c": 4},
        {"a": 2, "b": 3, "c": 4},
    ]
    assert sweep_axes([], {}) == []


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("a=[1", "is not complete"),
        ("[1, 2]", "names no parameters"),
        ("", "names no parameters"),
        ("a.b in grid", "'a.b' is no variable's name"),
        ("for=[1]", "'for' is no variable's name"),
        ("in grid", "no variable's name"),
        ("_=[1]", "IPython's own"),
        ("a=[1] a=[2]", "a is there twice"),
        ("a, a in pairs", "a is there twice"),
        ("a=[]", r"\[\] is empty"),
        ("a=", "no Python expression"),
        ("a=[1 2]", "no Python expression"),
        ("a=missing", "missing raised NameError: name 'missing' is not defined"),
        ("a=[1 / 0]", "ZeroDivisionError"),
        ("a='abc'", "needs several values, and 'abc' is a str"),
        ("a=5", "5 is a int"),
        ("x, y in [(1, 2), (3,)]", "value 1 has 1 part, and x, y needs 2"),
        ("x, y in [5]", "value 0 has 1 part"),
        ("a=range(40) b=range(40)", "1,600 members, more than 1,000: --max-members 1600"),
        ("a=__import__('itertools').count()", "more than 100,000 values"),
        ("a=late", "late is still to come from train"),
    ],
)
def test_a_wrong_one_says_what_is_wrong(said: str, problem: str) -> None:
    """By name, before anything is sent."""
    with pytest.raises(OptionError, match=problem):
        members(said, pending={"late": "train"})


def test_more_members_are_there_if_they_are_meant() -> None:
    """Up to a bound that nothing lifts."""
    assert len(members("a=range(1500)", most=1500)) == 1500
    with pytest.raises(OptionError, match="no sweep may have more than 100,000"):
        sweep_axes(["a=range(1000) b=range(1000)"], {}, most=10**9)


def test_the_namespace_is_left_as_it_is() -> None:
    """An expression may make functions, whose globals it is; it gets no new names."""
    namespace: dict[str, Any] = {}
    (axis,) = sweep_axes(["f=[lambda: namespace]"], namespace)
    assert namespace == {}
    assert axis.values[0].__globals__ is namespace


def test_parse_keeps_expressions_as_they_are() -> None:
    assert parse("a = [1, 2],  b=f(x=1)") == [(("a",), "[1, 2]"), (("b",), "f(x=1)")]
