"""Statements that cannot call a function: most definitions, imports, constants.

While only such statements follow one another, nothing has called the functions
that they define (see `analyse`). Whatever is in doubt is not calm: a decorator,
a metaclass, ``__set_name__``, an operator may call anything.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Collection

# Known to return or wrap what they decorate, and not to call it.
_DECORATORS = set(
    """
    property setter getter deleter staticmethod classmethod abstractmethod lru_cache cache
    cached_property wraps contextmanager asynccontextmanager dataclass total_ordering overload
    override final njit jit vectorize
    """.split()
)
_CALLS = {"field", "namedtuple", "defaultdict", "TypeVar"}
_EMPTY_CALLS = {"list", "dict", "set", "deque", "Counter", "OrderedDict"}
_BASES = {
    name
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, BaseException)
} | {"object"}


def is_calm(statement: ast.stmt, made: Collection[str]) -> bool:
    """Whether running `statement` calls no Python function that the cell defines.

    Parameters
    ----------
    statement : ast.stmt
        A module-level statement, or one of a class body.
    made : collection of str
        Names that the cell has bound so far other than by imports.
    """
    if getattr(statement, "type_params", None):  # a scope of its own, which runs at once
        return False
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            return _calm_function(statement, made)
        case ast.ClassDef(bases=bases, keywords=[], decorator_list=decorators, body=body):
            return (
                all(isinstance(base, ast.Name) and base.id in _BASES - {*made} for base in bases)
                and all(_calm_decorator(decorator, made) for decorator in decorators)
                and all(is_calm(inner, made) for inner in body)
            )
        case ast.Assign(targets=targets, value=value):
            return all(isinstance(t, ast.Name) for t in targets) and _calm_value(value, made)
        case ast.AnnAssign(target=ast.Name(), annotation=annotation, value=initial):
            return _calm_annotation(annotation, made) and (
                initial is None or _calm_value(initial, made)
            )
        case ast.ImportFrom(names=names):
            return names[0].name != "*"
        case ast.Expr(value=ast.Constant()):
            return True
    return isinstance(statement, ast.Import | ast.Pass | ast.Global | ast.Nonlocal)


def _calm_function(node: ast.FunctionDef | ast.AsyncFunctionDef, made: Collection[str]) -> bool:
    arguments = node.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    every += [a for a in (arguments.vararg, arguments.kwarg) if a]
    annotations = [a.annotation for a in every if a.annotation]
    annotations += [node.returns] if node.returns else []
    return (
        all(_calm_decorator(decorator, made) for decorator in node.decorator_list)
        and all(_calm_value(default, made) for default in _defaults(arguments))
        and all(_calm_annotation(annotation, made) for annotation in annotations)
    )


def _defaults(arguments: ast.arguments) -> list[ast.expr]:
    return [*arguments.defaults, *(default for default in arguments.kw_defaults if default)]


def _calm_decorator(node: ast.expr, made: Collection[str]) -> bool:
    match node:
        case ast.Call(func=func, args=arguments, keywords=keywords):
            values = [*arguments, *(keyword.value for keyword in keywords)]
            return _calm_decorator(func, made) and all(_calm_value(v, made) for v in values)
        case ast.Attribute(value=ast.Name(), attr=name):  # `functools.cache`, `x.setter`
            return name in _DECORATORS
        case ast.Name(id=name):
            return name in _DECORATORS and name not in made
    return False


def _calm_annotation(node: ast.expr, made: Collection[str]) -> bool:
    """Names, ``list[int]``, ``int | None``, ``np.ndarray``."""
    match node:
        case ast.Constant():
            return True
        case ast.Name():
            return True
        case ast.Attribute(value=value):
            parts = [value]
        case ast.Subscript(value=value, slice=index):
            parts = [value, index]
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            parts = [left, right]
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            pass
        case _:
            return False
    return all(
        _calm_annotation(part, made) and not (isinstance(part, ast.Name) and part.id in made)
        for part in parts
    )


def _calm_value(node: ast.expr, made: Collection[str]) -> bool:
    match node:
        case ast.Constant() | ast.Name():
            return True
        case ast.UnaryOp(operand=ast.Constant()):
            return True
        case ast.Lambda(args=arguments):
            return all(_calm_value(default, made) for default in _defaults(arguments))
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            return all(_calm_value(part, made) for part in parts)
        case ast.Dict(keys=keys, values=values):
            # Keys are hashed, which may call.
            return all(isinstance(key, ast.Constant) for key in keys) and all(
                _calm_value(value, made) for value in values
            )
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=keywords):
            if name in made:
                return False
            values = [*arguments, *(keyword.value for keyword in keywords)]
            if name in _CALLS:
                return all(_calm_value(value, made) for value in values)
            return name in _EMPTY_CALLS and not values
    return False
