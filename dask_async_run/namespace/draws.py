"""Draws from the random numbers of which a process has one row: ``random``'s and numpy's."""

from __future__ import annotations

import ast
from collections.abc import Iterable

_SEEDS = frozenset("seed setstate set_state".split())
_OTHERS = frozenset(
    """
    default_rng RandomState Generator SeedSequence BitGenerator MT19937 PCG64 PCG64DXSM Philox SFC64
    Random SystemRandom getstate get_state get_bit_generator mtrand bit_generator
    """.split()
)
"""Attributes that make a row of their own, or draw nothing."""


def used_of_random(trees: Iterable[ast.AST]) -> frozenset[str]:
    """Answer what some code does with those rows: ``draws``, ``seeds``."""
    found = set()
    for tree in trees:
        for node in ast.walk(tree):
            match node:
                case ast.Attribute(
                    value=ast.Attribute(attr="random") | ast.Name(id="random"), attr=name
                ):
                    if name not in _OTHERS:
                        found.add("seeds" if name in _SEEDS else "draws")
    return frozenset(found)
