"""The axes of a sweep: parameters and their values, of which every combination is a member."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis.

    Parameters
    ----------
    names : tuple of str
        The parameters: one, or several that are unpacked from each value.
    values : list
        What they are bound to, in turn.
    """

    names: tuple[str, ...]
    values: list[Any]


def count(axes: Sequence[Axis]) -> int:
    """How many combinations there are."""
    return prod(len(axis.values) for axis in axes)


def parameters(axes: Sequence[Axis], member: int) -> dict[str, Any]:
    """Answer the parameters of a member, by name; the last axis goes round fastest."""
    chosen = []
    for axis in reversed(axes):
        member, place = divmod(member, len(axis.values))
        chosen.append((axis, axis.values[place]))
    found: dict[str, Any] = {}
    for axis, value in reversed(chosen):
        if len(axis.names) == 1:
            found[axis.names[0]] = value
        else:
            found.update(zip(axis.names, value, strict=True))
    return found
