"""Surroundings that belong to the IPython shell: formatters, precision, magics, sources."""

from __future__ import annotations
import __future__

import functools
import linecache
import sys
from collections.abc import Iterable, Mapping
from operator import or_
from pathlib import Path
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
    numpy = sys.modules.get("numpy")
    options = numpy.get_printoptions() if numpy is not None else {}
    plain.float_precision, plain.float_format = values[0], values[1]
    if numpy is not None:  # whose precision that sets, too: it has a saver of its own
        numpy.set_printoptions(precision=options["precision"])
    plain.pprint, plain.max_seq_length = values[2], values[3]


_FLOATS = "as floats"
"""Stands for what a plain text formatter makes for itself: it prints floats with its format."""


@functools.cache
def _first_printers() -> dict[int, Any]:
    """Answer the printers of new formatters by `id`; kept, so that each goes on to mean one."""
    from IPython.core.formatters import DisplayFormatter

    tables = [table for f in DisplayFormatter().formatters.values() for table in _printers(f)]
    return {id(printer): printer for table in tables for printer in table.values()}


def _printers(formatter: Any) -> tuple[dict[Any, Any], ...]:
    return formatter.type_printers, formatter.deferred_printers, formatter.singleton_printers


def _own_printers(shell: Shell) -> dict[str, Any]:
    """Answer the printers that a shell has beyond those of a new one."""
    from IPython.lib import pretty

    # What is registered with `pretty` itself, at any time, a new formatter has too.
    tables: list[dict[Any, Any]] = [
        pretty._type_pprinters,
        pretty._deferred_type_pprinters,
        pretty._singleton_pprinters,
    ]
    # A printer that was registered for a name moves to its type when that is seen.
    first = _first_printers()
    later = {id(printer) for table in tables for printer in table.values()}
    found: dict[str, Any] = {}
    for mime, formatter in shell.display_formatter.formatters.items():
        own = [
            {
                k: _FLOATS if _is_plain(v) else v
                for k, v in table.items()
                if not (id(v) in first or id(v) in later or _is_figures(k))
                and not (k is float and _is_plain(v))
            }
            for table in _printers(formatter)
        ]
        if any(own):
            found[mime] = own
    return found


def _is_plain(printer: Any) -> bool:
    """Whether it is what a plain text formatter makes for itself, for floats."""
    name = getattr(printer, "__qualname__", "")
    return name == "PlainTextFormatter._type_printers_default.<locals>.<lambda>"


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
        there = formatters[mime].type_printers
        plain = next((v for v in there.values() if _is_plain(v)), None)
        own = {k: plain if v == _FLOATS else v for k, v in types.items()}
        there.update({k: v for k, v in own.items() if v is not None})
        formatters[mime].deferred_printers.update(deferred)
        formatters[mime].singleton_printers.update(singletons)
    shell.display_formatter.active_types = active
    for mime in enabled.keys() & formatters.keys():
        formatters[mime].enabled = enabled[mime]


def _formatters_difference(before: Any, now: Any) -> Any:
    """Answer the formatters as they are now, and which printers there are no more."""
    gone = {}
    for mime, tables in before[0].items():
        left = now[0].get(mime, [{}] * len(tables))
        gone[mime] = [
            [k for k in one if k not in two] for one, two in zip(tables, left, strict=True)
        ]
    return now, gone


def _merge_formatters(change: Any, shell: Shell) -> None:
    now, gone = change
    _write_formatters(now, shell)
    if shell is None:
        return
    formatters = shell.display_formatter.formatters
    for mime in gone.keys() & formatters.keys():
        for table, kinds in zip(_printers(formatters[mime]), gone[mime], strict=True):
            for kind in kinds:
                table.pop(kind, None)


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


STAND_IN = "# %%async_run"
"""How the comment begins that stands for the magic where a cell is compiled."""


def hide_stand_in(name: str) -> None:
    """Show the comment that stands for a cell's magic to nobody who reads the cell's source.

    Otherwise it is the text with which `help` describes the function below it.

    Parameters
    ----------
    name : str
        The cell's file name, which IPython has noted the source of.
    """
    entry = linecache.cache.get(name)
    if entry is not None and len(entry) == 4 and entry[2] and entry[2][0].startswith(STAND_IN):
        entry[2][0] = "\n"


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
            if getattr(shell, name) != value:
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


def magics_in(surroundings: Mapping[str, Any]) -> list[Any]:
    """Answer the notebook's magics that came with some surroundings."""
    made, _ = surroundings.get("magics", ({}, {}))
    return [function for functions in made.values() for function in functions.values()]


_NOT_EXTENSIONS = ("dask_async_run",)


def _read_extensions(shell: Shell) -> list[str] | None:
    """Answer the extensions that ``%load_ext`` has loaded: magics come from them."""
    if shell is None:
        return None
    return sorted(shell.extension_manager.loaded.difference(_NOT_EXTENSIONS))


def _write_extensions(names: list[str], shell: Shell) -> None:
    if shell is None:
        return
    # A cell process loads one when a magic is asked for that it does not have.
    load = getattr(shell, "load_extension_later", shell.extension_manager.load_extension)
    for name in names:
        try:
            load(name)
        except ModuleNotFoundError:
            continue  # not installed here: who uses it is told


def _autoreload_state(shell: Shell) -> dict[str, Any] | None:
    """Answer how ``%autoreload`` is set, where its extension is loaded."""
    magic = shell and shell.magics_manager.magics["line"].get("autoreload")
    reloader = getattr(getattr(magic, "__self__", None), "_reloader", None)
    if reloader is None:
        return None
    return {n: getattr(reloader, n) for n in _OF_RELOADER if hasattr(reloader, n)}


def _write_autoreload(state: dict[str, Any], shell: Shell) -> None:
    if _autoreload_state(shell) is None:
        return
    reloader = shell.magics_manager.magics["line"]["autoreload"].__self__._reloader
    for name, value in state.items():
        setattr(reloader, name, value)


_OF_RELOADER = ("enabled", "check_all", "autoload_obj")
_HISTORY_WORDS = frozenset("history hist recall rerun macro save notebook edit In _ih".split())


def _read_history(shell: Shell) -> Any:
    if shell is None:
        return None
    manager = shell.history_manager
    return list(manager.input_hist_parsed), list(manager.input_hist_raw)


def _write_history(texts: tuple[list[str], list[str]], shell: Shell) -> None:
    # Up to the cell that is to run, which the shell notes itself.
    manager = shell.history_manager
    for history, text in zip(
        (manager.input_hist_parsed, manager.input_hist_raw), texts, strict=True
    ):
        history[: len(text)] = text[: len(history)]


HISTORY = Saver("history", False, _read_history, _write_history, state=lambda shell: None)


def asks_for_history(words: Iterable[str]) -> bool:
    """Whether code with these words may look at what ran before."""
    return not _HISTORY_WORDS.isdisjoint(words)


# -- the error of an earlier cell: for ``%tb`` and who looks at ``sys.last_value`` ---------------

_ERROR_WORDS = frozenset("tb last_value last_type last_traceback last_exc print_last pm".split())


def _read_error(shell: Shell) -> BaseException | None:
    return getattr(sys, "last_value", None)


def _write_error(error: BaseException, shell: Shell) -> None:
    sys.last_type, sys.last_value = type(error), error
    sys.last_traceback = error.__traceback__
    if sys.version_info >= (3, 12):
        sys.last_exc = error


ERROR = Saver("last error", False, _read_error, _write_error, state=lambda shell: None)


def asks_for_error(words: Iterable[str]) -> bool:
    """Whether code with these words may look at the error of an earlier cell."""
    return not _ERROR_WORDS.isdisjoint(words)


# -- where the shell has been: for ``%cd -`` and ``%dhist`` ---------------------------------------


def _read_folders(shell: Shell) -> list[str] | None:
    folders = None if shell is None else shell.user_ns.get("_dh")
    return [str(folder) for folder in folders] if isinstance(folders, list) else None


def _write_folders(folders: list[str], shell: Shell) -> None:
    if shell is not None and isinstance(shell.user_ns.get("_dh"), list):
        shell.user_ns["_dh"][:] = map(Path, folders)


# -- what ``%store`` keeps, from one notebook to another ------------------------------------------


def _read_store(shell: Shell) -> str | None:
    profile = getattr(shell, "profile_dir", None)
    return None if profile is None else str(Path(profile.location) / "db")


def _write_store(folder: str, shell: Shell) -> None:
    # On another machine the cell's own one stays in its place.
    if shell is not None and Path(folder).is_dir() and hasattr(shell.db, "root"):
        shell.db = type(shell.db)(folder)


STORE = Saver("store", False, _read_store, _write_store, state=lambda shell: None)


def asks_for_store(words: Iterable[str]) -> bool:
    """Whether code with these words may use ``%store``."""
    return not _STORE_WORDS.isdisjoint(words)


_STORE_WORDS = frozenset(("store", "db"))


SOURCES = Saver("sources", False, lambda shell: None, _write_sources, piecemeal=True)

SHELL: tuple[Saver, ...] = (
    HISTORY,
    ERROR,
    Saver("folders", False, _read_folders, _write_folders),
    Saver("precision", False, _read_precision, _write_precision),
    Saver(
        "formatters",
        False,
        _read_formatters,
        _write_formatters,
        difference=_formatters_difference,
        merge=_merge_formatters,
    ),
    Saver("shell options", False, _read_options, _write_options),
    Saver("future", False, future_flags, _write_future),
    Saver("traceback mode", False, _read_traceback_mode, _write_traceback_mode),
    Saver(
        "extensions",
        False,
        _read_extensions,
        _write_extensions,
        difference=lambda before, now: [name for name in now if name not in before],
        piecemeal=True,
    ),
    # In a cell modules are as they are here, where they are loaded anew before it is sent.
    Saver("autoreload", False, lambda shell: None, _write_autoreload, state=_autoreload_state),
    Saver("magics", False, _read_magics, _write_magics),
    STORE,
    SOURCES,
)
