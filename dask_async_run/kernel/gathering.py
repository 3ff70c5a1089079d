"""Gathering: output shown, result merged, exception raised.

The result is loaded and the merge planned first; then the output is replayed,
the plan applied, and the cell's exception raised, as if the cell had run here.
An interrupt while waiting leaves everything as it was.
"""

from __future__ import annotations

import gc
import sys
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dask_async_run import surroundings
from dask_async_run.errors import MergeError, NoSuchJobError
from dask_async_run.job import JobResult, JobView
from dask_async_run.kernel.cell_error import CellError
from dask_async_run.kernel.cell_text import register_code
from dask_async_run.kernel.drawing import States, states_here
from dask_async_run.kernel.files import bring_back
from dask_async_run.kernel.missed import told, who_missed
from dask_async_run.kernel.notebook import is_elsewhere
from dask_async_run.kernel.received import Earlier, Received
from dask_async_run.kernel.record import Record
from dask_async_run.kernel.replay import Replay, set_result, withdraw_handle
from dask_async_run.kernel.report import (
    check_finished,
    is_of_what_is_gone,
    merge_error,
    no_result,
    report,
    tell_of_its_end,
    tell_of_what_was_merged,
)
from dask_async_run.kernel.session import Session
from dask_async_run.kernel.sweep_gathering import PartialTable, has_part, show_failed
from dask_async_run.kernel.waiting import Waiting
from dask_async_run.namespace.generators import is_replaced, is_replacement
from dask_async_run.namespace.held import Held, drop_what_nobody_has, held_weakly
from dask_async_run.namespace.inputs import is_hidden
from dask_async_run.namespace.loaded import Loaded
from dask_async_run.namespace.merge import Merger, Plan, is_pythons_own
from dask_async_run.namespace.remote import on_cluster
from dask_async_run.namespace.unpickling import NamespaceUnpickler
from dask_async_run.owners import short_names
from dask_async_run.surroundings import RELOADED

_AT_ONCE = 50
"""Gathered jobs whose lists are looked at for each that is gathered."""
_QUICK = 200
"""So many lists take no longer to be looked at than a job."""


@dataclass(frozen=True, slots=True)
class _Planned:
    """A result that was loaded, and how it is to be merged.

    Parameters
    ----------
    came : list of str
        The names that it brings, those included that were merged before.
    """

    loaded: Loaded
    merger: Merger
    plan: Plan
    came: list[str]


class Gatherer:
    """Gathers jobs into one session's namespace."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._earlier = Earlier()

    def gather(
        self,
        views: Sequence[JobView],
        only: Iterable[str] = (),
        overwrite: bool = False,
        timeout: float | None = None,
        partial: bool = False,
    ) -> None:
        """Wait for jobs and gather them in order.

        Parameters
        ----------
        views : sequence of JobView
        only : iterable of str
            Names to restrict the merge to.
        overwrite : bool
            Merge conflicts too.
        timeout : float or None
            Seconds to wait.
        partial : bool
            Of sweeps that have not ended, bring the table of what has.

        Raises
        ------
        JobTimeoutError
            Not all had ended in time; nothing was gathered.
        BaseException
            The exception of the first cell that raised one; it is gathered, the
            jobs after it are not.
        JobStateError
            A job ended without a result.
        MergeError
            A result cannot be merged; the jobs that do not build on it are.
        """
        if partial:
            for view in (parts := has_part(views)):
                self._bring_part(view, self.record(view.id), overwrite)
            views = [view for view in views if view not in parts]
        ended = Waiting(self._session).until_ended(self._with_parents(views), timeout)
        several = len(ended) > 1
        failed: dict[str, MergeError] = {}
        for number, view in enumerate(ended, 1):
            if several:
                print(f"── {view.label} ──")
            if failed.keys() & {*self.record(view.id).spec.parents}:
                print(f"{view.label} builds on what could not be merged.", file=sys.stderr)
                failed[view.id] = next(iter(failed.values()))
                continue
            try:
                with on_cluster(self._session.remote):
                    self._gather_one(view, list(only), overwrite)
            except MergeError as error:
                # It keeps its result, and would keep the others from being gathered for ever.
                failed[view.id] = error
            except BaseException:
                if rest := " ".join(view.label for view in ended[number:]):
                    print(f"Not gathered yet: %async_gather {rest}", file=sys.stderr)
                raise
            finally:
                self._let_go(ended[number:])
        if failed:
            raise next(iter(failed.values()))

    def _with_parents(self, views: Sequence[JobView]) -> list[JobView]:
        """Add the ungathered jobs that these build on, before them."""
        listed: dict[str, JobView] = {}
        forgotten: set[str] = set()

        def add(view: JobView) -> None:
            if view.id in listed:
                return
            for job in self.record(view.id).spec.parents:
                if job in listed or job in forgotten or job in self._session.gathered:
                    continue
                try:
                    add(self._session.registry.show(job))
                except NoSuchJobError:
                    forgotten.add(job)  # its result says so when it is needed
            listed[view.id] = view

        for view in views:
            add(view)
        return list(listed.values())

    def record(self, job: str) -> Record:
        """Answer what this kernel knows of a job; asks the registry the first time."""
        session = self._session
        if job not in session.records:
            spec = session.registry.spec(job)
            record = Record(spec, session.store, session.namespace, registry=session.registry)
            session.add(record)
            register_code(session.shell, spec.code, spec.execution_count)
        return session.records[job]

    def _gather_one(self, view: JobView, only: list[str], overwrite: bool) -> None:
        session = self._session
        record = self.record(view.id)
        remains = session.remains.pop(view.id, None) or session.registry.remains(view.id)
        result, outputs = remains.result, [o.output for o in remains.outputs]
        if view.sweep:
            overwrite = self._begin_sweep(view, record, result, overwrite)
        if result is None or not result.has_values:
            Replay(session.shell).show(outputs)
            self._withdraw(record)
            self._done(view, record, ())
            record.settled = not view.sweep  # of which there may be a part
            raise no_result(view, result)
        rows = states_here()
        try:
            found = self._planned(view, record, result, only, overwrite)
        except Exception as error:
            Replay(session.shell).show(outputs)
            if record.settled and not (only or overwrite) and is_of_what_is_gone(error):
                tell_of_what_was_merged(view, error)
                return
            raise merge_error(view, error, result.bound) from error
        ended_with = CellError(found.loaded.error, outputs, session.shell)
        Replay(session.shell).show(ended_with.outputs_before())
        if not only:
            self._withdraw(record)
        moved = self._applied(view, record, found)
        missed = [] if view.id in session.gathered else self._missed(view, record, found.plan)
        if overwrite and not only:
            record.renew()
        if not only:
            if view.id not in session.gathered:
                self._merge_surroundings(view, record, found.loaded.surroundings, rows)
            bring_back(session, record.spec, result, overwrite, view.label)
            self._done(view, record, found.loaded.out)
            record.settled = record.settled or not found.plan.conflicts
        notes = self._noticeable(found.loaded.notes, found.plan, moved)
        left_behind = self._left_behind(record, found.plan)
        report(view, found.plan, result, notes, left_behind, found.loaded, only)
        if missed:
            print("\n".join(missed), file=sys.stderr)
        tell_of_its_end(view, found.loaded.error, found.came)
        ended_with.raise_it()
        check_finished(view)

    def _begin_sweep(
        self, view: JobView, record: Record, result: JobResult | None, overwrite: bool
    ) -> bool:
        """Show what failed of a sweep; whether its table is to be bound in any case."""
        show_failed(self._session, view)
        # A part of the table that an earlier gather has bound makes place for all of it.
        table = self._session.namespace.get(record.spec.sweep["table"])
        overwrite = overwrite or (table is not None and table is record.partial)
        if result is None:
            self._bring_part(view, record, overwrite)
        return overwrite

    def _planned(
        self, view: JobView, record: Record, result: JobResult, only: list[str], overwrite: bool
    ) -> _Planned:
        """Load a result and plan its merge; nothing is changed here but modules that it reloaded.

        Raises
        ------
        Exception
            Whatever loading it raises.
        """
        session = self._session
        # What the cell showed and printed is in its output; what it made has its ids.
        with surroundings.undrawn(), surroundings.uncounted(), surroundings.unheard():
            loaded = record.load(result, session.records, only)
            if RELOADED.name in loaded.surroundings and not only:
                loaded = self._reload(record, loaded, result)
        merger = Merger(
            loaded,
            session.namespace,
            record.kept,
            lambda: record.original(session.records),
            record.resolver(session.records),
            was_updated=(lambda token: record.was_updated(token, session.records))
            if record.has_updated
            else None,
            sent=lambda token: record.as_sent(token, session.records),
            brought=self._brought_before(view) if record.kept is None else None,
            removed=session.removed_after(view.submitted),
            changed_by_others=lambda token: self._is_changed_by_others(record, token),
            stands=Received(record, session.records, session.shell, self._earlier).stands,
        )
        with surroundings.unopened(), surroundings.unheard():
            plan = merger.plan(only, overwrite)
        came = sorted(plan.names)
        if record.settled and not overwrite:
            plan = plan.of_what_was_merged(session.namespace)
        return _Planned(loaded, merger, plan, came)

    def _applied(
        self, view: JobView, record: Record, found: _Planned
    ) -> dict[str, tuple[Any, Any]]:
        """Apply a plan, and note what it changed; the old and new values of the names it bound.

        Raises
        ------
        MergeError
            It cannot be applied: everything is as it was.
        """
        session = self._session
        try:
            with surroundings.unopened(), surroundings.uncounted(), surroundings.unheard():
                moved = found.merger.apply(found.plan)
        except Exception as error:
            raise merge_error(view, error) from error
        updates = found.plan.updates
        record.note_updates(updates, found.loaded, session.records)
        self._note_states(record, found.plan)
        record.brought |= set(found.plan.names)
        record.changed_here |= {*found.plan.update_names}
        self._rebase(view.id, moved)
        session.note_removed(found.loaded.deleted, view.submitted)
        session.note_changes(record.id, map(record.place, (token for token, *_ in updates)))
        if record.kept is None:
            session.brought |= {
                name: (view.submitted, held_weakly(new)) for name, (_, new) in moved.items()
            }
        return moved

    def _missed(self, view: JobView, record: Record, plan: Plan) -> list[str]:
        """Answer what is to be said of jobs that did not see what this one has changed."""
        resolve = record.resolver(self._session.records)
        changed = {
            id(obj)
            for obj, state in ((resolve(token), state) for token, _, state in plan.updates)
            if not (isinstance(obj, type) and is_pythons_own(state))
        }
        return [*told(view.label, who_missed(self._session, record, changed))]

    def _reload(self, record: Record, loaded: Loaded, result: JobResult) -> Loaded:
        """Load modules anew that a cell did, and its result after that: it has their new parts."""
        names = loaded.surroundings[RELOADED.name]
        if record.id not in self._session.gathered:
            kept = record.kept
            unchanged = kept.modules(names) if kept is not None else []
            rows = surroundings.random_states()
            for error in surroundings.merge({RELOADED.name: names}, self._session.shell).values():
                raise error
            surroundings.write(rows, self._session.shell)  # what a module draws was drawn there
            if kept is not None:
                kept.renew(unchanged)
            record.loaded = None
            loaded = record.load(result, self._session.records)
        del loaded.surroundings[RELOADED.name]
        return loaded

    def _merge_surroundings(
        self, view: JobView, record: Record, changed: Mapping[str, Any], rows: States
    ) -> None:
        session = self._session
        left = session.drawn.to_leave(record, rows) & changed.keys()
        kept = {name: value for name, value in changed.items() if name not in left}
        refused = surroundings.merge(kept, session.shell)
        session.drawn.merge()
        lines = [
            f"{view.label}: what it changed of the {name} could not be changed here: {error}"
            for name, error in refused.items()
        ]
        if left and not record.lineage.seeds:
            names = " and ".join(sorted(left))
            lines.append(
                f"{view.label}: it drew random numbers, and so did cells here since it was "
                f"submitted, or seeded them: {names} is as those left it."
            )
        if same := session.drawn.note(record, changed, session.records, len(session.gathered)):
            lines.append(
                f"{view.label}: it drew the same random numbers as {same}, for they did not "
                "build on one another. For others, seed them in the cell, give a random_state, or "
                "gather first."
            )
        if lines:
            print("\n".join(lines), file=sys.stderr)

    def _let_go(self, next_: Sequence[JobView]) -> None:
        """Hold no values any longer that are the notebook's own: it may want their memory.

        Those of jobs that others build on stay until these are merged, too. Of a job that another
        kernel submitted, nobody knows here what builds on it: what the notebook has stays known.

        Parameters
        ----------
        next_ : sequence of JobView
            What is about to be gathered.
        """
        session, records = self._session, self._session.records.values()
        open_ = {view.id for view in next_} | {r.id for r in records if not r.settled}
        built_on = {job for record in records for job in record.spec.parents}
        needed = {job for record in records if record.id in open_ for job in record.spec.parents}
        for record in records:
            if record.has_objects and record.settled and record.id not in needed:
                elsewhere = record.kept is None
                record.release(elsewhere or record.id in built_on, session.changed)
        released = [record for record in records if record.remembers]
        session.not_looked_for += 1
        work = len(released) + sum(record.remembers for record in released) // _QUICK
        if session.not_looked_for * _AT_ONCE >= work:  # of very many it takes a while
            session.not_looked_for = 0
            holders = [holder for record in released for holder in record.held()]
            drop_what_nobody_has([*holders, *(held for _, held in session.brought.values())])

    def _bring_part(self, view: JobView, record: Record, overwrite: bool) -> None:
        """Bring what there is of a sweep that has not collected."""
        for job in record.spec.parents:
            self.record(job)
        part = PartialTable(self._session, view, record)
        part.show(part.bring(overwrite))

    def _noticeable(
        self, notes: Mapping[str, str], plan: Plan, moved: Mapping[str, tuple[Any, Any]]
    ) -> dict[str, str]:
        """Answer those notes on new objects whose old ones somebody still has."""
        if not notes:
            return {}
        ours = [part for record in self._session.records.values() for part in record.parts()]

        def somebody_has(entry: tuple[Any, Any]) -> bool:
            return any(
                referrer is not entry
                and not isinstance(referrer, (types.FrameType, NamespaceUnpickler))
                and not is_replaced(referrer)
                and not any(part.holds(referrer) for part in ours)
                for referrer in gc.get_referrers(entry[0])
            )

        return {n: why for n, why in notes.items() if n in plan.bind and somebody_has(moved[n])}

    def _left_behind(self, record: Record, plan: Plan) -> list[str]:
        """Answer the names that still mean generators in whose place are others now."""
        resolve = record.resolver(self._session.records)
        replaced = [resolve(token) for token, _, state in plan.updates if is_replacement(state)]
        olds = set(map(id, replaced))
        values = self._session.namespace.items() if replaced else ()
        return sorted(n for n, value in values if id(value) in olds and not is_hidden(n))

    def _note_states(self, record: Record, plan: Plan) -> None:
        """Note how a job has left its objects, for those that change them next."""
        session = self._session
        if any(record.id in other.spec.parents for other in session.waiting()):
            resolve = record.resolver(session.records)
            record.note_states(map(resolve, (token for token, *_ in plan.updates)))
            record.note_states(plan.bind.values())

    def _is_changed_by_others(self, record: Record, token: Any) -> bool:
        """Whether jobs that one does not build on have changed an object that it changes."""
        jobs = self._session.changed.get(record.place(token), frozenset())
        return not jobs <= {record.id, *record.spec.parents}

    def _brought_before(self, view: JobView) -> dict[str, Held]:
        """Answer what names got here from jobs that had been submitted before one."""
        brought = self._session.brought.items()
        return {name: held for name, (when, held) in brought if when <= view.submitted}

    def _rebase(self, job: str, moved: dict[str, tuple[Any, Any]]) -> None:
        """A later job's names are not in conflict with what an earlier one brought.

        Nor is one that was gathered with what a later one brings, should it be gathered again.
        """
        later = False
        for record in self._session.records.values():
            if record.kept is not None and (later or record.id == job or record.settled):
                for name, (old, new) in moved.items():
                    # What was gathered keeps nobody's values.
                    record.kept.rebase(name, old, new, weak=record.settled)
                    record.remembers = record.remembers or int(record.settled)
            later = later or record.id == job

    def _done(self, view: JobView, record: Record, out: tuple[Any, ...]) -> None:
        session = self._session
        first = view.id not in session.gathered
        session.note_gathered(view.id)
        if is_elsewhere(view.notebook, session.notebook):
            name = short_names([view.notebook, session.notebook])[view.notebook]
            print(
                f"{view.label} is a job of {name}: this is a copy, which leaves it to be gathered "
                "there.",
                file=sys.stderr,
            )
        else:
            session.registry.gathered([view.id])
        if record.spec.of:
            return  # whose value is the sweep's
        if session.shell is not None and first and record.spec.execution_count and out:
            set_result(session.shell, record.spec.execution_count, out)

    def _withdraw(self, record: Record) -> None:
        shell, number = self._session.shell, record.spec.execution_count
        if shell is not None and number and record.id not in self._session.gathered:
            withdraw_handle(shell, number, record.handle, record.unders)
            if record.unders is not None and record.handle is not None:
                for other in self._session.waiting():
                    if other.unders is not None and other is not record:
                        other.unders.forget(record.handle, record.unders)
