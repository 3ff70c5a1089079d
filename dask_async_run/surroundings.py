"""What surrounds a cell: working folder, paths, environment, random states, options.

A list of small *savers*. Each one reads a piece of state as plain values where
the cell was written, gives it to the cell process, and brings back what the
cell changed of it. A saver whose library is not imported costs nothing and
sends nothing; the cell process does not import a library for it either, except
where the state says that it was imported.

Shared by kernel and cell process; the shell (an ``InteractiveShell`` or None) is
an argument.
"""

from __future__ import annotations

import linecache
import os
import random
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Shell = Any

_FIRST_ENVIRONMENT = dict(os.environ)
"""The environment when this package was imported: later differences are the notebook's."""


@dataclass(frozen=True, slots=True)
class Saver:
    """Reads and writes one piece of surroundings.

    Parameters
    ----------
    name : str
    early : bool
        Must be in place before values are loaded (paths).
    read : callable(shell) -> object or None
        Plain values that compare with ``==``; None: nothing to save here.
    write : callable(value, shell)
    module : str
        Library that it is about, if any.
    state : callable(shell) -> object, or None
        What is compared before and after a cell; None: what `read` answers.
    difference : callable(before, now) -> object, or None
        What to bring back of a change; None: all of it.
    merge : callable(difference, shell), or None
        Brings a difference back; None: `write`.
    """

    name: str
    early: bool
    read: Callable[[Shell], Any]
    write: Callable[[Any, Shell], None]
    module: str = ""
    state: Callable[[Shell], Any] | None = None
    difference: Callable[[Any, Any], Any] | None = None
    merge: Callable[[Any, Shell], None] | None = None


# -- process ---------------------------------------------------------------------


def _read_folder(shell: Shell) -> str | None:
    try:
        return str(Path.cwd())
    except OSError:  # it was removed
        return None


def _write_folder(folder: str, shell: Shell) -> None:
    # Another host may not have it; the cell says so itself if it needs it.
    if Path(folder).is_dir():
        os.chdir(folder)


def _write_path(path: list[str], shell: Shell) -> None:
    # Another host has other folders; what this process needs itself stays, at the end.
    here = [entry for entry in path if entry == "" or Path(entry).exists()]
    sys.path[:] = here + [entry for entry in sys.path if entry not in here]


def _path_difference(before: list[str], now: list[str]) -> dict[str, list[str]]:
    """Answer the entries that are gone, and those that came, at the front and behind."""
    new = [entry for entry in now if entry not in before]
    old_at = next((i for i, entry in enumerate(now) if entry in before), len(now))
    return {
        "gone": [entry for entry in before if entry not in now],
        "front": [entry for entry in now[:old_at] if entry in new],
        "back": [entry for entry in now[old_at:] if entry in new],
    }


def _merge_path(difference: dict[str, list[str]], shell: Shell) -> None:
    kept = [entry for entry in sys.path if entry not in difference["gone"]]
    front = [entry for entry in difference["front"] if entry not in kept]
    back = [entry for entry in difference["back"] if entry not in kept]
    sys.path[:] = [*front, *kept, *back]


def _environment_difference(
    before: Mapping[str, str], now: Mapping[str, str]
) -> dict[str, str | None]:
    changed: dict[str, str | None] = {k: v for k, v in now.items() if before.get(k) != v}
    return changed | {k: None for k in before if k not in now}


def environment_changes(first: Mapping[str, str]) -> dict[str, str | None]:
    """Answer what was set, changed or (None) removed in ``os.environ`` since `first`."""
    changes: dict[str, str | None] = {
        k: v for k, v in os.environ.items() if first.get(k) != v and k not in _NOT_SENT
    }
    changes |= {k: None for k in first if k not in os.environ and k not in _NOT_SENT}
    # ipykernel sets it before this package is imported, and it chooses how figures show.
    changes["MPLBACKEND"] = os.environ.get("MPLBACKEND")
    return changes


_NOT_SENT = {"JPY_PARENT_PID", "PYTHONHASHSEED", "KERNEL_LAUNCH_TIMEOUT", "OLDPWD", "PWD"}


def _write_environment(changes: dict[str, str | None], shell: Shell) -> None:
    for name, value in changes.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _read_filters(shell: Shell) -> Any:
    return list(warnings.filters)


def _write_filters(filters: list[Any], shell: Shell) -> None:
    warnings.filters[:] = filters  # type: ignore[index]
    warnings._filters_mutated()  # type: ignore[attr-defined]


# -- random states -------------------------------------------------------------------


def _read_numpy_random(shell: Shell) -> Any:
    numpy = sys.modules.get("numpy")
    if numpy is None or "numpy.random" not in sys.modules:
        return None
    name, keys, position, has_gauss, gauss = numpy.random.get_state()
    return name, keys.tobytes(), position, has_gauss, gauss


def _write_numpy_random(state: Any, shell: Shell) -> None:
    import numpy

    name, keys, *rest = state
    numpy.random.set_state((name, numpy.frombuffer(keys, dtype=numpy.uint32), *rest))  # noqa: NPY002 - the user's


# -- libraries' options ----------------------------------------------------------------


def _read_numpy_print(shell: Shell) -> Any:
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return None
    return {k: v for k, v in numpy.get_printoptions().items() if k != "override_repr"}


def _write_numpy_print(options: dict[str, Any], shell: Shell) -> None:
    import numpy

    numpy.set_printoptions(**options)


def _read_pandas(shell: Shell) -> Any:
    config = sys.modules.get("pandas._config.config")
    if config is None:
        return None
    found = {}
    for key, registered in config._registered_options.items():
        if key in config._deprecated_options:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = config.get_option(key)
        default = registered.defval
        if value is not default and value != default:
            found[key] = value
    return found


def _write_pandas(options: dict[str, Any], shell: Shell) -> None:
    import pandas
    from pandas._config import config

    before = _read_pandas(shell) or {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for key in before.keys() - options.keys():
            pandas.reset_option(f"^{key}$")
        for key, value in options.items():
            if key in config._registered_options:
                pandas.set_option(key, value)


def _read_backend(shell: Shell) -> str | None:
    """Answer the backend, once pyplot has chosen one."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if getattr(pyplot, "_backend_mod", None) is None:
        return None
    return str(dict.__getitem__(sys.modules["matplotlib"].rcParams, "backend"))


def _write_backend(name: str, shell: Shell) -> None:
    import matplotlib.pyplot as pyplot

    if getattr(pyplot, "_backend_mod", None) is None:
        try:
            pyplot.switch_backend(name)
        except ImportError:
            pass  # one that needs a screen: the cell's own choice is as good


def _read_matplotlib(shell: Shell) -> Any:
    matplotlib = sys.modules.get("matplotlib")
    if matplotlib is None or not hasattr(matplotlib, "rcParams"):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # dict's own: reading "backend" through RcParams would choose one.
        return {
            key: dict.__getitem__(matplotlib.rcParams, key)
            for key in matplotlib.rcParams
            if not key.startswith("backend") and key != "interactive"
        }


def _write_matplotlib(params: dict[str, Any], shell: Shell) -> None:
    import matplotlib

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # RcParams' own checks refuse some of its own values.
        raw: Any = matplotlib.rcParams
        dict.update(raw, params)


_INLINE = ("figure_formats", "print_figure_kwargs", "close_figures")


def _read_inline(shell: Shell) -> Any:
    config = sys.modules.get("matplotlib_inline.config")
    if config is None or not config.InlineBackend.initialized():
        return None
    backend = config.InlineBackend.instance()
    return {name: getattr(backend, name) for name in _INLINE}


def _write_inline(values: dict[str, Any], shell: Shell) -> None:
    if shell is None:
        return
    from matplotlib_inline.config import InlineBackend

    backend = InlineBackend.instance(parent=shell)
    backend.shell = shell
    for name, value in values.items():
        setattr(backend, name, value)


def _read_decimal(shell: Shell) -> Any:
    if "decimal" not in sys.modules:
        return None
    context = sys.modules["decimal"].getcontext()
    return {name: getattr(context, name) for name in ("prec", "rounding", "Emin", "Emax")}


def _write_decimal(values: dict[str, Any], shell: Shell) -> None:
    import decimal

    for name, value in values.items():
        setattr(decimal.getcontext(), name, value)


# -- the shell ---------------------------------------------------------------------------


def _read_precision(shell: Shell) -> Any:
    if shell is None:
        return None
    plain = shell.display_formatter.formatters["text/plain"]
    return plain.float_precision, plain.float_format, plain.pprint, plain.max_seq_length


def _write_precision(values: Any, shell: Shell) -> None:
    if shell is None:
        return
    plain = shell.display_formatter.formatters["text/plain"]
    plain.float_precision, plain.float_format = values[0], values[1]
    plain.pprint, plain.max_seq_length = values[2], values[3]


def _registered(shell: Shell) -> dict[str, dict[str, dict[Any, Any]]]:
    return {
        mime: {
            "types": dict(formatter.type_printers),
            "deferred": dict(formatter.deferred_printers),
            "singletons": dict(formatter.singleton_printers),
        }
        for mime, formatter in shell.display_formatter.formatters.items()
    }


def _own_printers(shell: Shell) -> dict[str, Any]:
    """Answer the printers that a shell has beyond those of a new one."""
    from IPython.core.formatters import DisplayFormatter

    fresh = {
        mime: (formatter.type_printers, formatter.deferred_printers, formatter.singleton_printers)
        for mime, formatter in DisplayFormatter().formatters.items()
    }
    found: dict[str, Any] = {}
    for mime, formatter in shell.display_formatter.formatters.items():
        tables = formatter.type_printers, formatter.deferred_printers, formatter.singleton_printers
        own = [
            {k: v for k, v in table.items() if _is_own(k, v, new)}
            for table, new in zip(tables, fresh.get(mime, ({}, {}, {})), strict=True)
        ]
        if any(own):
            found[mime] = own
    return found


def _is_own(key: Any, printer: Any, fresh: Mapping[Any, Any]) -> bool:
    module = key[0] if isinstance(key, tuple) else getattr(key, "__module__", "")
    # The inline backend registers its own for figures, there as here.
    return fresh.get(key) is not printer and not str(module).startswith("matplotlib.figure")


def _read_formatters(shell: Shell) -> Any:
    if shell is None:
        return None
    formatter = shell.display_formatter
    enabled = {mime: f.enabled for mime, f in formatter.formatters.items()}
    return _own_printers(shell), enabled, list(formatter.active_types)


def _write_formatters(state: Any, shell: Shell) -> None:
    if shell is None:
        return
    printers, enabled, active = state
    formatters = shell.display_formatter.formatters
    for mime in printers.keys() & formatters.keys():
        types, deferred, singletons = printers[mime]
        formatters[mime].type_printers.update(types)
        formatters[mime].deferred_printers.update(deferred)
        formatters[mime].singleton_printers.update(singletons)
    shell.display_formatter.active_types = active
    for mime in enabled.keys() & formatters.keys():
        formatters[mime].enabled = enabled[mime]


# -- where code comes from: for tracebacks and `inspect.getsource` ------------------------


def sources(files: set[str], shell: Shell) -> dict[str, tuple[int | None, str]]:
    """Answer number and text of the cells that some code was compiled from."""
    numbers = getattr(getattr(shell, "compile", None), "_filename_map", {})
    found = {}
    for name in files:
        entry = linecache.cache.get(name)
        # What lies on disk is read there; IPython's entries have no time.
        if entry is not None and len(entry) == 4 and entry[1] is None:
            found[name] = numbers.get(name), "".join(entry[2])
    return found


def _write_sources(texts: dict[str, tuple[int | None, str]], shell: Shell) -> None:
    numbers = getattr(getattr(shell, "compile", None), "_filename_map", {})
    for name, (number, text) in texts.items():
        entry = (len(text), None, text.splitlines(keepends=True), name)
        linecache.cache[name] = entry
        # IPython drops stale entries with `checkcache`, and keeps those noted here.
        interactive = getattr(linecache, "_ipython_cache", None)
        if interactive is not None:
            interactive[name] = entry
        if number is not None:
            numbers[name] = number


SAVERS: tuple[Saver, ...] = (
    Saver("folder", True, _read_folder, _write_folder),
    Saver(
        "path",
        True,
        lambda shell: list(sys.path),
        _write_path,
        difference=_path_difference,
        merge=_merge_path,
    ),
    Saver(
        "environment",
        True,
        lambda shell: environment_changes(_FIRST_ENVIRONMENT),
        _write_environment,
        state=lambda shell: dict(os.environ),
        difference=_environment_difference,
    ),
    Saver("warnings", False, _read_filters, _write_filters),
    Saver("random", False, lambda shell: random.getstate(), lambda s, shell: random.setstate(s)),
    Saver("numpy.random", False, _read_numpy_random, _write_numpy_random, "numpy"),
    Saver("numpy.printoptions", False, _read_numpy_print, _write_numpy_print, "numpy"),
    Saver("pandas", False, _read_pandas, _write_pandas, "pandas"),
    Saver("backend", False, _read_backend, _write_backend, "matplotlib.pyplot"),
    Saver("matplotlib", False, _read_matplotlib, _write_matplotlib, "matplotlib"),
    Saver("inline", False, _read_inline, _write_inline, "matplotlib_inline.config"),
    Saver("decimal", False, _read_decimal, _write_decimal),
    Saver("precision", False, _read_precision, _write_precision),
    Saver("formatters", False, _read_formatters, _write_formatters),
    Saver("sources", False, lambda shell: None, _write_sources),
)


def read(shell: Shell, early: bool) -> dict[str, Any]:
    """Answer the early or the late surroundings of this process.

    Parameters
    ----------
    shell : InteractiveShell or None
    early : bool
    """
    found = {}
    for saver in SAVERS:
        if saver.early is early:
            value = saver.read(shell)
            if value is not None:
                found[saver.name] = value
    return found


def write(found: Mapping[str, Any], shell: Shell) -> None:
    """Give this process the surroundings that `read` answered in another one.

    Libraries that they are about are imported.
    """
    for saver in SAVERS:
        if saver.name in found:
            saver.write(found[saver.name], shell)


def freshen() -> None:
    """Give a forked process random states of its own; a kernel's may replace them."""
    random.seed()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()


def state(shell: Shell) -> dict[str, Any]:
    """Answer everything that `changes` compares, early and late."""
    found = {}
    for saver in SAVERS:
        value = (saver.state or saver.read)(shell)
        if value is not None:
            found[saver.name] = value
    return found


def changes(before: Mapping[str, Any], shell: Shell) -> dict[str, Any]:
    """Answer what is different now from what `state` answered before, for `merge`."""
    now = state(shell)
    found = {}
    for saver in SAVERS:
        if saver.name not in now:
            continue
        value = now[saver.name]
        if saver.name not in before:
            found[saver.name] = value
        elif not _same(before[saver.name], value):
            change = saver.difference or (lambda _, after: after)
            found[saver.name] = change(before[saver.name], value)
    return found


def merge(found: Mapping[str, Any], shell: Shell) -> None:
    """Bring into this process what `changes` found in another one.

    What is about a library that is not imported here is passed over.
    """
    for saver in SAVERS:
        if saver.name in found and (not saver.module or saver.module in sys.modules):
            (saver.merge or saver.write)(found[saver.name], shell)


def _same(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # noqa: BLE001 - values of options that do not compare
        return False
