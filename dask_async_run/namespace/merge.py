"""Merge: a result into the kernel's namespace, conflicts seen.

First everything is loaded, then a `Plan` is made, then it is applied in one go:
whatever fails before, or while, leaves the namespace as it was.

What came back refers to what went in by tokens. In the kernel that submitted
the job they mean its own objects, which a `Kept` remembers; in any other kernel
they mean copies, loaded from the job's inputs.

A name is *clean* if it is here as it was when the job was submitted. A name
that was rebound, deleted or bound here since then, or whose object was changed
here in place, is a *conflict*: it is left alone and reported, unless the user
says ``--overwrite``.
"""

from __future__ import annotations

import copy
import pickle
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from dask_async_run.namespace import archives, files, handlers, threads, weak
from dask_async_run.namespace.beside import MODULE, keeps_state
from dask_async_run.namespace.capture import Captured
from dask_async_run.namespace.classify import kind_of
from dask_async_run.namespace.compare import Comparison, all_alike
from dask_async_run.namespace.conditions import uncollected
from dask_async_run.namespace.digests import KnownBuffers, fingerprint
from dask_async_run.namespace.generators import GENERATOR_KIND, TYPES
from dask_async_run.namespace.held import Held, HeldObjects, held_weakly
from dask_async_run.namespace.inputs import Inputs, is_hidden
from dask_async_run.namespace.instances import INSTANCE, pickles_its_own_way
from dask_async_run.namespace.iterators import ITERATOR, is_iterator
from dask_async_run.namespace.kinds import ATOMS, Kind, per_class
from dask_async_run.namespace.loaded import Loaded, Update, apply_updates, is_item
from dask_async_run.namespace.managers import is_internal
from dask_async_run.namespace.modules import module_name
from dask_async_run.namespace.opaque import ARRAY, fingerprinting
from dask_async_run.namespace.patches import Patch, whole
from dask_async_run.namespace.seeds import large_types
from dask_async_run.namespace.sharing import is_masked
from dask_async_run.namespace.twice import is_there_already

_MISSING: Any = object()
_LOADED_OTHERWISE = (*TYPES, *files.TYPES, weakref.finalize)
"""Types of which a copy that is loaded here is not in the state that was sent."""
_REMEMBERED = (INSTANCE, ITERATOR, GENERATOR_KIND, files.FILE, weak.FINALISER)
"""Kinds of objects of which some need not look like their copies."""
_CHANGED = "was changed in place here since"
_MANY = 20
"""Changed objects that are worth to be compared all together first."""


@per_class
def _is_loaded_otherwise(cls: type) -> bool:
    ways = (archives, handlers, threads)
    return cls in _LOADED_OTHERWISE or any(module.reducer(cls) is not None for module in ways)


def has_attributes(cls: type, attributes: Mapping[str, Any], state: Any) -> bool:
    """Whether a class has those attributes, among those that a new state of it is about."""
    now = vars(cls)
    return all(
        attributes.get(name, _MISSING) is now.get(name, _MISSING) for name in (*state[0], *state[1])
    )


def is_pythons_own(state: Any) -> bool:
    """Whether a new state of a class is about nothing but what Python itself keeps in it.

    As ``__protocol_attrs__``, which ``isinstance`` leaves there.
    """
    return all(name.startswith("__") and name.endswith("__") for name in (*state[0], *state[1]))


def looks_like_its_copy(obj: Any) -> bool:
    """Whether an object that nobody has changed is like a copy of it, as far as is known.

    A copy of what pickles its own way need not look like the original: a figure's callbacks are
    not sent. Of a class there is but one.
    """
    cls = type(obj)
    if issubclass(cls, (type, ModuleType)):
        return False
    if pickles_its_own_way(cls) or is_iterator(cls) or _is_loaded_otherwise(cls):
        return kind_of(obj) not in _REMEMBERED
    return True


def remembered(obj: Any) -> tuple[Kind, Any] | None:
    """Answer the kind and snapshot of an object that is not like its copy; not of a class."""
    if looks_like_its_copy(obj):
        return None
    kind = kind_of(obj)
    return (kind, kind.snapshot(obj)) if kind is not None and kind in _REMEMBERED else None


class Kept:
    """What the submitting kernel remembers of a submission, until it is gathered.

    Parameters
    ----------
    captured : Captured
    namespace : dict
        The user's namespace when the job was submitted.
    """

    def __init__(self, captured: Captured, namespace: Mapping[str, Any]) -> None:
        large = large_types()
        self.names = list(captured.values)
        self._values = {n: Held(v, large) for n, v in captured.values.items()}
        self._objects = HeldObjects()
        self._classes: dict[int, dict[str, Any]] = {}
        # What need not look like its copy: that is remembered itself.
        self._snapshots: dict[int, tuple[Kind, Any]] = {}
        for index, obj in captured.objects.items():
            cls = type(obj)
            if cls in _BUILT_IN:
                if cls is not dict or not is_internal(obj):
                    self._objects.hold(index, obj)
            elif issubclass(cls, large) and not _is_part(obj):
                self._objects.hold_weakly(index, obj)
            elif not _is_internal(obj) and not _names(obj, captured.values):
                self._objects.hold(index, obj)
                self._remember(index, obj)
        self._base = {n: Held(v, large) for n, v in dict(namespace).items()}

    def again(self) -> Kept:
        """Answer what is remembered for another run of the job: each is gathered by itself."""
        other = copy.copy(self)
        other._base, other._values = dict(self._base), dict(self._values)
        other._objects, other._snapshots = self._objects.copy(), dict(self._snapshots)
        return other

    def _remember(self, index: int, obj: Any) -> None:
        cls = type(obj)
        if issubclass(cls, type):
            self._classes[index] = dict(vars(obj))
        elif cls is ModuleType and keeps_state(obj):
            self._snapshots[index] = MODULE, MODULE.snapshot(obj)
        elif (found := remembered(obj)) is not None:
            self._snapshots[index] = found

    def let_go(self, names: Collection[str]) -> None:
        """Leave the notebook's memory alone, as far as that goes: its result is merged.

        Parameters
        ----------
        names : collection of str
            What the result has brought: of other names nothing has to be known any more.
        """
        self._base = {name: held for name, held in self._base.items() if name in names}
        for held in (*self._base.values(), *self._values.values()):
            held.weaken()
        self._snapshots.clear()
        self._objects.weaken()

    def held(self) -> Iterator[Held | HeldObjects]:
        """Yield what remembers something."""
        yield from self._base.values()
        yield from self._values.values()
        yield self._objects

    def holds(self, referrer: Any) -> bool:
        """Whether it is through `referrer` that an object is remembered here."""
        return (
            self._objects.holds(referrer)
            or isinstance(referrer, Held)
            or is_item(referrer, ("name", "fallback"))
        )

    def base(self, name: str) -> Any:
        """Answer what a name meant at submission, or a sentinel."""
        held = self._base.get(name)
        return _MISSING if held is None else held.get(_MISSING)

    def had(self, name: str) -> bool:
        """Whether a name was there at submission, or an earlier job has brought it since."""
        return name in self._base

    def stands(self, name: str, namespace: Mapping[str, Any]) -> bool:
        """Whether a name means here what it meant at submission, or nothing as it did then."""
        held = self._base.get(name)
        if held is None:
            return name not in namespace
        base = held.get(_MISSING)
        return base is not _MISSING and namespace.get(name, _MISSING) is base

    def bound_here(self, names: Iterable[str]) -> None:
        """Note that names were bound here since, be it to what they meant before."""
        for name in names:
            if name in self._base:
                self._base[name] = Held(object(), ())

    def rebase(self, name: str, old: Any, new: Any, weak: bool = False) -> None:
        """Note that gathering an earlier job gave a name its new value; held `weak`ly, or not."""
        if self.base(name) is old:
            if new is _MISSING:
                self._base.pop(name, None)
            else:
                self._base[name] = held_weakly(new) if weak else Held(new, large_types())

    def object(self, index: int, gone: Any = None) -> Any:
        """Answer the object of a memo index, or `gone`."""
        return self._objects.get(index, gone)

    def objects(self) -> dict[int, Any]:
        """Answer the objects that are still here by their memo index."""
        return self._objects.all()

    def value(self, name: str, gone: Any = None) -> Any:
        """Answer a captured name's value, or `gone`."""
        held = self._values.get(name)
        return gone if held is None else held.get(gone)

    def class_unchanged(self, index: int, cls: type, state: Any) -> bool:
        """Whether the attributes that an update is about are as at submission."""
        return has_attributes(cls, self._classes[index], state)

    def unchanged(self, index: int) -> bool | None:
        """Whether an object is as at submission; None if only a comparison can tell."""
        if index not in self._snapshots:
            return None
        kind, snapshot = self._snapshots[index]
        return kind.unchanged(self.object(index), snapshot)

    def stands_itself(self, obj: Any, state: Any) -> bool | None:
        """Whether an object of which a copy does not tell is as at submission; None: not known."""
        index = self.indices().get(id(obj))
        if index in self._classes:
            return self.class_unchanged(index, obj, state)
        return None if index is None else self.unchanged(index)

    def modules(self, names: Collection[str]) -> list[int]:
        """Answer the memo indices of some modules that are as at submission."""
        found = ((index, self.object(index)) for index in self._snapshots)
        return [
            index
            for index, obj in found
            if type(obj) is ModuleType and obj.__name__ in names and self.unchanged(index)
        ]

    def renew(self, indices: Iterable[int]) -> None:
        """Note that objects are now as they were at submission, whatever happened since."""
        for index in indices:
            kind, _ = self._snapshots[index]
            self._snapshots[index] = kind, kind.snapshot(self.object(index))

    def names_of(self, objects: set[int]) -> list[str]:
        """Answer the captured names that led, and lead, to one of some objects, by their ``id``."""
        if objects.isdisjoint(self.indices()):
            return []
        values = {name: held.get(_MISSING) for name, held in self._values.items()}
        return [name for name, value in values.items() if not objects.isdisjoint(reached([value]))]

    def indices(self) -> dict[int, int]:
        """Answer ``id`` of the objects that are still here to their memo index."""
        return {id(obj): index for index, obj in self.objects().items()}


def reached(roots: Iterable[Any]) -> set[int]:
    """Answer the ``id`` of all that can be reached from some objects."""
    seen: set[int] = set()
    pending = list(roots)
    while pending:
        at = pending.pop()
        if type(at) in ATOMS or id(at) in seen:
            continue
        seen.add(id(at))
        kind = kind_of(at)
        if kind is not None:
            pending.extend(kind.children(at))
    return seen


def _is_part(obj: Any) -> bool:
    """Whether an array was made to be written: of a masked one, which does not hold it."""
    return is_masked(getattr(obj, "base", None))


def _names(obj: Any, values: Mapping[str, Any]) -> bool:
    """Whether an object is the stream's item that gives a name its value, and would keep it."""
    return is_item(obj, ("name", "fallback")) and values.get(obj[1], _MISSING) is obj[2]


def _is_internal(obj: Any) -> bool:
    """Whether only the pickler saw this object: no token will ever name it."""
    if type(obj) is tuple and obj and type(obj[0]) is pickle.PickleBuffer:
        return True
    return is_internal(obj) or _is_internal_class(type(obj))


@per_class
def _is_internal_class(cls: type) -> bool:
    return module_name(cls).startswith("pandas._libs")


_BUILT_IN = frozenset({list, dict, set, frozenset, bytearray})
"""Types of which there are many, and nothing but the object to remember."""


@dataclass(slots=True)
class Plan:
    """What merging a result will do.

    Parameters
    ----------
    bind : dict of str to object
    delete : list of str
    updates : list of (token, kind name, state)
    update_names : list of str
        Names that will see an update.
    conflicts : dict of str to str
        Names that are left alone, and why.
    """

    bind: dict[str, Any] = field(default_factory=dict)
    delete: list[str] = field(default_factory=list)
    updates: list[tuple[Any, str, Any]] = field(default_factory=list)
    update_names: list[str] = field(default_factory=list)
    conflicts: dict[str, str] = field(default_factory=dict)

    def of_what_was_merged(self, namespace: Mapping[str, Any]) -> Plan:
        """Answer the plan that brings nothing a second time: it tells what is gone since."""
        gone = {name: "was deleted here since" for name in self.bind if name not in namespace}
        return Plan(conflicts=self.conflicts | gone)

    @property
    def names(self) -> list[str]:
        """Every name that comes out different."""
        return [*self.bind, *self.delete, *self.update_names]


class Merger:
    """Plans and applies the merge of one result.

    Parameters
    ----------
    loaded : Loaded
    namespace : dict
        The user's namespace.
    kept : Kept or None
        None in a kernel that did not submit the job.
    original : callable() -> Inputs
        Loads the job's inputs as they were (again, into copies).
    resolve : callable
        Answers the object for a token, as `loaded` was loaded with.
    was_updated : callable(token) -> bool or None
        Whether a change in place was applied before, and must not be twice; None: none was.
    sent : callable(token) -> object
        Answers a copy of an object as the job's cell got it.
    brought : mapping of str to Held
        What names got from jobs that had been submitted earlier: it makes place for a later one's.
    removed : collection of str
        Names that later jobs, or cells here, have bound and deleted since: it does not come back.
    changed_by_others : callable(token) -> bool
        Whether jobs that this one does not build on have changed an object here.
    stands : callable(token, object, state) -> bool
        Whether an object that came with, or from, an earlier job is here as the job's cell got it,
        as far as that can be told; of a class, the attributes that a new state is about.
    """

    def __init__(
        self,
        loaded: Loaded,
        namespace: dict[str, Any],
        kept: Kept | None,
        original: Callable[[], Inputs],
        resolve: Callable[[Any], Any],
        was_updated: Callable[[Any], bool] | None = None,
        sent: Callable[[Any], Any] | None = None,
        brought: Mapping[str, Held] | None = None,
        removed: Collection[str] = (),
        changed_by_others: Callable[[Any], bool] = lambda token: False,
        stands: Callable[[Any, Any, Any], bool] = lambda *about: True,
    ) -> None:
        self._stands = stands
        self._changed_by_others = changed_by_others
        self._was_updated = was_updated
        self._sent = sent or (lambda token: original().objects[token[1]])
        self._brought = brought or {}
        self._removed = removed
        self._loaded = loaded
        self._namespace = namespace
        self._kept = kept
        self._original = original
        self._resolve = resolve
        self._comparison: Comparison | None = None
        self._reachable: dict[str, set[int]] = {}

    @uncollected()
    def plan(self, only: Iterable[str] = (), overwrite: bool = False) -> Plan:
        """Answer what to do; nothing is changed."""
        only = set(only)
        plan = Plan()
        self._comparison, self._reachable = None, {}
        for name, value in self._loaded.bound.items():
            if not only or name in only:
                self._plan_name(plan, name, value, overwrite)
        for name in self._loaded.deleted:
            if (not only or name in only) and name in self._namespace and self._had(name):
                self._plan_name(plan, name, _MISSING, overwrite)
        changed = [n for n in self._loaded.changed if not only or n in only]
        updates = self._loaded.updates
        if updates:
            if self._was_updated is not None:
                updates = [update for update in updates if not self._was_updated(update[0])]
            if only:
                updates = self._seen_by(only, updates)
            if updates or overwrite:
                self._plan_updates(plan, updates, changed, overwrite)
        return plan

    @uncollected()
    def apply(self, plan: Plan) -> dict[str, tuple[Any, Any]]:
        """Do it, all or nothing.

        Returns
        -------
        dict of str to (old, new)
            What each bound or deleted name meant and means; a sentinel for nothing.

        Raises
        ------
        Exception
            Whatever a user's ``__setstate__`` raises; nothing is changed then.
        """
        undo = apply_updates(plan.updates, self._resolve)
        try:
            self._loaded.finish(plan.updates, self._resolve)
        except BaseException:
            for step in reversed(undo):
                step()
            raise
        names = self._namespace
        moved = {n: (names.get(n, _MISSING), v) for n, v in plan.bind.items()}
        moved |= {n: (names.get(n, _MISSING), _MISSING) for n in plan.delete}
        # Nothing below can fail: plain assignments to the dict of a module.
        self._namespace.update(plan.bind)
        for name in plan.delete:
            self._namespace.pop(name, None)
        return moved

    # -- names ---------------------------------------------------------------

    def _plan_name(self, plan: Plan, name: str, value: Any, overwrite: bool) -> None:
        here = self._namespace.get(name, _MISSING)
        if here is value:
            return
        why = None if overwrite else self._conflict(name, here, value)
        if why is not None:
            plan.conflicts[name] = why
        elif value is _MISSING:
            plan.delete.append(name)
        else:
            plan.bind[name] = value

    def _had(self, name: str) -> bool:
        """Whether the notebook had a name when the cell was to run, be it from another job.

        What a cell has bound and deleted again is nobody else's of that name.
        """
        if self._kept is not None:
            return self._kept.had(name)
        return name in self._original().names or name in self._brought

    def _conflict(self, name: str, here: Any, value: Any) -> str | None:
        if here is _MISSING and name in self._removed and not is_hidden(name):
            return "was deleted here since"
        if self._kept is None:
            if here is _MISSING or is_hidden(name) or self._same_as_submitted(name, here):
                return None
            held = self._brought.get(name)
            if held is not None and held.get(_MISSING) is here:
                return None
            if value is not _MISSING and self._same(here, value):
                return None
            return "is here already, with another value"
        base = self._kept.base(name)
        if self._kept.stands(name, self._namespace) or is_hidden(name):
            return None
        if here is _MISSING:
            return "was deleted here since"
        return "was rebound here since" if base is not _MISSING else "was bound here since"

    def _same_as_submitted(self, name: str, here: Any) -> bool:
        original = self._original().names
        return name in original and self._same(here, original[name])

    def _same(self, one: Any, other: Any) -> bool:
        if one is other:
            return True
        try:
            known = KnownBuffers()
            return fingerprint(one, self._namespace, known) == fingerprint(
                other, self._namespace, known
            )
        except Exception:  # noqa: BLE001 - what can't be compared is not the same
            return False

    # -- changes in place -------------------------------------------------------

    def _plan_updates(
        self, plan: Plan, updates: list[Update], changed: list[str], overwrite: bool
    ) -> None:
        if self._kept is None:
            # The copies get the changes; the names that see them are bound to them.
            with fingerprinting(self._namespace, KnownBuffers()):
                plan.updates = [
                    (token, kind, state)
                    for token, kind, state in updates
                    if overwrite or not self._changed_elsewhere(token, self._resolve(token), state)
                ]
            if len(plan.updates) < len(updates):
                plan.conflicts |= dict.fromkeys(changed, _CHANGED)
            for name in changed:
                copies = self._original().names
                if name in copies and name not in plan.bind and name not in plan.conflicts:
                    self._plan_name(plan, name, copies[name], overwrite)
            return
        same = frozenset[int]() if overwrite else self._plainly_unchanged(updates)
        with fingerprinting(self._namespace, KnownBuffers()):  # for all: it takes a while to set
            judged = [
                (update, obj, None if overwrite else self._changed_here(update[0], obj, update[2]))
                for update in updates
                if not (update[0][1] in same and update[0][0] == 0)
                for obj in [self._resolve(update[0])]
            ]
        if same:
            plan.updates = [u for u in updates if u[0][1] in same and u[0][0] == 0]
        for update, obj, why in judged:
            if why is None:
                plan.updates.append(self._whole(update) if overwrite else update)
                continue
            if self._is_there_already(update, obj):
                continue
            names = self._names_of(obj, changed)
            if type(obj) is ModuleType and obj not in self._namespace.values():
                names = [obj.__name__]
            if not names and not any(obj is value for value in self._namespace.values()):
                names = [f"a {type(obj).__name__}"]  # a figure that only pyplot holds
            for name in names:
                plan.conflicts[name] = why
        for name in changed:
            if name in plan.conflicts or name in plan.bind or is_hidden(name):
                continue
            base, here = self._kept.base(name), self._namespace.get(name, _MISSING)
            if here is base:
                plan.update_names.append(name)
            elif overwrite:
                sent = self._kept.value(name, _MISSING)
                plan.bind[name] = self._original().names[name] if sent is _MISSING else sent
            else:
                plan.conflicts[name] = (
                    "was deleted here since" if here is _MISSING else "was rebound here since"
                )

    def _whole(self, update: Update) -> Update:
        """Answer an update that does not need its object to be as it was sent."""
        token, kind, state = update
        if kind != ARRAY.name or not isinstance(state[0], Patch):
            return update
        sent = self._sent(token)
        return token, kind, (whole(sent, state[0]), state[1])

    def _plainly_unchanged(self, updates: Iterable[Update]) -> frozenset[int]:
        """Answer memo indices of lists and dicts that are as they were sent: of many, or none."""
        kept = self._kept
        assert kept is not None
        indices = [
            index
            for (section, index), _, _ in updates
            if section == 0 and type(kept.object(index)) in (list, dict)
        ]
        if len(indices) < _MANY or not all_alike(kept.objects(), self._original().objects, indices):
            return frozenset()
        return frozenset(indices)

    def _changed_here(self, token: Any, obj: Any, state: Any) -> str | None:
        """Answer why an object is not as it was when it was sent, None if it is."""
        section, index = token
        if section != 0 or self._kept is None or self._kept.object(index, _MISSING) is not obj:
            return _CHANGED if self._changed_elsewhere(token, obj, state) else None
        if isinstance(obj, type):
            # There is one class only, here and in a copy of the inputs.
            same = self._kept.class_unchanged(index, obj, state)
        elif (known := self._kept.unchanged(index)) is not None:
            same = known
        else:
            original = self._original().objects
            if self._comparison is None:
                sent = {id(copy): i for i, copy in original.items()}
                self._comparison = Comparison(self._kept.indices(), sent)
            same = self._comparison.own_state(obj, original[index])
        return None if same else _CHANGED

    def _is_there_already(self, update: Update, obj: Any) -> bool:
        (section, index), kind, state = update
        if section != 0 or self._kept is None or self._kept.object(index, _MISSING) is not obj:
            return False
        return is_there_already(obj, self._original().objects[index], kind, state, self._same)

    def _changed_elsewhere(self, token: Any, obj: Any, state: Any) -> bool:
        """Whether an object that came from another job, or is a copy, was changed here since."""
        return self._changed_by_others(token) or not self._stands(token, obj, state)

    def _seen_by(self, names: Iterable[str], updates: Iterable[Update]) -> list[Update]:
        """Answer the changes of objects that some names lead to: the values that came, too."""
        ids = {key for name in names for key in self._reach(name)}
        ids |= reached([self._loaded.bound[n] for n in names if n in self._loaded.bound])
        return [update for update in updates if id(self._resolve(update[0])) in ids]

    def _names_of(self, obj: Any, names: list[str]) -> list[str]:
        """Answer which names can see an object."""
        return [name for name in names if id(obj) in self._reach(name)] or names

    def _reach(self, name: str) -> set[int]:
        """Answer the ``id`` of all that can be reached from what a name meant, or means here."""
        if name not in self._reachable:
            kept = self._kept
            value = kept.value(name, _MISSING) if kept else self._original().names.get(name)
            if value is _MISSING:  # it came from another job, and was not sent with this one
                value = self._namespace.get(name)
            self._reachable[name] = reached([value])
        return self._reachable[name]
