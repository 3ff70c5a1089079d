"""Surroundings that belong to libraries: random states, options, backends.

Used where the library is imported; nothing here imports one to read it.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from typing import Any

from dask_async_run.surroundings.saver import Saver, Shell


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
        options, name = config._get_root(key)  # get_option takes seven times as long
        value, default = options[name], registered.defval
        # Of this one pandas chooses the default when it is imported: another in a terminal.
        if key == "display.max_columns" or (value is not default and value != default):
            found[key] = value
    return found


def _pandas_state(shell: Shell) -> Any:
    """Answer what a cell can have changed: a cell process's own default does not come back."""
    found = _read_pandas(shell)
    if found is not None:
        config = sys.modules["pandas._config.config"]
        key = "display.max_columns"
        if key in found and found[key] == config._registered_options[key].defval:
            del found[key]
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
    try:
        # ``%matplotlib inline`` imports it, wherever that runs.
        import matplotlib.pyplot as pyplot
    except ImportError:
        return  # it is on the cluster alone
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


def _read_interactive(shell: Shell) -> bool | None:
    """Answer whether figures draw themselves, once a backend has had its say."""
    if _read_backend(shell) is None:
        return None
    return bool(sys.modules["matplotlib"].is_interactive())


def _write_interactive(value: bool, shell: Shell) -> None:
    import matplotlib

    matplotlib.interactive(value)


_INLINE = ("figure_formats", "print_figure_kwargs", "close_figures")


def _read_inline_to_be(shell: Shell) -> dict[str, Any] | None:
    """Answer what ``%config InlineBackend.figure_format = 'retina'`` set before there was one."""
    config = getattr(shell, "config", None)
    return dict(config["InlineBackend"]) if config and "InlineBackend" in config else None


def _write_inline_to_be(values: dict[str, Any], shell: Shell) -> None:
    if shell is not None:
        shell.update_config(type(shell.config)(InlineBackend=values))


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


_OF_DECIMAL = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp")


def _read_decimal(shell: Shell) -> Any:
    if "decimal" not in sys.modules:
        return None
    context = sys.modules["decimal"].getcontext()
    found = {name: getattr(context, name) for name in _OF_DECIMAL}
    return found | {name: dict(getattr(context, name)) for name in ("traps", "flags")}


def _write_decimal(values: dict[str, Any], shell: Shell) -> None:
    import decimal

    for name, value in values.items():
        setattr(decimal.getcontext(), name, value)


def _read_numpy_errors(shell: Shell) -> Any:
    numpy = sys.modules.get("numpy")
    return None if numpy is None else dict(numpy.geterr())


def _write_numpy_errors(values: dict[str, Any], shell: Shell) -> None:
    import numpy

    numpy.seterr(**values)


def _read_sklearn(shell: Shell) -> Any:
    if "sklearn._config" not in sys.modules:
        return None
    return dict(sys.modules["sklearn._config"].get_config())


def _write_sklearn(values: dict[str, Any], shell: Shell) -> None:
    import sklearn

    sklearn.set_config(**values)


_SYMPY_DISPLAYS = ("_repr_latex_", "_repr_png_", "_repr_svg_")


def _sympy_state(shell: Shell) -> Any:
    """Answer how ``init_printing`` made expressions show themselves; None: not at all."""
    defaults = sys.modules.get("sympy.printing.defaults")
    if defaults is None:
        return None
    off = defaults.Printable._repr_disabled
    names = vars(defaults.Printable)
    return {
        name: None if names[name] is off else names[name]
        for name in _SYMPY_DISPLAYS
        if names[name] is off or "<locals>" in names[name].__qualname__
    }


def _read_sympy(shell: Shell) -> Any:
    state = _sympy_state(shell)
    if state is None:
        return None
    # The others are off where nobody has switched them on.
    return {name: f for name, f in state.items() if f is not None or name == "_repr_latex_"}


def _write_sympy(functions: dict[str, Any], shell: Shell) -> None:
    printable = importlib.import_module("sympy.printing.defaults").Printable
    for name, function in functions.items():
        setattr(printable, name, printable._repr_disabled if function is None else function)


def _sympy_printers(shell: Shell) -> Any:
    """Answer the settings that ``init_printing`` gave all printers of sympy."""
    printer = getattr(sys.modules.get("sympy.printing.printer"), "Printer", None)
    return None if printer is None else dict(printer._global_settings)


def _write_sympy_printers(settings: dict[str, Any], shell: Shell) -> None:
    printer = importlib.import_module("sympy.printing.printer").Printer
    printer._global_settings.clear()
    printer._global_settings.update(settings)


LIBRARIES: tuple[Saver, ...] = (
    Saver("numpy.random", False, _read_numpy_random, _write_numpy_random, "numpy"),
    Saver("numpy.printoptions", False, _read_numpy_print, _write_numpy_print, "numpy"),
    Saver("numpy.errors", False, _read_numpy_errors, _write_numpy_errors, "numpy"),
    Saver("pandas", False, _read_pandas, _write_pandas, "pandas", state=_pandas_state),
    Saver("sklearn", False, _read_sklearn, _write_sklearn, "sklearn"),
    Saver("sympy", False, _read_sympy, _write_sympy, "sympy.printing.defaults", state=_sympy_state),
    Saver(
        "sympy printers",
        False,
        lambda shell: _sympy_printers(shell) or None,
        _write_sympy_printers,
        "sympy.printing.printer",
        state=_sympy_printers,
    ),
    Saver("backend", False, _read_backend, _write_backend),
    Saver("interactive", False, _read_interactive, _write_interactive, "matplotlib.pyplot"),
    Saver("matplotlib", False, _read_matplotlib, _write_matplotlib, "matplotlib"),
    Saver("inline", False, _read_inline, _write_inline, "matplotlib_inline.config"),
    Saver("inline to be", False, _read_inline_to_be, _write_inline_to_be),
    Saver("decimal", False, _read_decimal, _write_decimal),
)
