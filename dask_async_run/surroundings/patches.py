"""What the notebook changed in libraries: ``Fraction._repr_html_ = ...``, ``mp.dps = 40``.

Modules, classes and named objects of libraries travel by name, so an attribute that
the notebook's code assigned to one is a surrounding of its own. Which attributes
those are is read off the source of the cells that have run: every target of an
assignment whose owner turns out to be a library's. What cells commonly change through
a call is looked for where it ends up: methods that were put on the classes of pandas
(``tqdm.pandas()``, ``register_dataframe_accessor``), and functions of the notebook on
classes that it names where it decorates or calls ``setattr`` (``@patch def ls(self: Path)``).

What a *place* is here: module, qualified name of a class or object in it (``""``: the
module itself), attribute. Its value is ``(value,)``, or ``()`` when there is none.
"""

from __future__ import annotations

import ast
import functools
import re
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dask_async_run.namespace import modules, parts
from dask_async_run.namespace.named import library_name
from dask_async_run.namespace.pickling import by_reference
from dask_async_run.surroundings.saver import Saver, Shell

Place = tuple[str, str, str]
Path = tuple[str, ...]
"""Names as in code: ``mpmath.mp.dps``."""

_NOT_SENT = frozenset(
    {
        ("sys", name)
        for name in (
            "stdin stdout stderr __stdin__ __stdout__ __stderr__ argv path modules meta_path "
            "path_hooks displayhook excepthook unraisablehook last_type last_value "
            "last_traceback last_exc"
        ).split()
    }
    | {("os", "environ"), ("builtins", "_")}
)
"""Modules' attributes that belong to one process, or have savers of their own."""

_ASSIGNS = re.compile(r"\.\s*\w+[^\n(]*=|setattr|delattr|\bdel\b|@\s*\w")
"""What code that changes an attribute has somewhere: most cells need not be parsed."""


class _Known:
    """What this process knows of its notebook: names as assigned to, and places.

    `owners` are names of what may have got methods in another way; `elsewhere` has the ``id`` of
    owners that were no library's.
    """

    def __init__(self) -> None:
        self.paths: set[Path] = set()
        self.owners: set[Path] = set()
        self.elsewhere: dict[Path, int] = {}
        self.places: set[Place] = set()
        self.scanned = 0

    def scan(self, history: list[str]) -> None:
        """Read the cells that have come since the last time."""
        if len(history) < self.scanned:  # %reset
            self.scanned = 0
        # The last one may be running: it can be written to until the next one is there.
        for source in history[max(0, self.scanned - 1) :]:
            self.paths |= assigned(source)
            self.owners |= extended(source)
        self.scanned = len(history)


_known = _Known()


@functools.lru_cache(maxsize=16)
def _nodes(source: str) -> tuple[ast.AST, ...]:
    """Answer what code consists of; nothing of code that changes no attribute."""
    if not _ASSIGNS.search(source):
        return ()
    try:
        return tuple(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError, RecursionError):
        return ()


def assigned(source: str) -> set[Path]:
    """Answer the dotted names that code assigns to or deletes, ``setattr`` included."""
    found = set()
    for node in _nodes(source):
        match node:
            case ast.Attribute(ctx=ast.Store() | ast.Del()):
                found.add(_path(node))
            case ast.Call(
                func=ast.Name(id="setattr" | "delattr"),
                args=[owner, ast.Constant(value=str(name)), *_],
            ):
                found.add((*way, name) if (way := _path(owner)) else ())
    return found - {()}


def extended(source: str) -> set[Path]:
    """Answer the dotted names of what code may give attributes whose names it does not tell.

    What a decorator is given, what a decorated function's first argument is said to be of, and
    what ``setattr`` is called for with a name that is computed.
    """
    found: list[ast.expr] = []
    for node in _nodes(source):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() if node.decorator_list:
                calls = [d for d in node.decorator_list if isinstance(d, ast.Call)]
                found += [argument for call in calls for argument in call.args]
                found += [a.annotation for a in node.args.args[:1] if a.annotation is not None]
            case ast.Call(func=ast.Name(id="setattr"), args=[owner, *_]):
                found.append(owner)
    each = [part for e in found for part in (e.elts if isinstance(e, ast.Tuple) else [e])]
    return {_path(part) for part in each} - {()}


def _path(node: ast.expr) -> Path:
    """Answer the dotted name that an expression is; ``()`` if it is something else."""
    match node:
        case ast.Name(id=name):
            return (name,)
        case ast.Attribute(value=value, attr=attr):
            way = _path(value)
            return (*way, attr) if way else ()
    return ()


def _located(obj: Any) -> tuple[str, str] | None:
    """Answer module and qualified name of what a library has under a name."""
    if isinstance(obj, types.ModuleType):
        there = sys.modules.get(obj.__name__) is obj and obj.__name__ != "__main__"
        return (obj.__name__, "") if there and not modules.is_made_here(obj) else None
    if isinstance(obj, type):
        name = modules.module_name(obj)
        return (name, obj.__qualname__) if name != "__main__" and by_reference(obj) else None
    return library_name(obj)


def _place(path: Path, namespace: Mapping[str, Any]) -> Place | None:
    """Answer the place that a dotted name means now, if its owner is a library's."""
    if path[0] not in namespace:
        return None
    owner = namespace[path[0]]
    if _known.elsewhere.get(path) == id(owner):
        return None  # ``df.columns = ...``, every time that it is asked for
    located = _located(owner)
    if located is None:
        _known.elsewhere[path] = id(owner)
    for name in path[1:-1]:
        if located is None:
            return None
        try:
            owner = getattr(owner, name)
        except Exception:  # noqa: BLE001 - a library's own attribute access
            return None
        located = _located(owner)
    if located is None or (*located[:1], path[-1]) in _NOT_SENT:
        return None
    return *located, path[-1]


def _owner(place: Place) -> Any:
    found: Any = modules.find_module(place[0])
    for name in filter(None, place[1].split(".")):
        found = getattr(found, name)
    return found


_MISSING: Any = object()


def _value(place: Place) -> tuple[Any, ...] | None:
    """Answer what is at a place; None if its module takes that along itself."""
    try:
        owner = _owner(place)
        if isinstance(owner, type):
            value = vars(owner).get(place[2], _MISSING)
        else:
            value = getattr(owner, place[2], _MISSING)
    except Exception:  # noqa: BLE001 - a library's own attribute access
        return ()
    beside = isinstance(owner, types.ModuleType) and modules.is_beside(owner)
    if beside and not isinstance(value, (types.FunctionType, type)):
        return None
    if parts.own_place(value) == (place[0], place[2]) and not place[1]:
        return (_own(place[0], place[2]),)
    return () if value is _MISSING else (value,)


@dataclass(frozen=True)
class _Own:
    """Stands for what a library has at a place by itself: the name may lead elsewhere there."""

    module: str
    name: str


_own = functools.cache(_Own)
"""One and the same for a place, so that no change is seen where there is none."""


# -- pandas -------------------------------------------------------------------------

_PANDAS = (
    ("pandas", "DataFrame Series Index"),
    ("pandas.core.groupby.groupby", "GroupBy"),
    ("pandas.core.groupby.generic", "DataFrameGroupBy SeriesGroupBy"),
    ("pandas.core.window.rolling", "Rolling"),
    ("pandas.core.window.expanding", "Expanding"),
)


def _pandas_members() -> Iterator[Place]:
    """Answer the methods and accessors that others than pandas put on its classes."""
    if not hasattr(sys.modules.get("pandas"), "DataFrame"):
        return
    for module, names in _PANDAS:
        for name in names.split():
            kind = getattr(sys.modules.get(module), name, None)
            if isinstance(kind, type):
                yield from ((module, name, attribute) for attribute in _put_on(kind))


def _put_on(kind: type) -> list[str]:
    """Answer which attributes of one of its classes others than pandas made."""
    seen, found = _seen_on.get(kind, ({}, []))
    if not _is_as(seen, kind):
        members = dict(vars(kind))
        found = [attribute for attribute, value in members.items() if not _is_pandas_own(value)]
        _seen_on[kind] = members, found
    return found


def _is_as(seen: dict[str, Any], kind: type) -> bool:
    """Whether a class has the members that it had: hundreds, looked at before and after each cell.

    It is C that compares them, and asks nothing of what is the same object.
    """
    try:
        return vars(kind) == seen
    except Exception:  # noqa: BLE001 - somebody's own members, such as arrays
        return False


_seen_on: dict[type, tuple[dict[str, Any], list[str]]] = {}


def _is_pandas_own(value: Any) -> bool:
    made = getattr(value, "_accessor", value)
    origin = getattr(made, "__module__", None)
    return not isinstance(made, (types.FunctionType, type)) or (
        isinstance(origin, str) and origin.split(".")[0] in ("pandas", "builtins")
    )


# -- methods that the notebook put on classes ---------------------------------------


def _calls_setattr(code: types.CodeType) -> bool:
    inner = (part for part in code.co_consts if isinstance(part, types.CodeType))
    return "setattr" in code.co_names or any(map(_calls_setattr, inner))


def _patched_classes(namespace: Mapping[str, Any]) -> Iterator[type]:
    """Answer the libraries' classes that may have got methods through a call."""
    for path in list(_known.owners):
        owner = namespace.get(path[0])
        for name in path[1:]:
            owner = getattr(owner, name, None)
        if isinstance(owner, type):
            yield owner
    values = list(namespace.values())
    functions = (v for v in values if type(v) is types.FunctionType)
    if any(f.__globals__ is namespace and _calls_setattr(f.__code__) for f in functions):
        yield from (value for value in values if isinstance(value, type))


def _methods(namespace: Mapping[str, Any]) -> Iterator[Place]:
    """Answer where functions of the notebook are methods of classes of libraries."""
    for kind in dict.fromkeys(_patched_classes(namespace)):
        own = [name for name, value in vars(kind).items() if _function(value, namespace)]
        if own and (located := _located(kind)) is not None:
            yield from ((*located, name) for name in own)


def _function(member: Any, namespace: Mapping[str, Any]) -> bool:
    """Whether a member of a class is a function of the notebook, or made of one."""
    made = getattr(member, "__func__", None) or getattr(member, "fget", None) or member
    return getattr(made, "__globals__", None) is namespace


# -- the saver --------------------------------------------------------------------------


def _read(shell: Shell) -> Any:
    if shell is None:
        return None
    _known.scan(shell.history_manager.input_hist_parsed)
    for path in list(_known.paths):
        place = _place(path, shell.user_ns)
        if place is not None:
            _known.places.add(place)
    _known.places.update(_pandas_members())
    _known.places.update(_methods(shell.user_ns))
    values = {place: _value(place) for place in sorted(_known.places)}
    return {place: value for place, value in values.items() if value is not None} or None


def _write(values: Mapping[Place, tuple[Any, ...]], shell: Shell) -> None:
    for place, value in values.items():
        try:
            owner = _owner(place)
        except (ImportError, AttributeError):
            continue  # what is not here, nobody here can use
        _known.places.add(place)
        if value:
            setattr(owner, place[2], *map(_unpacked, value))
        elif place[2] in vars(owner):
            delattr(owner, place[2])


def _unpacked(value: Any) -> Any:
    return parts.find_own(value.module, value.name) if isinstance(value, _Own) else value


def _difference(before: Mapping[Place, Any], now: Mapping[Place, Any]) -> dict[Place, Any]:
    def changed(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
        if _Own in map(type, (*one, *other)):
            return one != other
        return len(one) != len(other) or any(a is not b for a, b in zip(one, other, strict=True))

    return {place: value for place, value in now.items() if changed(before.get(place, ()), value)}


def mentioned(values: Mapping[Place, Any], words: Iterable[str]) -> dict[Place, Any]:
    """Leave out the accessors of other libraries that no code mentions.

    Loading one imports its library, which may take seconds.
    """
    words = set(words)
    return {
        place: value
        for place, value in values.items()
        if place[2] in words or not value or not _is_accessor(value[0])
    }


def _is_accessor(value: Any) -> bool:
    made = getattr(value, "_accessor", None)
    return isinstance(made, type) and by_reference(made)


PATCHES = Saver(
    "changes to libraries",
    False,
    _read,
    _write,
    state=lambda shell: _read(shell) or {},
    difference=_difference,
    piecemeal=True,
)
