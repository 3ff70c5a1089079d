"""Transforms of matplotlib: each notes by their addresses what is computed from it.

Where a transform is loaded, an address from elsewhere may be that of a new object: as that takes
its place, what was noted before is no longer told of changes, and is drawn, or clipped, as it was.
Cell processes are forks of one template, so their addresses are often the same ones. Numbers
below zero are nobody's address.
"""

from __future__ import annotations

from typing import Any

from dask_async_run.namespace.kinds import per_class


@per_class
def is_transform(cls: type) -> bool:
    """Whether a class is one of matplotlib's transforms, boxes among them."""
    return any(
        (base.__module__, base.__qualname__) == ("matplotlib.transforms", "TransformNode")
        for base in cls.__mro__
    )


def reduce_transform(transform: Any) -> Any:
    made, args, state, *rest = transform.__reduce_ex__(5)
    return made, args, without_addresses(state), *rest


def without_addresses(state: Any) -> Any:
    """Answer a transform's state with numbers in the place of addresses."""
    if not isinstance(state, dict) or not isinstance(state.get("_parents"), dict):
        return state
    parents = [parent for parent in state["_parents"].values() if parent is not None]
    return {**state, "_parents": {-number: p for number, p in enumerate(parents, 1)}}
