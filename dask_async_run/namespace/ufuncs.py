"""Universal functions of numpy that were made of a Python function: `numpy.frompyfunc`.

numpy pickles each by a name, which these have not. `numpy.vectorize` keeps some, too.
"""

from __future__ import annotations

import gc
import sys
from typing import Any


def is_of_python(obj: Any) -> bool:
    """Whether an object is a universal function that calls a Python function."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(obj) is numpy.ufunc and _called(obj) is not None


def _called(ufunc: Any) -> Any:
    """Answer the function that it calls: nothing but the garbage collector is told of that."""
    if ufunc.__name__.endswith(" (vectorized)"):
        return next((held for held in gc.get_referents(ufunc) if callable(held)), None)
    return None


def reduce_ufunc(ufunc: Any) -> Any:
    """Reduce a universal function of which `is_of_python` holds."""
    return make_ufunc, (_called(ufunc), ufunc.nargs - ufunc.nout, ufunc.nout, ufunc.identity)


def make_ufunc(function: Any, inputs: int, outputs: int, identity: Any) -> Any:
    """Make such a function; without an identity it is not said that there is one."""
    more = {} if identity is None else {"identity": identity}
    return sys.modules["numpy"].frompyfunc(function, inputs, outputs, **more)
