"""What went in, and what of it changed: the cell's side of "as if it had run here".

After the inputs are loaded, a `Baseline` walks every object that the cell can
reach from them and takes a snapshot of each one's own state. After the cell it
tells which of them changed. An object that the stream has an index for can be
named by it (a *token*); one that it has none for (made by somebody's
``__setstate__``) counts as a part of the object that led to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dask_async_run.namespace.classify import kind_of
from dask_async_run.namespace.digests import KnownBuffers
from dask_async_run.namespace.kinds import ATOMS, Kind
from dask_async_run.namespace.opaque import fingerprinting

Token = tuple[int, int]
"""Section (0: own inputs; further ones: those of parents) and index in its memo."""


@dataclass(slots=True)
class Tracked:
    """One object that went in.

    Parameters
    ----------
    obj : object
    kind : Kind
    snapshot : object
        Its own state before the cell.
    token : Token or None
        How both sides name it.
    owner : int
        ``id`` of the nearest object on the way to it that has a token.
    """

    obj: Any
    kind: Kind
    snapshot: Any
    token: Token | None
    owner: int


class Baseline:
    """Snapshots of all objects reachable from some values.

    Parameters
    ----------
    roots : iterable of objects
    tokens : mapping of int to Token
        ``id(obj)`` of the objects that have a token.
    namespace : dict
    known : KnownBuffers
    """

    def __init__(
        self,
        roots: Iterable[Any],
        tokens: Mapping[int, Token],
        namespace: dict[str, Any],
        known: KnownBuffers,
    ) -> None:
        self._namespace = namespace
        self._known = known
        self.tracked: dict[int, Tracked] = {}
        with fingerprinting(namespace, known):
            self._walk(roots, tokens)
        known.forget()

    def _walk(self, roots: Iterable[Any], tokens: Mapping[int, Token]) -> None:
        pending: list[tuple[Any, int]] = [(root, 0) for root in roots]
        while pending:
            obj, owner = pending.pop()
            if type(obj) in ATOMS or id(obj) in self.tracked or obj is self._namespace:
                continue
            kind = kind_of(obj)
            if kind is None:
                continue
            token = tokens.get(id(obj))
            owner = id(obj) if token is not None else owner
            self.tracked[id(obj)] = Tracked(obj, kind, kind.snapshot(obj), token, owner)
            children = kind.children(obj)
            if not ATOMS.issuperset(map(type, children)):
                pending.extend((child, owner) for child in children if type(child) not in ATOMS)

    def changed(self) -> list[Tracked]:
        """Answer the objects with tokens whose state, or a part of it, changed."""
        found: dict[int, Tracked] = {}
        with fingerprinting(self._namespace, self._known):
            for tracked in self.tracked.values():
                if tracked.owner in found:
                    continue
                if not tracked.kind.unchanged(tracked.obj, tracked.snapshot):
                    owner = self.tracked.get(tracked.owner, tracked)
                    found[tracked.owner] = owner
        return [tracked for tracked in found.values() if tracked.token is not None]
