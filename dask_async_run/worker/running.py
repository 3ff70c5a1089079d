"""Runs a cell in a shell as ipykernel does: inside a running asyncio loop."""

from __future__ import annotations

import asyncio
import contextvars
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from dask_async_run.namespace.loops import loop_of_this_process
from dask_async_run.worker import script
from dask_async_run.worker.shell import CellShell

LINGER = 5.0
"""Seconds that tasks and threads which the cell started get to end after it."""


def run(shell: CellShell, code: str) -> BaseException | None:
    """Run a cell; return the exception that ended it.

    Parameters
    ----------
    shell : CellShell
        Shows output, results and errors by itself.
    code : str
        The cell.

    Raises
    ------
    KeyboardInterrupt
        Only when it comes outside of the cell's code.
    """
    shell.started = True
    untyped: Any = shell
    if shell.rich:
        result, loop = run_in_loop(shell, code)
        _await_tasks(loop)
    else:
        result = untyped.run_cell(code, store_history=True)
    _await_threads(shell.script)
    shell.widgets.refresh()
    error: BaseException | None = result.error_before_exec or result.error_in_exec
    return error


def run_in_loop(
    shell: CellShell, code: str, *, silent: bool = False
) -> tuple[Any, asyncio.AbstractEventLoop]:
    """Run code in this process's event loop, which stays open; IPython's result, and the loop."""
    loop = loop_of_this_process()
    asyncio.set_event_loop(loop)
    # Context variables that the cell sets (numpy's print options are one) are this
    # process's then: a task has a context of its own.
    context = contextvars.copy_context()
    task = loop.create_task(_run_in_loop(shell, code, silent), context=context)
    try:
        return loop.run_until_complete(task), loop
    finally:
        for variable, value in context.items():
            variable.set(value)


async def _run_in_loop(shell: Any, code: str, silent: bool) -> Any:
    # As IPythonKernel.do_execute: a cell without `await` runs synchronously, but with
    # the loop running around it, so that `asyncio.create_task` works in it.
    failure: Any = None
    try:
        transformed = shell.transform_cell(code)
    except Exception:  # noqa: BLE001 - input transformers are users' code too
        transformed = code
        failure = sys.exc_info()
    if not shell.should_run_async(
        code, transformed_cell=transformed, preprocessing_exc_tuple=failure
    ):
        return shell.run_cell(code, store_history=not silent, silent=silent)
    cell = asyncio.ensure_future(
        shell.run_cell_async(
            code,
            store_history=True,
            transformed_cell=transformed,
            preprocessing_exc_tuple=failure,
        )
    )
    result = None
    with _interrupting(cell):
        try:
            result = await cell
        finally:
            shell.events.trigger("post_execute")
            shell.events.trigger("post_run_cell", result)
    return result


@contextmanager
def _interrupting(cell: asyncio.Task[Any]) -> Iterator[None]:
    """Let SIGINT stop a cell that awaits.

    A KeyboardInterrupt raised in the loop's own code would leave the cell waiting: it is
    cancelled instead, as in ipykernel. When the cell's own code is running it is raised
    there, or a busy loop in a cell that has an `await` elsewhere could not be interrupted.
    """
    loop = asyncio.get_running_loop()

    def handle(number: int, frame: FrameType | None) -> None:
        if asyncio.current_task(loop) is cell:
            signal.default_int_handler(number, frame)
        loop.call_soon_threadsafe(cell.cancel)

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is handle:
            signal.signal(signal.SIGINT, before)


def _await_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Let the cell's tasks end: in a kernel they would go on, here the process ends."""
    tasks = asyncio.all_tasks(loop)
    if not tasks:
        return
    _, pending = loop.run_until_complete(asyncio.wait(tasks, timeout=LINGER))
    if pending:
        names = ", ".join(sorted(task.get_name() for task in pending))
        _say(f"asyncio tasks ({names})")


def _await_threads(is_script: bool) -> None:
    """Let the cell's own threads end; daemons and those of libraries are left alone."""
    deadline = time.monotonic() + LINGER
    pending = [
        thread
        for thread in threading.enumerate()
        if not thread.daemon and thread is not threading.main_thread() and _is_cells_own(thread)
    ]
    if is_script:
        script.await_threads(pending)
    for thread in pending:
        thread.join(max(0.0, deadline - time.monotonic()))
    if names := [thread.name for thread in pending if thread.is_alive()]:
        _say(f"threads ({', '.join(names)})")


def _is_cells_own(thread: threading.Thread) -> bool:
    """Whether the cell's code runs in a thread, and not a library's.

    A library's thread waits for more work until Python's end, as those of an executor do:
    waiting for it would be waiting in vain.
    """
    kind = type(thread)
    if kind is threading.Thread or kind is threading.Timer:
        code: Any = getattr(thread, "_target", None) or getattr(thread, "function", None)
        return getattr(code, "__module__", None) in (None, "__main__", "builtins", "time")
    return kind.__module__ == "__main__"


def _say(what: str) -> None:
    print(
        f"The cell has ended {LINGER:.0f} s ago, but its {what} still run. They end here, "
        "with the cell's process; await or join them in the cell to let them finish.",
        file=sys.stderr,
    )
