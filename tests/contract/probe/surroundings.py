"""What surrounds a notebook: described for the judge, remembered and restored between cases."""

from __future__ import annotations

import copy
import decimal
import locale
import logging
import os
import random
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .walk import digest

_NOISE = ("_", "SHLVL", "OLDPWD", "DASK_ASYNC_RUN", "KMP_", "COLUMNS", "LINES")


def _shell() -> Any:
    from IPython.core.getipython import get_ipython

    return get_ipython()


def _environment() -> list[str]:
    return sorted(f"{k}={v}" for k, v in os.environ.items() if not k.startswith(_NOISE))


def _formatters() -> list[str]:
    found = []
    for mime, formatter in sorted(_shell().display_formatter.formatters.items()):
        kinds = [f"{k.__module__}.{k.__qualname__}" for k in formatter.type_printers]
        kinds += [".".join(k) for k in formatter.deferred_printers]
        found += [f"{mime} {formatter.enabled} {kind}" for kind in sorted(kinds)]
    text = _shell().display_formatter.formatters["text/plain"]
    return [*found, f"float_format {text.float_format!r}, {text.float_precision!r}"]


def _filters() -> list[str]:
    """Without those that libraries add when they are imported, whenever that is."""
    return [
        repr(entry)
        for entry in warnings.filters
        if entry[2].__module__ == "builtins"
        and not (entry[1] and re.search("numpy|matrix", entry[1].pattern))
    ]


def _decimal() -> list[str]:
    c = decimal.getcontext()
    return [f"{c.prec} {c.rounding} {c.Emin} {c.Emax} {[k for k, on in c.traps.items() if on]}"]


def _numpy_random() -> list[str]:
    name, keys, *rest = sys.modules["numpy"].random.get_state()
    return [f"{name} {digest(keys.tobytes())} {rest}"]


def _numpy_options() -> list[str]:
    return sorted(f"{k} {v!r}" for k, v in sys.modules["numpy"].get_printoptions().items())


def _pandas_options() -> list[str]:
    pd = sys.modules["pandas"]
    # Found without importing from pandas._config, whose layout changes.
    described = pd.describe_option(_print_desc=False)
    names = {line.split()[0] for line in described.splitlines() if line[:1].isalpha()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [f"{name} {pd.get_option(name)!r}" for name in sorted(names)]


def _rc_params() -> list[str]:
    held = dict.items(sys.modules["matplotlib"].rcParams)
    return sorted(f"{k} {v!r}" for k, v in held if k != "backend")


_OWN: dict[str, Callable[[], list[str]]] = {
    "folder": lambda: [str(Path.cwd())],
    "sys.path": lambda: list(sys.path),
    "environment": _environment,
    "random": lambda: [digest(repr(random.getstate()))],
    "warnings": _filters,
    "decimal": _decimal,
    "logging": lambda: [f"{logging.root.level}", *map(repr, logging.root.handlers)],
    "locale": lambda: [repr(locale.setlocale(locale.LC_ALL))],
    "recursion": lambda: [repr(sys.getrecursionlimit())],
    "formatters": _formatters,
}
"""Facts whose beginning may differ between the kernels: what has changed since is told."""

_OF_LIBRARIES: dict[str, tuple[str, Callable[[], list[str]]]] = {
    "numpy.random": ("numpy", _numpy_random),
    "numpy print options": ("numpy", _numpy_options),
    "pandas options": ("pandas", _pandas_options),
    "rcParams": ("matplotlib", _rc_params),
    "open figures": (
        "matplotlib.pyplot",
        lambda: [repr(sys.modules["matplotlib.pyplot"].get_fignums())],
    ),
}
"""Facts that exist once a library is loaded."""

_beginning: dict[str, list[str]] = {}


def begin() -> None:
    """Take what is the case now as the beginning."""
    _beginning.update({name: tell() for name, tell in _OWN.items()})


def describe() -> dict[str, str]:
    """What surrounds the notebook, as far as it can have changed."""
    found = {}
    for name, tell in _OWN.items():
        now, then = tell(), _beginning[name]
        changes = [f"+ {x}" for x in now if x not in then] + [
            f"- {x}" for x in then if x not in now
        ]
        found[name] = "\n".join(changes)
    for name, (module, tell) in _OF_LIBRARIES.items():
        if module in sys.modules:
            found[name] = "\n".join(tell())
    return found


_remembered: dict[str, Any] = {}


def remember() -> None:
    """Keep what `restore` goes back to."""
    _remembered.update(
        folder=Path.cwd(),
        path=list(sys.path),
        environ=dict(os.environ),
        filters=list(warnings.filters),
        level=logging.root.level,
        handlers=list(logging.root.handlers),
        decimal=copy.copy(decimal.getcontext()),
        recursion=sys.getrecursionlimit(),
        printers={
            mime: dict(formatter.type_printers)
            for mime, formatter in _shell().display_formatter.formatters.items()
        },
    )


def restore() -> None:
    """Undo what a notebook has done to its surroundings."""
    kept = _remembered
    os.chdir(kept["folder"])
    sys.path[:] = kept["path"]
    for name in set(os.environ) - set(kept["environ"]):
        del os.environ[name]
    os.environ.update(kept["environ"])
    filters: Any = warnings.filters
    filters[:] = kept["filters"]
    warnings._filters_mutated()  # type: ignore[attr-defined]
    logging.root.setLevel(kept["level"])
    logging.root.handlers[:] = kept["handlers"]
    decimal.setcontext(copy.copy(kept["decimal"]))
    sys.setrecursionlimit(kept["recursion"])
    _restore_display()
    if "numpy" in sys.modules:
        np = sys.modules["numpy"]
        np.set_printoptions(
            precision=8, threshold=1000, edgeitems=3, linewidth=75, suppress=False,
            nanstr="nan", infstr="inf", sign="-", formatter=None, floatmode="maxprec", legacy=False,
        )  # fmt: skip
    if "pandas" in sys.modules:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sys.modules["pandas"].reset_option("all")
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
        sys.modules["matplotlib"].rcdefaults()


def _restore_display() -> None:
    """Forget formatters of the case's own classes, of sympy's `init_printing`, and the precision.

    Those that libraries register once, when they are imported, stay: they would
    not do it again.
    """
    formatters = _shell().display_formatter.formatters
    formatters["text/plain"].float_precision = ""
    for mime, formatter in formatters.items():
        kept = _remembered["printers"][mime]
        for kind in list(formatter.type_printers):
            if kind in kept:
                formatter.type_printers[kind] = kept[kind]
            elif kind.__module__.split(".")[0] in ("__main__", "builtins", "sympy"):
                del formatter.type_printers[kind]
