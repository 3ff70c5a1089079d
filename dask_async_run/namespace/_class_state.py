"""What making an instance does to its class: ``self.all.append(self)``, ``type(self).n += 1``."""

from __future__ import annotations

import ast
import copy


def of_class(method: ast.FunctionDef, node: ast.ClassDef) -> ast.FunctionDef:
    """Answer a method that makes instances, naming the class where it reaches its attributes.

    An attribute that a constructor assigns is the instance's own.
    """
    names = [each.arg for each in [*method.args.posonlyargs, *method.args.args]]
    if not names:
        return method
    shared = {name for part in node.body for name in _bound(part)} - _own(node)
    spelling = _Spelling(names[0], node.name, shared, is_class=method.name == "__new__")
    found = spelling.visit(copy.deepcopy(method))
    assert isinstance(found, ast.FunctionDef)
    return found if spelling.found else method


def _bound(part: ast.stmt) -> set[str]:
    """Answer the attributes that a statement of a class's body gives it."""
    match part:
        case ast.Assign(targets=targets):
            return {target.id for target in targets if isinstance(target, ast.Name)}
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr()):
            return {name}
        case _:
            return set()


def _own(node: ast.ClassDef) -> set[str]:
    """Answer the attributes that methods of a class assign to instances, as far as they tell.

    Those of a dataclass are its fields, too.
    """
    assigned = {
        part.attr
        for part in ast.walk(node)
        if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store)
    }
    fields = (part for part in node.body if isinstance(part, ast.AnnAssign))
    return assigned | {
        part.target.id
        for part in fields
        if isinstance(part.target, ast.Name) and "ClassVar" not in ast.dump(part.annotation)
    }


class _Spelling(ast.NodeTransformer):
    """Spells a class's name where a method reaches it through its first argument."""

    def __init__(self, first: str, name: str, shared: set[str], is_class: bool) -> None:
        self.first = first
        self.name = name
        self.shared = shared
        self.is_class = is_class
        self.found = False

    def visit_Name(self, node: ast.Name) -> ast.expr:
        mine = self.is_class and node.id == self.first and isinstance(node.ctx, ast.Load)
        return self._spelled(node) if mine else node

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        of_first = isinstance(node.value, ast.Name) and node.value.id == self.first
        if of_first and not self.is_class and node.attr in {"__class__", *self.shared}:
            return self._spelled(node)
        self.generic_visit(node)
        return node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        match node:
            case ast.Call(func=ast.Name(id="type"), args=[ast.Name(id=name)]) if name == self.first:
                return self._spelled(node)
        self.generic_visit(node)
        return node

    def _spelled(self, node: ast.expr) -> ast.expr:
        self.found = True
        return ast.copy_location(ast.Name(self.name, ast.Load()), node)
