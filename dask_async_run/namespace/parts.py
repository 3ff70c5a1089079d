"""What is found only where it belongs to: descriptors of a class, functions that were replaced.

``functools.wraps(SomeClass)`` copies the descriptors of a class to a function; after
``math.factorial = debug(math.factorial)`` the name leads to the notebook's own function,
and the library's is inside of that.
"""

from __future__ import annotations

import sys
import types
from typing import Any

from dask_async_run.namespace.modules import find_module


def reduce_descriptor(descriptor: Any) -> Any:
    """Reduce a slot's or an attribute's descriptor: as it stands in its class."""
    return get_descriptor, (descriptor.__objclass__, descriptor.__name__)


def get_descriptor(cls: type, name: str) -> Any:
    # Not getattr: that of ``__dict__`` would answer what it describes.
    return type.__dict__["__dict__"].__get__(cls)[name]


def reduce_builtin(function: types.BuiltinFunctionType) -> Any:
    """Reduce a module's function in C that another one has taken the place of."""
    place = own_place(function)
    if place is None or getattr(sys.modules.get(place[0]), place[1], function) is function:
        return NotImplemented
    return find_own, place


def own_place(function: Any) -> tuple[str, str] | None:
    """Answer module and name of a library's function, whatever is there now."""
    if isinstance(function, types.BuiltinFunctionType):
        module = getattr(function.__self__, "__name__", None)
        if not isinstance(function.__self__, types.ModuleType):
            return None
    elif isinstance(function, types.FunctionType) and not is_notebooks(function):
        module = function.__module__
    else:
        return None
    return (module, function.__name__) if module and "." not in function.__qualname__ else None


def is_notebooks(function: Any) -> bool:
    """Whether a function was defined in the notebook, whatever it says that it is called."""
    return (
        isinstance(function, types.FunctionType)
        and function.__globals__.get("__name__") == "__main__"
    )


def find_own(module: str, name: str) -> Any:
    """Answer a module's own function; here, too, the notebook's may wrap it."""
    found = getattr(find_module(module), name)
    while is_notebooks(found):
        if not hasattr(found, "__wrapped__"):
            raise AttributeError(f"{module}.{name} has been replaced here")
        found = found.__wrapped__
    return found
