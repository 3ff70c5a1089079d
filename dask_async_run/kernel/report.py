"""What a gather tells: why there is nothing, what was left alone, what became of the rest."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

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
from dask_async_run.job import JobResult, JobView, State
from dask_async_run.namespace.loaded import Loaded
from dask_async_run.namespace.members import ERROR
from dask_async_run.namespace.merge import Plan
from dask_async_run.namespace.salvage import NotLoadedError

_NAMED = 8
"""How many names of a cell that was stopped are listed."""


def is_of_what_is_gone(error: Exception) -> bool:
    """Whether a result cannot be loaded for what it builds on, which was forgotten or let go of."""
    cause = error.__cause__ if isinstance(error, NotLoadedError) else error
    return isinstance(cause, (ForgottenParentError, LetGoError))


def tell_of_what_was_merged(view: JobView, error: Exception) -> None:
    """Say that a job's result, which was merged before, cannot be loaded once more.

    Raises
    ------
    JobStateError
        The job did not finish.
    """
    print(f"{view.label}: all of it was merged before; {error}.", file=sys.stderr)
    if view.state != State.FINISHED:
        raise JobStateError(view.label, view.state, view.reason or "it did not finish.")


def merge_error(view: JobView, error: Exception, names: Iterable[str] = ()) -> MergeError:
    """Say why a result cannot be merged, and what to do.

    Parameters
    ----------
    names : iterable of str
        The names that it binds: those that can be loaded are offered.
    """
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


def no_result(view: JobView, result: JobResult | None) -> JobStateError:
    """Say why a job brought nothing back, and what there is of it all the same."""
    text = {
        State.LOST: "its output so far is above. %async_rerun runs it again with the same inputs.",
        State.CANCELLED: "it brought nothing back.",
        State.TIMED_OUT: "its time was up, and it brought nothing back.",
    }.get(State(view.state), "it brought nothing back; its output so far is above.")
    return JobStateError(view.label, view.state, explained(view.state, view.reason, text))


def report(
    view: JobView,
    plan: Plan,
    result: JobResult,
    notes: Mapping[str, str],
    left_behind: Sequence[str],
    loaded: Loaded,
    only: Iterable[str],
) -> None:
    """Print to stderr what is not as the cell left it, and why: nothing if all is.

    Parameters
    ----------
    notes : mapping of str to str
        Names that are new objects now, and why.
    left_behind : sequence of str
        Names that still mean generators in whose place are others.
    only : iterable of str
        The names that were asked for.
    """
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


def tell_of_its_end(view: JobView, error: BaseException | None, names: Sequence[str]) -> None:
    """Tell how a cell was stopped, and what it had brought by then.

    Parameters
    ----------
    error : BaseException or None
        With which it ended.
    names : sequence of str
        What is merged of it.

    Raises
    ------
    JobStateError
        The interrupt that ended it was ours, not the user's or the cell's: its time was up, or it
        used too much memory and had enough left to say how far it came.
    """
    if view.state == State.TIMED_OUT or (
        view.state == State.FAILED and view.reason and isinstance(error, KeyboardInterrupt)
    ):
        why = view.reason or "its time was up"
        raise JobStateError(view.label, view.state, f"{why}.{_came(names)}")
    if view.state == State.CANCELLED and view.reason:
        how = view.reason.removeprefix("cancelled").lstrip("; ")
        told = f"{view.label} was cancelled{how and ': '}{how}.{_came(names)}"
        print(told, file=sys.stderr)


def check_finished(view: JobView) -> None:
    """Raise what says that a job did not finish, whose cell raised nothing.

    Raises
    ------
    JobStateError
    """
    if view.state != State.FINISHED:
        why = view.reason.removeprefix("cancelled; ")
        raise JobStateError(view.label, view.state, why or "it did not finish.")


def _came(names: Sequence[str]) -> str:
    """Say what a cell that was stopped brings all the same."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    if not names:
        return ""
    return f" What it had done by then is merged: {', '.join(names[:_NAMED])}{more}."
