"""What this kernel knows of one job: spec, result, and the objects they mean here.

A `Record` loads lazily and keeps what it loaded, so that what later results
refer to stays the same object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dask_async_run.errors import (
    ForgottenParentError,
    FrameError,
    LetGoError,
    NoSuchJobError,
)
from dask_async_run.frames import FrameStore, content_digest, is_unread
from dask_async_run.job import JobResult, JobSpec, JobView, Payload
from dask_async_run.kernel.drawing import States
from dask_async_run.kernel.lineage import Lineage
from dask_async_run.kernel.replay import Unders
from dask_async_run.namespace.digests import KnownBuffers
from dask_async_run.namespace.generators import keep_from_ending
from dask_async_run.namespace.held import Held, HeldObjects, held_weakly
from dask_async_run.namespace.inputs import Inputs, Parent, Stream, load_inputs
from dask_async_run.namespace.kinds import Kind
from dask_async_run.namespace.loaded import Loaded, Update, salvage_result
from dask_async_run.namespace.merge import Kept, has_attributes, remembered
from dask_async_run.namespace.opaque import fingerprinting
from dask_async_run.namespace.salvage import NotLoadedError
from dask_async_run.registry import SyncRegistry
from dask_async_run.stores import RecalledFrames

Changed = Mapping[tuple[str, int, int], frozenset[str]]
"""Objects (`Record.place`) that jobs changed in place here, and their ids."""

_GONE: Any = object()
_NOT_NOTED: tuple[None, None, Any] = (None, None, None)


@dataclass(frozen=True, slots=True)
class _Incarnation:
    """Which copies of a job's objects there are: how often each kind was made.

    Parameters
    ----------
    inputs : int
        Copies of what was sent.
    copies : int
        Loaded results.
    merged : int
        Results that the notebook got, after the first.
    """

    inputs: int = 0
    copies: int = 0
    merged: int = 0


class Record:
    """One job, as seen from a kernel.

    Parameters
    ----------
    spec : JobSpec
    store : FrameStore or RecalledFrames
    namespace : dict
        The user's: what functions that come back get as their globals.
    kept : Kept or None
        None in a kernel that did not submit the job.
    unders : Unders or None
        The shell's last results when it was submitted.
    registry : SyncRegistry or None
        Is asked for what is not here: None: all is.

    Attributes
    ----------
    handle : Job or None
        What the submission answered, which stands in ``Out``.
    loaded : Loaded or None
    settled : bool
        All of the result was merged here: gathering again changes nothing.
    brought : set of str
        Names that were merged one by one (``--only``): they are not the job's any more.
    changed_here : frozenset of str
        Names that lead to what it has changed in place, once that was merged.
    partial : object
        The table of a sweep that had not ended, as it was bound here last.
    lineage : Lineage
        What later cells come to through its names.
    gathered_before : int
        How many jobs had been gathered when it was submitted.
    sets_up : bool
        The cell does nothing but set what surrounds later ones, which wait for it.
    rows : mapping of str to int
        Where the rows of random numbers were here when it was submitted (`kernel.drawing`).
    rows_left : dict of str to int
        Where it left those that it drew from, once it was gathered.
    independent : bool
        It was to get what is here, whatever jobs before it do.
    forgotten : bool
        It is not there any more; its objects, which the notebook has, are what others change.
    remembers : int
        How many objects it may still hold that cannot be held weakly, once it was released.
    ended : JobView or None
        The job as it was when it had ended, once that was seen: only forgetting changes it.
    """

    def __init__(
        self,
        spec: JobSpec,
        store: FrameStore | RecalledFrames,
        namespace: dict[str, Any],
        kept: Kept | None = None,
        unders: Unders | None = None,
        registry: SyncRegistry | None = None,
    ) -> None:
        self.spec = spec
        self.id = spec.id
        self.kept = kept
        self.unders = unders
        self.handle: Any = None
        self.loaded: Loaded | None = None
        self.settled = False
        self.brought: set[str] = set()
        self.changed_here: frozenset[str] = frozenset()
        self.partial: Any = None
        self.lineage = Lineage()
        self.gathered_before = 0
        self.sets_up = False
        self.rows: States = {}
        self.rows_left: dict[str, int] = {}
        self.independent = False
        self.forgotten = False
        self.remembers = 0
        self.ended: JobView | None = None
        self._store = store
        self._namespace = namespace
        self._registry = registry
        self._left = HeldObjects()
        self._changed: Changed = {}
        self._is_again = False
        self._incarnation = _Incarnation()
        self._not_updated: frozenset[Any] | None = None
        self._updated_in: dict[str, _Incarnation] = {}
        self._states: dict[int, tuple[Held | None, Kind | None, Any]] = {}
        self._original: Inputs | None = None
        self._copies_used = kept is None

    def connect(self, registry: SyncRegistry) -> None:
        """Ask another registry: this one's connection was lost."""
        self._registry = registry

    def stream(self, payload: Payload, salvaging: bool = False) -> Stream:
        """Map a payload.

        Parameters
        ----------
        salvaging : bool
            A frame that is missing or damaged is no error: the stream has the exception in its
            place, so that what does without it can be loaded.

        Raises
        ------
        FrameError
        """
        data: Any
        buffers: list[Any]
        try:
            data, buffers = self._store.open_payload(payload)
        except FrameError:
            if not salvaging:
                raise
            data, _ = self._store.open_payload(replace(payload, frames=[]))
            buffers = [self._frame_or_why(frame) for frame in payload.frames]
        return Stream(data, buffers, [content_digest(digest) for digest, _ in payload.frames])

    def _frame_or_why(self, frame: list[Any]) -> memoryview | FrameError:
        try:
            return self._store.open_payload(Payload(frames=[frame]))[1][0]
        except FrameError as error:
            return error

    def sent(self, salvaging: bool = False) -> Stream:
        """Map the inputs, as they were sent; `salvaging` as of `stream`."""
        return self.stream(self.read_spec().payload, salvaging)

    def read_spec(self) -> JobSpec:
        """Answer the spec with the names of inputs that nobody had read when it was submitted."""
        if self._registry is not None and any(map(is_unread, self.spec.payload.digests)):
            self.spec = self._registry.spec(self.id)
        return self.spec

    def original(self, records: Mapping[str, Record]) -> Inputs:
        """Answer the inputs as they were sent, as copies; loaded once."""
        if self._original is None:
            self._original = load_inputs(
                self.sent(),
                self._namespace,
                keep_classes=True,
                resolve=self.resolver(records),
                keep_modules=True,
            )
            self._incarnation = replace(self._incarnation, inputs=self._incarnation.inputs + 1)
        return self._original

    def load(
        self, result: JobResult, records: Mapping[str, Record], only: Sequence[str] = ()
    ) -> Loaded:
        """Load the result; nothing is applied.

        Raises
        ------
        NotLoadedError
            Something of it, or of `only`, cannot be loaded.
        """
        if self.loaded is None:
            loaded = self._load(result, records)
            if loaded.lost:
                if only and loaded.lost.keys().isdisjoint(only):
                    return loaded
                raise NotLoadedError(loaded.lost) from loaded.cause
            self.loaded, self._is_again = loaded, self.settled
            self._incarnation = replace(self._incarnation, copies=self._incarnation.copies + 1)
        return self.loaded

    def _load(self, result: JobResult, records: Mapping[str, Record]) -> Loaded:
        stream = self.stream(result.values, salvaging=True)
        how = stream.data, stream.buffers, self._namespace, self.resolver(records), True, True
        # Of one that was merged the objects are here already, and see to their ends.
        return salvage_result(*how, finalisers=not self.settled)

    def resolver(self, records: Mapping[str, Record]) -> Callable[[Any], Any]:
        """Answer the function that resolves the tokens of this job's streams.

        Parameters
        ----------
        records : mapping of str to Record
            By job id, those of ``spec.parents`` among them that there are. The function raises
            `ForgottenParentError` and `LetGoError` where an object of theirs is not to be had.
        """

        def resolve(token: Any) -> Any:
            section, index = token
            if section <= 0:
                return self.own(section, index, records)
            job = self.spec.parents[(section - 1) // 2]
            parent = records.get(job)
            if parent is None:
                raise ForgottenParentError(job)
            if section % 2:
                return parent.own(0, index, records)
            return parent.made(index, records, self.id)

        return resolve

    def place(self, token: Any) -> tuple[str, int, int]:
        """Answer what a token of this job's streams means, whichever job's it is.

        The job that the object came with first, whether with its inputs (0) or its result (1),
        and the index there.
        """
        section, index = token
        if section <= 0:
            return self.id, section, index
        return self.spec.parents[(section - 1) // 2], 1 - section % 2, index

    def own(self, section: int, index: int, records: Mapping[str, Record]) -> Any:
        """Answer an object of the inputs: the kernel's own while there is one."""
        if self.kept is not None:
            if section < 0:
                found = self.kept.value(self.kept.names[index], _GONE)
            else:
                found = self.kept.object(index, _GONE)
            if found is not _GONE:
                return found
        original = self.original(records)
        self._copies_used = True
        return original.numbered(index) if section < 0 else original.objects[index]

    def made(self, index: int, records: Mapping[str, Record], by: str) -> Any:
        """Answer an object of the result: the notebook's own while there is one.

        Parameters
        ----------
        by : str
            Id of the job whose result refers to it.

        Raises
        ------
        ForgottenParentError
            The result is not to be had.
        LetGoError
            The object is gone here, and others had changed it.
        """
        found = self._left.get(index, _GONE)
        if found is not _GONE:
            return found
        is_copy = self.loaded is None or self._is_again
        if is_copy and self._changed.get((self.id, 1, index), frozenset()) - {by}:
            raise LetGoError(self.spec.name)
        loaded = self.loaded or self.load(self.result(), records)
        return loaded.objects[index]

    def objects_here(self, made: bool) -> dict[int, Any]:
        """Answer the objects of the inputs, or of the result (`made`), that are here, by index."""
        if made:
            return self._left.all() or (dict(self.loaded.objects) if self.loaded else {})
        if self.kept is not None:
            return self.kept.objects()
        return dict(self._original.objects) if self._original is not None else {}

    def as_parent(self, result: JobResult) -> Parent:
        """Answer the job as one that others build on; what of it is lost, they do without."""
        inputs, values = self.sent(salvaging=True), self.stream(result.values, salvaging=True)
        return Parent(self.id, self.spec.parents, inputs, values, makers=self.spec.makers)

    def result(self) -> JobResult:
        """Answer the result, from the registry.

        Raises
        ------
        ForgottenParentError
            It is not to be had.
        """
        try:
            result = self._registry.result(self.id) if self._registry is not None else None
        except NoSuchJobError:
            result = None
        if result is None or not result.payload:
            raise ForgottenParentError(self.id)
        return result

    def as_sent(self, token: Any, records: Mapping[str, Record]) -> Any:
        """Answer a copy of the object of a token as this job's cell got it.

        Raises
        ------
        ForgottenParentError
            It came from another job, whose result is not to be had.
        """
        section, index = token
        if section <= 0:
            return self.original(records).objects[index]
        job = self.spec.parents[(section - 1) // 2]
        parent = records.get(job)
        if parent is None:
            raise ForgottenParentError(job)
        if section % 2:
            return parent.original(records).objects[index]
        return parent._load(parent.result(), records).objects[index]

    # -- changes in place ------------------------------------------------------------

    def note_updates(
        self, updates: Sequence[Update], loaded: Loaded, records: Mapping[str, Record]
    ) -> None:
        """Note that some of the result's changes in place were applied here."""
        if updates:
            rest: Iterable[Any] = ()
            if len(updates) < len(loaded.updates):
                done = {token for token, *_ in updates}
                rest = (token for token, *_ in loaded.updates if token not in done)
            self._not_updated = frozenset(t for t in rest if not self.was_updated(t, records))
            for owner in (self, *(records[job] for job in self.spec.parents if job in records)):
                self._updated_in[owner.id] = owner._incarnation

    def note_states(self, objects: Iterable[Any]) -> None:
        """Note how objects are that this job made, or changed, now that it is merged.

        Those of which a copy does not tell (`merge.looks_like_its_copy`).
        """
        with fingerprinting(self._namespace, KnownBuffers()):
            for obj in objects:
                if isinstance(obj, type):
                    self._states[id(obj)] = held_weakly(obj), None, dict(vars(obj))
                elif (found := remembered(obj)) is not None:
                    self._states[id(obj)] = held_weakly(obj), *found

    def stands(self, obj: Any, state: Any) -> bool | None:
        """Whether an object is as it was after this job, or before it; None: that is not known.

        Parameters
        ----------
        obj : object
            One of which a copy does not tell.
        state : object
            Of a class, the attributes that matter, as of `namespace.definitions.CLASS`.
        """
        held, kind, noted = self._states.get(id(obj), _NOT_NOTED)
        if held is not None and held.get() is obj:
            return has_attributes(obj, noted, state) if kind is None else kind.unchanged(obj, noted)
        return self.kept.stands_itself(obj, state) if self.kept is not None else None

    @property
    def has_updated(self) -> bool:
        """Whether some of the result's changes in place were applied here."""
        return self._not_updated is not None

    def was_updated(self, token: Any, records: Mapping[str, Record]) -> bool:
        """Whether the object that a token means now got this job's change in place before."""
        if self._not_updated is None or token in self._not_updated:
            return False
        section, index = token
        owner = self if section <= 0 else records.get(self.spec.parents[(section - 1) // 2])
        then = self._updated_in.get(owner.id) if owner is not None else None
        if owner is None or then is None:
            return False
        if section > 0 and section % 2 == 0:
            if owner._is_again and owner._left.get(index, _GONE) is _GONE:
                return owner._incarnation.copies == then.copies
            return owner._incarnation.merged == then.merged
        if owner.kept is not None and section >= 0:
            if owner.kept.object(index, _GONE) is not _GONE:
                return True
        elif owner.kept is not None:
            return owner.kept.value(owner.kept.names[index], _GONE) is not _GONE
        return owner._original is not None and owner._incarnation.inputs == then.inputs

    def renew(self) -> None:
        """Note that a result which was merged before, and came as copies, has been once more."""
        if self._is_again:
            self._left = HeldObjects()
            self._is_again = False
            self._incarnation = replace(self._incarnation, merged=self._incarnation.merged + 1)

    @property
    def has_objects(self) -> bool:
        """Whether there is anything to `release`."""
        return (
            self.loaded is not None
            or self._original is not None
            or bool(self._left or self._states)
        )

    def release(self, built_on: bool, changed: Changed) -> None:
        """Drop the values that only merging needed; `load` and `original` load them again.

        In a kernel that did not submit the job, copies of its inputs are the notebook's objects,
        and stay.

        Parameters
        ----------
        built_on : bool
            Other jobs refer to its objects: those that the notebook has stay known.
        changed : Changed
        """
        if self._original is not None and self.kept is not None:
            keep_from_ending(self._original.objects.values(), used=self._copies_used)
            self._original = None
        self._states.clear()
        if not built_on:
            self._left = HeldObjects()
        if self.loaded is not None:
            if self.kept is not None:
                self.kept.let_go({*self.loaded.bound, *self.loaded.deleted, *self.loaded.changed})
            if built_on and not self._is_again:
                self._left = self.loaded.remembered()
                self._left.weaken(all_=self.kept is None)
            self.loaded, self._changed = None, changed
            self.remembers = sum(len(each.strong()) for each in self._holders())

    def held(self) -> list[Held | HeldObjects]:
        """Answer what remembers objects of the notebook's for as long as that has them."""
        found = [each for each in self._holders() if each.strong()]
        self.remembers = sum(len(each.strong()) for each in found)
        return found

    def _holders(self) -> Iterator[Held | HeldObjects]:
        if self.kept is not None:
            yield from self.kept.held()
        yield self._left

    def parts(self) -> Iterator[Kept | Loaded | HeldObjects]:
        """Yield what remembers objects of the notebook's."""
        yield from (part for part in (self.kept, self.loaded, self._left) if part is not None)
