"""Objects of the notebook's that are remembered, and may go when the notebook lets go of them.

Lists, dicts and sets cannot be held weakly. What nobody else has of them is looked for, and
dropped: `drop_what_nobody_has`.
"""

from __future__ import annotations

import sys
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable
from typing import Any

from dask_async_run.namespace.seeds import large_types

_SMALL = frozenset({int, float, bool, complex, type(None)})
_MOST = 1000
"""Of more objects than this that cannot be held weakly none is remembered: it takes too long."""


def weakly(obj: Any) -> weakref.ReferenceType[Any] | None:
    """Answer a weak reference; None to what cannot have one (lists, dicts, numbers)."""
    if not type(obj).__weakrefoffset__:
        return None  # sooner known than by an exception
    try:
        return weakref.ref(obj)
    except TypeError:
        return None


def _nothing() -> None:
    return None


class Held:
    """A reference to an object, weak if it may be large."""

    __slots__ = ("_get", "_strong")

    def __init__(self, obj: Any, large: tuple[type, ...]) -> None:
        self._strong = obj
        self._get: Callable[[], Any] | None = None
        if issubclass(type(obj), large):  # a proxy would be asked what it stands for
            self._get = weakref.ref(obj)
            self._strong = None

    def weaken(self) -> None:
        """Hold it only weakly, if that is possible."""
        if self._get is None and (weak := weakly(self._strong)) is not None:
            self._get, self._strong = weak, None

    def strong(self) -> Collection[Any]:
        """Answer what cannot be held weakly, and is of some size."""
        small = self._get is not None or type(self._strong) in _SMALL
        return () if small else (self._strong,)

    def drop(self, ids: Container[int]) -> None:
        """Do not hold some objects any longer, by their ``id``."""
        if self._get is None and id(self._strong) in ids:
            self._get, self._strong = _nothing, None

    def get(self, gone: Any = None) -> Any:
        """Answer the object, or `gone` if it is not here any more."""
        if self._get is None:
            return self._strong
        obj = self._get()
        return gone if obj is None else obj


def held_weakly(obj: Any) -> Held:
    """Hold an object for as long as somebody else does, if that is possible."""
    held = Held(obj, large_types())
    held.weaken()
    return held


class HeldObjects:
    """Objects by their memo index.

    Parameters
    ----------
    objects : dict of int to object
        They are held for as long as this is not weakened.
    """

    def __init__(self, objects: dict[int, Any] | None = None) -> None:
        self._strong = {} if objects is None else objects
        self._weak: dict[int, weakref.ReferenceType[Any]] = {}

    def __bool__(self) -> bool:
        return bool(self._strong or self._weak)

    def hold(self, index: int, obj: Any) -> None:
        """Hold one more object."""
        self._strong[index] = obj

    def hold_weakly(self, index: int, obj: Any) -> None:
        """Hold one more object, which may be large, weakly."""
        self._weak[index] = weakref.ref(obj)

    def copy(self) -> HeldObjects:
        """Answer the same objects, to be let go of apart."""
        other = HeldObjects(dict(self._strong))
        other._weak = dict(self._weak)
        return other

    def get(self, index: int, gone: Any = None) -> Any:
        """Answer an object, or `gone` if it is not here any more."""
        if index in self._strong:
            return self._strong[index]
        held = self._weak.get(index)
        obj = None if held is None else held()
        return gone if obj is None else obj

    def all(self) -> dict[int, Any]:
        """Answer those that are still here."""
        weak = {index: obj for index, held in self._weak.items() if (obj := held()) is not None}
        return self._strong | weak

    def holds(self, referrer: Any) -> bool:
        """Whether it is through `referrer` that an object is held here."""
        return referrer is self._strong

    def weaken(self, all_: bool = False) -> None:
        """Hold them weakly, as far as that is possible.

        Parameters
        ----------
        all_ : bool
            However many others there are, they are held.
        """
        for index, obj in list(self._strong.items()):
            if (weak := weakly(obj)) is not None:
                self._weak[index] = weak
                del self._strong[index]
        if len(self._strong) > _MOST and not all_:
            self._strong.clear()

    def strong(self) -> Collection[Any]:
        """Answer those that cannot be held weakly."""
        return self._strong.values()

    def drop(self, ids: Container[int]) -> None:
        """Do not hold some objects any longer, by their ``id``."""
        for index in [index for index, obj in self._strong.items() if id(obj) in ids]:
            del self._strong[index]


def drop_what_nobody_has(holders: Iterable[Held | HeldObjects]) -> None:
    """Hold none of the objects any longer that nobody has but those who remember them.

    Such are lists that the notebook has deleted, and what was made to be written: the dict of
    an instance. What such a list alone holds goes with it. Cycles stay.
    """
    holders = list(holders)
    while True:
        objects = {id(obj): obj for holder in holders for obj in holder.strong()}
        counts = Counter(id(obj) for holder in holders for obj in holder.strong())
        alone = {
            key for key, obj in objects.items() if sys.getrefcount(obj) <= counts[key] + _BY_ASKING
        }
        if not alone:
            return
        for holder in holders:
            holder.drop(alone)


def _by_asking() -> int:
    """Answer the references to an object that there are while it is asked for them as above."""
    objects = {0: object()}
    [count] = [sys.getrefcount(obj) for key, obj in objects.items()]
    return count


_BY_ASKING = _by_asking()
