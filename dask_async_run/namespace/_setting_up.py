"""Whether a cell does nothing but set what surrounds the others: options, seeds, folders.

A guess from the shape of the statements. Later cells show numbers with such a cell's options and
draw from its seeds, and have no name that says so: they wait for it. For one that does more they
do not, or a search with a seed of its own in each cell would run one after the other.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

_CALLS = set(
    """
    seed manual_seed set_seed set_random_seed seed_everything seed_all setstate set_state
    set_option reset_option set_options set_printoptions set_eng_float_format set_config
    chdir putenv setrecursionlimit setlocale setcontext seterr init_printing
    simplefilter filterwarnings resetwarnings basicConfig setLevel captureWarnings
    use rc rcdefaults rc_file switch_backend set_theme set_style set_context set_palette
    set_matplotlib_formats enable for_type for_type_by_name
    """.split()
)
_FOLDER_MAGICS = set("cd pushd popd".split())
_PLACES = set("environ path rcParams options getcontext DefaultContext display_formatter".split())
_MAGICS = set(
    """
    cd pushd popd env set_env config matplotlib precision load_ext reload_ext colors xmode alias
    """.split()
)


def sets_up(body: Iterable[ast.stmt]) -> bool:
    """Whether statements set something that surrounds cells, and do nothing else to speak of.

    Imports, definitions and assignments without a call may be among them, and where they go to
    another folder, anything: all later cells find their files from there.
    """
    statements = list(_flat(body))
    found = set(map(_sets, statements))
    return (True in found and None not in found) or any(map(_goes_elsewhere, statements))


def _goes_elsewhere(statement: ast.stmt) -> bool:
    match statement:
        case ast.Expr(
            value=ast.Call(
                func=ast.Attribute(attr="run_line_magic"), args=[ast.Constant(value=name), *_]
            )
        ):
            return name in _FOLDER_MAGICS
        case ast.Expr(value=ast.Call(func=func)):
            return next(_way(func), "") == "chdir"
    return False


def _flat(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run, those of ``if`` and ``try`` one by one, and what is asked there."""
    for statement in body:
        match statement:
            case ast.If(test=test, body=then, orelse=other):
                yield ast.Assign(targets=[], value=test)
                yield from _flat([*then, *other])
            case ast.Try(body=then, handlers=handlers, orelse=other, finalbody=last):
                yield from _flat([*then, *other, *last])
                yield from _flat(each for handler in handlers for each in handler.body)
            case _:
                yield statement


def _sets(statement: ast.stmt) -> bool | None:
    """Whether a statement sets something; None if it does what may take long."""
    match statement:
        case (
            ast.Import()
            | ast.ImportFrom()
            | ast.FunctionDef()
            | ast.AsyncFunctionDef()
            | ast.ClassDef()
            | ast.Pass()
            | ast.Expr(value=ast.Constant())
        ):
            return False
        case ast.Expr(value=ast.Call(func=ast.Name(id="print" | "display")) as call):
            return None if _calls([*call.args, *call.keywords]) else False
        case ast.Expr(value=ast.Call() as call):
            return _is_setting(call) or None
        case ast.Expr(value=value):  # `np.__version__`
            return None if _calls([value]) else False
        case ast.Assign(targets=targets, value=value):
            pass
        case ast.AnnAssign(target=target, value=ast.expr() as value):
            targets = [target]
        case ast.AugAssign(target=target, value=value):
            targets = [target]
        case _:
            return None
    if any(_PLACES & set(_way(target)) for target in targets):
        return True
    if isinstance(value, ast.Call) and _is_setting(value):
        return True
    return None if _calls([value]) else False


def _calls(trees: Iterable[ast.AST]) -> bool:
    slow = ast.Call | ast.Await
    return any(isinstance(part, slow) for tree in trees for part in ast.walk(tree))


def _is_setting(call: ast.Call) -> bool:
    match call:
        case ast.Call(
            func=ast.Attribute(attr="run_line_magic"), args=[ast.Constant(value=name), *_]
        ):
            return name in _MAGICS
    way = list(_way(call.func))
    return way[:1] != [] and (way[0] in _CALLS or not _PLACES.isdisjoint(way[1:]))


def _way(value: ast.expr) -> Iterator[str]:
    """The words of ``a.b().c[d]`` from the last to the first, without arguments and items."""
    match value:
        case ast.Name(id=name):
            yield name
        case ast.Attribute(value=inner, attr=attr):
            yield attr
            yield from _way(inner)
        case ast.Subscript(value=inner) | ast.Call(func=inner):
            yield from _way(inner)
