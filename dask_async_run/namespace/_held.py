"""What instances hold of what they were made with, and change later: ``self.rows.append(x)``.

A cell that makes one, and calls it, changes what it gave: ``Log(rows).add(1)``.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator, Mapping

Method = ast.FunctionDef | ast.AsyncFunctionDef
_HELD = "self."
_KINDS = ("dataclass", "define", "frozen", "attrs")


def held_by(node: ast.ClassDef) -> tuple[Method | None, Mapping[str, frozenset[str]]]:
    """Answer what makes instances of a class, and what attributes hold of its arguments.

    Returns
    -------
    function definition or None
        Also that which a dataclass has and nobody has written; None if the arguments are unknown.
    mapping of str to frozenset of str
        Names as of `of_attributes`, and the parameters that they are.
    """
    makers = (m for m in node.body if isinstance(m, Method) and m.name == "__init__")
    maker = next(makers, None)
    if maker is not None:
        return maker, _stored(maker)
    if not any(kind in ast.dump(d) for d in node.decorator_list for kind in _KINDS):
        return None, {}
    fields = [
        part.target.id
        for part in node.body
        if isinstance(part, ast.AnnAssign)
        and isinstance(part.target, ast.Name)
        and "ClassVar" not in ast.dump(part.annotation)
    ]
    text = f"def __init__({', '.join(['self', *fields])}): pass"
    (made,) = ast.parse(text).body
    assert isinstance(made, ast.FunctionDef)
    return made, {_HELD + name: frozenset({name}) for name in fields}


def _stored(maker: Method) -> dict[str, frozenset[str]]:
    arguments = maker.args
    first, *given = [each.arg for each in [*arguments.posonlyargs, *arguments.args]] or [""]
    given += [each.arg for each in arguments.kwonlyargs]
    found: dict[str, frozenset[str]] = {}
    for target, value in _assigned(maker):
        match target, value:
            case ast.Attribute(value=ast.Name(id=owner), attr=attr), ast.Name(id=name):
                if owner == first and name in given:
                    found[_HELD + attr] = found.get(_HELD + attr, frozenset()) | {name}
    return found


def _assigned(maker: Method) -> Iterator[tuple[ast.expr, ast.expr]]:
    for part in ast.walk(maker):
        match part:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    match target, value:
                        case ast.Tuple(elts=one), ast.Tuple(elts=other):
                            yield from zip(one, other, strict=False)
                        case _:
                            yield target, value
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                yield target, value


def of_attributes(node: ast.ClassDef, held: Mapping[str, object]) -> list[ast.stmt]:
    """Answer what a class's methods do, attributes that hold something being names."""
    found: list[ast.stmt] = []
    for method in node.body if held else ():
        if isinstance(method, Method) and (method.args.posonlyargs or method.args.args):
            first = [*method.args.posonlyargs, *method.args.args][0].arg
            spelling = _Spelling(first, held)
            body = [spelling.visit(copy.deepcopy(part)) for part in method.body]
            found += body if spelling.found else ()
    return found


class _Spelling(ast.NodeTransformer):
    def __init__(self, first: str, held: Mapping[str, object]) -> None:
        self.first = first
        self.held = held
        self.found = False

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        match node.value:
            case ast.Name(id=self.first) if _HELD + node.attr in self.held:
                self.found = True
                return ast.copy_location(ast.Name(_HELD + node.attr, node.ctx), node)
        self.generic_visit(node)
        return node
