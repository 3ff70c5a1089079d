"""What is found only where it belongs to: descriptors of a class, functions that were replaced.

``functools.wraps(SomeClass)`` copies the descriptors of a class to a function; after
``math.factorial = debug(math.factorial)`` the name leads to the notebook's own function,
and the library's is inside of that.
"""

from __future__ import annotations

import gc
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
    """Answer a module's own function; here, too, the notebook's may wrap it, or replace it."""
    found = getattr(find_module(module), name)
    while is_notebooks(found):
        if not hasattr(found, "__wrapped__"):
            return _among_all(module, name)
        found = found.__wrapped__
    return found


def _among_all(module: str, name: str) -> Any:
    """Find a function that its module's name does not lead to any more.

    ``old = print; builtins.print = lambda *args: old("!", *args)``: nothing but the notebook's
    own name, whatever it is, leads there.
    """
    namespace = vars(find_module(module))
    for found in gc.get_objects():
        kind = type(found)
        if (
            kind is types.BuiltinFunctionType
            or (kind is types.FunctionType and found.__globals__ is namespace)
        ) and own_place(found) == (module, name):
            return found
    raise AttributeError(f"{module}.{name} has been replaced here")
