"""Surroundings that belong to the IPython shell: formatters, precision, magics, sources."""

from __future__ import annotations
import __future__

import functools
import linecache
from operator import or_
from typing import Any

from dask_async_run.surroundings.saver import Saver, Shell


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


def _own_printers(shell: Shell) -> dict[str, Any]:
    """Answer the printers that a shell has beyond those of a new one."""
    from IPython.core.formatters import DisplayFormatter

    fresh = {
        mime: (formatter.type_printers, formatter.deferred_printers, formatter.singleton_printers)
        for mime, formatter in DisplayFormatter().formatters.items()
    }
    # A printer that was registered for a name moves to its type when that is seen.
    known = {id(printer) for tables in fresh.values() for t in tables for printer in t.values()}
    found: dict[str, Any] = {}
    for mime, formatter in shell.display_formatter.formatters.items():
        tables = formatter.type_printers, formatter.deferred_printers, formatter.singleton_printers
        own = [
            {k: v for k, v in table.items() if id(v) not in known and not _is_figures(k)}
            for table in tables
        ]
        if any(own):
            found[mime] = own
    return found


def _is_figures(key: Any) -> bool:
    # The inline backend registers its own for figures, there as here.
    module = key[0] if isinstance(key, tuple) else getattr(key, "__module__", "")
    return str(module).startswith("matplotlib.figure")


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


def future_flags(shell: Shell) -> int:
    """Answer the compiler flags that ``__future__`` imports of earlier cells have set."""
    known = (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
    return int(getattr(getattr(shell, "compile", None), "flags", 0) & functools.reduce(or_, known))


def _write_future(flags: int, shell: Shell) -> None:
    if shell is not None:
        shell.compile.flags |= flags


def _read_traceback_mode(shell: Shell) -> Any:
    return None if shell is None else shell.InteractiveTB.mode


def _write_traceback_mode(mode: str, shell: Shell) -> None:
    if shell is not None and shell.InteractiveTB.mode != mode:
        shell.InteractiveTB.set_mode(mode)


_OPTIONS = ("ast_node_interactivity", "autoawait", "show_rewritten_input")


def _read_options(shell: Shell) -> Any:
    return None if shell is None else {name: getattr(shell, name) for name in _OPTIONS}


def _write_options(values: dict[str, Any], shell: Shell) -> None:
    if shell is not None:
        for name, value in values.items():
            setattr(shell, name, value)


def _read_magics(shell: Shell) -> Any:
    """Answer the magics that the notebook itself made, and the aliases."""
    if shell is None:
        return None
    manager = shell.magics_manager
    made: dict[str, dict[str, Any]] = {"line": {}, "cell": {}}
    aliases: dict[str, dict[str, Any]] = {"line": {}, "cell": {}}
    for kind, functions in manager.magics.items():
        for name, function in functions.items():
            if getattr(function, "__module__", None) == "__main__":
                made[kind][name] = function
            elif type(function).__name__ == "MagicAlias":
                parameters = getattr(function, "magic_params", None)
                aliases[kind][name] = function.magic_name, parameters
    return made, aliases


def _write_magics(state: Any, shell: Shell) -> None:
    if shell is None:
        return
    made, aliases = state
    for kind, functions in made.items():
        shell.magics_manager.magics[kind].update(functions)
        for name, (target, parameters) in aliases[kind].items():
            if name not in shell.magics_manager.magics[kind]:
                shell.magics_manager.register_alias(name, target, kind, parameters)


SHELL: tuple[Saver, ...] = (
    Saver("precision", False, _read_precision, _write_precision),
    Saver("formatters", False, _read_formatters, _write_formatters),
    Saver("shell options", False, _read_options, _write_options),
    Saver("future", False, future_flags, _write_future),
    Saver("traceback mode", False, _read_traceback_mode, _write_traceback_mode),
    Saver("magics", False, _read_magics, _write_magics),
    Saver("sources", False, lambda shell: None, _write_sources),
)
