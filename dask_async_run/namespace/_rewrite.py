"""Magics and literal ``eval`` taken out of a statement's syntax tree.

IPython spells magics as method calls with their text in strings. To the
compiler that is data; what it does to names is in their `Effect`, and the call
is replaced by one that mentions no name.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

from dask_async_run.namespace._magics import Effect, magic_effect

_ALL_OF_SCOPE = {"locals", "vars", "dir"}


@dataclass(frozen=True, slots=True)
class Magic:
    """A magic, a ``!`` line or a literal ``eval`` where it stands.

    Parameters
    ----------
    effect : Effect
        What it does to names.
    line : int
        Its line in the cell.
    certain : bool
        Whether it certainly runs when the statement does.
    local : frozenset of str or None
        Inside a function: names that may mean the function's own variables.
    """

    effect: Effect
    line: int
    certain: bool
    local: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A statement without its magics, and the magics.

    Parameters
    ----------
    statement : ast.stmt
        The statement; the one that was given is changed.
    magics : list of Magic
        In the order in which they stand.
    dynamic : bool
        It asks for all names of the namespace (``locals()``, a magic that is
        not a literal).
    star : bool
        It has a star import.
    lists : bool
        It asks which names there are.
    """

    statement: ast.stmt
    magics: list[Magic]
    dynamic: bool
    star: bool
    lists: bool


def names_of(tree: ast.AST) -> set[str]:
    """Names that `tree` may bind in some scope or other, imports left aside."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                found.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
            case ast.ClassDef(name=name) | ast.ExceptHandler(name=str(name)):
                found.add(name)
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                found.add(name)
            case ast.MatchMapping(rest=str(name)):
                found.add(name)
    return found


def rewrite(statement: ast.stmt) -> Rewritten:
    """Take the magics out of a module-level statement."""
    rewriter = _Rewriter(getattr(statement, "value", None))
    rewriter.visit(statement)
    return Rewritten(statement, rewriter.magics, rewriter.dynamic, rewriter.star, rewriter.lists)


@dataclass(slots=True)
class _Rewriter(ast.NodeTransformer):
    value: ast.expr | None
    """What the statement evaluates before all else, if it is that simple."""
    magics: list[Magic] = field(default_factory=list)
    functions: list[ast.AST] = field(default_factory=list)
    """Those around the node that is visited, the outermost first."""
    dynamic: bool = False
    star: bool = False
    lists: bool = False

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        return self._function(node)

    def _function(self, node: ast.AST) -> ast.AST:
        self.functions.append(node)
        self.generic_visit(node)
        self.functions.pop()
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        self.star |= node.names[0].name == "*"
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        effect = self._effect(node)
        if effect is None:
            self.generic_visit(node)
            return node
        local = frozenset(names_of(self.functions[0])) if self.functions else None
        self.magics.append(Magic(effect, node.lineno, node is self.value, local))
        # Nothing that the compiler would fold: `if %time x:` keeps its body.
        nameless = ast.parse("(lambda: None)()", mode="eval").body
        for inner in ast.walk(nameless):
            ast.copy_location(inner, node)
        return nameless

    def _effect(self, node: ast.Call) -> Effect | None:
        values = [a.value for a in node.args if isinstance(a, ast.Constant)]
        texts = [value for value in values if isinstance(value, str)]
        literal = len(texts) == len(node.args) and not node.keywords
        match node.func:
            case ast.Name(id="eval") if literal and len(texts) == 1:
                return Effect(expressions=(texts[0],))
            case ast.Name(id=name) if name in _ALL_OF_SCOPE and not (node.args or node.keywords):
                self.dynamic |= not self.functions
                self.lists |= not self.functions
            case ast.Attribute(attr="run_line_magic" | "run_cell_magic" | "magic" as attr):
                if attr == "magic" and literal and len(texts) == 1:
                    name, _, line = texts[0].lstrip("% ").partition(" ")
                    return magic_effect(name, line)
                if literal and len(texts) in (2, 3):
                    return magic_effect(*texts)
                self.dynamic |= attr != "magic"
            case ast.Attribute(
                value=ast.Call(func=ast.Name(id="get_ipython")),
                attr="system" | "getoutput" | "system_piped" | "system_raw",
            ):
                if literal and len(texts) == 1:
                    return magic_effect("!", texts[0])
        return None
