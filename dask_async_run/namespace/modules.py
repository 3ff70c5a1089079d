"""Modules in streams: by name, with the submodules that code mentions.

What goes with those that nobody could import elsewhere is in `beside`.
"""

from __future__ import annotations

import site
import sys
import sysconfig
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_INSTALLED = tuple(
    {
        *(sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")),
        *site.getsitepackages(),
        site.getusersitepackages(),
        str(Path(__file__).parents[1]),
    }
)


def find_module(name: str, file: str | None = None) -> types.ModuleType:
    """Import a module by name; one beside the notebook also where its file lies.

    ``''`` in ``sys.path`` means the working folder, which may be another one by now.
    """
    try:
        __import__(name)
    except ModuleNotFoundError as error:
        if file is None or error.name != name.partition(".")[0]:
            raise
        path = Path(file)
        levels = name.count(".") + (1 if path.stem == "__init__" else 0)
        folder = str(path.parents[levels])
        sys.path.insert(0, folder)
        try:
            __import__(name)
        finally:
            sys.path.remove(folder)
    return sys.modules[name]


def package_with(obj: Any) -> types.ModuleType | None:
    """Answer the package that has a class or function whose own module nobody has imported.

    ``numpy.recarray`` says that it is of ``numpy.rec``, which numpy imports when it is asked for:
    until then it would look like a class that was made at run time.
    """
    name = getattr(obj, "__module__", None)
    if not isinstance(name, str) or name in sys.modules:
        return None
    package = sys.modules.get(name.partition(".")[0])
    return package if getattr(package, getattr(obj, "__qualname__", ""), None) is obj else None


def module_globals(name: str) -> dict[str, Any]:
    """Answer the globals of a module, imported if need be."""
    return find_module(name).__dict__


def identifiers(code: types.CodeType) -> set[str]:
    """Answer every name in a code object and those within it."""
    found = set(code.co_names)
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            found |= identifiers(const)
    return found


def mentioned_submodules(values: Iterable[Any], words: set[str]) -> list[str]:
    """Answer the loaded submodules of some modules that code mentions.

    ``import xml.etree.ElementTree`` binds ``xml``, and importing ``xml`` elsewhere
    would not bring ``xml.etree``.

    Parameters
    ----------
    values : iterable of objects
        Those that are no modules are passed over.
    words : set of str
        Every identifier in the code.
    """
    tops = {value.__name__ for value in values if issubclass(type(value), types.ModuleType)}
    if not tops:
        return []  # without a look at each loaded module, which copies its page in a fork
    return sorted(
        name
        for name in list(sys.modules)
        for top in tops
        if name.startswith(top + ".") and words.issuperset(name[len(top) + 1 :].split("."))
    )


def globals_owner(namespace: dict[str, Any]) -> str | None:
    """Answer the name of the importable module whose globals a dict is, if any."""
    name = namespace.get("__name__")
    if not isinstance(name, str) or name == "__main__":
        return None
    module = sys.modules.get(name)
    if module is None or module.__dict__ is not namespace or is_made_here(module):
        return None
    return name


def is_made_here(module: types.ModuleType) -> bool:
    """Whether a module exists in no file: nobody else could import it."""
    if getattr(module, "__file__", None) or module.__name__ in sys.builtin_module_names:
        return False
    if module.__name__ == "__main__":
        return False  # there is one everywhere: the notebook's
    spec = getattr(module, "__spec__", None)
    return spec is None or (spec.loader is None and not spec.submodule_search_locations)


def module_name(cls: type) -> str:
    """Answer the name of a class's module; classes that a library makes may have none."""
    name = cls.__module__
    return name if isinstance(name, str) else ""


def is_beside(module: types.ModuleType) -> bool:
    """Whether a module lies beside the notebook: neither Python's own nor installed."""
    file = getattr(module, "__file__", None)
    if not file or module.__name__ == "__main__":
        return False
    return not is_installed(file)


def is_installed(path: str) -> bool:
    """Whether a module's file or folder is Python's own or that of an installed package."""
    return path.startswith(_INSTALLED) or "site-packages" in path


def make_module(name: str, registered: bool) -> types.ModuleType:
    """Make a module that exists in no file."""
    there = sys.modules.get(name)
    if registered and there is not None:
        return there
    module = types.ModuleType(name)
    if registered:
        sys.modules[name] = module
    return module


def owner_of(module: types.ModuleType, path: str) -> tuple[Any, str]:
    """Answer what has the last name of a dotted path: a module, or a class of it, or None."""
    owner, _, name = path.rpartition(".")
    return (vars(module).get(owner) if owner else module), name


def set_module_state(module: types.ModuleType, values: Mapping[str, Any]) -> None:
    """Give a module values, and its classes attributes (``Tool.made``)."""
    for path, value in values.items():
        owner, name = owner_of(module, path)
        if owner is not None:  # else the file does not say any more that there is such a class
            setattr(owner, name, value)
