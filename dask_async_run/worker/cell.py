"""The cell process: restores the inputs, runs the cell, gives back what it changed.

A fork of the template process. The cell runs in the main thread, in a real IPython
shell, with an asyncio loop running around it as in ipykernel.
"""

from __future__ import annotations

import atexit
import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

import msgpack
from IPython.core.interactiveshell import ExecutionResult

from dask_async_run.job import JobResult, JobSpec, Message, State
from dask_async_run.worker import payloads, running
from dask_async_run.worker.channel import Channel
from dask_async_run.worker.displays import error_output, error_text
from dask_async_run.worker.rehearsal import discard_shell
from dask_async_run.worker.shell import KERNEL_CLASS, CellShell, make_shell
from dask_async_run.worker.streams import Streams

EXIT_DEADLINE = 2.0
"""Seconds that exit functions and threads get after the result is out."""


class Interrupts:
    """SIGINT: interrupts the cell's code, and nothing else.

    While inputs are restored, an interrupt is remembered and comes when the cell
    starts. When the cell has ended it is too late: the result is not thrown away.
    """

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGINT, self._remember)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.asked = True

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Raise KeyboardInterrupt on SIGINT, as a Python program does."""
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if self.asked:
                raise KeyboardInterrupt
            yield
        finally:
            signal.signal(signal.SIGINT, self._remember)


def main(shell: CellShell, task_fd: int, messages_fd: int) -> NoReturn:
    """Be a cell process; does not return.

    Parameters
    ----------
    shell : CellShell
        The template's; used if it is what the task asks for.
    task_fd : int
        A file that holds a msgpack'd dict with ``spec`` (`JobSpec`), ``parents`` (list of
        dicts with ``spec`` and ``result``), ``frames`` (the frame store's folder).
    messages_fd : int
        The message socket.
    """
    interrupts = Interrupts()
    channel = Channel(messages_fd)
    streams = Streams(channel)
    streams.install()
    task = _take_task(task_fd)
    spec = JobSpec.from_message(task["spec"])
    shell = _fitting_shell(shell, spec)
    shell.attach(channel)
    ending = _run(shell, spec, task, channel, interrupts)
    try:
        streams.close()
    except (OSError, ValueError):
        pass  # the cell closed its stdout
    channel.send("result", ending)
    _exit(shell, streams, channel)


def _run(
    shell: CellShell, spec: JobSpec, task: Message, channel: Channel, interrupts: Interrupts
) -> Message:
    """Restore, run, collect; the body of the ``result`` message."""
    try:
        inputs = payloads.restore(task, spec, shell)
    except Exception as failure:  # noqa: BLE001 - a user's __setstate__, a missing module
        return _lost_inputs(shell, channel, failure)
    channel.send("phase", "running")
    error: BaseException | None = None
    try:
        with interrupts.allowed():
            error = running.run(shell, spec.code)
    except KeyboardInterrupt as interrupt:
        # Before the first or after the last statement; in between the shell catches it.
        if not shell.started:
            channel.send("output", error_output(interrupt, ["KeyboardInterrupt"]))
        error = error or interrupt
    channel.send("phase", "collecting")
    ename, evalue = error_text(error)
    try:
        result = payloads.collect(inputs, spec, shell, error)
    except Exception as failure:  # noqa: BLE001 - no space left, a user's __reduce__
        return _lost_result(failure, ename, evalue)
    outcome = State.FAILED if error is not None else State.FINISHED
    reason = f"the cell called sys.exit({error})" if isinstance(error, SystemExit) else ""
    return {"outcome": str(outcome), "reason": reason, "result": result.to_message()}


def _take_task(fd: int) -> Message:
    """Read the task; its file is from now on where a crash is reported."""
    with os.fdopen(os.dup(fd), "rb") as file:
        file.seek(0)
        task: Message = msgpack.unpackb(
            file.read(), raw=False, strict_map_key=False, unicode_errors="surrogatepass"
        )
    os.ftruncate(fd, 0)
    os.lseek(fd, 0, os.SEEK_SET)
    faulthandler.enable(file=fd)
    return task


def _fitting_shell(shell: CellShell, spec: JobSpec) -> CellShell:
    """Return `shell` if it is what the spec asks for, else another one."""
    class_name = spec.shell.get("class") or KERNEL_CLASS
    rich = bool(spec.shell.get("kernel", True))
    if type(shell).__name__ != class_name or shell.rich != rich:
        discard_shell(shell)
        shell = make_shell(class_name, rich=rich)
    if colors := spec.shell.get("colors"):
        shell.colors = colors
        for handler in (shell.InteractiveTB, shell.SyntaxTB):
            if hasattr(handler, "set_colors"):  # IPython 8; later ones follow the shell
                handler.set_colors(colors)
    compiler: Any = shell.compile
    compiler.code, compiler.filename = spec.code, spec.filename
    number = spec.execution_count or 1
    shell.execution_count = number
    shell.last_execution_result = ExecutionResult(None)  # %xdel and others ask it
    # So that In[n] is the cell that runs, as it is in the kernel.
    manager: Any = shell.history_manager
    for history in (manager.input_hist_parsed, manager.input_hist_raw):
        history.extend([""] * (number - len(history)))
    return shell


def _lost_inputs(shell: CellShell, channel: Channel, error: Exception) -> Message:
    ename, evalue = error_text(error)
    lines = shell.InteractiveTB.structured_traceback(type(error), error, error.__traceback__)
    channel.send("output", error_output(error, lines))
    result = JobResult(ename=ename, evalue=evalue)
    return {
        "outcome": str(State.FAILED),
        "reason": f"not run: its inputs could not be loaded: {ename}: {evalue}",
        "result": result.to_message(),
    }


def _lost_result(failure: Exception, ename: str, evalue: str) -> Message:
    name, text = error_text(failure)
    print(f"The cell has run, but its result could not be saved: {name}: {text}", file=sys.stderr)
    result = JobResult(ename=ename or name, evalue=evalue or text)
    return {
        "outcome": str(State.FAILED),
        "reason": f"its result could not be saved: {name}: {text}",
        "result": result.to_message(),
    }


def _exit(shell: CellShell, streams: Streams, channel: Channel) -> NoReturn:
    """Run what a Python process runs at its end, within `EXIT_DEADLINE`, and end."""
    # The shell's own takes the namespace apart; the system does that faster.
    atexit.unregister(shell.atexit_operations)
    watchdog = threading.Timer(EXIT_DEADLINE, os._exit, (0,))
    watchdog.daemon = True
    watchdog.start()
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        streams.close()
        streams.flush_c()
        channel.send("end", None)
    except BaseException:  # noqa: BLE001 - the result is out: nothing here can spoil it
        pass
    finally:
        os._exit(0)
