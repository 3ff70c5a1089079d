"""Kinds of objects: what one holds, whether it changed, how to change it in place.

An object's *own state* is what it is made of, its *children* not included: the
references in a list, the attributes of an instance, the bytes of an array. A
change is found and applied object by object, so a list that holds a changed
list is itself unchanged.

=============  ==========================================================
transparent    its own state is references that can be compared by identity:
               containers, instances of Python classes, functions, classes,
               cells of closures
opaque         arrays, pandas objects, random generators, iterators and all
               other C objects: compared by fingerprint
immutable      has children perhaps, but no change: tuples, methods, partials
atoms          not even looked at: numbers, text, modules, library functions
=============  ==========================================================
"""

from __future__ import annotations

import functools
import operator
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

T = TypeVar("T")

Undo = Callable[[], None]


class NotInPlace(Exception):  # noqa: N818 - an answer, not an error
    """An object cannot be given its new state in place: it must be rebound."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How to deal with one kind of object.

    Parameters
    ----------
    children : callable(obj) -> iterable
        The objects that it refers to.
    snapshot : callable(obj) -> object
        Its own state now. Holds references, so that identities stay comparable.
    unchanged : callable(obj, snapshot) -> bool
        Whether the own state still is the snapshot.
    state : callable(obj, snapshot or None) -> object
        A picklable form of the own state (without snapshot: all of it); may
        raise `NotInPlace`.
    apply : callable(obj, state) -> Undo
        Give an object of this kind that state, in place.
    """

    name: str
    children: Callable[[Any], Iterable[Any]]
    snapshot: Callable[[Any], Any]
    unchanged: Callable[[Any, Any], bool]
    state: Callable[[Any, Any], Any]
    apply: Callable[[Any, Any], Undo]


def per_class(function: Callable[[type], T]) -> Callable[[type], T]:
    """Remember what a function answers for a class (for the last thousand of them)."""
    remembering = functools.lru_cache(maxsize=1024)(function)
    _remembering.append(remembering)
    return cast("Callable[[type], T]", remembering)


_remembering: list[Any] = []


def forget_classes() -> None:
    """Let go of all classes that `per_class` remembers: a notebook's can then be freed."""
    for function in _remembering:
        function.cache_clear()


def same_items(old: list[Any], new: Iterable[Any]) -> bool:
    """Whether two sequences hold the same objects (``is``) in the same order."""
    new = list(new)
    return len(old) == len(new) and all(map(operator.is_, old, new))


ATOMS: frozenset[type] = frozenset(
    {
        int,
        float,
        complex,
        bool,
        str,
        bytes,
        type(None),
        type(...),
        type(NotImplemented),
        range,
        slice,
    }
    | {types.CodeType, types.GenericAlias}
    | {types.MethodDescriptorType, types.WrapperDescriptorType, types.GetSetDescriptorType}
    | {types.MemberDescriptorType}
)
"""Types whose instances have neither children nor changes."""
