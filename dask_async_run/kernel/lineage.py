"""What a later cell comes to through the names of pending jobs, whose objects nobody has here.

Objects that a job made are one *place*, and so is each function or class that it defines: what
is made of them may hold them. Two cells share an object only if they come to the same place, or
to the same object of this kernel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from dask_async_run.namespace.effects import Effects
from dask_async_run.namespace.file_names import FileNames
from dask_async_run.namespace.functions import Function

Place = int | str | tuple[str, str]
"""``id`` of an object of this kernel, a job's id, or a job's id and a definition's name."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """What later cells have to know of a cell that was submitted.

    Parameters
    ----------
    effects : Effects
    imported : frozenset of str
        Names that nothing but imports bind.
    places : frozenset of Place
        Where what its objects may hold is.
    changes : frozenset of Place
        Where what it may change in place is.
    functions : frozenset of Function
        What may be called through its objects.
    needs : frozenset of str
        Names that these read.
    streams : frozenset of str
        Names that it binds to what moves on with each use.
    binds_more : bool
        It may bind names that nobody knows before it has run (``exec``, a star import).
    rebinds : bool
        Names that are here already may be among them: it runs code that nobody knows here.
    star : bool
        Names of builtins may be among them, for it imports all that a module has.
    draws : bool
        It draws from the random numbers of ``random`` or numpy, from where they are here.
    seeds : bool
        It sets where these are.
    files : FileNames
    defaults : bool
        Among its objects may be some that get an item when it is looked up (``defaultdict``).
    mutates : frozenset of str
        Names whose objects it may change in place.
    """

    effects: Effects = field(default_factory=Effects)
    imported: frozenset[str] = frozenset()
    places: frozenset[Place] = frozenset()
    changes: frozenset[Place] = frozenset()
    functions: frozenset[Function] = frozenset()
    needs: frozenset[str] = frozenset()
    streams: frozenset[str] = frozenset()
    binds_more: bool = False
    rebinds: bool = False
    star: bool = False
    draws: bool = False
    seeds: bool = False
    files: FileNames = field(default_factory=FileNames)
    defaults: bool = False
    mutates: frozenset[str] = frozenset()

    def may_default(self, name: str) -> bool:
        """Whether one of its names may be, or hold, what gets an item when that is looked up.

        What a library's function answers seldom is, or all that read a table would wait.
        """
        if not self.defaults or name in self.imported or name in self.effects.definitions:
            return False
        makers = self.effects.made.get(name)
        own = {"defaultdict", *(function.name for function in self.functions)}
        return not makers or any(each in own or each[:1].isupper() for each in makers)


class Submitted(Protocol):
    """A job that was submitted here."""

    id: str
    lineage: Lineage


@dataclass(slots=True)
class Followed:
    """What some pending names lead to.

    Parameters
    ----------
    names : set of str
        Names that may be read, the first ones included.
    needs : set of str
        The part of them that others lead to.
    places, functions
        As of `Lineage`.
    streams : set of str
        Those of the names that move on with each use.
    """

    names: set[str] = field(default_factory=set)
    needs: set[str] = field(default_factory=set)
    places: set[Place] = field(default_factory=set)
    functions: set[Function] = field(default_factory=set)
    streams: set[str] = field(default_factory=set)


def follow(names: Iterable[str], makers: Mapping[str, Iterable[Submitted]]) -> Followed:
    """Find out what names lead to.

    Parameters
    ----------
    names : iterable of str
    makers : mapping of str to iterable of Submitted
        The jobs that may bind each pending name.
    """
    found = Followed()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found.names:
            continue
        found.names.add(name)
        for job in makers.get(name, ()):
            further = _look(name, job, found)
            found.needs |= further
            waiting += further
    return found


def _look(name: str, job: Submitted, found: Followed) -> frozenset[str]:
    """Add what a name of a job leads to; answer the names that are read on the way."""
    lineage = job.lineage
    if name in lineage.imported:
        return frozenset()
    if name in lineage.streams:
        found.streams.add(name)
    if name in lineage.effects.definitions:
        found.places.add((job.id, name))
        found.functions |= {f for f in lineage.effects.functions if f.top == name}
        return lineage.effects.needs[name]
    found.places |= lineage.places
    found.functions |= lineage.functions
    return lineage.needs
