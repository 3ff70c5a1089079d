"""Two real kernels under the judge's eyes: one runs cells plainly, one through `%%async_run`."""

from __future__ import annotations

import json
import os
import queue
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from filesockets import FileKernelManager

from .outputs import Document, Step

First = TypeVar("First")
Second = TypeVar("Second")

PROBE = Path(__file__).parent / "probe"
_LOAD = f"""
def _load():
    import importlib.util, sys
    spec = importlib.util.spec_from_file_location(
        "_contract_probe", {str(PROBE / "__init__.py")!r},
        submodule_search_locations=[{str(PROBE)!r}])
    module = sys.modules["_contract_probe"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.begin()
_load()
del _load
"""
_PROBE = "__import__('sys').modules['_contract_probe']"


_ASIDE = ThreadPoolExecutor(1, thread_name_prefix="contract-plain")


def side_by_side(plain: Callable[[], First], other: Callable[[], Second]) -> tuple[First, Second]:
    """Call both at once, `plain` in a thread that lives as long as this process.

    The two kernels have nothing in common, and a machine has more than one core.
    """
    aside = _ASIDE.submit(plain)
    try:
        answer = other()
    finally:
        wait([aside])
    return aside.result(), answer


class KernelDiedError(Exception):
    """The kernel process ended while it ran a cell."""


@dataclass
class Execution:
    """One execute request: its messages on iopub, in order, and its reply."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    reply: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return self.reply.get("status") == "ok"

    @property
    def error(self) -> str:
        """``type: text`` of the error, empty if there was none."""
        return "" if self.ok else f"{self.reply.get('ename')}: {self.reply.get('evalue')}"


class Kernel:
    """A kernel that runs cells plainly.

    Parameters
    ----------
    folder : Path
        Its working folder, read as ``ROOT`` in everything that is compared.
    env : mapping
        Added to this process's environment.
    timeout : float
        Seconds that a cell may take.
    """

    def __init__(self, folder: Path, env: Mapping[str, str], timeout: float = 120) -> None:
        self.folder = folder
        self.timeout = timeout
        self.numbers: dict[int, int] = {}
        self.document = Document(str(folder), self.numbers)
        self._running: dict[str, Execution] = {}
        self._last_cell: Execution | None = None
        folder.mkdir(parents=True, exist_ok=True)
        # The order of sets of strings is part of what a cell prints.
        full = {**os.environ, "PYTHONHASHSEED": "0", **env}
        full.pop("PYTEST_CURRENT_TEST", None)  # ipykernel leaves file descriptors alone then
        self._manager: Any = FileKernelManager(kernel_name="python3")
        with (folder.parent / f"{folder.name}.log").open("wb") as log:
            self._manager.start_kernel(env=full, cwd=str(folder), stdout=log, stderr=log)
        try:
            self._client: Any = self._manager.blocking_client()
            self._client.start_channels()
            self._client.wait_for_ready(timeout=60)
            self.prepare()
            self.silently(_LOAD)
        except BaseException:
            self.close()
            raise

    def prepare(self) -> None:
        """Run before the judge's probe takes its first look."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def close(self) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)
        self._manager.cleanup_resources()
        self._client.context.destroy(linger=0)
        self._manager.context.destroy(linger=0)

    def execute(self, code: str, silent: bool = False) -> Execution:
        """Run `code` and wait until the kernel is idle.

        What the judge runs silently shows nothing: text that comes with it was read by
        ipykernel from file descriptor 1 or 2 only now, and is the last cell's.

        Raises
        ------
        TimeoutError
            It took longer than `timeout`; the kernel has been interrupted.
        KernelDiedError
            The kernel is gone.
        """
        execution = Execution()
        if not silent:
            self._last_cell = execution
        sent = self._client.execute(
            code, silent=silent, store_history=not silent, allow_stdin=False, stop_on_error=False
        )
        self._running[sent] = execution
        deadline = time.monotonic() + self.timeout
        idle = False
        while not (idle and execution.reply):
            if time.monotonic() > deadline:
                self._manager.interrupt_kernel()
                raise TimeoutError(f"not done within {self.timeout} s")
            if idle:
                with suppress(queue.Empty):
                    message = self._client.get_shell_msg(timeout=0.2)
                    if message["parent_header"].get("msg_id") == sent:
                        execution.reply = message["content"]
                continue
            try:
                message = self._client.get_iopub_msg(timeout=0.2)
            except queue.Empty:
                if not self._manager.is_alive():
                    raise KernelDiedError("the kernel died") from None
                continue
            parent = message["parent_header"].get("msg_id")
            if message["msg_type"] == "status":
                idle = parent == sent and message["content"]["execution_state"] == "idle"
            elif parent in self._running:  # also what a child process wrote late
                late = silent and parent == sent and message["msg_type"] == "stream"
                owner = self._last_cell if late else None
                (owner or self._running[parent]).messages.append(message)
        return execution

    def silently(self, code: str) -> None:
        """Run `code` without a trace in history, ``Out`` and execution counts."""
        execution = self.execute(code, silent=True)
        if not execution.ok:
            text = "\n".join(execution.reply.get("traceback", []))
            raise RuntimeError(f"{code}\nfailed in the kernel:\n{text}")

    def plainly(self, number: int, source: str) -> Step:
        """Run cell `number` in the kernel itself."""
        execution = self.execute(source)
        self.numbers[execution.reply.get("execution_count", 0)] = number
        return Step(execution.messages, lines_added=0)

    def cell(self, number: int, source: str) -> Step:
        """Run cell `number` in this kernel's way."""
        return self.plainly(number, source)

    def look(self) -> dict[str, str]:
        """The probe's description of the namespace."""
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "description.json"
            self.silently(f"{_PROBE}.write({str(target)!r}, {str(self.folder)!r}, {self.numbers})")
            return dict(json.loads(target.read_text()))

    def reset(self, name: str) -> None:
        """Make the kernel look new, in a subfolder `name`."""
        self.silently(f"{_PROBE}.reset({str(self.folder / name)!r})")
        self._running.clear()
        self._last_cell = None
        self.numbers.clear()
        self.document = Document(str(self.folder), self.numbers)


class RemoteKernel(Kernel):
    """A kernel that runs every cell as ``%%async_run``, and gathers it at once.

    The server belongs to the folders that the environment names, and outlives the kernel.
    """

    def prepare(self) -> None:
        self.prefix = "c"
        self.silently("%load_ext dask_async_run")
        self.silently("%async_run_server --workers 2 --no-dashboard")

    def reset(self, name: str) -> None:
        # What failed in one case shall not be the next one's concern.
        self._last_cell = None
        self.execute("%async_forget *", silent=True)
        super().reset(name)

    def submit(self, number: int, source: str, options: str = "") -> Step:
        """Submit a cell; the step is `refused` if nothing was submitted."""
        name = f"{self.prefix}{number}"
        line = " ".join(f"%%async_run --name {name} {options}".split())
        execution = self.execute(f"{line}\n{source}")
        count = execution.reply.get("execution_count", 0)
        self.numbers[count] = number
        self.document.lines_added[count] = 1
        return Step(execution.messages, lines_added=1, refused=execution.error, count=count)

    def gather(self, number: int, options: str = "") -> Step:
        execution = self.execute(f"%async_gather {self.prefix}{number} {options}".strip())
        return Step(execution.messages, lines_added=1)

    def cell(self, number: int, source: str) -> Step:
        submitted = self.submit(number, source)
        return submitted if submitted.refused else self.gather(number)
