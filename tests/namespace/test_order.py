"""A copy of a set is walked in the order of the set."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from dask_async_run.namespace.order import fill, recipe

WAYS: dict[str, Callable[[list[Any]], set[Any]]] = {
    "one by one": set,
    "a literal": lambda items: set(frozenset(items)),
    "a union": lambda items: set(items[::2]) | set(items[1::2]),
    "a difference": lambda items: set(items) - set(items[::5]),
    "added to": lambda items: set(frozenset(items[2:])) | {items[0], items[1]},
}


def walked_alike(elements: set[Any]) -> bool:
    copy: set[Any] = {"something else"}
    fill(copy, recipe(elements) or ([], list(elements)))
    assert copy == elements
    return list(copy) == list(elements)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_small_sets_are_walked_alike(way: Callable[[list[Any]], set[Any]]) -> None:
    """Of sets of numbers that collide now and then, nearly all; by themselves it is a part."""
    source = random.Random(4)
    sets = [
        way([source.randrange(1000) for _ in range(source.randrange(2, 30))]) for _ in range(300)
    ]
    assert sum(map(walked_alike, sets)) >= 0.85 * len(sets)


def test_colliding_elements_keep_their_order() -> None:
    """Elements that all want one slot, put in by any order."""
    for order in ([8, 0, 16], [16, 8, 0, 24], [24, 0, 8]):
        assert walked_alike(set(order))


def test_elements_with_a_hash_of_their_own_are_left_alone() -> None:
    """No code of the user runs."""

    class Loud:
        def __hash__(self) -> int:
            if hashed:
                raise AssertionError("hashed again")
            return 8

    hashed: list[int] = []
    elements = {Loud(), 0, 8}
    hashed.append(1)
    assert recipe(elements) is None
