"""What functions do to a notebook when they are called: a guess from their sources.

It decides which jobs wait for one another, as `_mutations` does for the statements of a cell;
which objects have changed is found out by looking at them.
"""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import CodeType

from dask_async_run.namespace._mutations import ANY, RECEIVER, Changes, Slot, changes
from dask_async_run.namespace._rewrite import names_of
from dask_async_run.namespace._strings import words
from dask_async_run.namespace.draws import used_of_random

_OWN_CHANGING = """
normal uniform integers standard_normal poisson binomial exponential permutation random choice
choices shuffle randint gauss
plot bar barh scatter hist imshow contour contourf legend twinx twiny add_subplot add_axes
add_patch add_artist add_collection add_line annotate text axhline axvline axhspan axvspan
fill_between errorbar pie boxplot pcolormesh quiver stem colorbar suptitle set_title
read readline readlines write step get_nowait fetchone fetchmany fetchall
""".split()
"""Methods that change their object, and have an answer that is used: random generators move on with
each number, axes get what is drawn on them."""
_FIRST_CHANGING = """
heappush heappop heappushpop heapreplace heapify fill_diagonal put place putmask copyto
""".split()
"""Functions of modules that change their first argument."""
_CHANGING: Mapping[str, frozenset[Slot]] = {
    **dict.fromkeys(_OWN_CHANGING, frozenset({RECEIVER})),
    **dict.fromkeys(_FIRST_CHANGING, frozenset({0})),
    "shuffle": frozenset({RECEIVER, 0}),
}
_STREAMS = frozenset(
    """
    iter map filter zip enumerate reversed count cycle chain islice starmap takewhile dropwhile
    accumulate product permutations combinations open Random default_rng RandomState
    """.split()
)
_STREAM_METHODS = frozenset(
    """
    default_rng RandomState Random open reader DictReader cursor execute finditer iterdir glob
    iglob rglob scandir StringIO BytesIO iterrows itertuples from_iterable connect
    """.split()
)
_EVALUATING = frozenset(
    "query eval exec ols glm logit from_formula dmatrix dmatrices format_map timeit sql".split()
)
"""Functions and methods that look names of their texts up."""
_GENERATOR = "(generator)"
_OWN_ATTRIBUTES = ("__init__", "__post_init__", "__new__")

_BLOCKS = (ast.stmt, ast.ExceptHandler, ast.match_case)
"""Where definitions may be."""

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True, slots=True, eq=False)
class Function:
    """A function, or a class as what is called to make an instance.

    Parameters
    ----------
    name : str
    top : str
        The name of the module-level statement that it is in.
    parameters : mapping of str to frozenset of Slot
        How a call gives each of its parameters.
    own : frozenset of str
        All names that are not global in it, parameters included.
    defaults : frozenset of str
        Parameters that have a default, whose changes the next call sees.
    changes : Changes
    binds : frozenset of str
        Names that it declares ``global``.
    keeps : bool
        What it answers moves on with each use: a generator, a closure that counts.
    random : frozenset of str
        As of `used_of_random`.
    """

    name: str
    top: str
    parameters: Mapping[str, frozenset[Slot]]
    own: frozenset[str]
    defaults: frozenset[str]
    changes: Changes
    binds: frozenset[str]
    keeps: bool
    random: frozenset[str]

    def changed(self, changing: Mapping[str, frozenset[Slot]]) -> frozenset[Slot]:
        """Answer how a call gives what it changes, if it calls those that are `changing`."""
        names = self.changes.names(changing) & self.parameters.keys()
        return frozenset(slot for name in names for slot in self.parameters[name])


@dataclass(frozen=True, slots=True)
class Learned:
    """What calling some functions may do.

    Parameters
    ----------
    changing : mapping of str to frozenset of Slot
        Functions and methods that change what they get, and how they get that.
    names : frozenset of str
        Names that are not their own whose objects they change.
    binds : frozenset of str
        Names that they bind.
    keepers : frozenset of str
        Functions whose answers move on with each use.
    moving : frozenset of str
        Functions that move on with each call: they change a default.
    """

    changing: Mapping[str, frozenset[Slot]]
    names: frozenset[str]
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
    """

    functions: list[Function] = field(default_factory=list)
    needs: dict[str, frozenset[str]] = field(default_factory=dict)
    definitions: set[str] = field(default_factory=set)
    made: dict[str, set[str]] = field(default_factory=dict)
    changes: Changes = field(default_factory=lambda: changes(()))
    runs: bool = False
    spelled: set[str] = field(default_factory=set)
    random: set[str] = field(default_factory=set)

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


def _texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def functions_of(
    trees: Iterable[ast.AST],
    outer: frozenset[str] = frozenset(),
    top: str = "",
    methods: bool = False,
) -> Iterator[Function]:
    """Yield the functions that are defined in some code, at any depth.

    Parameters
    ----------
    outer : frozenset of str
        Names of the functions around it.
    top : str
        The module-level definition that it is in.
    methods : bool
        Whether it is a class's body.
    """
    for tree in trees:
        inside, name, within = outer, top, methods
        match tree:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                name = top or tree.name
                function = _function(tree, outer, name, methods)
                yield function
                inside, within = function.own, False
            case ast.ClassDef():
                name = top or tree.name
                yield from _constructors(tree, outer, name)
                within = True
        inner = (n for n in ast.iter_child_nodes(tree) if isinstance(n, _BLOCKS))
        yield from functions_of(inner, inside, name, within)


def _function(
    node: ast.FunctionDef | ast.AsyncFunctionDef, outer: frozenset[str], top: str, method: bool
) -> Function:
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    parameters = _slots(node, method)
    defaults = {a.arg for a in positional[len(positional) - len(arguments.defaults) :]}
    named = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    defaults |= {a.arg for a, default in named if default is not None}
    binds = {n for inner in ast.walk(node) if isinstance(inner, ast.Global) for n in inner.names}
    own = outer | parameters.keys() | {n for part in node.body for n in names_of(part)}
    keeps = any(isinstance(n, ast.Yield | ast.YieldFrom | ast.Nonlocal) for n in ast.walk(node))
    return Function(
        node.name,
        top,
        parameters,
        frozenset(own - binds),
        frozenset(defaults),
        changes(node.body, of_function=True),
        frozenset(binds),
        keeps,
        used_of_random(node.body),
    )


def _slots(
    node: ast.FunctionDef | ast.AsyncFunctionDef, method: bool
) -> dict[str, frozenset[Slot]]:
    """Answer how a call gives each of a function's parameters."""
    arguments = node.args
    static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in node.decorator_list)
    first = RECEIVER if method and not static else 0
    found: dict[str, frozenset[Slot]] = {}
    for place, each in enumerate([*arguments.posonlyargs, *arguments.args], first):
        named = each in arguments.args and place != RECEIVER
        found[each.arg] = frozenset({place, each.arg} if named else {place})
    for each in arguments.kwonlyargs:
        found[each.arg] = frozenset({each.arg})
    for more in (arguments.vararg, arguments.kwarg):
        if more is not None:
            found[more.arg] = frozenset({ANY})
    return found


def _constructors(node: ast.ClassDef, outer: frozenset[str], top: str) -> Iterator[Function]:
    """Yield what making an instance of a class does to the arguments."""
    for method in node.body:
        if not isinstance(method, ast.FunctionDef):
            continue
        if method.name in _OWN_ATTRIBUTES or method.name == "__next__":
            found = _function(method, outer, top, method=True)
            given = {n: slots for n, slots in found.parameters.items() if RECEIVER not in slots}
            yield Function(
                node.name,
                top,
                given,
                found.own,
                found.defaults,
                found.changes,
                found.binds,
                method.name == "__next__",
                found.random,
            )


def functions_behind(codes: Iterable[CodeType]) -> set[Function]:
    """Answer the functions that code objects of cells were compiled from, where texts are known."""
    found: set[Function] = set()
    texts: dict[str, Mapping[tuple[str, int], tuple[Function, ...]]] = {}
    for code in codes:
        if code.co_filename not in texts:
            text = "".join(linecache.getlines(code.co_filename))
            texts[code.co_filename] = _by_line(text) if text else {}
        found.update(texts[code.co_filename].get((code.co_name, code.co_firstlineno), ()))
    return found


@lru_cache(maxsize=512)
def _by_line(text: str) -> Mapping[tuple[str, int], tuple[Function, ...]]:
    found: dict[tuple[str, int], tuple[Function, ...]] = {}
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return found
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            line = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            found.setdefault((node.name, line), tuple(functions_of([node])))
        elif isinstance(node, ast.ClassDef):
            makers = tuple(_constructors(node, frozenset(), node.name))
            for method in node.body:
                if isinstance(method, ast.FunctionDef):
                    line = min([method.lineno, *(d.lineno for d in method.decorator_list)])
                    found[method.name, line] = makers + tuple(functions_of([method], methods=True))
    return found


def learn(functions: Iterable[Function]) -> Learned:
    """Find out what functions do that may call one another."""
    return _learn(frozenset(functions))


@lru_cache(maxsize=64)  # one cell after the other calls the same ones
def _learn(functions: frozenset[Function]) -> Learned:
    changing = dict(_CHANGING)
    while True:
        before = dict(changing)
        for function in functions:
            if changed := function.changed(before):
                changing[function.name] = changing.get(function.name, frozenset()) | changed
        if changing == before:
            break
    names = {n for f in functions for n in f.changes.names(changing) - f.own}
    return Learned(
        changing,
        frozenset(names),
        frozenset(name for function in functions for name in function.binds),
        frozenset(function.name for function in functions if function.keeps),
        frozenset(
            function.name
            for function in functions
            if not function.defaults.isdisjoint(function.changes.names(changing))
        ),
    )
