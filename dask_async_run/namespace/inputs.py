"""Restore and collect: the two ends of a cell's namespace, in the cell process.

`restore` loads what went in; for a job that builds on earlier ones it first does
to the namespace what gathering those would have done in the kernel, so the
values never pass through it. `collect` writes what the cell did.

Sections number the streams that tokens refer to: 0 is the job's own inputs,
``2k + 1`` the inputs and ``2k + 2`` the result of its ``parents[k]``; -1 counts
the names of its own inputs (numbers and text have no place in a stream's memo).
"""

from __future__ import annotations

import errno
import re
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from types import MappingProxyType
from typing import Any

from dask_async_run.errors import ForgottenParentError
from dask_async_run.namespace.axes import Axis, parameters
from dask_async_run.namespace.beside import MODULE
from dask_async_run.namespace.conditions import uncollected
from dask_async_run.namespace.counts import tell_again
from dask_async_run.namespace.definitions import CLASS
from dask_async_run.namespace.digests import KnownBuffers
from dask_async_run.namespace.loaded import (
    Loaded,
    Update,
    apply_updates,
    load_result,
    salvage_result,
)
from dask_async_run.namespace.modules import find_module
from dask_async_run.namespace.order import fill
from dask_async_run.namespace.results import Collected, ResultWriter
from dask_async_run.namespace.salvage import Items, NotLoadedError, why_lost
from dask_async_run.namespace.track import Baseline, Token
from dask_async_run.namespace.unpickling import known_classes
from dask_async_run.namespace.views import address
from dask_async_run.pages import is_untouched

_NO_MAKERS: Mapping[str, Sequence[int]] = MappingProxyType({})
_SHELLS_OWN = re.compile(r"_{1,3}|_i{1,3}|_i?\d+|_[dio]h|In|Out")
SHOWN = ("Out", "_oh")
"""What the shell keeps of each cell's last expression: not all of it is meant by who reads one."""
_SHELLS_NAMES = frozenset(
    "get_ipython exit quit open __name__ __doc__ __package__ __loader__ __spec__ __builtin__ "
    "__builtins__ __file__ __session__ __vsc_ipynb_file__ __pydevd_ret_val_dict "
    "__warningregistry__".split()
)


def is_hidden(name: str) -> bool:
    """Whether a name is the shell's own: never an input unless read, never a result."""
    return name in _SHELLS_NAMES or _SHELLS_OWN.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class Stream:
    """A pickle stream and its buffers.

    Parameters
    ----------
    data : bytes-like
    buffers : sequence of writable buffers
    digests : sequence of str
        Digest of each buffer, where known.
    """

    data: Any
    buffers: Sequence[Any] = ()
    digests: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Parent:
    """An earlier job that this one builds on.

    Parameters
    ----------
    id : str
    parents : sequence of str
        Ids of the jobs that it builds on itself; they come before it.
    inputs, result : Stream
    count : int or None
        ``n`` of ``Out[n]`` in its kernel.
    makers : mapping of str to sequence of int
        As of `Chain.fall_back`.
    """

    id: str
    parents: Sequence[str]
    inputs: Stream
    result: Stream
    count: int | None = None
    makers: Mapping[str, Sequence[int]] = field(default_factory=dict)


@dataclass(slots=True)
class Inputs:
    """The items of an inputs stream, loaded.

    Parameters
    ----------
    names : dict
    fallbacks : dict
        Values of names that a parent may or may not have bound.
    early, late : dict
        Surroundings: those that were prepared before the rest was loaded, the others.
    axes : list of Axis
        Of a sweep; else empty.
    objects : dict of int to object
        Memo index to object, atoms aside.
    beside : list of modules
        Those beside the notebook that the cell can reach.
    numbers : list of str
        The names in the order in which they came, those included that are lost.
    lost : dict of str to Exception
        Names, and values of modules as ``module.name``, that cannot be loaded, and why.
    """

    names: dict[str, Any]
    fallbacks: dict[str, Any]
    early: dict[str, Any]
    late: dict[str, Any]
    axes: list[Axis]
    objects: dict[int, Any]
    beside: list[types.ModuleType]
    numbers: list[str]
    lost: dict[str, Exception]

    def numbered(self, number: int) -> Any:
        """Answer the value of a name by its number."""
        name = self.numbers[number]
        if name not in self.names and name in self.lost:
            raise self.lost[name]
        return self.names[name]

    def object(self, index: int) -> Any:
        """Answer an object by its index; of one that is lost, raise why."""
        if index not in self.objects and self.lost:
            raise next(iter(self.lost.values()))
        return self.objects[index]


@dataclass(frozen=True, slots=True)
class Inherited:
    """Surroundings as an earlier job leaves them.

    Parameters
    ----------
    submitted : mapping
        What it was submitted with.
    changed : mapping
        What it changed.
    """

    submitted: Mapping[str, Any]
    changed: Mapping[str, Any]


Prepare = Callable[[Mapping[str, Any], Sequence[Inherited]], None]
"""Gets the early surroundings of some inputs, and what earlier jobs leave behind."""

Place = Callable[[Mapping[str, Any]], Iterable[Any]]
"""Gets some surroundings; answers which objects among them a cell can change in place."""


def load_inputs(
    stream: Stream,
    namespace: dict[str, Any],
    prepare: Callable[[Mapping[str, Any]], None] | None = None,
    keep_classes: bool = False,
    resolve: Callable[[Any], Any] | None = None,
    keep_modules: bool = False,
) -> Inputs:
    """Load an inputs stream; functions get `namespace` as their globals.

    A name that cannot be loaded is not among the names, whatever else it shares objects with.

    Parameters
    ----------
    prepare : callable or None
        Gets the early surroundings before anything else is loaded.
    keep_classes, resolve, keep_modules
        As of `NamespaceUnpickler`.

    Raises
    ------
    Exception
        Whatever unpickling raises, of what is no name's.
    """
    items = Items(
        stream.data,
        stream.buffers,
        namespace,
        resolve,
        keep_classes,
        keep_modules,
        finalisers=not keep_modules,
    )
    loaded = Inputs({}, {}, {}, {}, [], {}, [], [], {})
    with uncollected(), items.lending() as lend:
        for item, why in items:
            if item[0] == "name" and item[1] not in loaded.numbers:
                loaded.numbers.append(item[1])
            match item:
                case ("name" | "fallback", name, _) if why is not None:
                    loaded.lost[name] = why
                case _ if why is not None:
                    raise why
                case ("early", early):
                    loaded.early = early
                    if prepare is not None:
                        prepare(early)
                case ("name", name, value):
                    loaded.names[name] = value
                    lend(name, value)
                case ("fallback", name, value):
                    loaded.fallbacks[name] = value
                case ("late", late):
                    loaded.late = late
                case ("axes", axes):
                    loaded.axes = axes
                case ("order", recipes):
                    for elements, how in recipes:
                        fill(elements, how)
                case ("counts", connections, cursors):
                    tell_again(connections, cursors)
                case ("beside", modules):
                    loaded.beside = modules
                case ("modules", modules):
                    for module in modules:
                        find_module(module)
    loaded.objects = items.objects()
    loaded.lost |= items.lost
    return loaded


class Chain:
    """The loaded streams of a job's parents, by job id.

    Parameters
    ----------
    namespace : dict
        What is merged into.
    salvaging : bool
        Load what can be loaded of a result of which something cannot, into a private
        namespace: modules, and classes that this process has already, stay as they are.
    """

    def __init__(self, namespace: dict[str, Any], salvaging: bool = False) -> None:
        self.namespace = namespace
        self._salvaging = salvaging
        self.inputs: dict[str, Inputs] = {}
        self.results: dict[str, Loaded] = {}
        self.inherited: list[Inherited] = []
        self._touched: dict[str, set[str]] = {}
        self._known = known_classes() if salvaging else set()

    def private(self, updates: Iterable[Update], resolve: Callable[[Any], Any]) -> list[Update]:
        """Leave out updates of what is not the chain's own: modules, classes known before."""
        return [
            update
            for update in updates
            if update[1] != MODULE.name
            and not (update[1] == CLASS.name and resolve(update[0]) in self._known)
        ]

    def fall_back(
        self,
        inputs: Inputs,
        parents: Sequence[str],
        makers: Mapping[str, Sequence[int]] = _NO_MAKERS,
    ) -> None:
        """Give the names that no parent bound or deleted the values that came for that case.

        Parameters
        ----------
        inputs : Inputs
            Of a job, before its own result.
        parents : sequence of str
            The jobs that it builds on.
        makers : mapping of str to sequence of int
            Which of these may have bound a name, by their places: what others have made of it,
            which may have been gathered before, is older than the value that came. A name that
            is not among them (of a job that an earlier version submitted) may be anybody's.
        """
        for name, value in inputs.fallbacks.items():
            touched = self._touched.get(name, set())
            if name not in makers:
                if not touched:
                    self.namespace.setdefault(name, value)
            elif touched.isdisjoint(parents[place] for place in makers[name]):
                self.namespace[name] = value

    def lost(self, inputs: Inputs) -> dict[str, Exception]:
        """Answer what could not be loaded of some inputs and of those before them, and why."""
        found: dict[str, Exception] = {}
        for each in [*self.inputs.values(), inputs]:
            found |= each.lost
        return found

    def resolver(self, own: Inputs | None, parents: Sequence[str]) -> Callable[[Any], Any]:
        """Answer the function that resolves the tokens of a job."""

        def resolve(token: Any) -> Any:
            section, index = token
            if section <= 0:
                assert own is not None
                return own.object(index) if section == 0 else own.numbered(index)
            parent = parents[(section - 1) // 2]
            streams = self.inputs if section % 2 else self.results
            if parent not in streams:
                raise ForgottenParentError(parent)
            return streams[parent].objects[index]

        return resolve

    def merge(self, parent: Parent, prepare: Prepare | None = None) -> Loaded:
        """Do to the namespace what gathering this job would do."""
        inputs = self.load(parent.inputs, parent.parents, prepare)
        self.inputs[parent.id] = inputs
        self.fall_back(inputs, parent.parents, parent.makers)
        self.namespace.update(inputs.names)
        resolve = self.resolver(inputs, parent.parents)
        load = salvage_result if self._salvaging else load_result
        loaded = load(
            parent.result.data,
            parent.result.buffers,
            self.namespace,
            resolve,
            keep_classes=self._salvaging,
            keep_modules=self._salvaging,
            finalisers=not self._salvaging,
        )
        self.results[parent.id] = loaded
        updates = loaded.updates
        if self._salvaging:
            updates = self.private(updates, resolve)
        apply_updates(updates, resolve)
        loaded.finish(updates, resolve)
        self.namespace.update(loaded.bound)
        for name in (*loaded.bound, *loaded.deleted):
            self._touched.setdefault(name, set()).add(parent.id)
        for name in loaded.deleted:
            self.namespace.pop(name, None)
        self.inherited.append(Inherited(inputs.early | inputs.late, loaded.surroundings))
        return loaded

    def load(
        self, inputs: Stream, parents: Sequence[str], prepare: Prepare | None = None
    ) -> Inputs:
        """Load the inputs of a job, its early surroundings after those of what came before."""
        return load_inputs(
            inputs,
            self.namespace,
            None if prepare is None else lambda early: prepare(early, self.inherited),
            keep_classes=self._salvaging,
            resolve=self.resolver(None, parents),
            keep_modules=self._salvaging,
        )


@dataclass(slots=True)
class Restored:
    """A namespace with its inputs in it.

    Parameters
    ----------
    namespace : dict
    before : dict
        Its names and values when the cell starts.
    baseline : Baseline
    late : dict
        Surroundings to be applied now.
    inherited : list of Inherited
        And what the parents left behind, in order.
    atoms : dict of int to Token
        ``id`` of inputs that are numbers or text.
    lost : dict of str to str
        Names of which the value cannot be loaded here, and why: they are not in the namespace.
    """

    namespace: dict[str, Any]
    before: dict[str, Any]
    baseline: Baseline
    late: dict[str, Any]
    inherited: list[Inherited]
    atoms: dict[int, Token]
    lost: dict[str, str]


def _show(
    namespace: dict[str, Any],
    shown: Iterable[tuple[int | None, tuple[Any, ...]]],
    names: Mapping[str, Any],
    own: Collection[str],
) -> None:
    """Give a namespace what earlier jobs have shown: ``_``, ``_n`` and ``Out[n]``.

    Not ``_`` where that is a variable of the notebook, and among the names that they bound
    themselves (`own`).
    """
    for count, values in shown:
        for value in values:
            if "_" not in names and "_" not in own:
                namespace["_"] = value
            if count is not None:
                namespace[f"_{count}"] = value
                if isinstance(names.get("Out"), dict):
                    names["Out"][count] = value


@uncollected()
def restore(
    inputs: Stream,
    namespace: dict[str, Any],
    parents: Iterable[Parent] = (),
    prepare: Prepare | None = None,
    member: int | None = None,
    place: Place = lambda surroundings: (),
    needed: Iterable[str] = (),
    makers: Mapping[str, Sequence[int]] = _NO_MAKERS,
) -> Restored:
    """Load a job's inputs into a namespace, on top of what its parents did.

    A cell that only mentions a name, or may reach any, runs without it where it can't be
    loaded; when it is collected, such a name is neither bound nor deleted.

    Parameters
    ----------
    inputs : Stream
    namespace : dict
        Filled; keeps what it has.
    parents : iterable of Parent
        In the order in which they are merged.
    prepare : callable or None
        Called before anything else of some inputs is loaded.
    member : int or None
        Of a sweep: it finds its parameters in the namespace.
    place : callable
        Called with the surroundings that came, those of the parents' results included.
    needed : iterable of str
        Names that the cell can't be run without.
    makers : mapping of str to sequence of int
        As of `Chain.fall_back`.

    Raises
    ------
    NotLoadedError
        One of these cannot be loaded; what was raised is its cause.
    Exception
        Whatever unpickling raises, of what is no name's.
    """
    chain = Chain(namespace)
    parents = list(parents)
    shown = [(parent.count, chain.merge(parent, prepare).out) for parent in parents]
    own = {name for loaded in chain.results.values() for name in loaded.bound}
    ids = [parent.id for parent in parents]
    loaded = chain.load(inputs, ids, prepare)
    chain.fall_back(loaded, ids, makers)
    namespace.update(loaded.names)
    _show(namespace, shown, loaded.names, own)
    if member is not None:
        namespace.update(parameters(loaded.axes, member))
    lost = {name: why for name, why in chain.lost(loaded).items() if name not in namespace}
    if lacking := [name for name in needed if name in lost]:
        causes = {name: why_lost(lost[name]) for name in lacking}
        raise NotLoadedError(causes) from lost[lacking[0]]
    if "Out" in loaded.names:
        namespace["_oh"] = namespace["Out"]
    tokens: dict[int, Token] = {}
    known = KnownBuffers()
    for number, parent in enumerate(parents):
        for stream in (parent.inputs, parent.result):
            _know(known, stream, changeable=True)
        for section, objects in (
            (2 * number + 1, chain.inputs[parent.id].objects),
            (2 * number + 2, chain.results[parent.id].objects),
        ):
            tokens.update(_tokens(section, objects))
    _know(known, inputs)
    tokens.update(_tokens(0, loaded.objects))
    before = dict(namespace)
    read = {*loaded.names, *needed}
    roots = [value for name, value in before.items() if name in read or not is_hidden(name)]
    around: list[Any] = []
    for inherited in chain.inherited:
        around += [*place(inherited.submitted), *place(inherited.changed)]
    around += place(loaded.late)
    for each in [*chain.inputs.values(), loaded]:
        roots += each.beside
    baseline = Baseline(roots, tokens, namespace, known, around)
    atoms = {
        id(value): (-1, number)
        for number, name in enumerate(loaded.numbers)
        if type(value := loaded.names.get(name)) in (int, float, complex, str, bytes)
        and not _is_common(value)
    }
    told = {name: f"it cannot be loaded ({why_lost(why)})" for name, why in lost.items()}
    return Restored(namespace, before, baseline, loaded.late, chain.inherited, atoms, told)


def _tokens(section: int, objects: Mapping[int, Any]) -> Iterable[tuple[int, Token]]:
    """Answer ``id`` and token of the objects of a stream."""
    return zip(map(id, objects.values()), zip(repeat(section), objects), strict=False)


def _is_common(value: Any) -> bool:
    """Whether Python shares such a value anyway, so that its identity says nothing."""
    if type(value) is int:
        return -6 < value < 257
    return isinstance(value, (str, bytes)) and len(value) < 2


def _know(known: KnownBuffers, stream: Stream, changeable: bool = False) -> None:
    """Note a stream's digests; unless merging later jobs may have changed a buffer."""
    for buffer, name in zip(stream.buffers, stream.digests, strict=False):
        view = memoryview(buffer).cast("B")
        start = address(view)
        if not changeable or start is None or is_untouched(start, view.nbytes):
            known.add(view, name)


@uncollected()
def collect(
    restored: Restored,
    error: BaseException | None = None,
    out: tuple[Any, ...] = (),
    surroundings: Mapping[str, Any] | None = None,
    only: Iterable[str] = (),
    also: Iterable[str] = (),
    assigns: Iterable[str] = (),
    words: Iterable[str] = (),
    sources: Callable[[set[str]], Mapping[str, Any]] = lambda files: {},
    largest: int | None = None,
    full: int = errno.ENOSPC,
    asked: Iterable[Any] = (),
    removes: Iterable[str] = (),
) -> Collected:
    """Write what the cell did to its namespace.

    Parameters
    ----------
    restored : Restored
        What `restore` answered, after the cell ran in its namespace.
    error : BaseException or None
    out : tuple
        The last values that the cell displayed, oldest first.
    surroundings : mapping
        Changes of what surrounds the cell.
    only, also : iterable of str
        Names to restrict the result to; names to bring back even if unchanged.
    assigns : iterable of str
        Names that the cell's source assigns to: the user's, even if the shell has
        such names too (``for _ in range(3)``).
    words : iterable of str
        Every identifier in the cell's source.
    sources : callable
        Answers the source texts of the files that code of the result comes from.
    largest : int or None
        Bytes of the largest buffer that there is space for.
    full : int
        The error's number where there was none for a larger one.
    asked : iterable of objects
        Of which `Collected.sent` says whether they travel.
    removes : iterable of str
        Names that the cell has deleted, unless they are there; it need not have got them.
    """
    assigned = set(assigns)
    writer = ResultWriter(
        restored.namespace,
        restored.before,
        restored.baseline,
        restored.atoms,
        lambda name: name not in assigned and is_hidden(name),
        largest,
        full,
    )
    return writer.write(error, out, surroundings, only, also, set(words), sources, asked, removes)
