"""Compare an object with a copy of it as it was sent: did it change here since?

Own states are compared; a child equals the copy's child if both stand at the
same place of the inputs stream.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Collection, Hashable, Mapping
from copy import copy
from typing import Any

from dask_async_run.namespace import opaque
from dask_async_run.namespace.charts import same_chart
from dask_async_run.namespace.classify import kind_of
from dask_async_run.namespace.containers import IMMUTABLE, LEAF
from dask_async_run.namespace.databases import CONNECTION
from dask_async_run.namespace.instances import INSTANCE, snapshots
from dask_async_run.namespace.kinds import ATOMS

_UNCHANGEABLE = (None, LEAF, *IMMUTABLE.values())
_Objects = Mapping[int, Any]
"""By memo index."""


class _OtherError(Exception):
    """Something is not written by the pickler itself."""


class _Rows(pickle.Pickler):
    """Writes what containers hold: what stands at a place of the stream as that place."""

    def reducer_override(self, obj: Any) -> Any:
        raise _OtherError


def _without_counts(state: Any) -> Any:
    """Answer a connection's state; one that is closed, or cannot be sent now, has no counts."""
    return {**state, "counts": None} if isinstance(state, dict) else state


def all_alike(mine: _Objects, sent: _Objects, indices: Collection[int]) -> bool:
    """Whether some lists and dicts have the own states of their copies; if so it is soon known.

    False means that nobody knows yet, of none of them.

    Parameters
    ----------
    mine, sent : mapping of int to object
        All that was sent, and the copies, by memo index.
    indices : collection of int
        Of the lists and dicts that are meant.
    """
    written = []
    places = mine.keys() & sent.keys()
    if not places >= set(indices):
        return False
    for objects in (mine, sent):
        rows = [copy(objects[index]) for index in indices]
        file = io.BytesIO()
        pickler = _Rows(file, protocol=5)
        pickler.memo = {id(objects[place]): (place, objects[place]) for place in places}
        try:
            pickler.dump(rows)
        except (_OtherError, RecursionError):
            return False
        written.append(file.getvalue())
    return written[0] == written[1]


class Comparison:
    """Compares objects of this kernel with copies loaded from an inputs stream.

    Used inside of `opaque.fingerprinting`.

    Parameters
    ----------
    mine, sent : mapping of int to hashable
        ``id`` of this kernel's objects, and of the copies, to memo index, or to another mark.
    """

    def __init__(self, mine: Mapping[int, Hashable], sent: Mapping[int, Hashable]) -> None:
        self._mine = mine
        self._sent = sent
        self._here = frozenset(mine.values())

    def own_state(self, obj: Any, copy: Any) -> bool:
        """Whether an object's own state equals that of its copy."""
        kind = kind_of(obj)
        if kind is None or kind is not kind_of(copy):
            return obj is copy
        if kind is opaque.PANDAS:
            return self._same_pandas(obj, copy)
        if kind is opaque.CHART:
            return same_chart(obj, copy)
        if kind is CONNECTION:
            # What was changed here since is not undone by changes made there.
            return self._alike(*(_without_counts(kind.snapshot(each)) for each in (obj, copy)))
        if kind is INSTANCE:
            return self._alike(*snapshots(obj, copy))
        if self._alike(kind.snapshot(obj), kind.snapshot(copy)):
            return type(obj) not in (list, dict) or not self._has_others(obj, copy)
        return kind in opaque.BY_FINGERPRINT and opaque.same_after_a_trip(obj, copy)

    def _alike(self, one: Any, other: Any) -> bool:
        if one is other:
            return True
        if type(one) in ATOMS:
            return type(one) is type(other) and (one == other or (one != one and other != other))
        at = self._mine.get(id(one))
        if at is not None:
            return at == self._sent.get(id(other))
        if type(one) is not type(other):
            return False
        if isinstance(one, (list, tuple)):
            return self._same_row(one, other)
        if isinstance(one, dict):
            return self._same_row(one, other) and self._same_row(one.values(), other.values())
        if isinstance(one, (set, frozenset)):
            return self._places(one, self._mine) == self._places(other, self._sent)
        try:
            return bool(one == other) or opaque.same_fingerprint(one, other)
        except Exception:  # noqa: BLE001 - a user's __eq__ may raise, or answer an array
            return opaque.same_fingerprint(one, other)

    def _has_others(self, one: Any, other: Any) -> bool:
        """Whether a list or dict that is alike has got another object that can be changed apart.

        Where it is, one was sent that is still here. Lists and dicts are sent item by item; of what
        else has a state, a part may be made anew to be sent.
        """
        mine, sent = (list(each.values() if type(each) is dict else each) for each in (one, other))
        places = [*map(self._mine.get, map(id, mine))]
        others = [*map(self._sent.get, map(id, sent))]
        return places != others and any(
            place is None and there in self._here and kind_of(item) not in _UNCHANGEABLE
            for place, there, item in zip(places, others, mine, strict=True)
        )

    def _same_row(self, one: Collection[Any], other: Collection[Any]) -> bool:
        if len(one) != len(other):
            return False
        mine = list(map(self._mine.get, map(id, one)))
        if mine == list(map(self._sent.get, map(id, other))):
            # As a rule: what stands at a place of the stream is at the same one, and the rest
            # are atoms, which Python compares faster than this class does.
            rest = [(a, b) for a, b, at in zip(one, other, mine, strict=True) if at is None]
            if not rest:
                return True
            left, right = zip(*rest, strict=True)
            kinds = list(map(type, left))
            if ATOMS.issuperset(kinds) and kinds == list(map(type, right)) and left == right:
                return True
        return all(map(self._alike, one, other))

    @staticmethod
    def _places(items: Any, indices: Mapping[int, Hashable]) -> set[Any]:
        return {item if type(item) in ATOMS else ("at", indices.get(id(item))) for item in items}

    def _same_pandas(self, one: Any, other: Any) -> bool:
        if type(one) is not type(other) or one.shape != other.shape or one.attrs != other.attrs:
            return False
        if one.index.names != other.index.names or not one.index.equals(other.index):
            return False
        if one.ndim == 1:
            return bool(one.name == other.name) and self._same_column(one, other)
        if one.columns.names != other.columns.names or not one.columns.equals(other.columns):
            return False
        return all(self._same_column(one.iloc[:, i], other.iloc[:, i]) for i in range(one.shape[1]))

    def _same_column(self, one: Any, other: Any) -> bool:
        if one.dtype != other.dtype:
            return False
        if one.dtype == object:
            return all(map(self._alike, one.array, other.array))
        return bool(one.equals(other))
