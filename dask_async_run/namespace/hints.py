"""What ``typing`` makes in a notebook, in streams: its own way is a name to look up."""

from __future__ import annotations

import typing
from typing import Any


def reduce_new_type(made: Any) -> Any:
    return make_new_type, (made.__name__, made.__supertype__, made.__module__, made.__qualname__)


def make_new_type(name: str, supertype: Any, module: str, qualname: str) -> Any:
    new_type: Any = typing.NewType
    made = new_type(name, supertype)
    made.__module__, made.__qualname__ = module, qualname
    return made


def reduce_parameters(made: Any) -> Any:
    bounds = (made.__bound__, made.__covariant__, made.__contravariant__)
    return make_parameters, (made.__name__, made.__module__, bounds)


def make_parameters(name: str, module: str, bounds: tuple[Any, bool, bool]) -> Any:
    bound, covariant, contravariant = bounds
    made = typing.ParamSpec(  # type: ignore[misc]
        name, bound=bound, covariant=covariant, contravariant=contravariant
    )
    made.__module__ = module
    return made


def reduce_tuple(made: Any) -> Any:
    return make_tuple, (made.__name__, made.__module__)


def make_tuple(name: str, module: str) -> Any:
    made: Any = typing.TypeVarTuple(name)  # type: ignore[misc]
    made.__module__ = module
    return made


REDUCERS: dict[type, Any] = {
    typing.NewType: reduce_new_type,
    typing.ParamSpec: reduce_parameters,
    typing.TypeVarTuple: reduce_tuple,
}
