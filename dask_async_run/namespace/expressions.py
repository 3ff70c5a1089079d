"""Sympy's expressions that were not evaluated, in streams.

They are pickled as the class and its arguments, and calling the class would evaluate:
``Add(x, x, evaluate=False)`` would come back as ``2*x``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from dask_async_run.namespace.kinds import per_class


def make_sum(cls: Any, args: tuple[Any, ...]) -> Any:
    """Make a sum or a product of what it consists of."""
    return cls._from_args(args)


def make_unevaluated(cls: Any, args: tuple[Any, ...]) -> Any:
    """Make a power, a relation, or what a function is of something."""
    return cls(*args, evaluate=False)


@per_class
def reducer(cls: type) -> Callable[[Any], Any] | None:
    """Answer what reduces the expressions of a class that evaluates; None for other classes."""
    core = sys.modules.get("sympy.core")
    if core is None or not hasattr(core, "Add"):
        return None
    if cls in (core.Add, core.Mul):
        return lambda obj: (make_sum, (cls, obj.args))
    evaluates = cls is core.Pow or issubclass(cls, core.relational.Relational)
    if evaluates or _is_function(cls, core.function):
        return lambda obj: (make_unevaluated, (cls, obj.args))
    return None


def _is_function(cls: type, module: Any) -> bool:
    """Whether a class is a function that is made as those of sympy are."""
    base = getattr(module, "DefinedFunction", module.Function)  # older ones have the latter alone
    makes = (base.__new__, module.Function.__new__)
    return issubclass(cls, module.Function) and cls.__new__ in makes
