"""Capture: everything that a cell can need, in one stream.

One pickle stream holds all inputs, so that aliases stay aliases. It is a row of
*items*, tuples dumped one after another with one memo:

=====================  =====================================================
``("early", dict)``    surroundings that loading the rest may depend on
``("name", n, v)``     an input
``("axes", list)``     the parameters of a sweep
``("late", dict)``     surroundings that may hold objects of the notebook
``("beside", list)``   modules beside the notebook, with their values
``("order", list)``    sets that are to be filled in another order
``("counts", c, t)``   what connections and cursors to databases did (`counts`)
``("modules", list)``  submodules that were imported here and are mentioned
``("end",)``
=====================  =====================================================

A function of the notebook that is met on the way adds the names that its code
reads to the work list, so the closure of what the cell needs is found by
pickling it. Where an array of the stream shares memory with another one, the
stream is written a second time (`SharedMemory`); so it is where loading a value
runs a function of the notebook (``__setstate__``, ``__hash__``) that needs names
which would come after it.

Runs in the kernel, in the thread of the caller; neither the namespace nor its
values are changed. Buffers are only referred to: the caller copies them before
it returns to the user.
"""

from __future__ import annotations

import functools
import io
import marshal
import pickle
import types
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from dask_async_run.errors import NotPickledError
from dask_async_run.namespace import beside, flat, keys, order
from dask_async_run.namespace._strings import words
from dask_async_run.namespace.analyse import global_names
from dask_async_run.namespace.axes import Axis
from dask_async_run.namespace.classify import children_of
from dask_async_run.namespace.conditions import deeply, is_deepest, uncollected
from dask_async_run.namespace.counts import told_among
from dask_async_run.namespace.inputs import SHOWN
from dask_async_run.namespace.kinds import ATOMS
from dask_async_run.namespace.modules import identifiers, mentioned_submodules
from dask_async_run.namespace.pickling import (
    IN_BAND,
    NamespacePickler,
    Null,
    SeededPickler,
    meets_constants,
)
from dask_async_run.namespace.remote import NotOfClusterError, remote_types
from dask_async_run.namespace.sharing import SharedMemory


@dataclass(frozen=True, slots=True)
class Input:
    """One name that goes along, for people.

    Parameters
    ----------
    name, type_name : str
    nbytes : int
        What the stream and its buffers grew by when it was written.
    why : str
        ``read``, ``read by f`` or ``mentioned``.
    buffers : slice
        Which of the stream's buffers came with it.
    part : slice
        Where it is in the stream.
    """

    name: str
    type_name: str
    nbytes: int
    why: str
    buffers: slice
    part: slice


@dataclass(slots=True)
class Captured:
    """What `capture` found.

    Parameters
    ----------
    stream : bytes
    buffers : list of memoryview
        Out-of-band buffers of the stream, in order; still the user's memory.
    values : dict
        The captured names and their values.
    objects : dict of int to object
        Memo index to object, atoms aside: what a result's tokens mean here.
    inputs : list of Input
    files : set of str
        ``co_filename`` of the code that goes along.
    codes : set of CodeType
        Of the functions of the notebook that go along.
    left_out : dict of str to str
        Names that were only mentioned and can't be pickled, and why.
    unsent : dict of str to str
        Surroundings that can't be pickled, and why.
    elsewhere : set of str
        Names that are needed and come from elsewhere (`Wanted.not_here`).
    fallbacks : dict
        Those of them that go along too, in case the other job does not bind them.
    shared : dict of str to str
        Names that hold a file which is mapped to be written to, and the file: it is no
        snapshot, but everybody's.
    futures : list
        Keys of the Dask futures in the stream.
    lost_keys : dict of str to str
        Names that lead to a dict or a set which does not find one of its own keys here, but will
        in the cell, and the key's type.
    constants : bool
        Whether the stream holds values that it should name (`meets_constants`).
    """

    stream: bytes = b""
    buffers: list[memoryview] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    objects: dict[int, Any] = field(default_factory=dict)
    inputs: list[Input] = field(default_factory=list)
    files: set[str] = field(default_factory=set)
    codes: set[types.CodeType] = field(default_factory=set)
    left_out: dict[str, str] = field(default_factory=dict)
    unsent: dict[str, str] = field(default_factory=dict)
    elsewhere: set[str] = field(default_factory=set)
    fallbacks: dict[str, Any] = field(default_factory=dict)
    shared: dict[str, str] = field(default_factory=dict)
    futures: list[Any] = field(default_factory=list)
    lost_keys: dict[str, str] = field(default_factory=dict)
    constants: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a cell asks of the namespace.

    Parameters
    ----------
    reads : mapping of str to int
        Names that it reads and the first line that does.
    mentions : frozenset of str
        Names that it only mentions in text: taken if they can be pickled.
    attributes : frozenset of str
        Every identifier in the cell's code (for ``import a.b``, then ``a.b``).
    everything : bool
        It may reach any name dynamically.
    not_here : frozenset of str
        Names that come from elsewhere (a pending job, the shell itself).
    uncertain : frozenset of str
        The part of `not_here` that a pending job may leave as it is: the value that
        is here goes along, for that case, if it can be pickled.
    hidden : frozenset of str
        Names that `everything` does not include.
    axes : sequence of Axis
        Of a sweep; its parameters are `not_here`.
    """

    reads: Mapping[str, int]
    mentions: frozenset[str] = frozenset()
    attributes: frozenset[str] = frozenset()
    everything: bool = False
    not_here: frozenset[str] = frozenset()
    uncertain: frozenset[str] = frozenset()
    hidden: frozenset[str] = frozenset()
    axes: Sequence[Axis] = ()


_RUN_BY_LOADING = frozenset(
    "__new__ __init__ __setstate__ __reduce__ __hash__ __eq__ __setattr__ __getattr__ "
    "__getattribute__ __setitem__ __init_subclass__ __set_name__ __call__ append extend".split()
)
"""Names of functions that unpickling a notebook object may call."""


def why_not(value: Any, namespace: dict[str, Any]) -> str | None:
    """Answer why a value can't be pickled, None if it can."""

    def attempt() -> None:
        SeededPickler(Null(), namespace, {}, buffer_callback=lambda b: None).dump(value)

    try:
        with _quiet():
            deeply(attempt)
    except Exception as error:  # noqa: BLE001 - a user's __reduce__ may raise anything
        return f"{type(error).__name__}: {error}"
    return None


def _is_plain(value: Any) -> bool:
    """Whether a value is made of numbers and texts alone, as most surroundings are."""
    try:
        marshal.dumps(value)
    except ValueError:
        return False
    return True


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what pickling warns of (itertools objects, from 3.12 on) from the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class _Work:
    """The names still to be written, and by whom each one is needed."""

    def __init__(
        self, wanted: Wanted, namespace: dict[str, Any], snapshot: Mapping[str, Any]
    ) -> None:
        self._wanted = wanted
        self._globals = namespace
        self._namespace = snapshot
        self._queue: list[str] = []
        self.parents: dict[str, str | None] = {}
        self.mentioned: set[str] = set()
        self.identifiers: set[str] = set(wanted.attributes)
        self.current: str | None = None
        self.files: set[str] = set()
        self.codes: set[types.CodeType] = set()
        self.elsewhere: set[str] = set()
        self.needs: dict[str, list[str]] = {}
        self.disordered = False
        self._remade: str | None = None
        self._add(wanted.reads, mentioned=False)
        self._add(wanted.mentions, mentioned=True)
        if wanted.everything:
            self.all()

    def all(self) -> None:
        self._add((n for n in self._namespace if n not in self._wanted.hidden), mentioned=True)

    def _add(self, names: Iterable[str], mentioned: bool) -> None:
        for name in names:
            away = name in self._wanted.not_here
            if away and not mentioned:
                self.elsewhere.add(name)
            if name not in self._namespace or (
                away and (mentioned or name not in self._wanted.uncertain)
            ):
                continue
            if name not in self.parents:
                self.parents[name] = self.current
                self._queue.append(name)
                if mentioned:
                    self.mentioned.add(name)
            elif not mentioned and name in self.mentioned and name in self._queue:
                self.mentioned.discard(name)
                self.parents[name] = self.current

    def met(self, function: types.FunctionType) -> None:
        """Add what a function of the notebook may need (called by the pickler)."""
        code = function.__code__
        self.files.add(code.co_filename)
        self.identifiers.update(identifiers(code))
        if function.__globals__ is not self._globals:
            return
        self.codes.add(code)
        self._add_named(function)
        names = global_names(code)
        if self.current is not None:
            found = [n for n in names.reads if n in self._namespace]
            self.needs.setdefault(self.current, []).extend(found)
            if function.__name__ in _RUN_BY_LOADING or self._remade == self.current:
                self.disordered |= any(n not in self.parents or n in self._queue for n in found)
        # What only a mentioned name leads to is no more needed than that.
        self._add(names.reads, mentioned=self.current in self.mentioned)
        self._add(names.weak, mentioned=True)
        self._met_hints(getattr(function, "__annotations__", None))
        if "__subclasses__" in code.co_names:
            # A class does not hold its subclasses.
            kinds = [n for n, v in self._namespace.items() if issubclass(type(v), type)]
            self._add(kinds, mentioned=True)
        if names.dynamic:
            self.all()

    def met_remade(self) -> None:
        """Note that loading an object calls functions of the notebook (called by the pickler)."""
        self._remade = self.current
        known = (name for names in self.needs.values() for name in names)
        self.disordered |= any(name in self._queue for name in known)

    def met_class(self, cls: type) -> None:
        """Add what a class of the notebook may need (called by the pickler)."""
        self._met_hints(vars(cls).get("__annotations__"))
        self._add_named(cls)

    def _add_named(self, definition: Any) -> None:
        """Have a function or class along under its name, by which pickling finds it.

        ``joblib.dump(pipeline, file)`` in a cell that does not say what is in the pipeline.
        """
        name = definition.__qualname__
        if self._namespace.get(name) is definition and name not in self._wanted.hidden:
            self._add([name], mentioned=True)

    def _met_hints(self, hints: Any) -> None:
        # ``from __future__ import annotations``: who asks for them evaluates the texts.
        texts = [hint for hint in dict(hints or {}).values() if isinstance(hint, str)]
        if texts:
            self._add(sorted(words(texts)), mentioned=True)

    def reorder(self, earlier: _Work) -> None:
        """Queue everything that `earlier` found, what a name needs before it."""
        order: list[str] = []
        seen: set[str] = set()
        for root in earlier.parents:
            if root in seen:
                continue
            stack = [(root, iter(earlier.needs.get(root, ())))]
            seen.add(root)
            while stack:
                name, needs = stack[-1]
                after = next((n for n in needs if n not in seen and n in earlier.parents), None)
                if after is None:
                    order.append(name)
                    stack.pop()
                else:
                    seen.add(after)
                    stack.append((after, iter(earlier.needs.get(after, ()))))
        self.parents, self.mentioned = dict(earlier.parents), set(earlier.mentioned)
        self._queue = order

    def __iter__(self) -> Iterator[str]:
        while self._queue:
            # What is only mentioned comes last: it may turn out to be read.
            needed = next((n for n in self._queue if n not in self.mentioned), self._queue[0])
            self._queue.remove(needed)
            self.current = needed
            yield needed
        self.current = None

    def path(self, name: str) -> tuple[str, ...]:
        way = [name]
        while (parent := self.parents.get(way[0])) is not None and parent not in way:
            way.insert(0, parent)
        return tuple(way)


def capture(
    namespace: dict[str, Any],
    wanted: Wanted,
    early: Mapping[str, Any] | None = None,
    late: Callable[[set[str], set[str]], Mapping[str, Any]] = lambda files, words: {},
    seeds: Mapping[int, Any] | None = None,
    seeded: Iterable[Any] = (),
) -> Captured:
    """Write what a cell needs of a namespace into one stream.

    Parameters
    ----------
    namespace : dict
        The user's namespace; functions whose globals it is refer to it.
    wanted : Wanted
    early : mapping
        Surroundings that must be in place before the rest is loaded.
    late : callable(files, words)
        Answers the other surroundings for the files whose code goes along, and the
        identifiers in that code; what can't be pickled of them is left out.
    seeds : mapping of int to token
        Objects (by ``id``) that an earlier job has already and may change.
    seeded : iterable of objects
        Those objects: views of their memory are views of it there, too.

    Raises
    ------
    NotPickledError
        A value that the cell reads, at any depth, cannot be pickled.
    """
    shared = SharedMemory()
    for obj in seeded:
        shared.owner(obj)
    earlier: _Work | None = None
    captured: Captured | None
    read = namespace if wanted.everything else wanted.reads
    tokens = flat.candidates([namespace.get(name) for name in list(read)]) | dict(seeds or {})
    exact = bool(tokens)
    while True:
        write = functools.partial(
            _write, namespace, wanted, early or {}, late, shared, tokens, earlier, exact
        )
        try:
            with uncollected():
                captured, work = deeply(write)
        except NotPickledError:
            if exact:
                raise
            captured = None  # it may be part of a constant, which is not written then
        if captured is None or (captured.constants and not exact):
            exact = True
            continue
        again = shared.found()
        if earlier is None and work.disordered:
            earlier, again = work, True
        if not again:
            return captured


def _write(
    namespace: dict[str, Any],
    wanted: Wanted,
    early: Mapping[str, Any],
    late: Callable[[set[str], set[str]], Mapping[str, Any]],
    shared: SharedMemory,
    seeds: Mapping[int, Any],
    earlier: _Work | None,
    exact: bool,
) -> tuple[Captured, _Work]:
    # Another thread of the user may bind names while we look.
    snapshot = dict(namespace)
    captured = Captured()
    work = _Work(wanted, namespace, snapshot)
    if earlier is not None:
        work.reorder(earlier)
    captured.files, captured.elsewhere = work.files, work.elsewhere
    captured.codes = work.codes
    file = io.BytesIO()

    def out_of_band(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < IN_BAND:
            return True
        captured.buffers.append(raw)
        return False

    options: dict[str, Any] = {
        "buffer_callback": out_of_band,
        "on_code": work.met,
        "on_class": work.met_class,
        "on_file": work.files.add,
        "on_remade": work.met_remade,
        "shared": shared,
        "known_globals": {id(value) for value in snapshot.values() if type(value) is dict},
    }
    pickler: NamespacePickler
    if exact:
        pickler = SeededPickler(file, namespace, seeds, **options)
    else:
        pickler = NamespacePickler(file, namespace, **options)
    pickler.dump(("early", dict(early)))
    _write_names(pickler, file, namespace, snapshot, work, wanted, captured)
    if wanted.axes:
        _write_axes(pickler, namespace, wanted.axes)
        _write_names(pickler, file, namespace, snapshot, work, wanted, captured)
    surroundings = late(captured.files, work.identifiers)
    pickler.dump(("late", _portable(surroundings, namespace, captured.unsent)))
    _write_names(pickler, file, namespace, snapshot, work, wanted, captured)
    _write_beside(pickler, captured, work)
    _write_names(pickler, file, namespace, snapshot, work, wanted, captured)
    captured.unsent |= pickler.left_out
    memo = pickler.memo.copy()
    sets = memo.values() if pickler.may_have_sets(file.getvalue()) else ()
    pickler.dump(("order", order.recipes(obj for _, obj in sets)))
    if pickler.databases:
        pickler.dump(("counts", *told_among(pickler.databases)))
    pickler.dump(("modules", mentioned_submodules(captured.values.values(), work.identifiers)))
    pickler.dump(("end",))
    captured.stream, captured.futures = file.getvalue(), pickler.futures
    if pickler.has_own_hashes() and (lost := keys.lost(obj for _, obj in memo.values())):
        captured.lost_keys = keys.held_by(lost, captured.values, children_of)
    captured.constants = not exact and meets_constants(captured.stream)
    captured.objects = {index: obj for index, obj in memo.values() if type(obj) not in ATOMS}
    if isinstance(pickler, SeededPickler):
        captured.objects |= pickler.flats.objects
    return captured, work


def _write_beside(pickler: NamespacePickler, captured: Captured, work: _Work) -> None:
    """Write the modules beside the notebook that were met, or that the cell may import."""
    found = beside.reachable(pickler.modules, work.identifiers)
    if found:
        with _quiet():
            pickler.dump(("beside", found))


def _write_axes(pickler: NamespacePickler, namespace: dict[str, Any], axes: Sequence[Axis]) -> None:
    try:
        with _quiet():
            pickler.dump(("axes", list(axes)))
    except RecursionError:
        raise  # `deeply` tries again
    except Exception as error:
        for name, value in ((axis.names[0], value) for axis in axes for value in axis.values):
            if (why := why_not(value, namespace)) is not None:
                advice = "Sweep over what it can be made from, and make it in the cell."
                kind = type(value).__qualname__
                raise NotPickledError(name, kind, (), None, why, advice) from error
        raise


def _portable(
    surroundings: Mapping[str, Any], namespace: dict[str, Any], unsent: dict[str, str]
) -> dict[str, Any]:
    """Answer what of some surroundings can be pickled; of dicts that can't, the items."""
    doubtful = {key: value for key, value in surroundings.items() if not _is_plain(value)}
    if not doubtful or why_not(doubtful, namespace) is None:  # as a rule; one attempt is quicker
        return dict(surroundings)
    found = {}
    for key, value in surroundings.items():
        reason = why_not(value, namespace) if key in doubtful else None
        if reason is None:
            found[key] = value
        elif isinstance(value, dict):
            reasons = {part: why_not((part, v), namespace) for part, v in value.items()}
            found[key] = {part: v for part, v in value.items() if reasons[part] is None}
            unsent |= {f"{key}: {_named(part)}": why for part, why in reasons.items() if why}
        else:
            unsent[key] = reason
    return found


def _named(part: Any) -> str:
    return ".".join(filter(None, part)) if isinstance(part, tuple) else str(part)


def _write_names(
    pickler: NamespacePickler,
    file: io.BytesIO,
    namespace: dict[str, Any],
    snapshot: Mapping[str, Any],
    work: _Work,
    wanted: Wanted,
    captured: Captured,
) -> None:
    with _quiet():
        for name in work:
            value = snapshot[name]
            if name in SHOWN:
                value = _sendable(name, value, namespace, captured)
            fallback = name in wanted.not_here
            if fallback or name in work.mentioned:
                reason = why_not(value, namespace)
                if reason is not None:
                    captured.left_out[name] = reason
                    continue
            before = file.tell(), len(captured.buffers)
            mapped = len(pickler.mapped)
            try:
                pickler.dump(("fallback" if fallback else "name", name, value))
            except RecursionError:
                if not is_deepest():
                    raise  # `deeply` tries again
                raise _too_deep(name, value, work, wanted) from None
            except Exception as error:  # noqa: BLE001 - a user's __reduce__ may raise anything
                raise _explain(name, value, namespace, work, wanted, error) from None
            if fallback:
                captured.fallbacks[name] = value
                continue
            nbytes = file.tell() - before[0] + sum(b.nbytes for b in captured.buffers[before[1] :])
            parent = work.parents[name]
            why = (
                "mentioned" if name in work.mentioned else f"read by {parent}" if parent else "read"
            )
            captured.values[name] = value
            buffers = slice(before[1], len(captured.buffers))
            part = slice(before[0], file.tell())
            captured.inputs.append(Input(name, type(value).__name__, nbytes, why, buffers, part))
            for root in pickler.mapped[mapped:]:
                if root.mode != "r":
                    captured.shared[name] = str(root.filename)


def _sendable(name: str, shown: Any, namespace: dict[str, Any], captured: Captured) -> Any:
    """Leave out of the shell's dict of results what cannot be pickled, if something cannot."""
    if type(shown) is not dict or why_not(shown, namespace) is None:
        return shown
    reasons = {number: why_not(value, namespace) for number, value in shown.items()}
    captured.left_out |= {f"{name}[{number}]": why for number, why in reasons.items() if why}
    return {number: value for number, value in shown.items() if not reasons[number]}


# --------------------------------------------------------------------------
# What could not be pickled, and what to do.

_ADVICE = (
    ("generator", "Make it a list first (name = list(name)), or create it inside the cell."),
    ("coroutine", "Await it first, or create it inside the cell."),
    ("TextIOWrapper", "Open the file inside the cell, or pass its path or contents."),
    ("Buffered", "Open the file inside the cell, or pass its path or contents."),
    ("lock", "Create the lock inside the cell."),
    ("socket", "Connect inside the cell."),
    ("Connection", "Connect inside the cell, or fetch the data first."),
    ("Cursor", "Connect inside the cell, or fetch the data first."),
    ("Executor", "Create the pool inside the cell."),
    ("Pool", "Create the pool inside the cell."),
    ("Thread", "Start the thread inside the cell."),
)


def _advice(type_name: str) -> str:
    for part, text in _ADVICE:
        if part.lower() in type_name.lower():
            return text
    return "Create it inside the cell, or take what needs it out of the cell."


def _explain(
    name: str,
    value: Any,
    namespace: dict[str, Any],
    work: _Work,
    wanted: Wanted,
    error: Exception,
) -> NotPickledError:
    labels, culprit = _culprit(value, namespace)
    path = (*work.path(name), *labels)
    kind = type(culprit)
    type_name = kind.__qualname__
    if kind.__module__ not in ("builtins", "__main__"):
        type_name = f"{kind.__module__}.{type_name}"
    advice = error.advice if isinstance(error, NotOfClusterError) else _advice(type_name)
    line = wanted.reads.get(path[0])
    return NotPickledError(name, type_name, path, line, str(error), advice)


def _too_deep(name: str, value: Any, work: _Work, wanted: Wanted) -> NotPickledError:
    path = work.path(name)
    return NotPickledError(
        name,
        type(value).__qualname__,
        path,
        wanted.reads.get(path[0]),
        "too many of its parts hang on one another, as the nodes of a linked list do",
        "Make it in the cell, of what it can be made from.",
    )


def _culprit(value: Any, namespace: dict[str, Any]) -> tuple[list[str], Any]:
    """Find the innermost part of a value that can't be pickled, and the way to it."""
    labels: list[str] = []
    seen = {id(value)}
    while len(labels) < 20:
        for label, part in _parts(value):
            if id(part) not in seen and why_not(part, namespace) is not None:
                seen.add(id(part))
                labels.append(label)
                value = part
                break
        else:
            break
    return labels, value


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, remote_types()):
        return  # what it is made of never travels
    if isinstance(value, dict):
        yield from ((f"[{key!r:.40}]", part) for key, part in list(value.items()))
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from ((f"[{index}]", part) for index, part in enumerate(value))
    if isinstance(value, types.FunctionType):
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=False)
        for name, cell in cells:
            try:
                yield name, cell.cell_contents
            except ValueError:
                continue
        yield from ((f"default {i + 1}", d) for i, d in enumerate(value.__defaults__ or ()))
    if isinstance(value, type):
        if value.__module__ == "__main__":
            yield from ((f".{name}", part) for name, part in list(vars(value).items()))
    else:
        attributes = getattr(value, "__dict__", None)
        if isinstance(attributes, dict):
            yield from ((f".{name}", part) for name, part in list(attributes.items()))
        for attribute in ("__func__", "__self__", "func", "__wrapped__"):
            part = getattr(type(value), attribute, None) and getattr(value, attribute, None)
            if part is not None:
                yield f".{attribute}", part
