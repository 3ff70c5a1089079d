"""How a cell ends that has no inputs, or no result, and where it was when it was stopped."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType, TracebackType

from IPython.core.interactiveshell import InteractiveShell

from dask_async_run.advice import advice
from dask_async_run.errors import ForgottenParentError
from dask_async_run.job import JobResult, Message, State
from dask_async_run.worker.channel import Channel
from dask_async_run.worker.displays import error_output, error_text
from dask_async_run.worker.shell import CellShell

_PACKAGE = str(Path(__file__).parents[1])
_RUN_CODE = InteractiveShell.run_code.__code__, CellShell.run_code.__code__


def lost_inputs(
    shell: CellShell,
    channel: Channel,
    error: BaseException | None,
    names: Mapping[str, str] | None = None,
) -> Message:
    """Say why the inputs could not be loaded, and answer the end of a cell that was not run.

    Parameters
    ----------
    error : BaseException
        What loading raised.
    names : mapping of str to str, optional
        The names that could not be loaded, and why.
    """
    assert error is not None
    ename, evalue = error_text(error)
    why = f"its inputs could not be loaded: {ename}: {evalue}".rstrip(".")
    if isinstance(error, ForgottenParentError):
        why = f"{error}. Gather what it reads, and submit it again"
    if names:
        why = "; ".join(
            f"{name}, which it reads, could not be loaded here: {reason}"
            for name, reason in names.items()
        )
        error.add_note(f"The cell was not run: {why}. Make it in the cell.")
    theirs = _without_our_frames(error.__traceback__)
    lines = [f"{ename}: {evalue}", *getattr(error, "__notes__", ())]
    if theirs is not None:
        lines = shell.InteractiveTB.structured_traceback(type(error), error, theirs)
    channel.send("output", error_output(error, lines))
    result = JobResult(ename=ename, evalue=evalue)
    return {
        "outcome": str(State.FAILED),
        "reason": f"not run: {why}",
        "result": result.to_message(),
    }


def _without_our_frames(traceback: TracebackType | None) -> TracebackType | None:
    """Answer what is left of a traceback: the user's ``__setstate__``, a library's."""
    kept = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if not code.co_filename.startswith(_PACKAGE) and code.co_filename != "<unpickling>":
            kept.append(traceback)
        traceback = traceback.tb_next
    for entry in reversed(kept):
        traceback = TracebackType(traceback, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return traceback


def traceback_to(frame: FrameType | None) -> TracebackType | None:
    """Answer the traceback that an exception raised in this frame of the cell would have."""
    traceback = None
    while frame is not None and frame.f_code not in _RUN_CODE:
        traceback = TracebackType(traceback, frame, frame.f_lasti, frame.f_lineno)
        frame = frame.f_back
    return traceback


def lost_result(failure: BaseException, ename: str, evalue: str, folder: Path) -> Message:
    """Say why a result could not be saved, and answer the end of its cell.

    `ename` and `evalue` are those of the exception that had ended the cell, or empty; `folder` is
    where the result was to be.
    """
    name, text = error_text(failure)
    why = f"its result could not be saved: {name}: {text}".rstrip(": ")
    if isinstance(failure, OSError):
        why = f"{why}. {advice(failure, folder)}".rstrip(".")
    print(f"The cell has run, but {why}", file=sys.stderr)
    result = JobResult(ename=ename or name, evalue=evalue or text)
    return {
        "outcome": str(State.FAILED),
        "reason": why,
        "result": result.to_message(),
    }
