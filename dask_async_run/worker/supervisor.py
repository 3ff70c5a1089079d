"""Supervises one cell: records what it emits, enforces its limits, stops it.

Runs in the Dask task's thread, in one loop that never waits for anything but the
cell: recording goes on beside it, so a slow scheduler never stalls a cell.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any, Protocol, Self

from dask_async_run.job import JobResult, JobSpec, Message, State
from dask_async_run.worker.crash import readable_crash
from dask_async_run.worker.doors import Doors
from dask_async_run.worker.ladder import Ladder
from dask_async_run.worker.processes import HAS_SUBREAPERS, Family, describe_status
from dask_async_run.worker.recorder import Output, Recorder
from dask_async_run.worker.template_handle import TemplateHandle

BATCH = 0.05
"""Seconds between two records at least."""
SAMPLE = 0.5
"""Seconds between two looks at the cell's memory."""
INFO = 1.0
"""Seconds between two records that hold nothing but usage."""
MEMORY_GRACE = 2.0
"""Seconds between two signals at most when memory runs out."""
MEMORY_EXCESS = 1.25
"""Share of the allowed memory above which there is no time for being gentle."""
EXIT_GRACE = 10.0
"""Seconds that a cell process gets to end after it has sent its result."""
LOADING = 120.0
"""Seconds that a cell with a timeout gets at least until it begins."""
RECORD_DEADLINE = 30.0
"""Seconds that the last outputs get to be recorded."""


class Sink(Protocol):
    """Where outputs go."""

    def record(
        self, batch: int, outputs: list[Output], tail: str | None, info: Message
    ) -> Future[bool]:
        """Begin to record outputs, in order, and what is known of the process.

        The next call comes when the future is done. If it raised, the next call gives
        the same outputs under the same number again.

        Parameters
        ----------
        batch : int
            Number of this record, from 1.
        outputs : list of dict
            In nbformat's terms.
        tail : str or None
            End of the text that is not recorded yet, if it changed.
        info : dict
            ``pid``, ``memory`` in bytes, ``cpu`` in percent, ``last_line``.

        Returns
        -------
        Future of bool
            Whether the cell is to go on; if not, it is cancelled.
        """

    def last(self, batch: int, outputs: list[Output], tail: str | None, info: Message) -> None:
        """Take the last record, once: it goes with the news of the cell's end."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a cell ended.

    `result` is None when its process died before it had one; `died`: its process was ended
    by something else than its code, and not by us.
    """

    state: State
    reason: str
    result: JobResult | None = None
    died: bool = False


class Supervisor:
    """The supervision of one job's cell: ``with Supervisor(...) as supervisor``.

    At the end of the block the cell's process and all that it started is gone.

    Parameters
    ----------
    spec : JobSpec
    task : Message
        What the cell process is told, see `cell.main`.
    sink : Sink
    on_dask : callable
        Called in the thread of `run` when the cell is about to use Dask: what it then waits
        for may need the slot that this thread has.
    process : Doors or None
        Those of a process that waits for a task; it is used if it is still there.

    Attributes
    ----------
    unfit : bool
        Whether the process that was given turned out not to be fit for this cell, after `run`.
    trace : str
        What the cell has left in its process, after `run`, if it might have waited otherwise.
    """

    def __init__(
        self,
        spec: JobSpec,
        task: Message,
        sink: Sink,
        on_dask: Callable[[], object] = lambda: None,
        process: Doors | None = None,
    ) -> None:
        self.unfit = False
        self.trace = ""
        self._spec = spec
        self._task = task
        self._sink = sink
        self._on_dask = on_dask
        self._recorder = Recorder()
        self._ladder = Ladder(spec.grace)
        self._used = process is not None
        self._doors = process or Doors(task, self._recorder.text, self._on_message)
        self._cancelled = threading.Event()
        self._phase = "starting"
        self._late = self._alone = self._waited = False
        self._begun = self._idle = self._kept = False
        self._reply: Message | None = None
        self._replied = 0.0
        self._family: Family | None = None
        self._memory, self._cpu, self._peak = 0, 0.0, 0
        self._sampled = self._recorded = self._started = 0.0
        self._recording: Future[bool] | None = None
        self._batch = 1
        self._outputs: list[Output] = []
        self._tail: str | None = None

    def cancel(self) -> None:
        """Stop the cell, from any thread; before or while `run` runs, or after it."""
        self._cancelled.set()
        self._doors.wake()

    def say(self, text: str) -> None:
        """Have a remark of ours among the cell's outputs (stderr), before `run`."""
        self._recorder.text("stderr", text)

    def run(
        self,
        template: TemplateHandle,
        environ: dict[str, str] | None = None,
        warm: Sequence[str] = (),
    ) -> Ending:
        """Run the cell until nothing more is to come of it; call once.

        A process that has nothing left to do but to end, alone, is not waited for here: a
        large one takes the system a while.

        Parameters
        ----------
        template : TemplateHandle
        environ, warm
            See `TemplateHandle.fork`.
        """
        if self._cancelled.is_set():
            return Ending(State.CANCELLED, "cancelled before it ran")
        if not self._used or self._doors.again(self._task, self._recorder.text, self._on_message):
            self._attend(template, environ, warm)
        if self._used and not self._begun and not self._ladder.used:
            # It was gone, or is not fit: nothing of the cell has happened.
            if self._cancelled.is_set():
                return Ending(State.CANCELLED, "cancelled before it ran")
            self._doors.close()
            self._doors = Doors(self._task, self._recorder.text, self._on_message)
            self._used, self._family = False, None
            self._attend(template, environ, warm)
        self._doors.drain()
        if self._reply is None:
            spec = self._spec
            report = self._doors.crash_report()
            crash = readable_crash(report, spec.filename, spec.execution_count)
            self._recorder.text("stderr", crash)
        self._recorder.close()
        self._record_rest()
        died = not (self._alone or self._idle)
        died = died and self._doors.status is None and self._doors.refused is None
        return self._ending(template.death() if died else "")

    def keep_process(self) -> Doors | None:
        """Give the cell's process away, after `run`, if it waits for another task.

        It is the caller's then, to be used by another supervisor or to be closed.
        """
        if not self._idle or self._doors.closed or self._ladder.used or self._cancelled.is_set():
            return None
        self._kept = True
        return self._doors

    def _attend(
        self, template: TemplateHandle, environ: dict[str, str] | None, warm: Sequence[str]
    ) -> None:
        """Be there for the process, a new one or the one that was given, until its end."""
        if not self._used:
            with self._doors.given_away() as fds:
                template.fork(fds, environ, warm)
        self._started = time.monotonic()
        # Outputs are recorded at once; of a cell that is over by then, nothing but its end.
        self._recorded = self._started + BATCH - INFO
        while not (self._doors.closed or self._alone or self._idle):
            self._doors.wait(self._due() - time.monotonic())
            self._doors.read()
            now = time.monotonic()
            self._remark()
            self._sample(now)
            self._enforce(now)
            self._record(now)

    def _remark(self) -> None:
        """Say, once, that the cell waits for the system."""
        if self._doors.full is not None and not self._waited:
            self._waited = True
            why = os.strerror(self._doors.full)
            self.say(f"The cell waits: the system has no room for another process ({why}).\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._kept:
            return
        try:
            while self._alone and not self._doors.closed:
                self._doors.wait(max(0.01, self._replied + EXIT_GRACE - time.monotonic()))
                self._doors.read()
                now = time.monotonic()
                self._sample(now)
                self._enforce(now)
        finally:
            # Where the template is told of every orphan, none is left when it says so.
            if self._family is not None and (self._doors.status is None or not HAS_SUBREAPERS):
                self._family.kill()
            self._doors.close()

    # --- what the cell says ----------------------------------------------------

    def _on_message(self, kind: str, body: Any) -> None:
        match kind:
            case "output":
                self._recorder.output(body)
            case "unfit":
                self.unfit = True
            case "phase":
                self._begun = True
                self._phase = body
                if body == "running":
                    # Loading the inputs is not the cell's time.
                    self._started = time.monotonic()
                if body == "collecting" and not self._ladder.used:
                    self._late = True
            case "heard":
                self._ladder.heard(time.monotonic())
            case "dask":
                self._on_dask()
            case "end":
                # What its helpers say from now on (multiprocessing's resource tracker finds
                # fault with what was not closed) would not be seen in a kernel either.
                self._doors.deaf = True
                self._alone = body
            case "spent":
                self._doors.deaf = True
            case "trace":
                self.trace = body
            case "idle":
                self._idle = True
            case "result":
                self._begun = True
                self._reply = body
                self._replied = time.monotonic()

    # --- limits ----------------------------------------------------------------

    def _due(self) -> float:
        """When the loop has something to do even if nothing happens."""
        due = [self._sampled + SAMPLE]
        if self._spec.timeout is not None and self._ladder.state is None:
            due.append(self._started + self._limit(self._spec.timeout))
        if self._ladder.deadline is not None and self._reply is None:
            due.append(self._ladder.deadline)
        if self._recorder.waiting and self._recording is None:
            due.append(self._recorded + BATCH)
        # What is overdue waits for something else to happen (the pid, an answer).
        return max(min(due), time.monotonic() + 0.001)

    def _sample(self, now: float) -> None:
        if self._family is None and self._doors.pid is not None:
            self._family = Family(self._doors.pid)
        if self._family is not None and now >= self._sampled + SAMPLE:
            self._sampled = now
            self._memory, self._cpu = self._family.usage()
            self._peak = max(self._peak, self._memory)
        elif self._family is None:
            self._sampled = now - SAMPLE + BATCH

    def _enforce(self, now: float) -> None:
        """Send the signal that is due, if one is."""
        pid = self._doors.pid
        if pid is None:
            return
        if self._reply is not None:
            # It only has to end, and there is nothing left to be saved by being gentle.
            if now > self._replied + EXIT_GRACE:
                self._send(signal.SIGKILL)
            return
        spec, ladder = self._spec, self._ladder
        if self._cancelled.is_set():
            ladder.start(now, State.CANCELLED, "cancelled")
        if spec.timeout is not None and now >= self._started + self._limit(spec.timeout):
            why = f"ran longer than {spec.timeout:g} s"
            if self._phase == "starting":
                why = f"its inputs were not loaded within {self._limit(spec.timeout):g} s"
            ladder.start(now, State.TIMED_OUT, why)
        if spec.memory is not None and self._memory > spec.memory:
            used, allowed = readable_size(self._memory), readable_size(spec.memory)
            ladder.grace = min(ladder.grace, MEMORY_GRACE)
            ladder.start(
                now, State.FAILED, f"used {used} of memory, more than the {allowed} allowed"
            )
            # Making the result takes memory too, for a short while.
            excess = 2 * MEMORY_EXCESS if self._phase == "collecting" else MEMORY_EXCESS
            if self._memory > excess * spec.memory:
                ladder.kill(now)
        rung = ladder.due(now, collecting=self._phase == "collecting")
        if rung is not None:
            self._send(rung)

    def _limit(self, timeout: float) -> float:
        """Seconds that the present phase may last: until the cell begins, none of them are its."""
        return max(timeout, LOADING) if self._phase == "starting" else timeout

    def _send(self, rung: signal.Signals) -> None:
        assert self._doors.pid is not None
        if rung is signal.SIGKILL:
            assert self._family is not None
            self._family.kill(timeout=0)
            return
        # To the group, as Jupyter interrupts a kernel: `os.system` ignores SIGINT while its
        # command runs, so the command has to get it.
        for send in (os.killpg, os.kill):
            try:
                send(self._doors.pid, rung)
                return
            except ProcessLookupError:
                continue  # not yet the leader of its group, or gone

    # --- recording -------------------------------------------------------------

    def _record(self, now: float) -> None:
        """Begin the next record if it is time and the one before is answered."""
        if not self._answered() or now < self._recorded + BATCH:
            return
        if not self._outputs and self._tail is None:
            self._outputs, self._tail = self._recorder.take()
        if not self._outputs and self._tail is None and now < self._recorded + INFO:
            return
        self._recorded = now
        info = self._info()
        self._recording = self._sink.record(self._batch, self._outputs, self._tail, info)
        self._recording.add_done_callback(lambda _: self._doors.wake())

    def _answered(self) -> bool:
        """Whether no record is on its way; one that failed is to be made again."""
        if self._recording is None:
            return True
        if not self._recording.done():
            return False
        if not self._recording.cancelled() and self._recording.exception() is None:
            self._batch += 1
            self._outputs, self._tail = [], None
            if not self._recording.result():
                self._cancelled.set()
        self._recording = None
        return True

    def _info(self) -> Message:
        return {
            "pid": self._doors.pid,
            "memory": float(self._memory),
            "cpu": self._cpu,
            "last_line": self._recorder.last_line,
        }

    def _record_rest(self) -> None:
        """Have what is on its way recorded, and leave the rest to the cell's end."""
        deadline = time.monotonic() + RECORD_DEADLINE
        # One that is on its way holds up the rest: where a scheduler is at a standstill, the end
        # waits for it too, and a worker that is closed breaks both off.
        while True:
            if self._recording is not None:
                wait([self._recording])
            recorded = self._answered() and not self._outputs and self._tail is None
            if recorded or time.monotonic() > deadline:
                break
            self._recorded = 0.0
            self._record(time.monotonic())
        rest, tail = self._recorder.take()
        # After what could not be recorded: should that have been, all but its answer, the end
        # brings nothing new.
        self._outputs = [*self._outputs, *rest]
        self._tail = self._tail if tail is None else tail
        self._sink.last(self._batch, self._outputs, self._tail, self._info())

    # --- the end ---------------------------------------------------------------

    def _ending(self, death: str) -> Ending:
        """Say how it ended; `death` is how the template did, if it did."""
        stopped = self._ladder.used
        why = self._ladder.reason + " while its result was pickled" * self._late
        if self._reply is not None:
            result = JobResult.from_message(self._reply["result"])
            if self._late and not self._reply.get("given_up"):
                stopped = []
            if stopped and self._ladder.state is not None:
                return Ending(self._ladder.state, why, result)
            if self._reply.get("terminated"):
                reason = "the cell's process died: ended by signal 15 (SIGTERM), not by us"
                return Ending(State.FAILED, reason, result, died=True)
            return Ending(State(self._reply["outcome"]), self._reply["reason"], result)
        if stopped and self._ladder.state is not None:
            return Ending(self._ladder.state, why)
        if self._doors.refused is not None:
            if self._cancelled.is_set():
                return Ending(State.CANCELLED, "cancelled before it ran")
            why = os.strerror(self._doors.refused)
            return Ending(State.LOST, f"not run: the system has no room for a process ({why})")
        if self._doors.status is None:
            reason = "the worker's template process died, and the cell with it"
            return Ending(State.LOST, f"{reason} ({death})" if death else reason)
        reason = f"the cell's process died: {describe_status(self._doors.status)}"
        if os.WIFSIGNALED(self._doors.status) and os.WTERMSIG(self._doors.status) == signal.SIGKILL:
            used = (
                f"; it had used up to {readable_size(self._peak)} of memory" if self._peak else ""
            )
            reason += f", not by us{used}: was the machine out of memory?"
        return Ending(State.FAILED, reason, died=True)


def readable_size(nbytes: float) -> str:
    """Return a size for people: "4.2 GiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if nbytes < 1024:
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1024
    return f"{nbytes:.1f} TiB"
