"""A job's Dask task that plays a script instead of running a cell.

What the registry does is tested without cell processes: the job's `code` is a script of
one step a line, which this module plays in the worker's task thread, talking to the
registry as the real task does.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from distributed import Worker, get_worker, secede
from distributed.diagnostics.plugin import WorkerPlugin

from dask_async_run.job import JobResult, JobSpec, State
from dask_async_run.registry import Registry

T = TypeVar("T")

DEADLINE = 90.0

_stopped: set[str] = set()


class Stopper(WorkerPlugin):
    """Adds the handler by which the scheduler tells a worker to stop a cell."""

    name = "scripted-cells"

    def setup(self, worker: Worker) -> None:
        worker.handlers["async_run_cell"] = self.handle

    def handle(self, do: str, job: str = "") -> bool:
        if do == "claims":
            return False  # they ask for each
        assert do == "cancel"
        _stopped.add(job)
        return True


def job_spec(name: str = "job", *steps: str, **options: Any) -> JobSpec:
    """Spec of a job that plays `steps`; see `play` for what there is."""
    return JobSpec(
        id=uuid.uuid4().hex,
        notebook=options.pop("notebook", "nb"),
        name=name,
        source="%%async_run",
        code="\n".join(steps),
        filename="f",
        submitted=time.time(),
        **options,
    )


def play(job: str) -> dict[str, str]:
    """Claim a job, play its script, finish it.

    Steps: ``run PATH`` (append a line to the file: the cell has run), ``say TEXT``,
    ``tail TEXT``, ``await PATH`` (until the file exists), ``await-stop``, ``kill`` (this
    process), ``raise``, ``return`` (without an end), ``end STATE REASON``, ``frames
    DIGEST SIZE``, ``secede`` (as a cell that uses Dask). Without ``end`` the job finishes.
    """
    worker = get_worker()
    registry = Registry.of_worker(worker)

    def ask(call: Coroutine[Any, Any, T]) -> T:
        loop: Any = worker.loop
        return asyncio.run_coroutine_threadsafe(call, loop.asyncio_loop).result(DEADLINE)

    claim = ask(registry.claim(job, worker.address, "here", str(worker.get_current_task())))
    if not claim.granted:
        return {"job": job, "state": claim.state}
    assert claim.spec is not None
    state, reason, frames = State.FINISHED, "", []
    batch = 0
    for step in claim.spec.code.splitlines():
        verb, _, text = step.partition(" ")
        if verb == "run":
            with Path(text).open("a") as file:
                file.write(f"{claim.attempt}\n")
        elif verb in ("say", "tail"):
            batch += 1
            outputs = [_stream(text + "\n")] if verb == "say" else []
            info = {"pid": os.getpid(), "last_line": text, "memory": 5.0, "cpu": 1.0}
            tail = text if verb == "tail" else None
            ask(registry.record(job, outputs, tail, info, attempt=claim.attempt, batch=batch))
        elif verb == "await":
            _until(Path(text).exists)
        elif verb == "await-stop":
            _until(lambda: job in _stopped)
        elif verb == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif verb == "raise":
            raise RuntimeError("the supervisor has a bug")
        elif verb == "secede":
            secede()
        elif verb == "return":
            return {"job": job, "state": "?"}
        elif verb == "frames":
            digest, size = text.split()
            frames.append([digest, int(size)])
        elif verb == "end":
            word, _, reason = text.partition(" ")
            state = State(word)
    result = JobResult(payload={"stream": b"r", "frames": frames}, bound=["x"], nbytes=1)
    answer = ask(registry.finish(job, state, reason, result, attempt=claim.attempt))
    return {"job": job, "state": answer["state"]}


def _stream(text: str) -> dict[str, str]:
    return {"output_type": "stream", "name": "stdout", "text": text}


def _until(condition: Any) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{condition} did not come true")
        time.sleep(0.005)
