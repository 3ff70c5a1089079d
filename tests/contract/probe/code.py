"""Functions: what they do, what they see, what they carry."""

from __future__ import annotations

import inspect
import sys
import types
from typing import Any

from .walk import Node, digest, short


def text_of_code(code: types.CodeType) -> str:
    """What a code object does, whichever file and line it came from."""
    constants = []
    for constant in code.co_consts:
        if constant == code.co_firstlineno and "__firstlineno__" in code.co_names:
            continue  # a class's body, since 3.13
        if isinstance(constant, types.CodeType):
            constants.append(text_of_code(constant))
        elif isinstance(constant, frozenset):
            constants.append(str(sorted(map(repr, constant))))
        else:
            constants.append(repr(constant))
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    arguments = (code.co_argcount, code.co_kwonlyargcount, code.co_posonlyargcount, code.co_flags)
    return digest(repr((code.co_name, code.co_code, constants, names, arguments)))


def _globals_of(function: types.FunctionType, namespace: dict[str, Any]) -> str:
    held = function.__globals__
    if held is namespace:
        return "the namespace"
    name = held.get("__name__")
    module = sys.modules.get(str(name))
    return f"{name}" if module is not None and vars(module) is held else f"a copy of {name}"


def _source(function: types.FunctionType) -> str:
    try:
        return short(inspect.getsource(function), 120)
    except (OSError, TypeError):
        return "none"


def function_node(function: types.FunctionType, namespace: dict[str, Any]) -> Node:
    """A function that can't be imported."""
    code = function.__code__
    label = (
        f"function {function.__module__}.{function.__qualname__} (name {function.__name__}), "
        f"code {text_of_code(code)}, globals: {_globals_of(function, namespace)}, "
        f"doc: {short(repr(function.__doc__), 80)}"
    )
    if function.__globals__ is namespace:
        label += f", source: {_source(function)!r}"
    children: list[tuple[str, Any]] = []
    for name in ("__defaults__", "__kwdefaults__"):
        if getattr(function, name) is not None:
            children.append((f".{name}", getattr(function, name)))
    children += [
        (f" closure {name}", cell)
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True)
    ]
    children += [(f".{name}", value) for name, value in sorted(vars(function).items())]
    # What `functools.wraps` takes from a class, since 3.13.
    children = [child for child in children if child[0] != ".__firstlineno__"]
    if function.__annotations__:
        children.append((".__annotations__", dict(function.__annotations__)))
    return Node(label, children)
