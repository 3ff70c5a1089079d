"""What went in, and what of it changed: the cell's side of "as if it had run here".

After the inputs are loaded, a `Baseline` walks every object that the cell can
reach from them and takes a snapshot of each one's own state. After the cell it
tells which of them changed. An object that the stream has an index for can be
named by it (a *token*); one that it has none for (made by somebody's
``__setstate__``) counts as a part of the object that led to it.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dask_async_run.namespace import opaque, weak
from dask_async_run.namespace.classify import kind_of
from dask_async_run.namespace.containers import COMMONEST
from dask_async_run.namespace.digests import KnownBuffers
from dask_async_run.namespace.kinds import ATOMS, Kind
from dask_async_run.namespace.opaque import fingerprinting
from dask_async_run.namespace.patches import Patch, patch_of
from dask_async_run.namespace.sharing import SharedMemory

_Row = tuple[list[Any], int]
"""Objects that wait for their turn, and the ``id`` of the nearest one with a token above them."""

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
    surroundings : iterable of objects
        What is tracked, too, though no name leads to it.

    Attributes
    ----------
    tracked : dict of int to Tracked
        By the ``id`` of the objects.
    held : collection of int
        ``id`` of those that names lead to, not weak references alone. What only a library holds
        (a handler of `logging`) no cell can let go.
    """

    def __init__(
        self,
        roots: Iterable[Any],
        tokens: Mapping[int, Token],
        namespace: dict[str, Any],
        known: KnownBuffers,
        surroundings: Iterable[Any] = (),
    ) -> None:
        self._namespace = namespace
        self._known = known
        self.tracked: dict[int, Tracked] = {}
        with fingerprinting(namespace, known, by_identity=True):
            weakly = self._walk([(list(roots), 0)], tokens)
            others = list(surroundings)
            apart = weakly or others
            self.held: Collection[int] = set(self.tracked) if apart else self.tracked.keys()
            weakly += self._walk([(others, 0)], tokens)
            while weakly:
                weakly = self._walk(weakly, tokens)
        known.touch()

    def _walk(self, pending: list[_Row], tokens: Mapping[int, Token]) -> list[_Row]:
        """Track what objects lead to; answer what there is at the end of weak references."""
        arrays = getattr(sys.modules.get("numpy"), "ndarray", ())
        weakly: list[_Row] = []
        tracked, namespace = self.tracked, self._namespace
        while pending:
            row, above = pending[-1]
            if not row:
                pending.pop()
                continue
            obj = row.pop()
            key, cls = id(obj), type(obj)
            if cls in ATOMS or key in tracked or obj is namespace:
                continue
            common = COMMONEST.get(cls)
            kind = common or kind_of(obj)
            if kind is None:
                continue
            token = tokens.get(key)
            owner = above if token is None else key
            tracked[key] = Tracked(obj, kind, kind.snapshot(obj), token, owner)
            children = [child for child in kind.children(obj) if type(child) not in ATOMS]
            then = pending
            if common is None:
                then = weakly if cls in weak.KINDS else pending
                if issubclass(cls, arrays) and id(root := SharedMemory.root(obj)) in tokens:
                    # What a view is a view of may have no name, and is one memory with it.
                    pending.append(([root], 0))
            if children:
                then.append((children, owner))
        return weakly

    def patch(self, tracked: Tracked) -> Patch | None:
        """Answer what was written to of an array, if that is little and it came as it is here.

        Only of one of the job's own inputs: what an earlier job made may be another one
        where the result goes.
        """
        if tracked.kind is not opaque.ARRAY or tracked.token is None or tracked.token[0] != 0:
            return None
        if tracked.snapshot is None:
            return None
        shape, dtype, _, _ = tracked.snapshot
        return patch_of(tracked.obj, shape, dtype, self._known)

    def changed(self) -> list[tuple[Tracked, bool]]:
        """Answer the objects with tokens whose state changed, or a part that has no token.

        Returns
        -------
        list of (Tracked, bool)
            Whether a part without a token is what changed: then all of the
            object's state counts.
        """
        found: dict[int, bool] = {}
        with fingerprinting(self._namespace, self._known, by_identity=True):
            for key, tracked in self.tracked.items():
                owner = tracked.owner
                if found and found.get(owner):
                    continue
                if tracked.token is None and opaque.is_unknown(tracked.snapshot):
                    continue  # a lock that a __setstate__ made: it can't go anywhere
                if not tracked.kind.unchanged(tracked.obj, tracked.snapshot):
                    found[owner] = found.get(owner, False) or key != owner
        return [
            (self.tracked[key], whole)
            for key, whole in found.items()
            if key in self.tracked and self.tracked[key].token is not None
        ]
