"""Calls in a piece of code: what is called, and the names whose objects it is given."""

from __future__ import annotations

import ast
from collections.abc import Collection
from dataclasses import dataclass

RECEIVER, ANY = -1, "*"
"""How a call gives the object whose method it is, and what a callee takes in any number."""

Slot = int | str
"""How a call gives something: by its place among the arguments, a name, `RECEIVER`, `ANY`."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call, and the names whose objects it gives.

    Parameters
    ----------
    name : str
        Of the function or method.
    receiver : frozenset of str
        Those of the object whose method it is.
    arguments : tuple of frozenset of str
        Those of each argument; all from one with a star on count for all places from there on.
    starred : int or None
        The place of the first one with a star.
    keywords : tuple of (str, frozenset of str)
        Those of each keyword; the empty one is for ``**``.
    """

    name: str
    receiver: frozenset[str]
    arguments: tuple[frozenset[str], ...]
    starred: int | None
    keywords: tuple[tuple[str, frozenset[str]], ...]

    def given(self, slots: Collection[Slot]) -> set[str]:
        """Answer the names whose objects are given in some way."""
        found = set(self.receiver) if RECEIVER in slots else set()
        last = max((slot for slot in slots if isinstance(slot, int)), default=RECEIVER)
        for place, names in enumerate(self.arguments):
            open_ = self.starred is not None and place >= self.starred and last >= self.starred
            if place in slots or open_ or ANY in slots:
                found |= names
        for keyword, names in self.keywords:
            if keyword in slots or ANY in slots or (not keyword and {*slots} - {RECEIVER}):
                found |= names
        return found


def roots(value: ast.expr, *, deep: bool = True) -> set[str]:
    """Names whose objects `value` may be, or be a part or view of.

    With `deep`, arguments of calls are among them: right for a call's own
    arguments (``shuffle(view(x))``). Without, only receivers of method calls:
    ``r = simulate(p); r[0] = 1`` shall not say that ``p`` has changed.
    """
    parts: list[ast.expr]
    match value:
        case ast.Name(id=name):
            return {name}
        case ast.Attribute(value=inner) | ast.Subscript(value=inner):
            parts = [inner]
        case ast.Starred(value=inner) | ast.Await(value=inner):
            parts = [inner]
        case ast.Call(func=func, args=arguments, keywords=keywords):
            parts = [func.value] if isinstance(func, ast.Attribute) else []
            if deep:
                parts += [*arguments, *(keyword.value for keyword in keywords)]
        case ast.IfExp(body=body, orelse=orelse):
            parts = [body, orelse]
        case ast.BoolOp(values=parts):
            pass
        case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Set(elts=parts):
            pass
        case ast.Dict(values=parts):
            pass
        case ast.BinOp(left=left, right=right):
            parts = [left, right] if deep else []
        case ast.NamedExpr(target=target, value=inner):
            parts = [target, inner]
        case ast.ListComp() | ast.SetComp() | ast.GeneratorExp():
            parts = [value.elt, *(g.iter for g in value.generators)]
        case ast.DictComp():
            parts = [value.value, *(g.iter for g in value.generators)]
        case ast.Lambda(body=body):
            parts = [body]
        case _:  # constants, comparisons, f-strings: new objects
            parts = []
    return {name for part in parts for name in roots(part, deep=deep)}
