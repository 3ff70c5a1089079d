"""Names of the files that a cell may read and write, as patterns: what of them two cells share.

A ``*`` in a pattern is whatever it may be, slashes included. A folder stands for all that is in it.
"""

from __future__ import annotations

import math
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from dask_async_run.namespace.file_uses import OPENED, FileUse, FileUses, Hole, PathText, is_file
from dask_async_run.namespace.functions import Function

_ANY = frozenset({"*"})
_MOST = 64
"""So many files are told apart; more of one use are any."""
_DEEP = 5
_ENDING = re.compile(r"\.[A-Za-z]\w*$")
"""Of a file's name: a folder seldom has one."""


@dataclass(frozen=True, slots=True)
class FileNames:
    """What a cell may do with files.

    Parameters
    ----------
    reads, writes : frozenset of str
    """

    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()

    def waits_for(self, earlier: FileNames) -> bool:
        """Whether it matters which of two cells has been first."""
        return (
            share(self.reads, earlier.writes)
            or share(self.writes, earlier.reads)
            or share(self.writes, earlier.writes)
        )


def share(some: Iterable[str], others: Iterable[str]) -> bool:
    """Whether there may be a file, or a folder with it, among both patterns."""
    return bool(shared(some, others))


def shared(some: Iterable[str], others: Iterable[str]) -> list[str]:
    """Answer the part of some patterns that share a file, or a folder with it, with others."""
    others = list(others)
    return [one for one in some if any(_meet(one, other) for other in others)] if others else []


def _meet(one: str, other: str) -> bool:
    if "*" not in one and "*" not in other:
        return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")
    return (
        _overlap(one, other)
        or (not _ENDING.search(one) and _overlap(f"{one}/*", other))
        or (not _ENDING.search(other) and _overlap(one, f"{other}/*"))
    )


def _overlap(one: str, other: str) -> bool:
    """Whether a name may fit both patterns; of two with holes, their ends decide."""
    if "*" not in one:
        one, other = other, one
    if "*" not in other:
        return re.fullmatch(".*".join(map(re.escape, one.split("*"))), other, re.DOTALL) is not None
    (start, *_, end), (first, *_, last) = one.split("*"), other.split("*")
    starts = start.startswith(first) or first.startswith(start)
    return starts and (end.endswith(last) or last.endswith(end))


class FileFinder:
    """Fills the holes of the paths that a cell uses.

    Parameters
    ----------
    values : mapping
        Values of names that are known; others may be anything.
    functions : iterable of Function
        Those that the cell may call.
    attributes : callable(name) -> iterable of object
        Values of an attribute among the objects that the cell sees.
    folder : str
        The working folder.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        functions: Iterable[Function],
        attributes: Callable[[str], Iterable[Any]],
        folder: str,
    ) -> None:
        self._values = values
        self._functions: dict[str, list[Function]] = {}
        for function in functions:
            self._functions.setdefault(function.name, []).append(function)
        self._attributes = attributes
        self._folder = folder
        self._entered: list[str] = []
        self._found: dict[str, set[str]] = defaultdict(set)

    def find(self, uses: FileUses, modules: Iterable[str] = ()) -> FileNames:
        """Answer what a cell does with files, in the functions that it calls, too.

        Parameters
        ----------
        uses : FileUses
        modules : iterable of str
            Those that it imports: they may be files of the working folder.
        """
        self._enter(uses, {})
        found = self._found
        reads = found["reads"] | found["mentions"]
        reads |= {self._whole(f"{name}{end}") for name in modules for end in ("", ".py")}
        # To wait for one that waits for this one's file would be for ever.
        return FileNames(frozenset(reads - found["polls"]), frozenset(found["writes"]))

    def _enter(self, uses: FileUses, given: Mapping[str, frozenset[str]]) -> None:
        for use in uses.uses:
            found = self._found[use.kind]
            found.update(self._whole(name) for name in self._names(use, uses, given))
        for call in uses.calls:
            for function in self._functions.get(call.name, ()):
                if call.name in self._entered or len(self._entered) >= _DEEP:
                    continue
                arguments = call.arguments()
                passed = {
                    name: self._fill(path, uses, given)
                    for name, slots in function.parameters.items()
                    for slot, path in arguments.items()
                    if slot in slots
                }
                defaults = dict.fromkeys(function.parameters, _ANY) | {
                    name: self._fill(path, function.files, {})
                    for name, path in function.files.defaults.items()
                }
                self._entered.append(call.name)
                self._enter(function.files, {**defaults, **passed})
                self._entered.pop()

    def _names(
        self, use: FileUse, uses: FileUses, given: Mapping[str, frozenset[str]]
    ) -> frozenset[str]:
        if use.function in self._functions:
            return frozenset()
        names = frozenset(name for path in use.paths for name in self._fill(path, uses, given))
        if OPENED in names:
            return frozenset()
        if use.kind == "mentions":
            names = frozenset(name for name in names if is_file((name,)))
        names = frozenset(name for name in names if "://" not in name)
        return names - _ANY or names  # one argument of several is the file

    def _fill(
        self,
        path: PathText,
        uses: FileUses,
        given: Mapping[str, frozenset[str]],
        inside: frozenset[str] = frozenset(),
    ) -> frozenset[str]:
        """Answer the texts that a path may be; none if it is no path."""
        parts = [
            frozenset({part}) if isinstance(part, str) else self._hole(part, uses, given, inside)
            for part in path
        ]
        if any(OPENED in texts for texts in parts):
            return frozenset({OPENED})
        if len(parts) > 1:
            parts = [texts or _ANY for texts in parts]
        if math.prod(map(len, parts)) > _MOST:
            parts = [texts if len(texts) == 1 else _ANY for texts in parts]
        return frozenset("".join(texts) for texts in product(*parts)) if parts else frozenset()

    def _hole(
        self,
        hole: Hole,
        uses: FileUses,
        given: Mapping[str, frozenset[str]],
        inside: frozenset[str],
    ) -> frozenset[str]:
        name = hole.name
        if not name or len(inside) > _DEEP:
            return _ANY
        if name.startswith("."):
            values = list(self._attributes(name[1:]))
            return _texts(values) if values else _ANY
        if name in uses.assigned and name not in inside:
            within = inside | {name}
            paths = uses.assigned[name]
            return frozenset(text for p in paths for text in self._fill(p, uses, given, within))
        if name in given:
            return given[name]
        if name in self._values:
            return _texts([self._values[name]])
        return _ANY

    def _whole(self, name: str) -> str:
        """Answer a name as of the file system's root; what begins with a hole may be any."""
        name = re.sub(r"\?|\[[^]]*\]", "*", name)
        if name.startswith("*"):
            return name
        try:
            path = Path(self._folder, Path(name).expanduser())
        except RuntimeError:  # a home that nobody has
            path = Path(self._folder, name)
        return os.path.normpath(path)  # `..`, too


def _texts(values: Iterable[Any]) -> frozenset[str]:
    """Answer the texts and paths among some values, and in their lists; none if there are none."""
    found = set()
    for value in _flat(values):
        if isinstance(value, str):
            found.add(value)
        elif isinstance(value, os.PathLike):
            try:
                found.add(os.fsdecode(value))
            except Exception:  # noqa: BLE001 - anybody's class
                return _ANY
        elif type(value) is int or type(value) is float:
            found.add(str(value))
        elif hasattr(type(value), "write") or hasattr(type(value), "readline"):
            return frozenset({OPENED})
        if len(found) > _MOST:
            return _ANY
    return frozenset(text for text in found if len(text) < 1000)


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if type(value) in (list, tuple, set, frozenset):
            yield from value
        elif type(value) is dict:
            yield from value.values()
        else:
            yield value
