"""What of a result can be loaded where some of it cannot: a module is missing, say.

A result is a row of items with one memo. Without an item that cannot be loaded, those
that share an object with it cannot be loaded either; all others can.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

CHANGE = "a change in place"
"""What an item is called that gives an object of the inputs a new state."""


class NotLoadedError(Exception):
    """Some of a result could not be loaded.

    Parameters
    ----------
    lost : dict of str to str
        What, and why not: names, `CHANGE` and the like.
    """

    def __init__(self, lost: dict[str, str]) -> None:
        super().__init__(lost)
        self.lost = lost

    def __str__(self) -> str:
        return "; ".join(f"{what} cannot be loaded ({why})" for what, why in self.lost.items())


@dataclass(slots=True)
class _Piece:
    """One item of a stream.

    Parameters
    ----------
    start : int
        Where it is.
    memoized, buffers : int
        How many objects it puts into the memo, how many buffers it takes.
    refers : set of int
        What it takes out of the memo.
    texts : list of str
        Its first two.
    plain : dict of int to str
        The texts that it puts into the memo: known without loading it, and no object's own.
    """

    start: int
    memoized: int = 0
    buffers: int = 0
    refers: set[int] = field(default_factory=set)
    texts: list[str] = field(default_factory=list)
    plain: dict[int, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        match self.texts:
            case ["bind" | "delete" | "note", name, *_]:
                return name
            case ["update", *_]:
                return CHANGE
            case ["out", *_]:
                return "its last expression's value"
            case ["error", *_]:
                return "its exception"
        return "what surrounds it"


def _pieces(data: bytes) -> Iterator[_Piece]:
    file = io.BytesIO(data)
    texts: dict[int, str] = {}
    known = 0
    while file.tell() < len(data):
        piece = _Piece(file.tell())
        last: str | None = None
        argument: Any
        for operation, argument, _ in pickletools.genops(file):
            name = operation.name
            if name == "MEMOIZE":
                if last is not None:
                    texts[known] = piece.plain[known] = last
                known += 1
                piece.memoized += 1
            elif name in ("BINGET", "LONG_BINGET"):
                piece.refers.add(argument)
            elif name == "NEXT_BUFFER":
                piece.buffers += 1
            last = argument if isinstance(argument, str) and "UNICODE" in name else None
            text = texts.get(argument) if "BINGET" in name else last
            if text is not None and len(piece.texts) < 2:
                piece.texts.append(text)
        yield piece


def _prelude(count: int) -> bytes:
    """Answer a pickle that fills a memo with so many objects, of persistent ids 0, 1, ...

    An unpickler's `memo` is not to be set: CPython's sets the one that it then drops.
    """
    puts = b"".join(
        pickle.BININT + index.to_bytes(4, "little") + pickle.BINPERSID + pickle.MEMOIZE + pickle.POP
        for index in range(count)
    )
    return pickle.PROTO + b"\x05" + puts + pickle.NONE + pickle.STOP


def salvage(
    data: bytes,
    buffers: Sequence[Any],
    make: Callable[[Any, Sequence[Any], dict[int, Any]], Any],
    take: Callable[[Any], object],
) -> tuple[dict[str, str], dict[int, Any]]:
    """Load the items of a stream that can be loaded.

    Parameters
    ----------
    data : bytes
    buffers : sequence of buffers
    make : callable(file, buffers, past) -> unpickler
        Its persistent ids that are numbers mean the objects in `past`.
    take : callable(item)
        Gets each item as soon as it is loaded.

    Returns
    -------
    lost : dict of str to str
        What could not be loaded, and why.
    objects : dict of int to object
        Memo index to object.
    """
    unpickler: Any = None
    memo: dict[int, Any] = {}
    lost: dict[str, str] = {}
    lacking: set[int] = set()
    known = taken = 0
    for piece in _pieces(data):
        why = "it shares an object with what cannot be loaded" if piece.refers & lacking else ""
        if unpickler is None and not why:
            file = io.BytesIO(_prelude(len(memo)) + data[piece.start :])
            unpickler = make(file, buffers[taken:], memo)
            unpickler.load()
        if not why:
            try:
                item = unpickler.load()
            except Exception as error:  # noqa: BLE001 - whatever unpickling the user's objects raises
                why = f"{type(error).__name__}: {error}"
            else:
                take(item)
        if why:
            lost.setdefault(piece.label, why)
            if unpickler is not None:  # it may have read ahead, and have half of this item
                memo, unpickler = unpickler.memo.copy(), None
            new = range(known, known + piece.memoized)
            memo.update(dict.fromkeys(new) | piece.plain)
            lacking.update(set(new) - piece.plain.keys())
        known += piece.memoized
        taken += piece.buffers
    if unpickler is not None:
        memo = unpickler.memo.copy()
    return lost, {index: obj for index, obj in memo.items() if index not in lacking}
