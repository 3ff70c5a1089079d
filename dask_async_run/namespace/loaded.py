"""Results that were loaded, in a kernel or in a later job's process, and what applies them.

What a result consists of says `results`, which writes them.
"""

from __future__ import annotations

import pickle
import types
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from dask_async_run.namespace import keys, kinds, opaque, order
from dask_async_run.namespace.classify import kind_of
from dask_async_run.namespace.conditions import uncollected
from dask_async_run.namespace.containers import DICT, SET
from dask_async_run.namespace.counts import Again, tell_again
from dask_async_run.namespace.cursors import CURSOR
from dask_async_run.namespace.databases import CONNECTION
from dask_async_run.namespace.generators import GENERATOR_KIND
from dask_async_run.namespace.held import HeldObjects
from dask_async_run.namespace.kinds import NotInPlace
from dask_async_run.namespace.modules import find_module
from dask_async_run.namespace.salvage import CHANGE, Items, what_is_lost, why_lost
from dask_async_run.namespace.unpickling import NamespaceUnpickler
from dask_async_run.namespace.views import MEMORYVIEW

Resolve = Callable[[Any], Any]
"""Answers the object for a token."""

Item = tuple[Any, ...]

Update = tuple[Any, str, Any]
"""An object's token, the name of its kind, its new state."""

_TELLING = (CONNECTION.name, CURSOR.name)
ARRAYS = (opaque.ARRAY.name, opaque.OWN_ARRAY.name)
"""Kinds of arrays: their numbers are copied in."""


def is_item(obj: Any, labels: tuple[str, ...]) -> bool:
    """Whether an object is an item of a stream, with one of these labels and a name."""
    return type(obj) is tuple and len(obj) == 3 and type(obj[0]) is str and obj[0] in labels


@dataclass(slots=True)
class Loaded:
    """A result, loaded; nothing is applied yet.

    Parameters
    ----------
    bound : dict of str to object
    deleted : list of str
    updates : list of (token, kind name, state)
    changed : list of str
        Names of inputs whose value, or a part of it, `updates` change.
    out : tuple
        The last values that the cell displayed, oldest first.
    surroundings : dict
    error : BaseException or None
    notes : dict of str to str
    late_ends : list of str
        What has a ``__del__`` or weak references, and the cell did not see go, in words: all
        that came in is held until the cell has ended.
    lost_keys : dict of str to str
        Names that lead to a dict or a set which does not find one of its own keys, either in
        the cell or here, and the key's type.
    refilled : list of dicts and sets
        Their keys may have other hashes when `updates` are applied: `finish` sees to it.
    counts : Again
        Of connections and cursors to databases that are new here: `finish` sees to it.
    objects : dict of int to object
        Memo index to object, atoms aside: what later tokens may refer to.
    lost : dict of str to str
        What could not be loaded, and why: `salvage_result`'s.
    cause : Exception or None
        What was raised there first.
    """

    bound: dict[str, Any] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    updates: list[tuple[Any, str, Any]] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    out: tuple[Any, ...] = ()
    surroundings: dict[str, Any] = field(default_factory=dict)
    error: BaseException | None = None
    notes: dict[str, str] = field(default_factory=dict)
    late_ends: list[str] = field(default_factory=list)
    lost_keys: dict[str, str] = field(default_factory=dict)
    refilled: list[Any] = field(default_factory=list)
    counts: Again = field(default_factory=lambda: ([], []))
    objects: dict[int, Any] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    cause: Exception | None = None

    def remembered(self) -> HeldObjects:
        """Answer the objects that tokens may mean, to be held for as long as the notebook has them.

        Items of the stream, and what loaded it, are none.
        """
        found = {
            index: obj
            for index, obj in self.objects.items()
            if not is_item(obj, ("bind",)) and not _is_loaders(obj)
        }
        return HeldObjects(found)

    def holds(self, referrer: Any) -> bool:
        """Whether it is through `referrer` that an object is remembered here."""
        return referrer is self.bound or referrer is self.objects or is_item(referrer, ("bind",))

    def finish(self, updates: Iterable[tuple[Any, str, Any]], resolve: Resolve) -> None:
        """Do what can only be done after `apply_updates`, which was given the same.

        Keys are found whose objects have been changed, databases tell what they did.
        """
        for container in self.refilled:
            keys.refill(container)
        new, told = self.counts
        applied = [(resolve(t), kind, s) for t, kind, s in updates if kind in _TELLING and s]
        done = [(obj, state["counts"]) for obj, kind, state in applied if kind == CONNECTION.name]
        said = [(obj, state["told"]) for obj, kind, state in applied if kind == CURSOR.name]
        tell_again([*new, *done], [*told, *said])

    def take(self, item: Item, lend: Callable[[str, Any], None]) -> None:
        """Add an item of the stream; `lend` is `NamespaceUnpickler.lending`'s."""
        match item:
            case ("bind", name, value):
                self.bound[name] = value
                lend(name, value)
            case ("delete", name):
                self.deleted.append(name)
            case ("updates", updates):
                self.updates += updates
            case ("update", token, kind, state):  # each for itself, as earlier versions wrote it
                self.updates.append((token, kind, state))
            case ("changed", names):
                self.changed = names
            case ("out", values):
                self.out = values
            case ("surroundings", part):
                self.surroundings.update(part)
            case ("error", error):
                self.error = error
            case ("late end", what):
                self.late_ends.append(what)
            case ("lost key", name, kind):
                self.lost_keys[name] = kind
            case ("refill", containers):
                self.refilled = containers
            case ("note", name, why):
                self.notes[name] = why
            case ("order", recipes):
                for elements, how in recipes:
                    order.fill(elements, how)
            case ("counts", connections, cursors):
                self.counts = connections, cursors
            case ("modules", modules):
                for module in modules:
                    find_module(module)
            case ("end",):
                pass
            case _:
                raise pickle.UnpicklingError(f"unknown item {item[0]!r} in a result")


def _is_loaders(obj: Any) -> bool:
    return type(obj) is types.MethodType and isinstance(obj.__self__, NamespaceUnpickler)


def load_result(
    stream: Any,
    buffers: Sequence[Any],
    namespace: dict[str, Any],
    resolve: Resolve,
    keep_classes: bool,
    keep_modules: bool = False,
    finalisers: bool = True,
) -> Loaded:
    """Load a result without applying any of it.

    Parameters
    ----------
    stream : bytes-like
    buffers : sequence of buffers
    namespace : dict
        What functions that come back get as their globals.
    resolve : callable
        Answers the object for a token.
    keep_classes, keep_modules, finalisers : bool
        As in `NamespaceUnpickler`.

    Raises
    ------
    Exception
        Whatever unpickling the user's objects raises.
    """
    how = namespace, resolve, keep_classes, keep_modules, finalisers
    loaded = salvage_result(stream, buffers, *how)
    if loaded.cause is not None:
        raise loaded.cause
    return loaded


def salvage_result(
    stream: Any,
    buffers: Sequence[Any],
    namespace: dict[str, Any],
    resolve: Resolve,
    keep_classes: bool,
    keep_modules: bool = False,
    finalisers: bool = True,
) -> Loaded:
    """Load what of a result can be loaded; `Loaded.lost` has the rest. As `load_result` else."""
    loaded = Loaded()
    with ExitStack() as stack:
        stack.enter_context(uncollected())
        items = Items(stream, buffers, namespace, resolve, keep_classes, keep_modules, finalisers)
        lend = stack.enter_context(items.lending())
        for item, why in items:
            if why is None:
                loaded.take(item, lend)
            else:
                loaded.cause = loaded.cause or why
                loaded.lost.setdefault(what_is_lost(item), why_lost(why))
    loaded.objects = items.objects()
    items.forget()
    for name, why in items.lost.items():
        loaded.cause = loaded.cause or why
        loaded.lost.setdefault(name, why_lost(why))
    if CHANGE in loaded.lost:  # of which object, nobody can say
        told = loaded.lost.pop(CHANGE)
        loaded.lost |= dict.fromkeys(loaded.changed, told)
    return loaded


def apply_updates(updates: Iterable[Update], resolve: Resolve) -> list[kinds.Undo]:
    """Give objects their new states in place, all or none.

    Parameters
    ----------
    updates : iterable of (token, kind name, state)
    resolve : callable

    Returns
    -------
    list of Undo
        To be called in reverse order to take everything back.

    Raises
    ------
    Exception
        Whatever a user's ``__setstate__`` raises, or `NotInPlace`; everything is
        as before then.
    """
    # What runs the user's code, and may fail, comes first, then copying arrays, then pandas
    # objects, which may come as views of these; generators, which cannot be taken back, come last.
    # Before all, keys are put in while they are as they were: where the cell did so later,
    # `Loaded.finish` does it again. A bytearray can only get another size once no view shows it;
    # a view that was released for nothing shows less, and lies about nothing.
    late = {
        MEMORYVIEW.name: -2,
        DICT.name: -1,
        SET.name: -1,
        **dict.fromkeys(ARRAYS, 1),
        opaque.PANDAS.name: 2,
        GENERATOR_KIND.name: 3,
    }
    ordered = sorted(updates, key=lambda update: late.get(update[1], 0))
    undo: list[kinds.Undo] = []
    try:
        for token, _, state in ordered:
            obj = resolve(token)
            kind = kind_of(obj)
            if kind is None:
                raise NotInPlace(f"a {type(obj).__name__} cannot be changed in place")
            undo.append(kind.apply(obj, state))
    except BaseException:
        for step in reversed(undo):
            step()
        raise
    return undo
