"""The cell process: restores the inputs, runs the cell, gives back what it changed.

A fork of the template process. The cell runs in the main thread, in a real IPython
shell, with an asyncio loop running around it as in ipykernel. A member of a sweep may be
followed by another one, see `remains`.
"""

from __future__ import annotations

import atexit
import errno
import faulthandler
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn

import msgpack
from IPython.core.interactiveshell import ExecutionResult, InteractiveShell

from dask_async_run.content import alone
from dask_async_run.job import JobResult, JobSpec, Message, State
from dask_async_run.namespace.remote import on_cluster
from dask_async_run.namespace.salvage import NotLoadedError
from dask_async_run.worker import inside, payloads, processes, running
from dask_async_run.worker.channel import Channel
from dask_async_run.worker.displays import error_output, error_text
from dask_async_run.worker.remains import Remains
from dask_async_run.worker.shell import KERNEL_CLASS, CellShell
from dask_async_run.worker.streams import Streams

_PACKAGE = str(Path(__file__).parents[1])
_SPARE_FILES = 8
_UNSEEN = ("get_ipython", "addaudithook", "register_at_fork", "ctypes", "cffi")
"""Words of code that may leave traces which cannot be looked for."""
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


class LastCall:
    """SIGTERM: has a cell that goes on after an interrupt hand over what it has bound.

    It comes between two bytecodes of the cell's main thread, which never gets the control
    back. A cell that handles SIGTERM itself is left alone, and the cell's forks (a pool's
    workers) end on it at once, as they would elsewhere: also when it reaches them before
    they have forgotten this handler, since Python drops what came until then.
    """

    def __init__(self) -> None:
        self._hand_over: Callable[[FrameType | None], NoReturn] | None = None
        self._masks = threading.local()
        os.register_at_fork(
            before=self._hold, after_in_parent=self._let_go, after_in_child=self._in_child
        )

    @contextmanager
    def allowed(self, hand_over: Callable[[FrameType | None], NoReturn]) -> Iterator[None]:
        """Heed SIGTERM; outside of this it ends the process.

        Parameters
        ----------
        hand_over : callable
            Is given the frame in which the cell was; collects the result, sends it and ends
            the process.
        """
        self._hand_over = hand_over
        signal.signal(signal.SIGTERM, self._handle)
        try:
            yield
        finally:
            self._withdraw()
            self._hand_over = None

    def _hold(self) -> None:
        self._masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def _let_go(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._masks.before)

    def _in_child(self) -> None:
        self._withdraw()
        self._let_go()

    def _withdraw(self) -> None:
        if signal.getsignal(signal.SIGTERM) == self._handle:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        hand_over = self._hand_over
        self._withdraw()
        try:
            if hand_over is not None:
                hand_over(frame)
        finally:  # the interrupted code held what handing over needs
            os.kill(os.getpid(), signal.SIGTERM)


_NO_SPACE = os.strerror(errno.ENOSPC)
_RUN_CODE = InteractiveShell.run_code.__code__


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
    last_call = LastCall()
    remains: Remains | None = None
    with on_cluster(way):
        while True:
            spec = JobSpec.from_message(task["spec"])
            _fit(shell, spec.shell)
            if task.get("again") and remains is None:
                remains = Remains(shell)
            cell = _Cell(task, spec, shell, streams, channel, way)
            ending = cell.run(interrupts, last_call, remains)
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
    """

    def __init__(
        self,
        task: Message,
        spec: JobSpec,
        shell: CellShell,
        streams: Streams,
        channel: Channel,
        way: inside.WayToDask,
    ) -> None:
        self._task, self._spec = task, spec
        self._shell, self._streams, self._channel = shell, streams, channel
        self._way = way
        self._inputs: payloads.Inputs | None = None
        self._changes: dict[str, Any] = {}
        _tell_of(shell, spec)
        shell.attach(channel)
        self._reserve = Reserve()

    def run(self, interrupts: Interrupts, last_call: LastCall, remains: Remains | None) -> Message:
        """Load the inputs, run the cell, collect what it leaves; the body of ``result``."""
        channel = self._channel
        try:
            self._inputs = inputs = payloads.restore(self._task, self._spec, self._shell)
        except NotLoadedError as failure:
            return _lost_inputs(self._shell, channel, failure.__cause__, failure.lost)
        except Exception as failure:  # noqa: BLE001 - a missing module, frames that are damaged
            return _lost_inputs(self._shell, channel, failure)
        if remains is not None and not remains.begin(inputs.surroundings):
            channel.send("unfit", None)
            os._exit(0)
        channel.send("phase", "running")
        with last_call.allowed(self._hand_over):
            error = _run(self._shell, self._spec, channel, interrupts)
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
        self._channel.send("phase", "collecting")
        keep = partial(self._way.keep, self._spec.id)
        ending, self._changes = _collect(self._inputs, self._spec, self._shell, error, keep)
        self._reserve.put_back()
        return {**ending, "terminated": terminated}

    def _hand_over(self, frame: FrameType | None) -> NoReturn:
        interrupt = KeyboardInterrupt().with_traceback(_traceback_to(frame))
        shown = (KeyboardInterrupt, interrupt, interrupt.__traceback__)
        self._shell.showtraceback(shown, tb_offset=0)
        with alone():
            self.leave(self._collect(interrupt, terminated=True))
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
    ename, evalue = error_text(error)
    try:
        result, changes = payloads.collect(inputs, spec, shell, error, keep)
    except Exception as failure:  # noqa: BLE001 - no space left, a user's __reduce__
        return _lost_result(failure, ename, evalue), {}
    full = sorted(name for name, why in result.failed.items() if _NO_SPACE in why)
    outcome = State.FAILED if error is not None or full else State.FINISHED
    reason = f"the cell called sys.exit({error})" if isinstance(error, SystemExit) else ""
    if full and not reason:
        reason = f"the disk is full: there was no space for {', '.join(full[:5])}"
        print(f"The cell has run, but {reason}.", file=sys.stderr)
    return {"outcome": str(outcome), "reason": reason, "result": result.to_message()}, changes


class Reserve:
    """What handing over the result needs, of what a cell can use up.

    So that one which opened files up to its limit, or gave itself one of memory, keeps what
    it has made.
    """

    def __init__(self) -> None:
        self._limits: dict[int, tuple[int, int]] = {}
        self._files = [os.open(os.devnull, os.O_RDONLY) for _ in range(_SPARE_FILES)]

    def release(self) -> None:
        device = Path(os.devnull).stat().st_rdev
        for fd in self._files:
            with suppress(OSError):  # the cell has closed it
                if os.fstat(fd).st_rdev == device:
                    os.close(fd)
        for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_AS, resource.RLIMIT_DATA):
            self._limits[kind] = _, hard = resource.getrlimit(kind)
            resource.setrlimit(kind, (hard, hard))

    def put_back(self) -> None:
        """Have the limits be as the cell left them."""
        for kind, limits in self._limits.items():
            resource.setrlimit(kind, limits)


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


def _fit(shell: CellShell, wanted: Mapping[str, Any]) -> None:
    """Make a shell what a `JobSpec.shell` asks for."""
    shell.become(wanted.get("class") or KERNEL_CLASS, rich=bool(wanted.get("kernel", True)))
    if (colors := wanted.get("colors")) and colors != shell.colors:
        shell.colors = colors
        for handler in (shell.InteractiveTB, shell.SyntaxTB):
            if hasattr(handler, "set_colors"):  # IPython 8; later ones follow the shell
                handler.set_colors(colors)


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


def _lost_inputs(
    shell: CellShell,
    channel: Channel,
    error: BaseException | None,
    names: Mapping[str, str] | None = None,
) -> Message:
    assert error is not None
    ename, evalue = error_text(error)
    why = f"its inputs could not be loaded: {ename}: {evalue}".rstrip(".")
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


def _traceback_to(frame: FrameType | None) -> TracebackType | None:
    """Answer the traceback that an exception raised in this frame of the cell would have."""
    traceback = None
    while frame is not None and frame.f_code is not _RUN_CODE:
        traceback = TracebackType(traceback, frame, frame.f_lasti, frame.f_lineno)
        frame = frame.f_back
    return traceback


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
