"""Seeds: objects that the other side has, too, written as what stands in the memo already.

A pickler that is asked for each object whether it is a seed (`SeededPickler`) is asked by
a call of Python's for every number in every list. Here the seeds are put into its memo
before it begins, so that it writes the number of a place where it meets one, at the speed
of C; before the stream stands how many places there are, and which token each one that
occurs is of. The other side puts the objects of those tokens there before it loads the
rest (`salvage.Items`). To find the places that occur, the stream is searched for the
operation that fetches from the memo; what only looks like one has an object looked up for
nothing.

Two kinds of objects go another way:

- arrays and frames, which may not be there any more and would be loaded again for nothing,
  are asked for by a call in the stream (`unpickling.recall`), as an instance is made by one;
- numbers have no place in a memo. `held_elsewhere` says whether one is held by more than
  names, so that only a `SeededPickler` can tell it from one that is as large.
"""

from __future__ import annotations

import pickle
import re
import struct
import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from dask_async_run.namespace.pickling import NamespacePickler
from dask_async_run.namespace.tensors import tensor_types
from dask_async_run.namespace.unpickling import recall

_MAGIC = b"seeds:"
"""How a stream begins that was written so: no pickle does."""
_LENGTH = struct.Struct("<Q")
_FIRST = 256
"""The first place: to earlier ones leads an operation that any text seems to have."""
_END = 1 << 24
"""More places than this there cannot be: the fourth byte of each is zero."""
_FETCH = re.compile(re.escape(pickle.LONG_BINGET) + rb"(?=(.{3}\0))", re.DOTALL)
_NUMBERS = (int, float)
_LENGTH_OF_MOST = 2
"""Of tokens: a section and an index."""
[_BY_ASKING] = map(sys.getrefcount, [object()])
"""References that there are to an object because it is in a list, and asked about."""


def large_types() -> tuple[type, ...]:
    """Answer types that are held weakly: what a user deletes must free its memory."""
    found = []
    for module, name in (
        ("numpy", "ndarray"),
        ("pandas", "DataFrame"),
        ("pandas", "Series"),
        ("torch", "Tensor"),
    ):
        kind = getattr(sys.modules.get(module), name, None)
        if isinstance(kind, type):
            found.append(kind)
    return tuple(found)


def held_elsewhere(numbers: Iterable[Any], names: Iterable[Mapping[Any, Any]]) -> bool:
    """Whether one of some numbers is referred to by something other than some dicts of names."""
    listed = list({id(n): n for n in numbers if type(n) in _NUMBERS}.values())
    if not listed:
        return False
    references = list(map(sys.getrefcount, listed))
    known = Counter(id(value) for each in names for value in each.values())
    return any(
        count - _BY_ASKING > known[id(number)]
        for number, count in zip(listed, references, strict=True)
    )


class Seeds:
    """Objects and their tokens.

    Parameters
    ----------
    objects : iterable of objects
    tokens : mapping of int to token
        Of each by its ``id``.

    Attributes
    ----------
    tokens : mapping
        As given.
    memo : dict of int to (int, object)
        What is put into a pickler's.
    called : dict of int to token
        Those that are asked for by a call.
    """

    def __init__(self, objects: Iterable[Any], tokens: Mapping[int, Any]) -> None:
        self.tokens = tokens
        objects = list(objects)
        unique = dict(zip(map(id, objects), objects, strict=True))
        kinds = set(map(type, unique.values()))
        large = {kind for kind in kinds if issubclass(kind, (*large_types(), *tensor_types()))}
        self.called = {
            key: tokens[key] for key, obj in (unique.items() if large else ()) if type(obj) in large
        }
        apart = large | set(_NUMBERS)
        placed = (
            unique
            if kinds.isdisjoint(apart)
            else {key: obj for key, obj in unique.items() if type(obj) not in apart}
        )
        self.memo: dict[int, tuple[int, Any]] = {}
        self._places: list[int] = list(placed)
        if placed:
            fillers = [object() for _ in range(_FIRST)]
            self.memo = {id(filler): (place, filler) for place, filler in enumerate(fillers)}
            self.memo |= zip(placed, zip(count(_FIRST), placed.values()), strict=False)

    @property
    def count(self) -> int:
        """How many places are taken; what is written has the ones after these."""
        return len(self.memo)

    @property
    def fit(self) -> bool:
        """Whether there are not too many."""
        return self.count < _END

    def before(self, stream: Any) -> bytes:
        """Answer what is to stand before a stream that was written with them."""
        if not self.memo:
            return b""
        found = array("I", b"".join(set(_FETCH.findall(stream))))
        if sys.byteorder == "big":
            found.byteswap()
        places = sorted(place for place in found if _FIRST <= place < self.count)
        tokens = [self.tokens[self._places[place - _FIRST]] for place in places]
        others = {n: token for n, token in enumerate(tokens) if len(token) != _LENGTH_OF_MOST}
        for number in others:
            tokens[number] = (0, 0)
        parts = ([token[part] for token in tokens] for part in range(_LENGTH_OF_MOST))
        rows = [array("i", row) for row in (places, *parts)]
        told = pickle.dumps((self.count, rows, others), protocol=5)
        return _MAGIC + _LENGTH.pack(len(told)) + told


class RecallingPickler(NamespacePickler):
    """A `NamespacePickler` that writes seeds as said above, but for numbers.

    Parameters
    ----------
    seeds : Seeds
    """

    def __init__(self, file: Any, namespace: dict[str, Any], seeds: Seeds, **kwargs: Any) -> None:
        super().__init__(file, namespace, **kwargs)
        self._called = seeds.called
        if seeds.memo:
            self.memo = seeds.memo

    def reducer_override(self, obj: Any) -> Any:
        token = self._called.get(id(obj)) if self._called else None
        return super().reducer_override(obj) if token is None else (recall, (token,))


@dataclass(frozen=True)
class Recalled:
    """What stands before a stream.

    Parameters
    ----------
    count : int
        Places that are taken in the memo.
    tokens : dict of int to token
        Of the places that occur, in order.
    end : int
        Where the stream begins.
    """

    count: int = 0
    tokens: Mapping[int, Any] = field(default_factory=dict)
    end: int = 0

    @classmethod
    def read(cls, data: Any) -> Recalled:
        """Answer what stands before a stream; nothing, if it was written without seeds."""
        start = len(_MAGIC) + _LENGTH.size
        if bytes(data[: len(_MAGIC)]) != _MAGIC:
            return cls()
        (length,) = _LENGTH.unpack(data[len(_MAGIC) : start])
        count, rows, others = pickle.loads(data[start : start + length])
        places, *parts = rows
        tokens: dict[int, Any] = dict(zip(places, zip(*parts, strict=True), strict=True))
        tokens |= {places[number]: token for number, token in others.items()}
        return cls(count, tokens, start + length)

    def filling(self) -> bytes:
        """Answer a pickle that fills the memo of Python's unpickler with the next "buffers".

        One for each of `tokens`. To set the memo of the unpickler that is written in C has no
        effect.
        """
        parts, place = [pickle.PROTO, b"\5", pickle.NONE], 0
        for following in self.tokens:
            parts += pickle.MEMOIZE * (following - place), _FILL
            place = following + 1
        parts += pickle.MEMOIZE * (self.count - place), pickle.STOP
        return b"".join(parts)


_FILL = pickle.NEXT_BUFFER + pickle.MEMOIZE + pickle.POP


class Named:
    """Stands in an item for a number that the other side has."""

    def __init__(self, token: Any) -> None:
        self._token = token

    def __reduce__(self) -> Any:
        return recall, (self._token,)
