"""Gathering: output shown, result merged, exception raised.

The result is loaded and the merge planned first; then the output is replayed,
the plan applied, and the cell's exception raised, as if the cell had run here.
An interrupt while waiting leaves everything as it was.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from dask_async_run import surroundings
from dask_async_run.errors import FrameError, JobStateError, MergeError, NoSuchJobError
from dask_async_run.job import JobResult, JobView, Message, State
from dask_async_run.kernel.record import Record
from dask_async_run.kernel.replay import Replay, set_result, withdraw_handle
from dask_async_run.kernel.session import Session
from dask_async_run.kernel.submission import register_code
from dask_async_run.kernel.waiting import Waiting
from dask_async_run.namespace.merge import Merger, Plan
from dask_async_run.namespace.results import Loaded


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

        Raises
        ------
        TimeoutError
            Not all had ended in time; nothing was gathered.
        BaseException
            The exception of the first cell that raised one; it is gathered, the
            jobs after it are not.
        JobStateError
            A job ended without a result.
        MergeError
            A result cannot be merged; the jobs that do not build on it are.
        """
        ended = Waiting(self._session).until_ended(self._with_parents(views), timeout)
        several = len(ended) > 1
        failed: dict[str, MergeError] = {}
        for view in ended:
            if several:
                print(f"── {view.label} ──")
            if failed.keys() & {*self.record(view.id).spec.parents}:
                print(f"{view.label} builds on what could not be merged.", file=sys.stderr)
                failed[view.id] = next(iter(failed.values()))
                continue
            try:
                self._gather_one(view, list(only), overwrite)
            except MergeError as error:
                # It keeps its result, and would keep the others from being gathered for ever.
                failed[view.id] = error
        if failed:
            raise next(iter(failed.values()))

    def _with_parents(self, views: Sequence[JobView]) -> list[JobView]:
        """Add the ungathered jobs that these build on, before them."""
        listed: dict[str, JobView] = {}

        def add(view: JobView) -> None:
            if view.id in listed:
                return
            for job in self.record(view.id).spec.parents:
                if job not in self._session.gathered:
                    try:
                        add(self._session.registry.show(job))
                    except NoSuchJobError:
                        continue  # forgotten: its result says so when it is needed
            listed[view.id] = view

        for view in views:
            add(view)
        return list(listed.values())

    def record(self, job: str) -> Record:
        """Answer what this kernel knows of a job; asks the registry the first time."""
        session = self._session
        if job not in session.records:
            spec = session.registry.spec(job)
            session.records[job] = Record(spec, session.store, session.namespace)
            register_code(session.shell, spec.code, spec.execution_count)
        return session.records[job]

    def _gather_one(self, view: JobView, only: list[str], overwrite: bool) -> None:
        session = self._session
        record = self.record(view.id)
        result = session.registry.result(view.id)
        outputs = [o.output for o in session.registry.outputs(view.id).outputs]
        replay = Replay(session.shell)
        if result is None or not (
            result.payload.get("stream") or result.payload.get("stream_frame")
        ):
            replay.show(outputs)
            self._withdraw(record)
            self._done(view, record, ())
            raise _no_result(view, result)
        try:
            loaded = record.load(result, session.records)
            merger = Merger(
                loaded,
                session.namespace,
                record.kept,
                lambda: record.original(session.records),
                record.resolver(session.records),
                updated=record.updated,
            )
            plan = merger.plan(only, overwrite)
        except Exception as error:
            replay.show(outputs)
            raise _merge_error(view, error) from error
        replay.show(_without_the_last_error(outputs, loaded.error))
        if not only:
            self._withdraw(record)
        try:
            moved = merger.apply(plan)
        except Exception as error:
            raise _merge_error(view, error) from error
        record.updated = record.updated or bool(plan.updates)
        self._rebase(view.id, moved)
        if not only:
            if view.id not in session.gathered:
                surroundings.merge(loaded.surroundings, session.shell)
            self._done(view, record, loaded.out)
        _report(view, plan, result, loaded)
        if view.state == State.TIMED_OUT:
            # The interrupt that ended it was ours, not the user's or the cell's.
            raise JobStateError(view.label, view.state, view.reason or "its time was up.")
        if view.state == State.CANCELLED and view.reason:
            print(f"{view.label} was cancelled: {view.reason}", file=sys.stderr)
        if loaded.error is not None:
            raise _as_here(loaded.error, outputs)
        if view.state != State.FINISHED:
            raise JobStateError(view.label, view.state, view.reason or "it did not finish.")

    def _rebase(self, job: str, moved: dict[str, tuple[Any, Any]]) -> None:
        """A later job's names are not in conflict with what an earlier one brought."""
        later = False
        for record in self._session.records.values():
            if record.kept is not None and (later or record.id == job):
                for name, (old, new) in moved.items():
                    record.kept.rebase(name, old, new)
            later = later or record.id == job

    def _done(self, view: JobView, record: Record, out: tuple[Any, ...]) -> None:
        session = self._session
        first = view.id not in session.gathered
        session.gathered.add(view.id)
        session.registry.gathered([view.id])
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
    if last < 0 and isinstance(error, BaseExceptionGroup):
        # IPython prints groups to stderr, here as there.
        kept = [o for o in kept if "Exception Group Traceback" not in str(o.get("text", ""))]
    if isinstance(error, SystemExit):
        # IPython's advice on how to exit, which it gives here too.
        kept = [o for o in kept if "To exit: use 'exit'" not in str(o.get("text", ""))]
    return kept


def _merge_error(view: JobView, error: Exception) -> MergeError:
    if isinstance(error, (FrameError, MergeError)):
        return MergeError(view.label, str(error).rstrip("."))
    advice = ""
    if isinstance(error, ModuleNotFoundError):
        advice = f" (install or import {error.name!r} here, then gather again)"
    return MergeError(view.label, f"{type(error).__name__}: {error}{advice}")


def _no_result(view: JobView, result: JobResult | None) -> JobStateError:
    text = {
        State.LOST: "its output so far is above. %async_rerun runs it again with the same inputs.",
        State.CANCELLED: "it brought nothing back.",
        State.TIMED_OUT: "its time was up, and it brought nothing back.",
    }.get(State(view.state), "it brought nothing back; its output so far is above.")
    return JobStateError(view.label, view.state, f"{view.reason}. {text}" if view.reason else text)


def _as_here(error: BaseException, outputs: list[Any]) -> BaseException:
    """Give an exception the traceback that was recorded: the cell's lines, none of ours."""
    lines = next((o["traceback"] for o in reversed(outputs) if o["output_type"] == "error"), None)
    if lines is not None:
        try:
            error._render_traceback_ = lambda: lines  # type: ignore[attr-defined]
        except AttributeError:
            pass  # an exception with slots: it is shown with the gather's own frames
    return error


def _report(view: JobView, plan: Plan, result: JobResult, loaded: Loaded) -> None:
    lines = []
    for name, why in plan.conflicts.items():
        lines.append(
            f"{view.label}: {name} {why}; it was left alone. %async_gather {view.label} "
            f"--overwrite takes the job's value."
        )
    for name, why in loaded.notes.items():
        if name in plan.bind:
            lines.append(f"{view.label}: {name} is a new object now: {why}.")
    for name, why in result.failed.items():
        lines.append(f"{view.label}: {name} did not come back: {why}")
    if lines:
        print("\n".join(lines), file=sys.stderr)


def age(seconds: float) -> str:
    """Say a span of time in its largest unit: "3 min"."""
    seconds = max(0.0, seconds)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def describe(view: JobView, now: float | None = None) -> str:
    """Say a job's state in a few words: "finished, 3 min ago"."""
    now = time.time() if now is None else now
    if view.ended is not None:
        return f"{view.state}, {age(now - view.ended)} ago"
    if view.started is not None:
        return f"{view.state}, {age(now - view.started)}"
    return f"{view.state}, for {age(now - view.submitted)}"
