"""What functions do to a notebook when they are called: a guess from their sources.

It decides which jobs wait for one another, as `_mutations` does for the statements of a cell;
which objects have changed is found out by looking at them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from dask_async_run.namespace._calls import RECEIVER, Slot
from dask_async_run.namespace._mutations import Changes, changes
from dask_async_run.namespace._operations import ATTRIBUTE, with_operations, without_operations
from dask_async_run.namespace._rewrite import names_of
from dask_async_run.namespace._strings import words
from dask_async_run.namespace.draws import used_of_random
from dask_async_run.namespace.file_uses import FileUses
from dask_async_run.namespace.functions import CHANGING, Function, functions_of

_STREAMS = frozenset(
    """
    iter map filter zip enumerate reversed count cycle chain islice starmap takewhile dropwhile
    accumulate product permutations combinations open Random default_rng RandomState
    Queue SimpleQueue LifoQueue PriorityQueue
    """.split()
)
_STREAM_METHODS = frozenset(
    """
    default_rng RandomState Random open reader DictReader cursor execute finditer iterdir glob
    iglob rglob scandir StringIO BytesIO iterrows itertuples from_iterable connect
    Queue SimpleQueue LifoQueue PriorityQueue
    """.split()
)
_EVALUATING = frozenset(
    "query eval exec ols glm logit from_formula dmatrix dmatrices format_map timeit sql".split()
)
"""Functions and methods that look names of their texts up."""
_GENERATOR = "(generator)"

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True, slots=True)
class Learned:
    """What calling some functions may do.

    Parameters
    ----------
    changing : mapping of str to frozenset of Slot
        Functions and methods that change what they get, and how they get that.
    names : frozenset of str
        Names that are not their own whose objects they change.
    operated : frozenset of str
        Those that they change by operations alone, if these are no functions, classes, modules:
        ``scale(x)`` calls an instance, or a function.
    binds : frozenset of str
        Names that they bind.
    keepers : frozenset of str
        Functions whose answers move on with each use.
    moving : frozenset of str
        Functions that move on with each call: they change a default.
    """

    changing: Mapping[str, frozenset[Slot]]
    names: frozenset[str]
    operated: frozenset[str]
    binds: frozenset[str]
    keepers: frozenset[str]
    moving: frozenset[str]


@dataclass(slots=True)
class Effects:
    """What a cell does, as far as it depends on the functions that it calls.

    Parameters
    ----------
    functions : list of Function
        Those that it defines.
    needs : dict of str to frozenset of str
        Names that it binds, and the global names that may be read when they are used.
    definitions : set of str
        The names that its ``def`` and ``class`` statements bind.
    made : dict of str to set of str
        Names that it assigns, and the functions whose answers it assigns.
    changes : Changes
        What it changes itself; nothing if it only defines.
    runs : bool
        Whether it may call a function.
    spelled : set of str
        Words of texts that are evaluated: ``df.query("a > @limit")``.
    random : set of str
        As of `used_of_random`.
    files : FileUses
    """

    functions: list[Function] = field(default_factory=list)
    needs: dict[str, frozenset[str]] = field(default_factory=dict)
    definitions: set[str] = field(default_factory=set)
    made: dict[str, set[str]] = field(default_factory=dict)
    changes: Changes = field(default_factory=lambda: changes(()))
    runs: bool = False
    spelled: set[str] = field(default_factory=set)
    random: set[str] = field(default_factory=set)
    files: FileUses = field(default_factory=FileUses)

    def note(self, statement: ast.AST) -> None:
        """Add what a module-level statement defines and assigns."""
        self.functions += functions_of([statement])
        if not isinstance(statement, Definition):
            self.random |= used_of_random([statement])
        for node in ast.walk(statement):
            match node:
                case ast.Assign(targets=targets, value=value):
                    self._assign(targets, value)
                case ast.NamedExpr(target=target, value=value):
                    self._assign([target], value)
                case ast.withitem(context_expr=value, optional_vars=ast.expr() as target):
                    self._assign([target], value)
                case ast.FunctionDef(name=name, decorator_list=[_, *_] as decorators):
                    self.made.setdefault(name, set()).update(_decorating(decorators))
                case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
                    if name in _EVALUATING:
                        self.spelled |= words(_texts(node))

    def _assign(self, targets: Iterable[ast.expr], value: ast.expr) -> None:
        callees = set(_callees(value))
        for name in {name for target in targets for name in names_of(target)}:
            self.made.setdefault(name, set()).update(callees)

    def need(self, statement: ast.AST, names: frozenset[str]) -> None:
        """Note the global names that are read when what a statement binds is used."""
        bound = {statement.name} if isinstance(statement, Definition) else names_of(statement)
        if isinstance(statement, Definition):
            self.definitions |= bound
        for name in bound:
            self.needs[name] = self.needs.get(name, frozenset()) | names

    def streams(self, keepers: frozenset[str]) -> frozenset[str]:
        """Answer the names that it binds to what moves on with each use."""
        return frozenset(
            name for name, callees in self.made.items() if callees & (keepers | {_GENERATOR})
        )


def _callees(value: ast.expr) -> Iterator[str]:
    match value:
        case ast.GeneratorExp():
            yield _GENERATOR
        case ast.Call(func=ast.Name(id=name)):
            yield _GENERATOR if name in _STREAMS else name
        case ast.Call(func=ast.Attribute(value=receiver, attr=name)):
            of_itertools = isinstance(receiver, ast.Name) and receiver.id == "itertools"
            yield _GENERATOR if name in _STREAM_METHODS or of_itertools else name
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            for part in parts:
                yield from _callees(part)


def _decorating(decorators: Iterable[ast.expr]) -> Iterator[str]:
    """Yield the functions whose answer a decorated one is."""
    for decorator in decorators:
        function = decorator.func if isinstance(decorator, ast.Call) else decorator
        if isinstance(function, ast.Name):
            yield function.id


def _texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def learn(functions: Iterable[Function], *, inserting: bool = False) -> Learned:
    """Find out what functions do that may call one another.

    Parameters
    ----------
    functions : iterable of Function
    inserting : bool
        What looks an item up changes its object: a ``defaultdict`` gets what is not there.
    """
    return _learn(frozenset(functions), inserting)


@lru_cache(maxsize=64)  # one cell after the other calls the same ones
def _learn(functions: frozenset[Function], inserting: bool) -> Learned:
    changing = dict(CHANGING)
    if inserting:
        changing["__missing__"] = frozenset({RECEIVER})
    while True:
        before = with_operations(changing)
        for function in functions:
            if changed := function.changed(before):
                name = ATTRIBUTE + function.name if function.getter else function.name
                changing[name] = changing.get(name, frozenset()) | changed
        if with_operations(changing) == before:
            break
    changing = before
    spelled = without_operations(changing)
    names = {n for f in functions for n in f.changes.names(spelled) - f.own}
    every = {n for f in functions for n in f.changes.names(changing) - f.own}
    return Learned(
        changing,
        frozenset(names),
        frozenset(every - names),
        frozenset(name for function in functions for name in function.binds),
        frozenset(function.name for function in functions if function.keeps),
        frozenset(
            function.name
            for function in functions
            if not function.defaults.isdisjoint(function.changes.names(changing))
        ),
    )
