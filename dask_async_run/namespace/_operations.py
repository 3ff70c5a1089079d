"""Operations that call methods which no code spells out: properties, operators, loops, ``with``.

A guess, as in `_mutations`: of which type an object is, nobody knows. It only counts where a
notebook's class has such a method, and that changes its object.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

from dask_async_run.namespace._calls import ANY, RECEIVER, Call, Slot, roots

ATTRIBUTE = "."
"""Before an attribute's name: the getter that reading it calls. Alone: what any one calls."""
_SHOWN = "(shown)"
"""What builtins do to what they get, and a notebook to what it shows."""

_BINARY = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.MatMult: "matmul",
    ast.Div: "truediv",
    ast.FloorDiv: "floordiv",
    ast.Mod: "mod",
    ast.Pow: "pow",
    ast.LShift: "lshift",
    ast.RShift: "rshift",
    ast.BitAnd: "and",
    ast.BitOr: "or",
    ast.BitXor: "xor",
}
_UNARY = {ast.UAdd: "__pos__", ast.USub: "__neg__", ast.Invert: "__invert__", ast.Not: "__bool__"}
_COMPARED = {
    ast.Eq: "__eq__",
    ast.NotEq: "__ne__",
    ast.Lt: "__lt__",
    ast.LtE: "__le__",
    ast.Gt: "__gt__",
    ast.GtE: "__ge__",
}
_REFLECTED = {
    ast.Eq: "__eq__",
    ast.NotEq: "__eq__",
    ast.Lt: "__gt__",
    ast.LtE: "__ge__",
    ast.Gt: "__lt__",
    ast.GtE: "__le__",
}
_GETTERS = ("__getattr__", "__getattribute__", "__get__")
_ASKED = """
__len__ __iter__ __next__ __reversed__ __getitem__ __str__ __repr__ __format__ __bool__ __hash__
__int__ __float__ __index__ __abs__ __round__ __dir__ _repr_html_ _repr_pretty_ _repr_mimebundle_
""".split()
_BUILTINS = frozenset(name for name, value in vars(builtins).items() if callable(value))


def with_operations(changing: Mapping[str, frozenset[Slot]]) -> dict[str, frozenset[Slot]]:
    """Add what operations change to the functions and methods that change what they get."""
    found = dict(changing)
    if not changing.keys().isdisjoint(_GETTERS):
        found[ATTRIBUTE] = frozenset({RECEIVER})
    if any(RECEIVER in changing.get(name, ()) for name in _ASKED):
        found[_SHOWN] = frozenset({ANY})
    return found


def has_operations(changing: Mapping[str, object]) -> bool:
    """Whether operations are among what changes something."""
    return any(name.startswith((ATTRIBUTE, "__")) for name in changing.keys() - _OF_MAKING)


_OF_MAKING = {"__init__", "__post_init__", "__new__", "__setattr__", "__setitem__", "__delitem__"}


def without_operations(changing: Mapping[str, frozenset[Slot]]) -> dict[str, frozenset[Slot]]:
    """Leave out what only operations call."""
    kept = changing.keys() & _OF_MAKING
    return {
        name: slots
        for name, slots in changing.items()
        if name in kept or not name.startswith((ATTRIBUTE, "__", _SHOWN))
    }


def slots_of(call: Call, changing: Mapping[str, frozenset[Slot]]) -> frozenset[Slot]:
    """Answer how an operation gives what it changes."""
    if call.name.startswith(ATTRIBUTE):
        return changing.get(call.name, changing.get(ATTRIBUTE, frozenset()))
    return changing.get(call.name, frozenset())


@lru_cache(maxsize=1024)  # what functions do is asked again for each cell
def operations(trees: tuple[ast.AST, ...]) -> tuple[Call, ...]:
    """Answer the calls that operations of some code are, as far as they give named objects."""
    found = (call for tree in trees for node in ast.walk(tree) for call in _of(node))
    return tuple(call for call in found if call.receiver or any(call.arguments))


def _of(node: ast.AST) -> Iterator[Call]:
    match node:
        case ast.Attribute(value=value, attr=name, ctx=ast.Load()):
            yield _call(ATTRIBUTE + name, value)
        case ast.Subscript(value=value, slice=index, ctx=ast.Load()):
            for name in ("__getitem__", "__missing__"):
                yield _call(name, value, index)
        case ast.BinOp(left=left, op=op, right=right):
            yield _call(f"__{_BINARY[type(op)]}__", left, right)
            yield _call(f"__r{_BINARY[type(op)]}__", right, left)
        case ast.UnaryOp(op=op, operand=value):
            yield _call(_UNARY[type(op)], value)
        case ast.Compare(left=left, ops=ops, comparators=others):
            yield from _comparisons([left, *others], ops)
        case ast.For(iter=value) | ast.AsyncFor(iter=value) | ast.comprehension(iter=value):
            for name in ("__iter__", "__aiter__", "__getitem__"):
                yield _call(name, value)
        case ast.withitem(context_expr=value):
            for name in ("__enter__", "__exit__", "__aenter__", "__aexit__"):
                yield _call(name, value)
        case ast.Call(func=ast.Name(id=name), args=arguments) if name in _BUILTINS:
            yield _call(_SHOWN, None, *arguments)
        case ast.Call(func=func, args=arguments):
            yield _call("__call__", func, *arguments)
        case ast.FormattedValue(value=value) | ast.Expr(value=value):
            yield _call(_SHOWN, None, value)


def _comparisons(values: list[ast.expr], ops: Iterable[ast.cmpop]) -> Iterator[Call]:
    for left, op, right in zip(values, ops, values[1:], strict=False):
        if type(op) in _COMPARED:
            yield _call(_COMPARED[type(op)], left, right)
            yield _call(_REFLECTED[type(op)], right, left)
        elif not isinstance(op, ast.Is | ast.IsNot):  # `in`
            for name in ("__contains__", "__iter__", "__getitem__"):
                yield _call(name, right, left)


def _call(name: str, receiver: ast.expr | None, *arguments: ast.expr) -> Call:
    given = tuple(frozenset(roots(argument)) for argument in arguments)
    return Call(name, frozenset(roots(receiver)) if receiver else frozenset(), given, None, ())
