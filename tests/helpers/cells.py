"""Cells in real cell processes, supervised by this process, without a cluster."""

from __future__ import annotations

import base64
import json
import pickle
import threading
import uuid
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from dask_async_run.job import JobResult, JobSpec, Message, Payload, State
from dask_async_run.worker.doors import Doors
from dask_async_run.worker.supervisor import Ending, Supervisor
from dask_async_run.worker.template_handle import TemplateHandle
from realkernel import Ran
from waiting import wait_for

NO_INPUTS = Payload(stream=pickle.dumps(("end",), protocol=5)).to_message()
FILENAME = "/tmp/ipykernel_1/2.py"


@dataclass
class Recorded:
    """A `Sink` that keeps everything, as if the registry had answered at once."""

    outputs: list[dict[str, Any]] = field(default_factory=list)
    tails: list[str] = field(default_factory=list)
    infos: list[Message] = field(default_factory=list)
    records: int = 0
    wanted: bool = True

    def record(
        self, batch: int, outputs: list[dict[str, Any]], tail: str | None, info: Message
    ) -> Future[bool]:
        assert batch == self.records + 1
        self.records = batch
        # What is given out has to be plain: a journal keeps it.
        self.outputs += json.loads(json.dumps(outputs))
        self.infos.append(info)
        if tail is not None:
            self.tails.append(tail)
        answer: Future[bool] = Future()
        answer.set_result(self.wanted)
        return answer

    def last(
        self, batch: int, outputs: list[dict[str, Any]], tail: str | None, info: Message
    ) -> None:
        Recorded.record(self, batch, outputs, tail, info)

    def text(self, name: str = "stdout") -> str:
        return "".join(
            o["text"] for o in self.outputs if o["output_type"] == "stream" and o["name"] == name
        )

    def shown(self) -> Ran:
        """The outputs as a notebook shows them in the end."""
        ran = Ran()
        places: dict[str, list[dict[str, Any]]] = {}
        clear = False
        for output in self.outputs:
            kind = output["output_type"]
            if kind == "clear_output":
                clear = output["wait"]
                if not clear:
                    ran.outputs.clear()
                continue
            if kind == "update_display_data":
                for shown in places.get(output["transient"]["display_id"], []):
                    shown.update(data=output["data"], metadata=output["metadata"])
                continue
            if clear:
                ran.outputs.clear()
                clear = False
            output = dict(output)
            ran.outputs.append(output)
            if place := output.get("transient", {}).get("display_id"):
                places.setdefault(place, []).append(output)
        return ran


class Slow(Recorded):
    """Answers no record until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: Future[bool] | None = None
        self._released = False

    def record(
        self, batch: int, outputs: list[dict[str, Any]], tail: str | None, info: Message
    ) -> Future[bool]:
        answer = super().record(batch, outputs, tail, info)
        if self._released:
            return answer
        self._waiting = Future()
        return self._waiting

    def release(self) -> None:
        self._released = True
        if self._waiting is not None:
            self._waiting.set_result(True)


class Failing(Recorded):
    """Fails every other record, or each one but the last."""

    def __init__(self, always: bool = False) -> None:
        super().__init__()
        self.failures = 0
        self._always = always

    def record(
        self, batch: int, outputs: list[dict[str, Any]], tail: str | None, info: Message
    ) -> Future[bool]:
        if self._always or self.failures <= self.records:
            self.failures += 1
            answer: Future[bool] = Future()
            answer.set_exception(OSError("no answer"))
            return answer
        return super().record(batch, outputs, tail, info)


@dataclass
class CellRun:
    """A cell that runs in a thread of this process."""

    supervisor: Supervisor
    sink: Recorded
    thread: threading.Thread = field(init=False)
    endings: list[Ending] = field(default_factory=list)
    process: Doors | None = None

    def wait_for_text(self, text: str, name: str = "stdout") -> None:
        wait_for(lambda: text in self.sink.text(name), what=f"{text!r} in {name}")

    @property
    def pid(self) -> int:
        return int(wait_for(lambda: self.sink.infos and self.sink.infos[-1]["pid"], what="a pid"))

    def end(self, timeout: float = 90) -> Ended:
        self.thread.join(timeout)
        assert not self.thread.is_alive(), f"the cell runs on; last: {self.sink.outputs[-9:]}"
        return Ended(self.endings[0], self.sink, self.process, self.supervisor.trace)


@dataclass
class Ended:
    """`process` is one that waits for another cell, if it does: the caller's to use or close."""

    ending: Ending
    sink: Recorded
    process: Doors | None = None
    trace: str = ""

    @property
    def state(self) -> State:
        return self.ending.state

    @property
    def reason(self) -> str:
        return self.ending.reason

    @property
    def result(self) -> JobResult:
        assert self.ending.result is not None, self.ending
        return self.ending.result

    @property
    def outputs(self) -> list[dict[str, Any]]:
        return self.sink.outputs

    @property
    def shown(self) -> Ran:
        return self.sink.shown()

    def text(self, name: str = "stdout") -> str:
        return self.sink.text(name)


@dataclass
class Cells:
    """Runs cells in the cell processes of one template."""

    template: TemplateHandle
    frames: Path

    def prepare(
        self,
        code: str,
        sink: Recorded,
        limit: float | None = None,
        again: bool = False,
        process: Doors | None = None,
        **spec: Any,
    ) -> Supervisor:
        """Make a supervisor; `limit` is the job's timeout, the rest are `JobSpec`'s fields.

        `again`: the process may wait for another cell; `process`: one that does.
        """
        defaults: dict[str, Any] = {
            "id": uuid.uuid4().hex,
            "notebook": "notebook",
            "name": "cell",
            "source": code,
            "code": code,
            "filename": FILENAME,
            "execution_count": 7,
            "inputs": NO_INPUTS,
            "shell": {"class": "ZMQInteractiveShell", "kernel": True},
        }
        job = JobSpec(**{**defaults, **spec, "timeout": limit})
        task: Message = {"spec": job.to_message(), "parents": [], "frames": str(self.frames)}
        task["dask"] = {"address": "tcp://127.0.0.1:1", "security": b""}  # there is no cluster
        task["again"] = again
        return Supervisor(job, task, sink, process=process)

    def start(
        self,
        code: str,
        sink: Recorded | None = None,
        environ: dict[str, str] | None = None,
        warm: Sequence[str] = (),
        **spec: Any,
    ) -> CellRun:
        """Begin to run a cell; everything else as in `prepare`."""
        sink = sink or Recorded()
        supervisor = self.prepare(code, sink, **spec)
        started = CellRun(supervisor, sink)

        def run() -> None:
            with supervisor:
                started.endings.append(supervisor.run(self.template, environ, warm))
                started.process = supervisor.keep_process()

        started.thread = threading.Thread(target=run, name="supervisor")
        started.thread.start()
        return started

    def run(self, code: str, timeout: float = 90, **spec: Any) -> Ended:
        return self.start(code, **spec).end(timeout)


def runs(pid: int) -> bool:
    """Whether a process lives and is no zombie."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def png_size(data: str) -> tuple[int, int]:
    """Width and height of a base64 PNG."""
    header = base64.b64decode(data)[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")
