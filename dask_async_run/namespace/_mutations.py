"""Names whose objects a piece of code may change in place.

A guess from the shape of the statements (SEMANTICS.md, line 12). It decides
which jobs wait for one another, not what comes back: that is found out by
looking at the objects. Scopes are not told apart here; the caller keeps the
names that are global.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from dask_async_run.namespace._calls import Call, Slot, roots
from dask_async_run.namespace._operations import has_operations, operations, slots_of

# Statements that only call one of these show something. Nothing that would
# exhaust an iterator is among them.
_PURE_FUNCTIONS = set(
    """
    print display len repr str type id help isinstance issubclass hash callable format round abs
    dir vars hasattr getattr pprint
    """.split()
)
_PURE_METHODS = set(
    """
    head tail describe info keys values items copy count nunique mean median std var min max sum
    corr unique value_counts isnull isna notnull notna round astype to_string to_html all
    predict predict_proba score query groupby agg pivot_table sort_values reset_index set_index
    drop dropna fillna replace rename any format join split strip startswith endswith lower
    upper
    """.split()
)
# Methods that change their object also where their value is used.
_MUTATORS = set(
    """
    append extend insert remove pop popitem popleft setdefault clear fit fit_transform
    fit_predict partial_fit __setitem__ __delitem__ send
    """.split()
)  # Keywords of what is to be drawn on, or written to.
_TARGETS = set("ax axs axes out".split())


@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """What a piece of code does to objects, whatever the functions that it calls do.

    Parameters
    ----------
    found : frozenset of str
        Names whose objects it may change by itself.
    aliases : mapping of str to frozenset of str
        Names that it gives, and those to whose objects.
    calls : frozenset of Call
        Those that give objects which have names.
    trees : tuple of ast.AST
        The code.
    """

    found: frozenset[str]
    aliases: Mapping[str, frozenset[str]]
    calls: frozenset[Call]
    trees: tuple[ast.AST, ...]

    def names(
        self,
        changing: Mapping[str, frozenset[Slot]] | None = None,
        without: Collection[str] = (),
    ) -> set[str]:
        """Answer names, of any scope, whose objects the code may change in place.

        A name counts as well when its object gets another name here which is then
        used to change it: ``for row in rows: row.append(0)`` changes ``rows``.

        Parameters
        ----------
        changing : mapping of str to collection of Slot, optional
            Functions and methods that change what they get, and how they get that.
        without : collection of str, optional
            Names of functions, classes and modules: these have no operations of a notebook's.
        """
        found = set(self.found)
        for call in self.calls if changing else ():
            found |= call.given((changing or {}).get(call.name, ()))
        if changing and has_operations(changing):
            for call in operations(self.trees):
                found |= call.given(slots_of(call, changing)) - {*without}
        waiting = list(found)
        while waiting:
            new = self.aliases.get(waiting.pop(), frozenset()) - found
            found |= new
            waiting += new
        return found


def changes(trees: Iterable[ast.AST], *, of_function: bool = False) -> Changes:
    """Find out what a piece of code does to objects.

    Parameters
    ----------
    trees : iterable of ast.AST
    of_function : bool
        It is a function's body. ``model.fit(x)`` there counts as a change of ``model`` alone, or
        no two cells that train something on ``x`` could run side by side.
    """
    trees = tuple(trees)
    found: set[str] = set()
    aliases: dict[str, set[str]] = defaultdict(set)
    calls: set[Call] = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Call):
            calls.update(_call(node))
            for keyword in node.keywords:
                if keyword.arg in _TARGETS:
                    found |= roots(keyword.value)
                elif keyword.arg == "inplace" and not _is_false(keyword.value):
                    found |= _receiver(node)
        match node:
            case ast.AugAssign(target=target):
                found |= roots(target)
            case ast.Assign(targets=targets, value=value):
                found |= _items(targets)
                _alias(aliases, targets, roots(value, deep=False))
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                found |= _items([target])
                _alias(aliases, [target], roots(value, deep=False))
            case ast.NamedExpr(target=target, value=value):
                _alias(aliases, [target], roots(value, deep=False))
            case ast.For() | ast.AsyncFor() | ast.comprehension():
                found |= _items([node.target])
                _alias(aliases, [node.target], roots(node.iter))
            case ast.withitem(context_expr=value, optional_vars=ast.expr() as target):
                found |= _items([target])
                _alias(aliases, [target], roots(value, deep=False))
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                for decorator in node.decorator_list:
                    found |= _decorated(decorator)
            case ast.Delete(targets=targets):
                found |= _items(targets)
            case ast.Expr(value=value):
                for call in _calls(value):
                    is_method = of_function and isinstance(call.func, ast.Attribute)
                    found |= _touched(call) & roots(call.func) if is_method else _touched(call)
            case ast.Call(func=ast.Attribute(value=receiver, attr=attr)) if attr in _MUTATORS:
                found |= roots(receiver)
            case ast.Call(func=ast.Name(id="next" | "setattr" | "delattr"), args=[first, *_]):
                found |= roots(first)
    return Changes(
        frozenset(found),
        {name: frozenset(roots) for name, roots in aliases.items()},
        frozenset(calls),
        trees,
    )


def _receiver(call: ast.Call) -> set[str]:
    return roots(call.func) if isinstance(call.func, ast.Attribute) else set()


def _is_false(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and not value.value


def _decorated(decorator: ast.expr) -> set[str]:
    """Names that decorating something changes: ``@app.route("/")``, ``@show.register``."""
    match decorator:
        case ast.Call():
            return _touched(decorator)
        case ast.Attribute(value=receiver):
            return roots(receiver)
        case _:
            return set()


def _call(call: ast.Call) -> Iterator[Call]:
    match call.func:
        case ast.Name(id=name):
            receiver: set[str] = set()
        case ast.Attribute(value=value, attr=name):
            receiver = roots(value)
        case _:
            return
    starred = (n for n, each in enumerate(call.args) if isinstance(each, ast.Starred))
    found = Call(
        name,
        frozenset(receiver),
        tuple(frozenset(roots(each)) for each in call.args),
        next(starred, None),
        tuple((each.arg or "", frozenset(roots(each.value))) for each in call.keywords),
    )
    if found.receiver or any(found.arguments) or any(names for _, names in found.keywords):
        yield found


def _flat(targets: Iterable[ast.expr]) -> Iterator[ast.expr]:
    """The single targets of an assignment."""
    for target in targets:
        match target:
            case ast.Tuple(elts=elements) | ast.List(elts=elements):
                yield from _flat(elements)
            case ast.Starred(value=value):
                yield from _flat([value])
            case _:
                yield target


def _items(targets: Iterable[ast.expr]) -> set[str]:
    """Names whose items or attributes are assigned or deleted."""
    items = (t for t in _flat(targets) if isinstance(t, ast.Attribute | ast.Subscript))
    return {name for target in items for name in roots(target)}


def _alias(aliases: dict[str, set[str]], targets: Iterable[ast.expr], roots: set[str]) -> None:
    """Note that `targets` may now be objects that belong to `roots`."""
    for target in _flat(targets):
        if isinstance(target, ast.Name):
            aliases[target.id] |= roots


def _calls(value: ast.expr) -> Iterator[ast.Call]:
    """The calls that an expression statement consists of."""
    match value:
        case ast.Call():
            yield value
        case ast.Await(value=inner) | ast.Starred(value=inner):
            yield from _calls(inner)
        case ast.Attribute(value=inner) | ast.Subscript(value=inner):
            yield from _calls(inner)
        case ast.BoolOp(values=parts) | ast.Tuple(elts=parts) | ast.List(elts=parts):
            for part in parts:
                yield from _calls(part)
        case ast.IfExp(body=body, orelse=orelse):
            yield from _calls(body)
            yield from _calls(orelse)
        case ast.ListComp(elt=element) | ast.SetComp(elt=element):
            yield from _calls(element)


def _touched(call: ast.Call) -> set[str]:
    """Names that a statement which only calls may change: receiver and arguments.

    A function itself is not among them, or no two cells that call the same one
    could run side by side.
    """
    found: set[str] = set()
    match call.func:
        case ast.Name(id=name) if name in _PURE_FUNCTIONS:
            return {n for k in call.keywords if k.arg == "file" for n in roots(k.value)}
        case ast.Attribute(attr=attr) if attr in _PURE_METHODS:
            if not any(keyword.arg == "inplace" for keyword in call.keywords):
                return found
            found |= roots(call.func)
        case ast.Attribute(value=receiver):
            found |= roots(receiver)
        case ast.Name():
            pass
        case other:
            found |= roots(other)
    for argument in [*call.args, *(keyword.value for keyword in call.keywords)]:
        found |= roots(argument)
    return found
