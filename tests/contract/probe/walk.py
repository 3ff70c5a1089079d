"""The walk over everything that a namespace reaches, breadth first."""

from __future__ import annotations

import hashlib
import re
import sys
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}\b")
ATOMS = (int, str, bytes, bool, complex, type(None), type(Ellipsis), type(NotImplemented))
LIMIT = 150_000


class Node(NamedTuple):
    """An object without its children.

    `label` says what it is, `children` are pairs of an edge (``.x``, ``[3]``) and
    an object. `tracked` is False for values whose identity nobody can rely on.
    """

    label: str
    children: Iterable[tuple[str, Any]] = ()
    tracked: bool = True


def digest(data: Any) -> str:
    """Short name of a text or buffer."""
    if isinstance(data, str):
        data = data.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def short(text: str, length: int = 300) -> str:
    """`text`, its middle replaced by a digest of the whole if it is long."""
    if len(text) <= length:
        return text
    return f"{text[: length // 2]} …{digest(text)}… {text[-length // 2 :]}"


def atom(value: Any) -> str | None:
    """Text of a plain immutable value, None for everything else."""
    kind = type(value)
    if kind in ATOMS:
        return f"Ellipsis {value}" if value is Ellipsis else repr(value)
    if kind is float and value == value:  # a NaN's identity shows: `nan in [nan]`
        return repr(value)
    if kind in (tuple, frozenset):
        texts = [atom(item) for item in value]
        if None not in texts:
            if kind is frozenset:
                return f"frozenset({sorted(map(str, texts))})"
            return f"({', '.join(map(str, texts))})"
    return None


class Walk:
    """Describe objects; `entries` maps paths to texts once `run` has returned.

    Parameters
    ----------
    namespace : dict
    root : str
        The folder that reads ``ROOT``.
    orders : bool
        Whether the texts only order the elements of a set. Sets that such an element leads to
        are ordered by what their elements are at first sight: each of pygments' tokens leads to
        sets of all others, and to walk through all ways among them would never end.
    """

    def __init__(self, namespace: dict[str, Any], root: str = "", orders: bool = False) -> None:
        self.namespace = namespace
        self.root = root
        self.orders = orders
        self.entries: dict[str, str] = {}
        self.seen: dict[int, str] = {}
        self.arrays: list[tuple[str, int, int, Any]] = []
        self._alive: list[Any] = []  # temporary objects must not share an id
        self._queue: deque[tuple[str, Any]] = deque()
        for name, module in (("numpy", "numpy"), ("math", "math")):
            if module in sys.modules:
                nan = sys.modules[module].nan
                self.seen[id(nan)] = f"{name}.nan"

    def plain(self, text: str) -> str:
        """`text` without what differs between any two processes."""
        if self.root:
            text = text.replace(self.root, "ROOT")
        return ADDRESS.sub("0x…", text)

    def add(self, path: str, value: Any) -> None:
        self._queue.append((path, value))

    def run(self) -> None:
        while self._queue:
            path, value = self._queue.popleft()
            if len(self.entries) > LIMIT:
                self.entries["(too much to describe)"] = ""
                return
            self.entries[path] = self._visit(path, value)
        self._note_shared_memory()

    def _visit(self, path: str, value: Any) -> str:
        from .kinds import node_of

        text = atom(value)
        if text is not None:
            return short(self.plain(text))
        if id(value) in self.seen:
            return f"is {self.seen[id(value)]}"
        self._alive.append(value)
        try:
            node = node_of(value, self, path)
        except Exception as error:  # closed buffers, users' own properties
            node = Node(f"{type(value)}, which can't be looked at: {type(error).__name__}")
        if node.tracked:
            self.seen[id(value)] = path
        self._queue.extend((path + edge, child) for edge, child in node.children)
        return node.label

    def key_of(self, value: Any) -> str:
        """A text that orders the elements of sets, whatever their identity."""
        text = atom(value)
        if text is not None:
            return text
        if self.orders:
            return self._at_first_sight(value)
        walk = Walk(self.namespace, self.root, orders=True)
        walk.add("", value)
        walk.run()
        lines = [f"{path} {walk.plain(text)}" for path, text in walk.entries.items()]
        # Equal but not the same: in the order in which they were met elsewhere.
        return "\n".join([*lines, self.seen.get(id(value), "")])

    def _at_first_sight(self, value: Any) -> str:
        from .kinds import node_of

        try:
            node = node_of(value, self, "")
            held = [f"{edge} {text}" for edge, child in node.children if (text := atom(child))]
        except Exception as error:
            return f"{type(value)} {type(error).__name__}"
        return self.plain("\n".join([node.label, *held]))

    def _note_shared_memory(self) -> None:
        """Say which arrays see each other's changes.

        By their addresses, not by ``base``: what an array's memory belongs to is
        the business of whoever made it, a frame mapped from a file included.
        """
        last: tuple[str, int, int, Any] | None = None
        for entry in sorted(self.arrays, key=lambda a: (a[1], -a[2], a[0])):
            path, low, high, array = entry
            if last is not None and low < last[2] and _share(array, last[3]):
                self.entries[f"{path} (memory)"] = f"{last[0]} + {low - last[1]}"
            if last is None or high > last[2]:
                last = entry


def _share(one: Any, two: Any) -> bool:
    """Whether two arrays have a byte in common; True if that is too hard to tell."""
    numpy = sys.modules["numpy"]
    try:
        return bool(numpy.shares_memory(one, two, max_work=10_000))
    except numpy.exceptions.TooHardError:
        return True
