"""A real ipykernel in a process of its own, driven as a front end drives it."""

from __future__ import annotations

import os
import queue
import re
import signal
import time
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from jupyter_client.kernelspec import KernelSpecManager

from filesockets import FileKernelManager

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass
class Ran:
    """What one execution left in the notebook, in nbformat's terms and in short."""

    outputs: list[dict[str, Any]] = field(default_factory=list)
    count: int | None = None
    status: str = "ok"
    seconds: float = 0.0

    def _stream(self, name: str) -> str:
        return "".join(
            o["text"] for o in self.outputs if o["output_type"] == "stream" and o["name"] == name
        )

    @property
    def stdout(self) -> str:
        return self._stream("stdout")

    @property
    def stderr(self) -> str:
        return self._stream("stderr")

    @property
    def error(self) -> dict[str, Any] | None:
        """The last error output, or None."""
        errors = [o for o in self.outputs if o["output_type"] == "error"]
        return errors[-1] if errors else None

    @property
    def traceback(self) -> str:
        """The error's traceback as plain text, empty if there was no error."""
        return _ANSI.sub("", "\n".join(self.error["traceback"])) if self.error else ""

    @property
    def data(self) -> list[dict[str, Any]]:
        """MIME bundles of displays and results, in order."""
        kinds = ("display_data", "execute_result")
        return [o["data"] for o in self.outputs if o["output_type"] in kinds]

    @property
    def result(self) -> str | None:
        """``text/plain`` of the last expression, or None."""
        results = [o for o in self.outputs if o["output_type"] == "execute_result"]
        return results[-1]["data"]["text/plain"] if results else None

    @property
    def text(self) -> str:
        """Everything that a reader of the notebook sees as text, without colours."""
        parts = []
        for o in self.outputs:
            if o["output_type"] == "stream":
                parts.append(o["text"])
            elif o["output_type"] == "error":
                parts.append("\n".join(o["traceback"]))
            else:
                parts.append(str(o["data"].get("text/plain", "")) + "\n")
        return _ANSI.sub("", "".join(parts))


class RealKernel:
    """Context manager around a real kernel; `restart` and `kill` as often as liked.

    Parameters
    ----------
    cwd : Path
        The notebook's folder, the kernel's working folder.
    notebook : str
        What Jupyter says in ``JPY_SESSION_NAME``: whose jobs these are.
    env : mapping
        Added to this process's environment.

    Attributes
    ----------
    attended : bool
        Whether it says, as a page does, that there is somebody who could be asked.
    """

    def __init__(
        self, cwd: Path, notebook: str = "story.ipynb", env: Mapping[str, str] | None = None
    ) -> None:
        self.attended = False
        self.cwd = cwd
        self.notebook = notebook
        self.env = dict(env or {})
        self.manager: Any = None
        self.client: Any = None
        self._interrupted = False
        self._again: deque[dict[str, Any]] = deque()

    @property
    def pid(self) -> int:
        return int(self.manager.provisioner.pid)

    def start(self, timeout: float = 120) -> Self:
        env = {**os.environ, "JPY_SESSION_NAME": str(self.cwd / self.notebook), **self.env}
        # Only the native kernel: this Python, whatever else is called "python3" here.
        specs = KernelSpecManager(kernel_dirs=[])
        self.manager = FileKernelManager(kernel_name="python3", kernel_spec_manager=specs)
        self.manager.start_kernel(env=env, cwd=str(self.cwd))
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=timeout)
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Shut the kernel down, if it still lives, and free everything of it."""
        if self.manager is None:
            return
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=not self.manager.is_alive())
        self.manager.cleanup_resources()
        self.client.context.destroy(linger=0)
        self.manager.context.destroy(linger=0)
        self.manager = self.client = None

    def kill(self) -> None:
        """End the kernel and its whole process group with SIGKILL, as Jupyter's "kill" does."""
        os.killpg(os.getpgid(self.pid), signal.SIGKILL)
        deadline = time.monotonic() + 10
        while self.manager.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        self.close()

    def restart(self) -> None:
        """Start again under the same notebook's name, as after a kernel restart."""
        if self.manager is not None:
            self.close()
        self.start()

    def interrupt(self) -> None:
        self._interrupted = True
        self.manager.interrupt_kernel()

    def submit(self, code: str) -> str:
        """Start an execution; `finish` collects it."""
        return str(self.client.execute(code, allow_stdin=self.attended))

    def put_back(self, messages: Iterable[dict[str, Any]]) -> None:
        """Have `finish` see messages that were read from the client, before those to come."""
        self._again.extend(messages)

    def wait_until_busy(self, msg_id: str, timeout: float = 60) -> None:
        """Wait until the kernel has begun to execute `msg_id`; its "busy" is used up."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            with suppress(queue.Empty):
                message = self.client.get_iopub_msg(timeout=0.5)
                if message["parent_header"].get("msg_id") == msg_id:
                    return
        raise TimeoutError("the kernel did not begin")

    def wait_until_shows(self, msg_id: str, text: str, timeout: float = 120) -> None:
        """Wait until `msg_id` has put `text` out; what it put out until then is used up.

        The kernel is surely amid the execution then; "busy" is said before it begins.
        """
        shown = ""
        deadline = time.monotonic() + timeout
        while text not in shown:
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {timeout} s: {text!r}; only {shown!r}")
            with suppress(queue.Empty):
                message = self.client.get_iopub_msg(timeout=0.5)
                if message["parent_header"].get("msg_id") == msg_id:
                    content = message["content"]
                    shown += content.get("text", "")
                    shown += content.get("data", {}).get("text/plain", "")

    def finish(self, msg_id: str, timeout: float = 120) -> Ran:
        """Collect what `msg_id` puts out until the kernel is idle again.

        Raises
        ------
        TimeoutError
            It was not idle within `timeout` seconds; the text has what came so far.
        RuntimeError
            The kernel died.
        """
        ran = Ran()
        begun = time.monotonic()
        displays: dict[str, list[dict[str, Any]]] = {}
        clear = False
        while True:
            if time.monotonic() - begun > timeout:
                raise TimeoutError(f"not idle within {timeout} s; so far:\n{ran.text}")
            with suppress(queue.Empty):
                again = self._again
                message = again.popleft() if again else self.client.get_iopub_msg(timeout=0.5)
                if message["parent_header"].get("msg_id") != msg_id:
                    continue
                kind, content = message["msg_type"], message["content"]
                if kind == "status" and content["execution_state"] == "idle":
                    break
                if kind == "clear_output":
                    clear = bool(content["wait"])
                    if not clear:
                        ran.outputs.clear()
                if kind == "update_display_data":
                    for output in displays.get(content["transient"]["display_id"], []):
                        output.update(data=content["data"], metadata=content["metadata"])
                if kind in ("stream", "display_data", "execute_result", "error"):
                    if clear:
                        ran.outputs.clear()
                        clear = False
                    output = {"output_type": kind, **content}
                    ran.outputs.append(output)
                    if name := content.get("transient", {}).get("display_id"):
                        displays.setdefault(name, []).append(output)
                continue
            if not self.manager.is_alive():
                raise RuntimeError(f"the kernel died; so far:\n{ran.text}")
        reply = self._reply(msg_id, max(5.0, timeout - (time.monotonic() - begun)))
        ran.status = reply["status"]
        ran.count = reply.get("execution_count")
        ran.seconds = time.monotonic() - begun
        return ran

    def _reply(self, msg_id: str, timeout: float) -> dict[str, Any]:
        deadline = time.monotonic() + (min(timeout, 15) if self._interrupted else timeout)
        while time.monotonic() < deadline:
            with suppress(queue.Empty):
                message = self.client.get_shell_msg(timeout=0.5)
                if message["parent_header"].get("msg_id") == msg_id:
                    return dict(message["content"])
        if self._interrupted:
            # ipykernel drops it when the interrupt comes between a cell's end and its reply.
            return {"status": "lost"}
        raise TimeoutError("the kernel sent no reply")

    def run(self, code: str, timeout: float = 120) -> Ran:
        """Execute `code` and collect everything that it puts out, errors included."""
        return self.finish(self.submit(code), timeout)

    def do(self, code: str, timeout: float = 120) -> Ran:
        """`run`, and fail if it raises; a `UsageError` too, which is one line on stderr."""
        ran = self.run(code, timeout)
        if ran.status != "ok":
            raise AssertionError(f"{code}\nraised:\n{ran.text}")
        return ran

    def value(self, expression: str, timeout: float = 120) -> Any:
        """Value of an expression in the kernel, by its ``repr``."""
        import ast

        marker = "__value__"
        ran = self.do(f"print({marker!r} + repr({expression}))", timeout)
        return ast.literal_eval(ran.stdout.split(marker, 1)[1].strip())
