"""Functions in the source of a notebook: what each does to what it gets, and to what is around it.

A guess from the shape of the code, as in `_mutations`.
"""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType

from dask_async_run.namespace._calls import ANY, RECEIVER, Slot
from dask_async_run.namespace._class_state import of_class
from dask_async_run.namespace._held import held_by, of_attributes
from dask_async_run.namespace._mutations import Changes, changes
from dask_async_run.namespace._rewrite import names_of
from dask_async_run.namespace.draws import used_of_random
from dask_async_run.namespace.file_uses import FileUses, path_of

_OWN_CHANGING = """
normal uniform integers standard_normal poisson binomial exponential permutation random choice
choices shuffle randint gauss
plot bar barh scatter hist imshow contour contourf legend twinx twiny add_subplot add_axes
add_patch add_artist add_collection add_line annotate text axhline axvline axhspan axvspan
fill_between errorbar pie boxplot pcolormesh quiver stem colorbar suptitle set_title
read readline readlines write writestr seek truncate step reset get_nowait
fetchone fetchmany fetchall execute executemany executescript
rotate subtract move_to_end appendleft extendleft fill update set
intersection_update difference_update symmetric_difference_update
add_argument add_argument_group add_mutually_exclusive_group add_subparsers add_parser
line circle vbar hbar segment multi_line varea add_layout
""".split()
"""Methods that change their object, also where their answer is used: random generators move on with
each number, axes and bokeh's figures get what is drawn on them."""
_FIRST_CHANGING = """
heappush heappop heappushpop heapreplace heapify fill_diagonal put place putmask copyto
SubElement insort
""".split()
"""Functions of modules that change their first argument."""
CHANGING: Mapping[str, frozenset[Slot]] = {
    **dict.fromkeys(_OWN_CHANGING, frozenset({RECEIVER})),
    **dict.fromkeys(_FIRST_CHANGING, frozenset({0})),
    "shuffle": frozenset({RECEIVER, 0}),
}
_OWN_ATTRIBUTES = ("__init__", "__post_init__", "__new__")

_BLOCKS = (ast.stmt, ast.ExceptHandler, ast.match_case)
"""Where definitions may be."""


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
    files : FileUses
    getter : bool
        It is a property: called by who reads an attribute.
    moves : bool
        It changes variables of the function around it: a counter, what a decorator remembers.
    remembers : bool
        It is a property that remembers in its object what it found (`functools.cached_property`).
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
    files: FileUses
    getter: bool = False
    moves: bool = False
    remembers: bool = False

    def changed(self, changing: Mapping[str, frozenset[Slot]]) -> frozenset[Slot]:
        """Answer how a call gives what it changes, if it calls those that are `changing`."""
        names = self.changes.names(changing) & self.parameters.keys()
        given = frozenset(slot for name in names for slot in self.parameters[name])
        return given | {RECEIVER} if self.remembers else given


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
                yield from _keepers(tree, outer, name)
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
    changed = changes(node.body, of_function=True)
    around = outer - {*parameters, *binds, *_assigned(node)}
    return Function(
        node.name,
        top,
        parameters,
        frozenset(own - binds),
        frozenset(defaults),
        changed,
        frozenset(binds),
        keeps or _moves_inside(node, own),
        used_of_random(node.body),
        _files(node),
        method and bool(_properties(node)),
        not around.isdisjoint(changed.names(CHANGING)),
        method and not _properties(node) <= {"property", "abstractproperty"},
    )


def _files(node: ast.FunctionDef | ast.AsyncFunctionDef) -> FileUses:
    found = FileUses()
    found.note(node.body)
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    given = positional[len(positional) - len(arguments.defaults) :]
    pairs = [*zip(given, arguments.defaults, strict=True)]
    named = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    pairs += [(each, default) for each, default in named if default is not None]
    found.defaults = {each.arg: path_of(default) for each, default in pairs}
    return found


def _assigned(node: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Answer the names that a function assigns, those left out that it shares by ``nonlocal``."""
    shared = {n for part in ast.walk(node) if isinstance(part, ast.Nonlocal) for n in part.names}
    return {name for part in node.body for name in names_of(part)} - shared


def _moves_inside(node: ast.AST, own: frozenset[str]) -> bool:
    """Whether a function in another one changes what belongs to that."""
    inner = functions_of((n for n in ast.iter_child_nodes(node) if isinstance(n, _BLOCKS)), own)
    return any(function.moves for function in inner)


def _properties(node: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Answer which decorators make a method a property, the libraries' ones included."""
    used = (d.attr if isinstance(d, ast.Attribute) else d for d in node.decorator_list)
    named = (d.id if isinstance(d, ast.Name) else d for d in used)
    return {name for name in named if isinstance(name, str) and name.endswith("property")}


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
            found = _function(of_class(method, node), outer, top, method=True)
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
                found.files,
            )


def _keepers(node: ast.ClassDef, outer: frozenset[str], top: str) -> Iterator[Function]:
    """Yield what instances of a class do, sooner or later, to the arguments that they hold."""
    maker, held = held_by(node)
    body = of_attributes(node, held)
    if maker is None or not body:
        return
    changed = changes(body, of_function=True)
    names = {part.id for tree in body for part in ast.walk(tree) if isinstance(part, ast.Name)}
    # Spelled as nothing else is: a method may have a name of its own that is a parameter's, too.
    given = {f"({name})": slots for name, slots in _slots(maker, method=True).items()}
    aliases = {name: frozenset(map("({})".format, of)) for name, of in held.items()}
    found = Changes(changed.found & held.keys(), aliases, changed.calls, ())
    own = frozenset({*outer, *names, *given, *held})
    yield Function(
        node.name, top, given, own, frozenset(), found, frozenset(), False, frozenset(), FileUses()
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
    _note_lines(tree, frozenset(), found)
    return found


def _note_lines(
    tree: ast.AST, outer: frozenset[str], found: dict[tuple[str, int], tuple[Function, ...]]
) -> None:
    """Note the functions in some code by name and first line; `outer` are names around it."""
    for node in ast.iter_child_nodes(tree):
        inside = outer
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            functions = tuple(functions_of([node], outer))
            found.setdefault((node.name, _first_line(node)), functions)
            inside = functions[0].own
        elif isinstance(node, ast.ClassDef):
            makers = (*_constructors(node, outer, node.name), *_keepers(node, outer, node.name))
            for method in node.body:
                if isinstance(method, ast.FunctionDef):
                    methods = functions_of([method], outer, methods=True)
                    found[method.name, _first_line(method)] = makers + tuple(methods)
        if isinstance(node, _BLOCKS):
            _note_lines(node, inside, found)


def _first_line(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
