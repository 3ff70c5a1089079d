"""Settings of libraries that one call reads and another one writes.

Precision, limits, options, themes: what a notebook sets once at its top. Each
entry is active where its library is imported.
"""

from __future__ import annotations

import csv
import functools
import gc
import locale
import socket
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from dask_async_run.surroundings.saver import Saver


def _setting(
    name: str, module: str, read: Callable[[Any], Any], write: Callable[[Any, Any], object]
) -> Saver:
    """Make a saver of functions that get the imported module."""

    def read_if_imported(shell: Any) -> Any:
        library = sys.modules.get(module)
        try:
            return None if library is None else read(library)
        except AttributeError:
            return None  # it is being imported, or of another version

    def write_importing(value: Any, shell: Any) -> None:
        if value == {} and module not in sys.modules:
            return  # nothing was set: every kernel has dask, and few cells need it
        __import__(module)
        write(sys.modules[module], value)

    return Saver(name, False, read_if_imported, write_importing, module)


def _write_locale(module: Any, value: str) -> None:
    try:
        locale.setlocale(locale.LC_ALL, value)
    except locale.Error:
        pass  # this machine does not have it


def _write_gc(module: Any, value: bool) -> None:
    (gc.enable if value else gc.disable)()


def _write_mpmath(mpmath: types.ModuleType, values: tuple[Any, ...]) -> None:
    mpmath.mp.prec, mpmath.mp.pretty, mpmath.mp.trap_complex, mpmath.iv.prec = values


# -- dask.config: what is not a default of a library --------------------------------------

_NOT_SET = ("scheduler", "shuffle", "async_run_state", "async_run_runtime")
"""Set by ``Client()``, which a cell has its own one of, or none; or variables of ours."""


_MISSING = object()


def _set(
    config: Mapping[str, Any], defaults: Mapping[str, Any], above: str = ""
) -> Iterator[tuple[str, Any]]:
    """Answer what of a configuration is no default; what is as a whole is not looked into."""
    for key, value in config.items():
        default = defaults.get(key, _MISSING)
        if default == value:
            continue
        if isinstance(value, Mapping) and value:
            below = default if isinstance(default, Mapping) else {}
            yield from _set(value, below, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _read_dask(config: types.ModuleType) -> dict[str, Any]:
    defaults = _dask_defaults(len(config.defaults))
    return {key: value for key, value in _set(config.config, defaults) if key not in _NOT_SET}


@functools.lru_cache(maxsize=4)
def _dask_defaults(count: int) -> dict[str, Any]:
    """Answer the defaults of so many libraries; they are only added to."""
    config = sys.modules["dask.config"]
    merged: dict[str, Any] = config.merge(*config.defaults[:count])
    return merged


def _write_dask(config: types.ModuleType, values: Mapping[str, Any]) -> None:
    config.set(dict(values))


# -- asyncio, made to nest ----------------------------------------------------------------


def _read_nesting(asyncio: types.ModuleType) -> str | None:
    if not getattr(asyncio, "_nest_patched", False):
        return None
    return next((n for n in ("nest_asyncio", "nest_asyncio2") if n in sys.modules), None)


def _write_nesting(asyncio: types.ModuleType, name: str) -> None:
    __import__(name)
    sys.modules[name].apply()


# -- drawing ----------------------------------------------------------------------------------


def _read_colormaps(matplotlib: types.ModuleType) -> dict[str, Any]:
    """Answer the notebook's own colour maps; seaborn registers its when it is imported."""
    maps = matplotlib.colormaps
    seaborns = vars(sys.modules.get("seaborn.cm", gc))
    own = maps._cmaps.keys() - maps._builtin_cmaps
    return {name: maps[name] for name in own if name.removesuffix("_r") not in seaborns}


def _write_colormaps(matplotlib: types.ModuleType, maps: Mapping[str, Any]) -> None:
    for name, colours in maps.items():
        matplotlib.colormaps.register(colours, name=name, force=True)


def _read_plotly(io: types.ModuleType) -> tuple[Any, Any]:
    return io.templates.default, io.renderers.default


def _write_plotly(io: types.ModuleType, values: tuple[Any, Any]) -> None:
    templates, renderers = values
    if io.templates.default != templates:
        io.templates.default = templates
    if io.renderers.default != renderers:
        io.renderers.default = renderers


_ALTAIR = ("data_transformers", "renderers", "theme")


def _read_altair(altair: types.ModuleType) -> dict[str, Any]:
    return {
        name: (registry.active, dict(registry.options))
        for name in _ALTAIR
        if (registry := getattr(altair, name, None)) is not None and hasattr(registry, "options")
    }


def _write_altair(altair: types.ModuleType, values: Mapping[str, Any]) -> None:
    for name, (active, options) in values.items():
        if active:
            getattr(altair, name).enable(active, **options)


def _read_bokeh(state: types.ModuleType) -> str | None:
    current = state.curstate()
    return current.notebook_type if current.notebook else None


# -- sqlite3: how values become columns, and columns values -------------------------------------


def _read_sqlite(dbapi2: types.ModuleType) -> tuple[dict[Any, Any], dict[str, Any]]:
    """Answer the notebook's own adapters and converters, by type and by name."""

    def is_own(function: Any) -> bool:
        # IPython has one, for its history.
        module = str(getattr(function, "__module__", None))
        return module != dbapi2.__name__ and module.partition(".")[0] != "IPython"

    adapters = {kind: f for (kind, _), f in dbapi2.adapters.items() if is_own(f)}
    return adapters, {name: f for name, f in dbapi2.converters.items() if is_own(f)}


def _write_sqlite(dbapi2: types.ModuleType, values: tuple[dict[Any, Any], dict[str, Any]]) -> None:
    adapters, converters = values
    for kind, function in adapters.items():
        dbapi2.register_adapter(kind, function)
    for name, function in converters.items():
        dbapi2.register_converter(name, function)


# -- torch ------------------------------------------------------------------------------------


def _read_torch(torch: types.ModuleType) -> tuple[Any, ...]:
    # As bytes: tensors do not compare with one answer.
    return (
        torch.get_rng_state().numpy().tobytes(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
    )


def _write_torch(torch: types.ModuleType, values: tuple[Any, ...]) -> None:
    state, dtype, grad, deterministic = values
    torch.set_rng_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))
    torch.set_default_dtype(dtype)
    torch.set_grad_enabled(grad)
    torch.use_deterministic_algorithms(deterministic)


SETTINGS: tuple[Saver, ...] = (
    _setting("csv", "csv", lambda m: csv.field_size_limit(), lambda m, v: csv.field_size_limit(v)),
    _setting("gc", "gc", lambda m: gc.isenabled(), _write_gc),
    _setting(
        "digits of integers",
        "sys",
        lambda m: m.get_int_max_str_digits(),
        lambda m, v: m.set_int_max_str_digits(v),
    ),
    _setting("locale", "locale", lambda m: m.setlocale(m.LC_ALL), _write_locale),
    _setting(
        "sockets",
        "socket",
        lambda m: (socket.getdefaulttimeout(),),
        lambda m, v: socket.setdefaulttimeout(*v),
    ),
    _setting("asyncio", "asyncio", _read_nesting, _write_nesting),
    _setting("dask", "dask.config", _read_dask, _write_dask),
    _setting(
        "mpmath",
        "mpmath",
        lambda m: (m.mp.prec, m.mp.pretty, m.mp.trap_complex, m.iv.prec),
        _write_mpmath,
    ),
    _setting("colormaps", "matplotlib", _read_colormaps, _write_colormaps),
    _setting(
        "xarray",
        "xarray.core.options",
        lambda m: dict(m.OPTIONS),
        lambda m, v: m.OPTIONS.update(v),
    ),
    _setting("plotly", "plotly.io", _read_plotly, _write_plotly),
    _setting("altair", "altair", _read_altair, _write_altair),
    _setting("bokeh", "bokeh.io.state", _read_bokeh, lambda m, v: m.curstate().output_notebook(v)),
    _setting("polars", "polars", lambda m: m.Config.save(), lambda m, v: m.Config.load(v)),
    _setting("sqlite", "sqlite3.dbapi2", _read_sqlite, _write_sqlite),
    _setting("torch", "torch", _read_torch, _write_torch),
)
