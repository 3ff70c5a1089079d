"""The cell process: restores the inputs, runs the cell, gives back what it changed.

A fork of the template process. The cell runs in the main thread, in a real IPython
shell, with an asyncio loop running around it as in ipykernel. A member of a sweep may be
followed by another one, see `remains`.
"""

from __future__ import annotations

import atexit
import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any, NoReturn

import msgpack
from IPython.core.interactiveshell import ExecutionResult

from dask_async_run import surroundings
from dask_async_run.after_import import AfterImport
from dask_async_run.content import alone
from dask_async_run.job import JobSpec, Message, State
from dask_async_run.namespace.raised import give_up, given_up, is_asked, uninterrupted
from dask_async_run.namespace.remote import on_cluster
from dask_async_run.namespace.salvage import NotLoadedError
from dask_async_run.worker import inside, payloads, processes, running, script
from dask_async_run.worker.channel import Channel
from dask_async_run.worker.displays import error_output, error_text
from dask_async_run.worker.failures import lost_inputs, lost_result, traceback_to
from dask_async_run.worker.modules import Modules
from dask_async_run.worker.remains import Remains
from dask_async_run.worker.reserve import Reserve
from dask_async_run.worker.shell import KERNEL_CLASS, CellShell
from dask_async_run.worker.signals import Interrupts, LastCall
from dask_async_run.worker.streams import Streams

_UNSEEN = ("get_ipython", "addaudithook", "register_at_fork", "ctypes", "cffi")
"""Words of code that may leave traces which cannot be looked for."""
_AT_ONCE = 2**20  # bytes of a task that are read at once
EXIT_DEADLINE = 2.0
"""Seconds that exit functions and threads get after the result is out."""

_NO_SPACE = {os.strerror(number): said for number, said in payloads.NO_SPACE.items()}


def main(shell: CellShell, streams: Streams, channel: Channel, task_fd: int) -> NoReturn:
    """Be a cell process; does not return.

    Parameters
    ----------
    shell : CellShell
        The template's; it becomes what the task asks for.
    streams : Streams
        Prepared; descriptors 1 and 2 lead to the supervisor now.
    channel : Channel
        Theirs, connected.
    task_fd : int
        A file that holds a msgpack'd dict with ``spec`` (`JobSpec`), ``parents`` (list of
        dicts with ``spec`` and ``result``), ``members`` (as of `Claim`), ``frames`` (the frame
        store's folder), ``dask`` (see `inside.open_way`), if files go along or come back
        ``folder``, and ``again`` if this process may get another task there after this one.
    """
    interrupts = Interrupts()
    streams.install()
    task = _take_task(task_fd)
    way = inside.open_way(**task["dask"], on_use=lambda: channel.send("dask", None))
    sys.meta_path.insert(0, AfterImport(surroundings.counting_on()))
    last_call = LastCall()
    remains: Remains | None = None
    with on_cluster(way):
        while True:
            spec = JobSpec.from_message(task["spec"])
            _fit(shell, spec.shell)
            if task.get("again") and remains is None:
                remains = Remains(shell)
            cell = _Cell(task, spec, shell, streams, channel, way, interrupts, last_call)
            ending = cell.run(remains)
            cell.leave(ending)
            if remains is None:
                _exit(shell, streams, channel)
            trace = cell.trace(remains, ending)
            del cell, ending
            if not trace:
                channel.send("spent", None)
                with _hurried():
                    trace = remains.wipe()
            if trace:
                channel.send("trace", trace)
                _exit(shell, streams, channel)
            interrupts.asked = False
            channel.send("idle", None)
            if not channel.await_next():
                os._exit(0)
            task = _take_task(task_fd)


class _Cell:
    """One cell of this process, from its inputs to its end.

    Parameters
    ----------
    task, shell, streams, channel
        As for `main`.
    spec : JobSpec
        The task's.
    way : WayToDask
    interrupts : Interrupts
    last_call : LastCall
    """

    def __init__(
        self,
        task: Message,
        spec: JobSpec,
        shell: CellShell,
        streams: Streams,
        channel: Channel,
        way: inside.WayToDask,
        interrupts: Interrupts,
        last_call: LastCall,
    ) -> None:
        self._task, self._spec = task, spec
        self._shell, self._streams, self._channel = shell, streams, channel
        self._way, self._interrupts, self._last_call = way, interrupts, last_call
        self._inputs: payloads.Inputs | None = None
        self._changes: dict[str, Any] = {}
        _tell_of(shell, spec)
        shell.attach(channel)
        self._reserve = Reserve()

    def run(self, remains: Remains | None) -> Message:
        """Load the inputs, run the cell, collect what it leaves; the body of ``result``."""
        channel = self._channel
        try:
            known = remains.surroundings if remains is not None else {}
            with uninterrupted(), surroundings.unheard():  # see `Interrupts`
                self._inputs = inputs = payloads.restore(self._task, self._spec, self._shell, known)
        except NotLoadedError as failure:
            return lost_inputs(self._shell, channel, failure.__cause__, failure.lost)
        except Exception as failure:  # noqa: BLE001 - a missing module, frames that are damaged
            return lost_inputs(self._shell, channel, failure)
        if remains is not None and not remains.begin(inputs.surroundings):
            channel.send("unfit", None)
            os._exit(0)
        self._modules = Modules()
        channel.send("phase", "running")
        with self._last_call.allowed(self._hand_over):
            error = _run(self._shell, self._spec, channel, self._interrupts)
        return self._collect(error)

    def leave(self, ending: Message) -> None:
        """Send the result, after all output."""
        try:
            self._streams.close()
        except (OSError, ValueError):
            pass  # the cell closed its stdout
        self._channel.send("result", ending)

    def trace(self, remains: Remains, ending: Message) -> str:
        """Answer a trace that it has left in this process; empty if there is none."""
        shell: Any = self._shell
        if ending["outcome"] != State.FINISHED:
            return str(ending["outcome"])
        if not self._way.unused:
            return "Dask"
        if self._took_modules:
            return "modules that it took away"
        code = shell.transform_cell(self._spec.code)
        if unseen := [word for word in _UNSEEN if word in code]:
            return str(unseen[0])
        try:
            return remains.trace(self._changes)
        except Exception as error:  # noqa: BLE001 - what the cell has put somewhere does not compare
            return type(error).__name__

    def _collect(self, error: BaseException | None, terminated: bool = False) -> Message:
        assert self._inputs is not None
        self._reserve.release()
        self._took_modules = self._modules.put_back()
        self._channel.send("phase", "collecting")
        keep = partial(self._way.keep, self._spec.id)

        def hand_over_the_rest(frame: FrameType | None) -> NoReturn:
            if (asked := is_asked(frame)) is not None:
                give_up(asked)
            self._heard()
            self._hand_over_all(error)

        with (
            self._interrupts.giving_up(self._heard),
            self._last_call.allowed(hand_over_the_rest, is_asked),
        ):
            ending, self._changes = _collect(self._inputs, self._spec, self._shell, error, keep)
        self._reserve.put_back()
        return {**ending, "terminated": terminated, "given_up": bool(given_up)}

    def _heard(self) -> None:
        self._channel.send("heard", None)

    def _hand_over(self, frame: FrameType | None) -> NoReturn:
        interrupt = KeyboardInterrupt().with_traceback(traceback_to(frame))
        shown = (KeyboardInterrupt, interrupt, interrupt.__traceback__)
        self._shell.showtraceback(shown, tb_offset=0)
        self._hand_over_all(interrupt)

    def _hand_over_all(self, error: BaseException | None) -> NoReturn:
        """Hand the result over and end, in the midst of what had to be stopped."""
        with alone():
            self.leave(self._collect(error, terminated=True))
            _exit(self._shell, self._streams, self._channel)


@contextmanager
def _hurried() -> Iterator[None]:
    """End the process if the block takes longer than `EXIT_DEADLINE`: a finaliser may hang."""
    signal.setitimer(signal.ITIMER_REAL, EXIT_DEADLINE)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)


def _run(
    shell: CellShell, spec: JobSpec, channel: Channel, interrupts: Interrupts
) -> BaseException | None:
    """Run the cell; the exception that ended it."""
    error: BaseException | None = None
    try:
        with interrupts.allowed():
            error = running.run(shell, spec.code)
    except KeyboardInterrupt as interrupt:
        # Before the first or after the last statement; in between the shell catches it.
        if not shell.started:
            channel.send("output", error_output(interrupt, ["KeyboardInterrupt"]))
        error = error or interrupt
    return error


def _collect(
    inputs: payloads.Inputs,
    spec: JobSpec,
    shell: CellShell,
    error: BaseException | None,
    keep: Callable[[list[Any]], object],
) -> tuple[Message, dict[str, Any]]:
    """Collect what the cell leaves; the body of ``result``, and the changed surroundings."""
    if shell.script and script.went_well(error):
        error = None
    ename, evalue = error_text(error)
    try:
        with uninterrupted():
            result, changes = payloads.collect(inputs, spec, shell, error, keep)
    except BaseException as failure:  # noqa: BLE001 - no space left, whatever a user's object raises
        return lost_result(failure, ename, evalue, inputs.store.folder.parent), {}
    full = {
        name: said
        for name, why in sorted(result.failed.items())
        for error, said in _NO_SPACE.items()
        if error in why
    }
    outcome = State.FAILED if error is not None or full else State.FINISHED
    who = "script" if shell.script else "cell"
    reason = f"the {who} called sys.exit({error})" if isinstance(error, SystemExit) else ""
    if full and not reason:
        names = list(full)
        reason = f"{full[names[0]]}: there was no space for {', '.join(names[:5])}"
        print(f"The cell has run, but {reason}.", file=sys.stderr)
    return {"outcome": str(outcome), "reason": reason, "result": result.to_message()}, changes


def _take_task(fd: int) -> Message:
    """Read the task; its file is from now on where a crash is reported."""
    packed = bytearray()
    while part := os.pread(fd, _AT_ONCE, len(packed)):
        packed += part
    task: Message = msgpack.unpackb(
        packed, raw=False, strict_map_key=False, unicode_errors="surrogatepass"
    )
    os.ftruncate(fd, 0)
    os.lseek(fd, 0, os.SEEK_SET)
    faulthandler.enable(file=fd)
    return task


def _fit(shell: CellShell, wanted: Mapping[str, Any]) -> None:
    """Make a shell what a `JobSpec.shell` asks for."""
    shell.become(wanted.get("class") or KERNEL_CLASS, rich=bool(wanted.get("kernel", True)))
    if (colors := wanted.get("colors")) and colors != shell.colors:
        shell.colors = colors
        for handler in (shell.InteractiveTB, shell.SyntaxTB):
            if hasattr(handler, "set_colors"):  # IPython 8; later ones follow the shell
                handler.set_colors(colors)
    shell.script = script.PATH in wanted
    if shell.script:
        shell.user_ns.update(script.names(wanted[script.PATH]))


def _tell_of(shell: CellShell, spec: JobSpec) -> None:
    """Tell a shell which cell it is going to run."""
    compiler: Any = shell.compile
    compiler.code, compiler.filename = spec.code, spec.filename
    # Without a number it is a script, or the Python API's, which calls it a cell.
    compiler.numbered = spec.execution_count is not None or spec.filename.startswith("<cell")
    number = spec.execution_count or 1
    shell.execution_count = number
    shell.last_execution_result = ExecutionResult(None)  # %xdel and others ask it
    # So that In[n] is the cell that runs, as it is in the kernel.
    manager: Any = shell.history_manager
    for history in (manager.input_hist_parsed, manager.input_hist_raw):
        history.extend([""] * (number - len(history)))


def _exit(shell: CellShell, streams: Streams, channel: Channel) -> NoReturn:
    """Run what a Python process runs at its end, within `EXIT_DEADLINE`, and end."""
    # The shell's own takes the namespace apart; the system does that faster.
    atexit.unregister(shell.atexit_operations)
    # The system's timer: it needs no thread, and none that hangs can keep it.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    signal.setitimer(signal.ITIMER_REAL, EXIT_DEADLINE)
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        streams.close()
        streams.flush_c()
        channel.send("end", processes.is_childless())
    except BaseException:  # noqa: BLE001 - the result is out: nothing here can spoil it
        pass
    finally:
        os._exit(0)
