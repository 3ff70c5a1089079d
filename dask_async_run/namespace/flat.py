"""Flat containers: large ones of nothing but numbers and text.

A pickler notes each text that it writes, so as to write it once, and an unpickler each
that it reads; of a list of a million texts the notes cost several times what the texts do.
So a flat container is a pickle of its own, made without notes, in a frame; the stream has a
token in its place, wherever it is met.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Collection, Iterable
from itertools import islice
from typing import Any

FROM = 10_000
"""Items of the smallest container that is looked at: others are written as quickly."""

_SAMPLE = 1000
_TYPES = frozenset({list, dict, set})
_NUMBERS = frozenset({int, float, bool, type(None)})
_TEXTS = frozenset({str, bytes})
_ITEMS = _NUMBERS | _TEXTS

FLAT = object()
"""Stands for a token that has yet to be made."""

Token = tuple[pickle.PickleBuffer | None, int]
"""The pickle, the first time, and a negative number where other objects have their memo index."""


def candidates(values: Iterable[Any]) -> dict[int, Any]:
    """Answer `FLAT` for the ``id`` of those that are flat, as it seems now."""
    return {id(v): FLAT for v in values if type(v) in _TYPES and len(v) >= FROM and _seems_flat(v)}


class FlatWriter:
    """Makes the tokens of one stream.

    Attributes
    ----------
    objects : dict of int to object
        The flat containers by their numbers.
    """

    def __init__(self) -> None:
        self.objects: dict[int, Any] = {}
        self._tokens: dict[int, Token | None] = {}

    def token(self, obj: Any) -> Token | None:
        """Answer a candidate's token; None if it is not flat."""
        if id(obj) in self._tokens:
            return self._tokens[id(obj)]
        if not _is_flat(obj):
            self._tokens[id(obj)] = None
            return None
        number = ~len(self.objects)
        self.objects[number] = obj
        self._tokens[id(obj)] = None, number
        return pickle.PickleBuffer(_written(obj)), number


class FlatReader:
    """Loads what a `FlatWriter` wrote.

    Attributes
    ----------
    objects : dict of int to object
        As the writer's.
    """

    def __init__(self) -> None:
        self.objects: dict[int, Any] = {}

    def load(self, data: Any, number: int) -> Any:
        if data is not None:
            self.objects[number] = pickle.loads(data)
        return self.objects[number]


def _seems_flat(obj: Any) -> bool:
    try:
        return _is_flat(obj)
    except RuntimeError:
        return False  # another thread of the user has just changed its size


def _is_flat(obj: Any) -> bool:
    parts: list[Collection[Any]] = [obj.keys(), obj.values()] if type(obj) is dict else [obj]
    return all(_ITEMS.issuperset(map(type, part)) and _differ(part) for part in parts)


def _differ(items: Collection[Any]) -> bool:
    """Whether texts seem to differ: one that is there many times is to be written once."""
    texts = [id(item) for item in islice(items, _SAMPLE) if type(item) in _TEXTS]
    return len(texts) == len(set(texts))


def _written(obj: Any) -> bytes:
    file = io.BytesIO()
    pickler = pickle.Pickler(file, protocol=5)
    pickler.fast = True
    pickler.dump(obj)
    return file.getvalue()
