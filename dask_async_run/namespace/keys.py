"""Keys of dicts and sets whose hash a notebook's class makes of what can change.

``seen = {p}``, then ``p.x = 5``, where ``__hash__`` tells of ``x``: ``p in seen`` is false from
then on. What loads a pickle puts the keys in again, by the hash that they have now, and would
find them; with which hash a key was put in Python tells nobody. So the user is told.

And ``p.x = 5``, then ``seen = {p}``: when this comes back, `p` still is as it was. Once it is
changed here, too, the set is filled again.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from dask_async_run.namespace.kinds import ATOMS, per_class


@per_class
def hashes_its_own_way(cls: type) -> bool:
    """Whether the hash of a class's instances is what a notebook says."""
    own = [base for base in cls.__mro__ if base.__module__ == "__main__"]
    return any(vars(base).get("__hash__") is not None for base in own)


def lost(containers: Iterable[Any]) -> dict[int, Any]:
    """Answer ``id`` of the dicts and sets of which a key is not found, and such a key.

    Numbers and texts are passed over, so that this costs little for all but keys of classes.
    """
    found = {}
    for container in containers:
        if issubclass(type(container), (dict, set, frozenset)):
            keys, finds = _ways_of(container)
            if ATOMS.issuperset(map(type, keys)):
                continue
            for key in keys:
                if type(key) not in ATOMS and not _is_found(finds, container, key):
                    found[id(container)] = key
                    break
    return found


def with_own_keys(containers: Iterable[Any]) -> list[Any]:
    """Answer the dicts and sets with keys of classes."""
    return [
        container
        for container in containers
        if issubclass(type(container), (dict, set))
        and not ATOMS.issuperset(map(type, _ways_of(container)[0]))
    ]


def with_keys_of(changed: Collection[int], containers: Iterable[Any]) -> list[Any]:
    """Answer the dicts and sets with a key that is one of some objects, or a tuple of them."""

    def is_changed(key: Any) -> bool:
        return id(key) in changed or (type(key) is tuple and any(map(is_changed, key)))

    return [each for each in with_own_keys(containers) if any(map(is_changed, _ways_of(each)[0]))]


def frozen(containers: Iterable[Any], changed: Collection[int]) -> dict[int, Any]:
    """Answer ``id`` of frozen sets with an element that was changed, and that: none is refilled."""
    sets = (container for container in containers if issubclass(type(container), frozenset))
    return {id(each): key for each in sets for key in each if id(key) in changed}


def refill(container: Any) -> None:
    """Put the keys of a dict or a set in again, by the hash that they have now."""
    if isinstance(container, set):
        elements = list(set.__iter__(container))
        set.clear(container)
        set.update(container, elements)
        return
    base: Any = collections.OrderedDict if isinstance(container, collections.OrderedDict) else dict
    items = list(base.items(container))
    base.clear(container)
    for key, value in items:
        base.__setitem__(container, key, value)


def _ways_of(container: Any) -> tuple[Collection[Any], Callable[[Any, Any], bool]]:
    # The built-in type's own methods: a subclass may have other ideas.
    base: Any = next(kind for kind in (dict, set, frozenset) if isinstance(container, kind))
    return list(base.__iter__(container)), base.__contains__


def _is_found(finds: Callable[[Any, Any], bool], container: Any, key: Any) -> bool:
    try:
        return finds(container, key)
    except Exception:  # noqa: BLE001 - whatever the notebook's __hash__ or __eq__ raises
        return True  # loading it says so


def held_by(
    lost: Mapping[int, Any],
    values: Mapping[str, Any],
    children: Callable[[Any], Iterable[Any]],
) -> dict[str, str]:
    """Answer which names lead to a dict or a set of which a key is lost, and the key's type."""
    found = {}
    for name, value in values.items():
        seen: set[int] = set()
        pending = [value]
        while pending:
            obj = pending.pop()
            if type(obj) in ATOMS or id(obj) in seen:
                continue
            if id(obj) in lost:
                found[name] = type(lost[id(obj)]).__name__
                break
            seen.add(id(obj))
            pending.extend(children(obj))
    return found
