"""What a cell does to names: source in, sets out.

Reading too much makes a job a little slower, reading too little makes it
wrong: whatever is in doubt counts as read.
"""

from __future__ import annotations
import __future__

import ast
import inspect
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import CodeType

from dask_async_run.namespace._calm import is_calm
from dask_async_run.namespace._code import (
    CodeNames,
    Found,
    State,
    global_names,
    is_class,
    scan,
    scan_all,
)
from dask_async_run.namespace._magics import Code
from dask_async_run.namespace._mutations import changes
from dask_async_run.namespace._rewrite import Magic, names_of, rewrite
from dask_async_run.namespace._setting_up import sets_up
from dask_async_run.namespace._strings import words
from dask_async_run.namespace.effects import Definition, Effects

__all__ = ["Analysis", "CodeNames", "analyse", "global_names"]

_FLAGS = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_LAZY_ANNOTATIONS = __future__.annotations.compiler_flag
# The interpreter uses these by itself, for `x: int` and a string as a statement:
# if they counted, any two cells with annotations would depend on one another.
_IMPLICIT = {"__annotations__", "__doc__"}


@dataclass(frozen=True, slots=True)
class Analysis:
    """What a cell does to the names of its namespace.

    Parameters
    ----------
    reads : mapping of str to int
        Every global name, builtins among them, whose value from before the cell
        it may read, and the first line (1-based) that does. Not: names that the
        cell certainly binds before it reads them.
    weak : frozenset of str
        Words of its strings that are not in `reads`: may be names
        (``df.query("a > @limit")``, ``eval``, formulas).
    binds : frozenset of str
        Names it may bind. Incomplete if `dynamic`, `opaque` or `star`.
    certain : frozenset of str
        The part of `binds` that is bound if the cell ends normally.
    deletes : frozenset of str
        Names it may delete.
    removes : frozenset of str
        The part of `deletes` whose value from before the cell is gone if it ends normally: what
        is not there then was deleted.
    discarded : frozenset of str
        The part of `reads` of which only the name must be there, for a
        ``del``: nothing reads the value.
    imports : frozenset of str
        Top-level modules it imports, functions' imports included.
    imported : mapping of str to (str, str)
        The part of `certain` that nothing but imports bind: a module, and its attribute;
        ``""`` for the module itself.
    mutates : frozenset of str
        Names whose objects it may change in place (SEMANTICS.md, line 12);
        modules may be among them.
    sets_up : bool
        It does nothing but set what surrounds cells (SEMANTICS.md, line 12).
    dynamic : bool
        It may reach any name without mentioning it: ``globals()``, ``exec``,
        ``eval`` of something that is no literal, ``%run``.
    lists : bool
        It asks which names there are: ``%who``, ``dir()``.
    rebinds : bool
        It runs code that is not known here and may bind any name anew: ``%run``, ``exec``.
    star : bool
        It binds all that some module exports.
    awaits : bool
        It has ``await``, ``async for``, ``async with`` at the top level.
    opaque : bool
        It has a magic that is not known here and may bind any name.
    unpickles : bool
        It may unpickle something, which looks up classes and functions of
        ``__main__`` by name.
    effects : Effects
        What it defines, and what it does through the functions that it calls.
    """

    reads: Mapping[str, int]
    weak: frozenset[str]
    binds: frozenset[str]
    certain: frozenset[str]
    deletes: frozenset[str]
    removes: frozenset[str]
    discarded: frozenset[str]
    imports: frozenset[str]
    imported: Mapping[str, tuple[str, str]]
    mutates: frozenset[str]
    sets_up: bool
    dynamic: bool
    rebinds: bool
    star: bool
    awaits: bool
    opaque: bool
    unpickles: bool
    lists: bool = False
    effects: Effects = field(default_factory=Effects)


def analyse(
    source: str, transform: Callable[[str], str] = lambda source: source, flags: int = 0
) -> Analysis:
    """Find out what a cell does to names.

    Parameters
    ----------
    source : str
        The cell, already transformed to Python by IPython.
    transform : callable
        IPython's transformation, for the bodies of magics that run Python.
    flags : int
        Compiler flags of the ``__future__`` imports of earlier cells.

    Raises
    ------
    SyntaxError
        The cell, or Python inside a cell magic, does not compile; `lineno`
        counts from the first line of `source`.
    """
    with warnings.catch_warnings():
        # The user sees a SyntaxWarning when the cell runs.
        warnings.simplefilter("ignore")
        cell = _Cell(transform, flags=_FLAGS | flags)
        try:
            tree = ast.parse(source)
        except ValueError as error:  # null bytes
            raise SyntaxError(str(error)) from None
        settings = sets_up(tree.body)
        whole = cell.check(tree)
        exit_ = cell.run(tree, State())
        cell.end(exit_)
    awaits = bool(whole.co_flags & inspect.CO_COROUTINE)
    return cell.analysis(exit_, awaits=awaits, settings=settings)


def _imported(statement: ast.Import | ast.ImportFrom) -> dict[str, tuple[str, str]]:
    """Answer what an import binds: for each name its module, and the attribute of it."""
    if isinstance(statement, ast.ImportFrom):
        module = "." * statement.level + (statement.module or "")
        return {alias.asname or alias.name: (module, alias.name) for alias in statement.names}
    return {
        alias.asname or alias.name.partition(".")[0]: (
            alias.name if alias.asname else alias.name.partition(".")[0],
            "",
        )
        for alias in statement.names
    }


def _is_future(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.ImportFrom) and statement.module == "__future__"


def _annotation(node: ast.AST) -> ast.expr | None:
    match node:
        case ast.AnnAssign(annotation=annotation) | ast.arg(annotation=annotation):
            return annotation
        case ast.FunctionDef(returns=returns) | ast.AsyncFunctionDef(returns=returns):
            return returns
    return None


def _needs(statement: ast.stmt, code: CodeType) -> frozenset[str]:
    """Answer the global names that are read when what a statement binds is used."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return global_names(code).reads
    functions = (
        inner
        for inner in code.co_consts
        if isinstance(inner, CodeType) and inner.co_name in ("<lambda>", "<genexpr>")
    )
    return frozenset(name for inner in functions for name in global_names(inner).reads)


def _texts_of_fields(node: ast.ClassDef, lazy: bool) -> list[str]:
    """Answer the annotations of a class's own variables of which only the text is kept."""
    annotated = (each.annotation for each in node.body if isinstance(each, ast.AnnAssign))
    return [ast.unparse(each) for each in annotated if lazy or isinstance(each, ast.Constant)]


@dataclass(slots=True)
class _Cell:
    """A cell, statement by statement: adds to `found` what each one does.

    Functions that nothing can have called yet are kept in `waiting`, until a
    statement comes that could: names bound meanwhile are no inputs of theirs
    (``def main(): helper()``, then ``def helper()``, then ``main()``). A cell
    that only defines never becomes `active`: no function runs in it, so that
    what its functions use is no input of it.
    """

    transform: Callable[[str], str]
    found: Found = field(default_factory=Found)
    waiting: list[CodeType] = field(default_factory=list)
    made: set[str] = field(default_factory=set)
    imported: dict[str, tuple[str, str]] = field(default_factory=dict)
    trees: list[ast.AST] = field(default_factory=list)
    mutated: set[str] = field(default_factory=set)
    effects: Effects = field(default_factory=Effects)
    weak: set[str] = field(default_factory=set)
    texts: list[str] = field(default_factory=list)
    active: bool = False
    implicit: set[str] = field(default_factory=lambda: {*_IMPLICIT})
    flags: int = _FLAGS
    dynamic: bool = False
    rebinds: bool = False
    star: bool = False
    opaque: bool = False
    lists: bool = False

    def check(self, tree: ast.Module) -> CodeType:
        """Compile the whole, for the errors that only the whole shows.

        Python wants ``__future__`` imports to be first. IPython compiles one statement after the
        other and takes them anywhere (``%matplotlib inline`` often comes before them): they count
        from there on.
        """
        body = sorted(tree.body, key=lambda statement: not _is_future(statement))
        code: CodeType = compile(
            ast.Module(body, tree.type_ignores), "<cell>", "exec", self.flags, dont_inherit=True
        )
        return code

    def run(self, tree: ast.Module, state: State) -> State:
        """Go through module-level code; returns what is certain when it ends normally."""
        for statement in tree.body:
            state = self.statement(statement, state)
        return state

    def statement(self, statement: ast.stmt, state: State) -> State:
        """Go through one statement of the module."""
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            return state
        magics = self.prepare(statement)
        calm = not magics and is_calm(statement, self.made)
        if not calm:
            self.settle(state)
        after = self.magics(magics, state)
        code = compile(ast.Module([statement], []), "<cell>", "exec", self.flags, dont_inherit=True)
        self.flags |= code.co_flags & _LAZY_ANNOTATIONS
        nested, end = scan(code, state, self.found, module=True)
        self.effects.note(statement)
        needs = _needs(statement, code)
        if needs or isinstance(statement, Definition):
            self.effects.need(statement, needs)
        for child, made in nested:
            if calm:
                self.define(child, made)
            else:
                scan_all(child, made, self.found)
        if isinstance(statement, ast.Import | ast.ImportFrom):
            self.imported |= _imported(statement)
        else:
            self.made |= names_of(statement)
        return after if end is None else after.join(end)

    def define(self, code: CodeType, state: State) -> None:
        """Keep a function for later; a class's body runs at once, its methods don't."""
        if is_class(code):
            for inner, made in scan(code, state, self.found).nested:
                self.define(inner, State(made.past))
        else:
            self.waiting.append(code)

    def prepare(self, statement: ast.stmt) -> list[Magic]:
        """Take the magics out of `statement`, and note what only its tree tells."""
        self.effects.files.note([statement])  # magics included, which are taken out now
        rewritten = rewrite(statement)
        self.note(statement)
        self.dynamic |= rewritten.dynamic
        self.star |= rewritten.star
        self.lists |= rewritten.lists
        return rewritten.magics

    def note(self, tree: ast.AST) -> None:
        """Keep the strings of `tree`, and the names that it spells out."""
        self.trees.append(tree)
        lazy = self.flags & _LAZY_ANNOTATIONS
        for node in ast.walk(tree):
            if lazy and (annotation := _annotation(node)) is not None:
                # The compiler keeps its text alone; dataclasses look names up in it.
                self.texts.append(ast.unparse(annotation))
            if isinstance(node, ast.ClassDef) and node.decorator_list:
                # What is a class variable, they look up at once, while no function runs.
                self.weak |= words(_texts_of_fields(node, bool(lazy)))
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                self.texts.append(node.value)
            elif isinstance(node, ast.Name):
                self.implicit.discard(node.id)

    def settle(self, state: State) -> None:
        """From here on the waiting functions may be called."""
        self.active = True
        for code in self.waiting:
            scan_all(code, state, self.found)
        self.waiting.clear()

    def end(self, state: State) -> None:
        """Finish: if anything has run, threads of it may call what was defined last."""
        if self.active:
            self.settle(state)
        else:
            self.trees.clear()
            self.texts.clear()

    def magics(self, magics: Iterable[Magic], state: State) -> State:
        """Apply the magics of a statement that starts at `state`."""
        after = state
        for magic in magics:
            if magic.local is None:
                end = self.apply(magic, after)
                # In a branch, a loop or a class it perhaps does not run.
                after = end if magic.certain else after
            else:
                inner = _Cell(self.transform, flags=self.flags)
                inner.apply(magic, state)
                inner.end(state)
                self.merge(inner, magic.local)
        return after

    def merge(self, inner: _Cell, local: frozenset[str]) -> None:
        """Add what code inside a function does, whose variables are `local`."""
        for name, line in inner.found.reads.items():
            if name not in local:
                self.found.read(name, line)
        self.weak |= inner.weak | (inner.found.reads.keys() & local)
        self.found.add(inner.found)
        self.mutated |= (inner.mutated | changes(inner.trees).names()) - local
        self.texts += inner.texts
        self.dynamic |= inner.dynamic
        self.star |= inner.star
        self.opaque |= inner.opaque

    def apply(self, magic: Magic, state: State) -> State:
        """Apply one magic; returns what is certain after it, if it ran."""
        effect, line = magic.effect, magic.line
        for expression in effect.expressions:
            self.expression(expression, line, state)
        for code in effect.codes:
            end = self.code(code, line, state)
            state = end if code.sure else state
        for name in effect.deletes - state.past:
            self.found.erases.setdefault(name, line)
        self.found.binds |= effect.binds
        self.found.deletes |= effect.deletes
        self.weak |= words(effect.texts)
        self.dynamic |= effect.dynamic
        self.rebinds |= effect.runs
        self.lists |= effect.lists
        self.opaque |= effect.opaque
        self.star |= effect.star
        return State(state.past | effect.binds) if effect.certain else state

    def expression(self, text: str, line: int, state: State) -> None:
        """Go through an expression that is evaluated in the namespace."""
        try:
            tree = ast.parse(text.strip(), mode="eval")
            ast.increment_lineno(tree, line - 1)
            code = compile(tree, "<cell>", "eval", self.flags, dont_inherit=True)
        except (SyntaxError, ValueError):  # no expression: IPython leaves the text alone
            self.weak |= words([text])
            return
        self.note(tree)
        scan_all(code, state, self.found, module=True)

    def code(self, code: Code, line: int, state: State) -> State:
        """Go through Python that a magic at `line` runs."""
        body: list[ast.stmt] = []
        for text, below in code.parts:
            try:
                body += self.parse(text, line if below else line - 1)
            except SyntaxError:
                if below:
                    raise
                self.weak |= words([text])  # the cell itself will complain
        if code.scope == "module":
            return self.run(ast.Module(body, []), state)
        tree = ast.parse("def timed(): pass")
        function = tree.body[0]
        assert isinstance(function, ast.FunctionDef)
        function.body = body or function.body
        self.magics(self.prepare(function), state)
        module = compile(tree, "<cell>", "exec", self.flags, dont_inherit=True)
        for timed, _ in scan(module, state, Found(), module=True).nested:
            scan_all(timed, state, self.found)
        return state

    def parse(self, text: str, above: int) -> list[ast.stmt]:
        """Statements of `text`, which has `above` lines of the cell above it."""
        stripped = re.sub(r"\A(?:[^\S\n]*\n)+", "", text)  # as IPython does
        above += text.count("\n") - stripped.count("\n")
        try:
            tree = ast.parse(self.transform(stripped))
            self.check(tree)
        except SyntaxError as error:
            error.lineno = (error.lineno or 1) + above
            if error.end_lineno is not None:
                error.end_lineno += above
            raise
        ast.increment_lineno(tree, above)
        return tree.body

    def analysis(self, exit_: State, awaits: bool, settings: bool) -> Analysis:
        """What has been found."""
        found = self.found
        named = {**found.erases, **found.reads}
        reads = {name: line for name, line in named.items() if name not in self.implicit}
        binds = frozenset(found.binds - self.implicit)
        certain = frozenset(exit_.past & binds - found.deletes)
        unclear = self.dynamic or found.dynamic or self.opaque or self.star
        imported = {} if unclear else self.imported
        self.effects.changes = changes(self.trees)
        self.effects.runs = self.active
        mutates = self.mutated | self.effects.changes.names()
        return Analysis(
            reads=reads,
            weak=frozenset((words(self.texts) | self.weak) - reads.keys()),
            binds=binds,
            certain=certain,
            deletes=frozenset(found.deletes),
            removes=frozenset(exit_.past & found.deletes),
            discarded=frozenset(found.erases.keys() - found.reads.keys()),
            imports=frozenset(found.imports),
            imported={n: imported[n] for n in imported.keys() & certain - self.made},
            mutates=frozenset(mutates & (found.loads | found.binds)),
            sets_up=settings,
            dynamic=self.dynamic or found.dynamic,
            rebinds=self.rebinds or "exec" in found.reads,
            star=self.star,
            awaits=awaits,
            opaque=self.opaque,
            unpickles=found.unpickles,
            lists=self.lists,
            effects=self.effects,
        )
