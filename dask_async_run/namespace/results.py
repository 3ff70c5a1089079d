"""Results: what a cell did to its namespace, written there (and loaded here: `loaded`).

A result is a row of items, dumped one after another with one memo, in which
objects that went in stand as tokens (`track.Token`), or as `seeds`:

============================  ==============================================
``("bind", n, v)``            a name that the cell bound or rebound
``("delete", n)``             a name that it deleted
``("updates", list)``         objects that went in have a new own state: of each
                              a token, the name of its kind, the state
``("changed", names)``        names of inputs that can see such a change
``("out", (v, …))``           values that it displayed, the last ones
``("surroundings", dict)``    what it changed of what surrounds it
``("error", e)``              the exception that ended it
``("note", n, why)``          a name that had to be rebound, and why
``("late end", what)``        something whose going is seen, but was not in the cell
``("refill", list)``          dicts and sets that are to be filled again when all is changed
``("lost key", n, type)``     a name that leads to a dict or a set which does not find a key
``("order", list)``           sets that are to be filled in another order
``("counts", c, t)``          what connections and cursors to databases did (`counts`)
``("modules", list)``         submodules that it imported and mentions
``("end",)``
============================  ==============================================

Items that can't be pickled are left out and reported; the others come whole.
"""

from __future__ import annotations

import errno
import gc
import io
import os
import pickle
import types
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from operator import itemgetter
from typing import Any

from dask_async_run.errors import RemoteError
from dask_async_run.namespace import keys, kinds, opaque, order
from dask_async_run.namespace.blocks import written_in_place
from dask_async_run.namespace.classify import children_of
from dask_async_run.namespace.conditions import deeply, quietly
from dask_async_run.namespace.containers import COMMONEST
from dask_async_run.namespace.counts import told_among
from dask_async_run.namespace.digests import KnownBuffers
from dask_async_run.namespace.generators import GENERATOR_KIND, REPLACED
from dask_async_run.namespace.instances import INSTANCE, pickles_its_own_way
from dask_async_run.namespace.iterators import inner, matches_left
from dask_async_run.namespace.kinds import NotInPlace
from dask_async_run.namespace.loaded import ARRAYS, Item
from dask_async_run.namespace.modules import (
    identifiers,
    mentioned_submodules,
    module_name,
)
from dask_async_run.namespace.pickling import (
    IN_BAND,
    NamespacePickler,
    SeededPickler,
    meets_constants,
)
from dask_async_run.namespace.raised import as_exceptions, asks
from dask_async_run.namespace.seeds import Named, RecallingPickler, Seeds, held_elsewhere
from dask_async_run.namespace.sharing import SharedMemory
from dask_async_run.namespace.track import Baseline, Token, Tracked
from dask_async_run.namespace.unpickling import NamespaceUnpickler

_MISSING: Any = object()
_NONE = Seeds((), {})


@dataclass(slots=True)
class Collected:
    """A result, ready to travel.

    Parameters
    ----------
    stream : bytes
    buffers : list of memoryview
        Out-of-band buffers, in order; still the cell's memory.
    bound, deleted, mutated : list of str
        Names, for people.
    failed : dict of str to str
        What could not be pickled, and why.
    futures : list
        Keys of the Dask futures in the stream.
    sent : set of int
        ``id`` of those objects, of which that was asked, that travel or came.
    """

    stream: bytes = b""
    buffers: list[memoryview] = field(default_factory=list)
    bound: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    mutated: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    futures: list[Any] = field(default_factory=list)
    sent: set[int] = field(default_factory=set)


def _shows_its_end(value: Any) -> bool:
    """Whether the notebook's code can see that an object goes."""
    cls = type(value)
    if cls.__module__ != "__main__" or issubclass(cls, type):
        return False
    return hasattr(cls, "__del__") or weakref.getweakrefcount(value) > 0


def _has_plain_dict(cls: type) -> bool:
    """Whether ``vars(obj)`` is never itself what is written of an instance that has changed."""
    return bool(cls.__dictoffset__) and not pickles_its_own_way(cls)


_FEW = 3
_MANY = 1000


def _is_librarys(obj: Any) -> bool:
    """Whether an object is a library's own, which leads to all of it."""
    kind = type(obj)
    if issubclass(kind, (types.FunctionType, type)):
        return bool(obj.__module__ != "__main__")
    return issubclass(kind, types.ModuleType) or module_name(kind).startswith("IPython.")


class _Dicts:
    """Has the ``id`` of each dict that the user has; asked for few, of perhaps very many."""

    def __init__(self, baseline: Baseline, namespace: Mapping[str, Any]) -> None:
        self._tracked = baseline.tracked
        self._namespace = namespace

    def __contains__(self, key: object) -> bool:
        found = self._tracked.get(key)  # type: ignore[call-overload]
        if found is not None:
            return type(found.obj) is dict
        return any(id(v) == key for v in self._namespace.values() if type(v) is dict)


class ResultWriter:
    """Writes the result of a cell.

    Parameters
    ----------
    namespace : dict
        The cell's namespace after it ran.
    before : dict
        Names and values when it started.
    baseline : Baseline
    atoms : mapping of int to Token
        ``id`` of inputs that the baseline does not look at.
    hidden : callable(str) -> bool
        Names that are the shell's own.
    largest : int or None
        Bytes of the largest buffer that there is space for: what has larger ones fails, or is
        larger itself.
    full : int
        The number of the error with which it does.
    """

    def __init__(
        self,
        namespace: dict[str, Any],
        before: Mapping[str, Any],
        baseline: Baseline,
        atoms: Mapping[int, Token],
        hidden: Callable[[str], bool],
        largest: int | None = None,
        full: int = errno.ENOSPC,
    ) -> None:
        self._largest = largest
        self._full = full
        self._namespace = namespace
        self._before = before
        self._named = {id(value): name for name, value in reversed(list(before.items()))}
        self._baseline = baseline
        self._atoms = dict(atoms)
        self._hidden = hidden

    def write(
        self,
        error: BaseException | None = None,
        out: tuple[Any, ...] = (),
        surroundings: Mapping[str, Any] | None = None,
        only: Iterable[str] = (),
        also: Iterable[str] = (),
        words: set[str] | None = None,
        sources: Callable[[set[str]], Mapping[str, Any]] = lambda files: {},
        asked: Iterable[Any] = (),
        removes: Iterable[str] = (),
    ) -> Collected:
        """Answer the result.

        Parameters
        ----------
        error : BaseException or None
        out : tuple
            The last values that the cell displayed, oldest first.
        surroundings : mapping
        only, also : iterable of str
            Names to restrict to; names that come back even if unchanged.
        words : set of str or None
            Every identifier in the cell's source.
        sources : callable
            Answers the source texts of files.
        asked : iterable of objects
            Of which `Collected.sent` says whether they travel.
        removes : iterable of str
            Names that the cell has deleted, unless they are there.
        """
        self._exact = self._may_hold_numbers()
        self._asked, self._sent, self._futures = list(asked), set[int](), list[Any]()
        self._words = words or set()
        self._sources = sources
        only, also = set(only), set(also)
        now = {n: v for n, v in self._namespace.items() if not self._hidden(n)}
        before = {n: v for n, v in self._before.items() if not self._hidden(n)}
        collected = Collected()
        with opaque.fingerprinting(self._namespace, KnownBuffers(), by_identity=True):
            updates, rebound = self._updates(collected)
        bound = [n for n, v in now.items() if before.get(n, _MISSING) is not v or n in also]
        now |= {n: rest for n in bound if (rest := matches_left(now[n])) is not None}
        for name, reason in self._rebound_names(rebound, now):
            if name not in bound:
                bound.append(name)
            collected.failed.pop(name, None)
            updates.append((f"note on {name}", ("note", name, reason)))
        deleted = [n for n in dict.fromkeys([*before, *removes]) if n not in now]
        mutated = self._seeing({id(t.obj) for t in self._changed}, before) if self._changed else []
        if only:
            bound = [n for n in bound if n in only]
            deleted = [n for n in deleted if n in only]
            mutated = [n for n in mutated if n in only]
            if not mutated:
                updates = []
        items: list[tuple[str, Item]] = [(n, ("bind", n, now[n])) for n in bound]
        items += [(n, ("delete", n)) for n in deleted]
        items += updates
        items.append(("", ("changed", mutated)))
        items += [("", ("late end", what)) for what in self._late_ends([*bound, *deleted], mutated)]
        if out:
            items.append(("the last expression's value", ("out", out)))
        items += [
            (f"surroundings: {key}", ("surroundings", {key: value}))
            for key, value in (surroundings or {}).items()
        ]
        if error is not None:
            items.append(("", ("error", self._portable(error))))
        self._dump(items, collected, rebound)
        collected.bound = [n for n in bound if n not in collected.failed]
        collected.deleted = deleted
        collected.futures, collected.sent = self._futures, self._sent
        collected.mutated = mutated
        return collected

    def _updates(self, collected: Collected) -> tuple[list[tuple[str, Item]], dict[int, str]]:
        """Answer the update items, and the ids of objects that must be rebound."""
        changed = self._baseline.changed()
        self._changed: list[Tracked] = [tracked for tracked, _ in changed]
        updates: list[tuple[str, Item]] = []
        rebound: dict[int, str] = {}
        states: dict[int, tuple[Tracked, Any]] = {}
        for tracked, whole in changed:
            # A frame tells by it which memory it still has, and always has all of its state.
            all_counts = whole and tracked.kind is not opaque.PANDAS
            snapshot = None if all_counts else tracked.snapshot
            if id(inner(tracked.obj)) in self._baseline.tracked:
                # It would be advanced twice: by itself, and by the one that goes on with it.
                rebound[id(tracked.obj)] = "it goes on with another iterator that is known here"
                continue
            try:
                if not whole and (patch := self._baseline.patch(tracked)) is not None:
                    states[id(tracked.obj)] = tracked, (patch, tracked.obj.flags.writeable)
                    continue
                states[id(tracked.obj)] = tracked, self._state(tracked, snapshot)
            except NotInPlace as reason:
                rebound[id(tracked.obj)] = str(reason)
            except Exception as error:  # noqa: BLE001 - a user's __getstate__
                collected.failed[self._label(tracked)] = f"{type(error).__name__}: {error}"
        if rebound:
            # What holds a rebound object must hold the new one.
            self._include_holders(rebound, states)
        for tracked, state in states.values():
            if id(tracked.obj) not in rebound:
                item = ("update", tracked.token, tracked.kind.name, state)
                updates.append((f"change of {self._label(tracked)}", item))
        for key in rebound:
            tracked = self._baseline.tracked[key]
            if tracked.kind is GENERATOR_KIND and tracked.token is not None:
                replaced = ("update", tracked.token, tracked.kind.name, REPLACED)
                updates.append((f"change of {self._label(tracked)}", replaced))
        return updates, rebound

    @staticmethod
    @asks
    def _state(tracked: Tracked, snapshot: Any) -> Any:
        with as_exceptions():
            return tracked.kind.state(tracked.obj, snapshot)

    def _include_holders(
        self, rebound: dict[int, str], states: dict[int, tuple[Tracked, Any]]
    ) -> None:
        again = True
        while again:
            again = False
            for key, tracked in self._baseline.tracked.items():
                if key in states or key in rebound or tracked.token is None:
                    continue
                if any(id(child) in rebound for child in tracked.kind.children(tracked.obj)):
                    again = True
                    try:
                        states[key] = tracked, tracked.kind.state(tracked.obj, None)
                        if states[key][1] is None:
                            raise NotInPlace("it holds an object that was replaced")
                    except NotInPlace as reason:
                        states.pop(key, None)
                        rebound[key] = str(reason)

    def _rebound_names(
        self, rebound: Mapping[int, str], now: Mapping[str, Any]
    ) -> list[tuple[str, str]]:
        return [(n, rebound[id(v)]) for n, v in now.items() if id(v) in rebound]

    def _label(self, tracked: Tracked) -> str:
        return self._named.get(id(tracked.obj)) or f"a {type(tracked.obj).__name__}"

    def _seeing(self, changed: set[int], names: Mapping[str, Any]) -> list[str]:
        """Answer the names from which a changed object can be reached."""
        holders: dict[int, list[int]] = {}
        for key, tracked in self._baseline.tracked.items():
            for child in tracked.kind.children(tracked.obj):
                if type(child) not in kinds.ATOMS:
                    holders.setdefault(id(child), []).append(key)
        reached = set()
        pending = list(changed)
        while pending:
            key = pending.pop()
            if key not in reached:
                reached.add(key)
                pending.extend(holders.get(key, ()))
        return [n for n, v in names.items() if id(v) in reached]

    def _late_ends(self, moved: Sequence[str], mutated: Sequence[str]) -> list[str]:
        """Say of what the cell did not see the end, which a notebook would have seen."""
        named = {n: self._before[n] for n in moved if _shows_its_end(self._before.get(n))}
        found = [f"what {name} was before" for name in named]
        known = set(map(id, named.values()))
        tracked = self._baseline.tracked
        held = (tracked[key].obj for key in self._baseline.held)
        seen_to = [obj for obj in held if type(obj) not in COMMONEST and _shows_its_end(obj)]
        where = f" that {' or '.join(mutated[:_FEW])} held" if mutated else ""
        for obj in self._unreached([obj for obj in seen_to if id(obj) not in known]):
            found.append(f"a {type(obj).__name__}{where}")
        return list(dict.fromkeys(found))

    def _unreached(self, objects: Sequence[Any]) -> list[Any]:
        """Answer which objects nothing in the cell leads to any more."""
        wanted = {id(obj): obj for obj in objects}
        shown = ("Out", "_", "__", "___")
        pending = [v for n, v in self._namespace.items() if n in shown or not self._hidden(n)]
        seen = {id(self._namespace)}
        while wanted and pending:
            obj = pending.pop()
            if type(obj) in kinds.ATOMS or id(obj) in seen or _is_librarys(obj):
                continue
            seen.add(id(obj))
            wanted.pop(id(obj), None)
            pending.extend(gc.get_referents(obj))
        return list(wanted.values())

    def _portable(self, error: BaseException) -> Any:
        error.__traceback__ = None
        try:
            self._pickle([("error", error)], _NONE)
        except Exception:  # noqa: BLE001 - whatever the exception's own pickling raises
            return RemoteError(type(error).__name__, str(error))
        try:
            # An exception that pickles may still fail to load:
            # class E(Exception): def __init__(self, a, b): super().__init__(a)
            stream, buffers = self._pickle([("error", error)], _NONE)
            unpickler = NamespaceUnpickler(
                io.BytesIO(stream), {}, buffers, lambda token: None, keep_classes=True
            )
            with as_exceptions():
                unpickler.load()
        except Exception:  # noqa: BLE001 - as above, when it is loaded
            return RemoteError(type(error).__name__, str(error))
        return error

    def _may_hold_numbers(self) -> bool:
        """Whether a number that went in is held by more than names: by the result, perhaps.

        To be asked before anything here refers to one.
        """
        numbers = {id(v): v for v in self._before.values() if id(v) in self._atoms}
        return held_elsewhere(numbers.values(), (numbers, self._before, self._namespace))

    def _is_bare(self, value: Any, depth: int = 4) -> bool:
        """Whether nothing that went in is a part of something, as far as is seen at once."""
        if id(value) in self._atoms or id(value) in self._baseline.tracked:
            return False
        if type(value) in kinds.ATOMS:
            return True
        if type(value) not in (tuple, list, dict) or len(value) > _MANY or not depth:
            return False
        parts = [*value, *value.values()] if type(value) is dict else value
        return all(self._is_bare(part, depth - 1) for part in parts)

    def _seeds(self, without: Mapping[int, str]) -> Seeds:
        tracked = [t for t in self._baseline.tracked.values() if t.token is not None]
        tokens: dict[int, Any] = {**self._atoms, **{id(t.obj): t.token for t in tracked}}
        objects = [t.obj for t in tracked]
        objects += [value for value in self._before.values() if id(value) in self._atoms]
        if not self._words.isdisjoint(("vars", "__dict__")):
            # To ask every instance would make a dict of each.
            theirs = [t for t in tracked if t.kind is INSTANCE and _has_plain_dict(type(t.obj))]
            objects += [vars(t.obj) for t in theirs]
            tokens |= {id(vars(t.obj)): (*t.token, "vars") for t in theirs if t.token is not None}
        if without:
            objects = [obj for obj in objects if id(obj) not in without]
            tokens = {key: token for key, token in tokens.items() if key not in without}
        return Seeds(objects, tokens)

    def _dump(
        self, items: list[tuple[str, Item]], collected: Collected, without: Mapping[int, str]
    ) -> None:
        bare = all(self._is_bare(item) for _, item in items)
        seeds = _NONE if bare else self._seeds(without)
        while True:
            try:
                stream, buffers = self._pickle([item for _, item in items], seeds)
            except Exception:
                bad = self._failing(items, seeds)
                if not bad:
                    raise
                items = self._without(items, bad, collected, seeds)
            else:
                collected.stream, collected.buffers = stream, buffers
                return

    def _without(
        self,
        items: list[tuple[str, Item]],
        bad: Mapping[int, tuple[str, str]],
        collected: Collected,
        seeds: Seeds,
    ) -> list[tuple[str, Item]]:
        """Answer the items that can be pickled.

        Of an instance whose changes can't, what its own way of pickling says.
        """
        kept = []
        for index, (label, item) in enumerate(items):
            if index not in bad:
                kept.append((label, item))
                continue
            if item[0] == "update" and item[2] == "instance":
                tracked = next(t for t in self._changed if t.token == item[1])
                again = (*item[:3], tracked.kind.state(tracked.obj, None))
                if item[3][0] == "changes" and not self._failing([(label, again)], seeds):
                    kept.append((label, again))
                    continue
            collected.failed[label] = bad[index][1]
        return kept

    def _failing(self, items: list[tuple[str, Item]], seeds: Seeds) -> dict[int, tuple[str, str]]:
        bad = {}
        pending = [(0, len(items))]
        while pending:
            first, end = pending.pop()
            try:
                self._pickle([item for _, item in items[first:end]], seeds)
            except Exception as error:  # noqa: BLE001 - a user's __reduce__ may raise anything
                if end - first == 1:
                    bad[first] = items[first][0], f"{type(error).__name__}: {error}".rstrip(": ")
                elif end - first > 1:
                    middle = (first + end) // 2
                    pending += (middle, end), (first, middle)
        return bad

    def _pickle(self, items: Sequence[Item], seeds: Seeds) -> tuple[bytes, list[memoryview]]:
        shared = SharedMemory()
        for tracked in self._baseline.tracked.values():
            if type(tracked.obj) not in COMMONEST and id(tracked.obj) in seeds.tokens:
                shared.owner(tracked.obj)
                if tracked.kind is opaque.PANDAS:
                    self._own_frame(tracked, shared)
        for item in items:
            if item[0] == "update" and item[2] in ARRAYS:
                shared.by_value(item[3][0])
            elif item[0] == "update" and item[2] == opaque.PANDAS.name:
                shared.state_of_frame(item[3][0])
        while True:
            with quietly():
                written = deeply(lambda: self._write(items, seeds, shared))
            if written is None:
                self._exact = True
            elif not shared.found():
                return written

    def _own_frame(self, tracked: Tracked, shared: SharedMemory) -> None:
        """Have new arrays that show the memory of a frame that came in show it there, too."""
        manager, (_, memory) = tracked.obj._mgr, tracked.snapshot
        changed = any(tracked is other for other in self._changed)
        for was, now in written_in_place(manager, memory):
            shared.frame(tracked.obj, was, manager.blocks[now], changed)
        for block in getattr(manager, "blocks", ()) if changed else ():
            shared.has(block.refs, block)  # its state has them instead, there

    def _write_keys(
        self, pickler: NamespacePickler, written: Callable[[], Sequence[Any]]
    ) -> dict[str, str]:
        """Name dicts and sets that are to be filled again; answer what `Loaded.lost_keys` is."""
        known = self._baseline.tracked.values()
        if not pickler.has_own_hashes() and not any(
            issubclass(type(t.obj), type) and keys.hashes_its_own_way(t.obj) for t in known
        ):
            return {}
        changed = {id(tracked.obj) for tracked in self._changed}
        made = [*written(), *(tracked.obj for tracked in self._changed)]
        there = [tracked.obj for tracked in known] if changed else []
        lost = keys.lost([*made, *there])
        refilled = [*keys.with_own_keys(made), *keys.with_keys_of(changed, there)]
        if changed and refilled:
            pickler.dump(("refill", [obj for obj in refilled if id(obj) not in lost]))
        # A key that is changed here after it was put in is not found here either.
        lost = {key: part for key, part in lost.items() if id(part) not in changed}
        lost |= keys.frozen(made, changed)
        now = {n: v for n, v in self._namespace.items() if not self._hidden(n)}
        return keys.held_by(lost, now, children_of) if lost else {}

    def _write(
        self, items: Sequence[Item], seeds: Seeds, shared: SharedMemory
    ) -> tuple[bytes, list[memoryview]] | None:
        """Answer a stream and its buffers; None if it must be written exactly, and was not."""
        file = io.BytesIO()
        buffers: list[memoryview] = []

        def out_of_band(buffer: pickle.PickleBuffer) -> bool:
            raw = buffer.raw()
            if raw.nbytes < IN_BAND:
                return True
            check(raw.nbytes)
            buffers.append(raw)
            return False

        def check(size: int) -> None:
            if self._largest is not None and size > self._largest:
                raise OSError(self._full, os.strerror(self._full))

        files: set[str] = set()
        words = set(self._words)

        def met(function: types.FunctionType) -> None:
            files.add(function.__code__.co_filename)
            words.update(identifiers(function.__code__))

        exact = self._exact or not seeds.fit
        options: dict[str, Any] = {
            "buffer_callback": out_of_band,
            "on_code": met,
            "on_file": files.add,
            "shared": shared,
            "known_globals": _Dicts(self._baseline, self._namespace),
        }
        pickler: NamespacePickler
        if exact:
            pickler = SeededPickler(file, self._namespace, seeds.tokens, **options)
        else:
            pickler = RecallingPickler(file, self._namespace, seeds, **options)
        values: list[Any] = []
        for label, parts in groupby(items, itemgetter(0)):
            if label == "update":
                before = file.tell()
                pickler.dump(("updates", [part[1:] for part in parts]))
                check(file.tell() - before - IN_BAND)
                continue
            for item in parts:
                before = file.tell()
                pickler.dump(self._with_numbers(item))
                check(file.tell() - before - IN_BAND)  # a text, what is too many to be told apart
                values += item[2:3]
        if not exact and meets_constants(file.getvalue()):
            return None

        @cache  # to copy the memo is dear
        def written() -> list[Any]:
            first = 0 if exact else seeds.count
            return [obj for place, obj in pickler.memo.copy().values() if place >= first]

        sets = written() if pickler.may_have_sets(file.getvalue()) else ()
        pickler.dump(("order", order.recipes(sets)))
        if pickler.databases:
            pickler.dump(("counts", *told_among(pickler.databases)))
        pickler.dump(("modules", mentioned_submodules(values, words)))
        pickler.dump(("surroundings", {"sources": self._sources(files)}))
        for name, kind in self._write_keys(pickler, written).items():
            pickler.dump(("lost key", name, kind))
        pickler.dump(("end",))
        if self._asked:
            there = {*map(id, written()), *self._baseline.tracked}
            self._sent = there.intersection(map(id, self._asked))
        self._futures = pickler.futures
        stream = file.getvalue()
        return (stream if exact else seeds.before(stream) + stream), buffers

    def _with_numbers(self, item: Item) -> Item:
        """Have a name that is bound to a number that went in refer to that one."""
        if item[0] != "bind" or type(item[2]) not in (int, float):
            return item
        token = self._atoms.get(id(item[2]))
        return item if token is None else (*item[:2], Named(token))
