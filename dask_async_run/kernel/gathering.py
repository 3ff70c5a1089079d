"""Gathering: output shown, result merged, exception raised.

The result is loaded and the merge planned first; then the output is replayed,
the plan applied, and the cell's exception raised, as if the cell had run here.
An interrupt while waiting leaves everything as it was.
"""

from __future__ import annotations

import gc
import sys
import time
import types
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from IPython.core.error import UsageError

from dask_async_run import surroundings
from dask_async_run.errors import (
    ForgottenJobError,
    ForgottenParentError,
    FrameError,
    JobStateError,
    LetGoError,
    MergeError,
    NoSuchJobError,
    explained,
)
from dask_async_run.job import JobResult, JobView, Message, State
from dask_async_run.kernel.cell_text import register_code
from dask_async_run.kernel.files import bring_back
from dask_async_run.kernel.notebook import is_elsewhere
from dask_async_run.kernel.record import Record
from dask_async_run.kernel.replay import Replay, set_result, withdraw_handle
from dask_async_run.kernel.session import Session
from dask_async_run.kernel.sweep_gathering import PartialTable, has_part, show_failed
from dask_async_run.kernel.waiting import Waiting
from dask_async_run.namespace.generators import is_replaced, is_replacement
from dask_async_run.namespace.held import Held, drop_what_nobody_has, held_weakly
from dask_async_run.namespace.inputs import is_hidden
from dask_async_run.namespace.members import ERROR
from dask_async_run.namespace.merge import Merger, Plan
from dask_async_run.namespace.pickling import NamespaceUnpickler
from dask_async_run.namespace.remote import on_cluster
from dask_async_run.namespace.results import Loaded
from dask_async_run.namespace.salvage import NotLoadedError
from dask_async_run.owners import short_names
from dask_async_run.quantities import age
from dask_async_run.surroundings import RELOADED

_AT_ONCE = 50
"""Gathered jobs whose lists are looked at for each that is gathered."""
_QUICK = 200
"""So many lists take no longer to be looked at than a job."""
_NAMED = 8
"""How many names of a cell that was stopped are listed."""


class Gatherer:
    """Gathers jobs into one session's namespace."""

    def __init__(self, session: Session) -> None:
        self._session = session

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
            session.records[job] = Record(
                spec, session.store, session.namespace, registry=session.registry
            )
            register_code(session.shell, spec.code, spec.execution_count)
        return session.records[job]

    def _gather_one(self, view: JobView, only: list[str], overwrite: bool) -> None:
        session = self._session
        record = self.record(view.id)
        remains = session.remains.pop(view.id, None) or session.registry.remains(view.id)
        result, outputs = remains.result, [o.output for o in remains.outputs]
        replay = Replay(session.shell)
        if view.sweep:
            show_failed(session, view)
            # A part of the table that an earlier gather has bound makes place for all of it.
            table = session.namespace.get(record.spec.sweep["table"])
            overwrite = overwrite or (table is not None and table is record.partial)
            if result is None:
                self._bring_part(view, record, overwrite)
        if result is None or not (
            result.payload.get("stream") or result.payload.get("stream_frame")
        ):
            replay.show(outputs)
            self._withdraw(record)
            self._done(view, record, ())
            record.settled = not view.sweep  # of which there may be a part
            raise _no_result(view, result)
        try:
            with surroundings.undrawn():  # what the cell showed is in its output
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
                changed_by_others=lambda token: self._is_changed_by_others(record, token),
            )
            with surroundings.unopened():
                plan = merger.plan(only, overwrite)
            came = _came(sorted(plan.names))
            if record.settled and not overwrite:
                plan = plan.of_what_was_merged(session.namespace)
        except Exception as error:
            replay.show(outputs)
            if record.settled and not (only or overwrite) and _is_of_what_is_gone(error):
                _tell_of_what_was_merged(view, error)
                return
            raise _merge_error(view, error, result.bound) from error
        own_way = session.shell is not None and isinstance(loaded.error, SyntaxError)
        # IPython shows these itself, and asks them for no traceback of their own.
        replay.show(outputs if own_way else _without_the_last_error(outputs, loaded.error))
        if not only:
            self._withdraw(record)
        try:
            with surroundings.unopened():
                moved = merger.apply(plan)
        except Exception as error:
            raise _merge_error(view, error) from error
        record.note_updates(plan.updates, loaded, session.records)
        if overwrite and not only:
            record.renew()
        record.brought |= set(plan.names)
        self._rebase(view.id, moved)
        session.note_changes(record.id, map(record.place, (token for token, *_ in plan.updates)))
        if record.kept is None:
            self._session.brought |= {
                name: (view.submitted, held_weakly(new)) for name, (_, new) in moved.items()
            }
        if not only:
            if view.id not in session.gathered:
                self._merge_surroundings(view, record, loaded.surroundings)
            bring_back(session, record.spec, result, overwrite, view.label)
            self._done(view, record, loaded.out)
            record.settled = record.settled or not plan.conflicts
        notes = self._noticeable(loaded.notes, plan, moved)
        _report(view, plan, result, notes, self._left_behind(record, plan), loaded, only)
        if view.state == State.TIMED_OUT or (
            view.state == State.FAILED
            and view.reason
            and isinstance(loaded.error, KeyboardInterrupt)
        ):
            # The interrupt that ended it was ours, not the user's or the cell's: its time was
            # up, or it used too much memory and had enough left to say how far it came.
            raise JobStateError(
                view.label, view.state, f"{view.reason or 'its time was up'}.{came}"
            )
        if view.state == State.CANCELLED and view.reason:
            how = view.reason.removeprefix("cancelled").lstrip("; ")
            print(f"{view.label} was cancelled{how and ': '}{how}.{came}", file=sys.stderr)
        if loaded.error is not None:
            if own_way or not any(o["output_type"] == "error" for o in outputs):
                _shown_already(loaded.error, session.shell)
            raise _as_here(loaded.error, outputs, session.shell)
        if view.state != State.FINISHED:
            why = view.reason.removeprefix("cancelled; ")
            raise JobStateError(view.label, view.state, why or "it did not finish.")

    def _reload(self, record: Record, loaded: Loaded, result: JobResult) -> Loaded:
        """Load modules anew that a cell did, and its result after that: it has their new parts."""
        names = loaded.surroundings[RELOADED.name]
        if record.id not in self._session.gathered:
            kept = record.kept
            unchanged = kept.modules(names) if kept is not None else []
            rows = surroundings.random_states()
            surroundings.merge({RELOADED.name: names}, self._session.shell)
            surroundings.write(rows, self._session.shell)  # what a module draws was drawn there
            if kept is not None:
                kept.renew(unchanged)
            record.loaded = None
            loaded = record.load(result, self._session.records)
        del loaded.surroundings[RELOADED.name]
        return loaded

    def _merge_surroundings(
        self, view: JobView, record: Record, changed: Mapping[str, Any]
    ) -> None:
        session = self._session
        left = session.drawn.to_leave(record) & changed.keys()
        kept = {name: value for name, value in changed.items() if name not in left}
        surroundings.merge(kept, session.shell)
        session.drawn.merge()
        lines = []
        if left and not record.lineage.seeds:
            rows = " and ".join(sorted(left))
            lines.append(
                f"{view.label}: it drew random numbers, and so did cells here since it was "
                f"submitted, or seeded them: {rows} is as those left it."
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
            if record.settled and record.id not in needed:
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
        session.gathered.add(view.id)
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


def _without_the_last_error(outputs: list[Message], error: BaseException | None) -> list[Message]:
    """Leave out what raising the exception here will show again."""
    if error is None:
        return outputs
    last = max((i for i, o in enumerate(outputs) if o["output_type"] == "error"), default=-1)
    kept = [output for i, output in enumerate(outputs) if i != last]
    if isinstance(error, SystemExit):
        # IPython's advice on how to exit, which it gives here too.
        kept = [o for o in kept if "To exit: use 'exit'" not in str(o.get("text", ""))]
    return kept


def _is_of_what_is_gone(error: Exception) -> bool:
    cause = error.__cause__ if isinstance(error, NotLoadedError) else error
    return isinstance(cause, (ForgottenParentError, LetGoError))


def _tell_of_what_was_merged(view: JobView, error: Exception) -> None:
    """Say that a job's result, which was merged before, cannot be loaded once more.

    Raises
    ------
    JobStateError
        The job did not finish.
    """
    print(f"{view.label}: all of it was merged before; {error}.", file=sys.stderr)
    if view.state != State.FINISHED:
        raise JobStateError(view.label, view.state, view.reason or "it did not finish.")


def _merge_error(view: JobView, error: Exception, names: Iterable[str] = ()) -> MergeError:
    again = f". %async_rerun {view.label} makes it again"
    if isinstance(error, NoSuchJobError):
        which = f"job {error.name!r}" if isinstance(error, ForgottenJobError) else "a job"
        return MergeError(view.label, f"{which}, which it builds on, was forgotten")
    if isinstance(error, (FrameError, LetGoError, MergeError)):
        advice = again if isinstance(error, FrameError) else ""
        return MergeError(view.label, str(error).rstrip(".") + advice)
    advice = ""
    cause = error.__cause__ if isinstance(error, NotLoadedError) else error
    if isinstance(cause, ModuleNotFoundError):
        advice = f" (install or import {cause.name!r} here, then gather again)"
    if isinstance(cause, FrameError):
        advice = again
    if isinstance(error, NotLoadedError):
        if others := [name for name in names if name not in error.lost]:
            listed = ",".join(others)
            advice += f". %async_gather {view.label} --only {listed} brings what can be loaded"
        return MergeError(view.label, f"{error}{advice}")
    return MergeError(view.label, f"{type(error).__name__}: {error}{advice}")


def _no_result(view: JobView, result: JobResult | None) -> JobStateError:
    text = {
        State.LOST: "its output so far is above. %async_rerun runs it again with the same inputs.",
        State.CANCELLED: "it brought nothing back.",
        State.TIMED_OUT: "its time was up, and it brought nothing back.",
    }.get(State(view.state), "it brought nothing back; its output so far is above.")
    return JobStateError(view.label, view.state, explained(view.state, view.reason, text))


def _came(names: Sequence[str]) -> str:
    """Say what a cell that was stopped brings all the same."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    if not names:
        return ""
    return f" What it had done by then is merged: {', '.join(names[:_NAMED])}{more}."


def _as_here(error: BaseException, outputs: list[Any], shell: Any) -> BaseException:
    """Give an exception the traceback that was recorded: the cell's lines, none of ours.

    A notebook that has kept it may raise it again: then it is shown as where that is done.
    """
    before = error.__traceback__
    cleaned = _Cleaning(error, before, shell) if shell is not None else None
    lines = next((o["traceback"] for o in reversed(outputs) if o["output_type"] == "error"), None)
    if lines is None:
        return error

    def render() -> Any:
        if cleaned and not cleaned.is_due and error.__traceback__ is not before:
            how = type(error), error, error.__traceback__
            return shell.InteractiveTB.structured_traceback(*how, tb_offset=1)
        return lines

    try:
        error._render_traceback_ = render  # type: ignore[attr-defined]
    except AttributeError:
        pass  # an exception with slots: it is shown with the gather's own frames
    return error


class _Cleaning:
    """Takes our frames out of an exception's traceback once it has been shown.

    Attributes
    ----------
    is_due : bool
    """

    def __init__(self, error: BaseException, before: Any, shell: Any) -> None:
        self.is_due = True
        self._error, self._before, self._shell = error, before, shell
        shell.events.register("post_run_cell", self.clean)

    def clean(self, result: Any) -> None:
        self._shell.events.unregister("post_run_cell", self.clean)
        self._error.__traceback__ = self._before
        self.is_due = False


def _shown_already(error: BaseException, shell: Any) -> None:
    """Have IPython not show an exception again, with our frames.

    It prints groups and errors in usage to stderr, there as here, and asks them, and errors
    in syntax, for no traceback of their own.
    """
    if shell is None or not (
        _contains_group(error) or isinstance(error, (SyntaxError, UsageError))
    ):
        return
    show = shell.showtraceback

    def show_others(*args: Any, **options: Any) -> None:
        del shell.showtraceback
        if sys.exc_info()[1] is error:
            shell._get_exc_info()  # `%tb` and others find it where they look
        else:
            show(*args, **options)

    shell.showtraceback = show_others


def _contains_group(error: BaseException | None) -> bool:
    return error is not None and (
        isinstance(error, BaseExceptionGroup) or _contains_group(error.__context__)
    )


def _report(
    view: JobView,
    plan: Plan,
    result: JobResult,
    notes: Mapping[str, str],
    left_behind: Sequence[str],
    loaded: Loaded,
    only: Iterable[str],
) -> None:
    lines = []
    if view.sweep and view.reason:
        lines.append(f"{view.label}: {view.reason}. Column {ERROR!r} of the table says why.")
    elif view.state == State.FINISHED and view.reason:
        lines.append(f"{view.label}: {view.reason}.")
    brought = {*loaded.bound, *loaded.deleted, *loaded.changed, *result.failed}
    for name in only:
        if name not in brought:
            near = get_close_matches(name, brought, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            if view.sweep:
                hint = " A sweep brings one table; %%async_run --only chooses its columns."
            lines.append(f"{view.label}: it brought no {name}.{hint}")
    for name, why in plan.conflicts.items():
        lines.append(
            f"{view.label}: {name} {why}; it was left alone. %async_gather {view.label} "
            f"--overwrite takes the job's value."
        )
    for name, why in notes.items():
        lines.append(f"{view.label}: {name} is a new object now: {why}.")
    if left_behind:
        lines.append(
            f"{view.label}: {', '.join(left_behind)}: the cell moved a generator on that it had "
            "from elsewhere, where there is a new one now; this is the one as it was before."
        )
    for what in loaded.late_ends:
        lines.append(
            f"{view.label}: {what} was still there in the cell: what happens when it goes "
            "(__del__, weak references) happens here, after gathering."
        )
    for name, kind in loaded.lost_keys.items():
        lines.append(
            f"{view.label}: {name} has a {kind} as a key whose hash has changed since it was put "
            "in: it may be found here and not in the cell, or the other way round."
        )
    for name, why in result.failed.items():
        lines.append(f"{view.label}: {name} did not come back: {why}")
    if lines:
        print("\n".join(lines), file=sys.stderr)


def describe(view: JobView, now: float | None = None) -> str:
    """Say a job's state in a few words: "finished, 3 min ago"."""
    now = time.time() if now is None else now
    if view.ended is not None:
        return f"{view.state}, {age(now - view.ended)} ago"
    if view.started is not None:
        return f"{view.state}, {age(now - view.started)}"
    return f"{view.state}, for {age(now - view.submitted)}"
