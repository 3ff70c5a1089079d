"""Replay: recorded outputs become ordinary output of the cell that asks for them.

Runs in the kernel's main thread. Nothing of ours is added: what is shown is what
the cell would have shown here, so it is saved with the notebook.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from IPython.core import page

from dask_async_run.job import NEXT_INPUT, PAGER, Message
from dask_async_run.kernel.audience import Audience, audience

EXACT = 1000
"""Changes between stdout and stderr that are shown in their exact order: each takes the kernel
about a quarter of a millisecond, and the page an output of its own."""

COARSE = 4096
"""Characters after which changes beyond these are shown."""


class Replay:
    """Shows outputs in nbformat's terms.

    Parameters
    ----------
    shell : InteractiveShell or None
        None: only text is shown, on this process's stdout and stderr.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._last: Any = None  # the stream that was written to last
        self._changes = 0
        self._held = 0

    def show(self, outputs: Iterable[Message]) -> None:
        """Show outputs in order."""
        for output in outputs:
            self.show_one(output)
        self._flush()

    def show_one(self, output: Message) -> None:
        """Show one output."""
        kind = output["output_type"]
        if kind == "stream":
            self._write(sys.stderr if output["name"] == "stderr" else sys.stdout, output["text"])
        elif kind == "error":
            self._error(output)
        elif self._shell is None:
            if "text/plain" in output.get("data", {}):
                sys.stdout.write(_text(output["data"]["text/plain"]) + "\n")
        elif kind == "clear_output":
            self._flush()
            self._shell.display_pub.clear_output(wait=output.get("wait", False))
        elif kind == "execute_result":
            self._result(output)
        elif PAGER in (transient := output.get("transient", {})):
            page.page(output["data"], start=transient[PAGER])
        elif NEXT_INPUT in transient:
            # Below: in the place of this cell there would be no way back to what it says.
            self._shell.set_next_input(_text(output["data"]["text/plain"]))
        else:
            self._flush()
            self._shell.display_pub.publish(
                data=output["data"],
                metadata=output.get("metadata", {}),
                transient=transient,
                update=kind == "update_display_data",
            )

    def _write(self, stream: Any, text: str) -> None:
        """Write text, after what was written to the other stream.

        A kernel's streams gather text for a while, each for itself. What a cell wrote in the
        course of an hour, a bar there and a line here, comes here within that while.
        """
        if stream is not self._last:
            self._changes += 1
            if self._changes <= EXACT or self._held >= COARSE:
                self._flush()
            self._last = stream
        stream.write(text)
        self._held += len(text)

    def _flush(self) -> None:
        self._held = 0
        streams = (sys.stdout, sys.stderr)
        for stream in reversed(streams) if self._last is sys.stdout else streams:
            stream.flush()

    def show_value(self, value: Any) -> None:
        """Show a value as ``display`` does; without a shell, as text."""
        if self._shell is None:
            print(repr(value))
            return
        from IPython.display import display

        sys.stdout.flush()
        display(value)

    def _error(self, output: Message) -> None:
        if self._shell is None:
            sys.stderr.write("\n".join(output["traceback"]) + "\n")
            return
        self._flush()
        # What ends up in the notebook is the name of the type.
        kind = type(str(output["ename"]) or "Exception", (Exception,), {})
        self._shell._showtraceback(kind, output["evalue"], output["traceback"])

    def _result(self, output: Message) -> None:
        """Show the value of a last expression as the shell's own display hook does."""
        hook = self._shell.displayhook
        self._flush()
        # The prompt says which Out[n] it is: that of the cell that was submitted. What executes
        # notebooks by itself would take it for the number of the cell that runs now.
        alone = audience(self._shell) is Audience.NOBODY
        with prompt_count(self._shell, None if alone else output.get("execution_count")):
            hook.start_displayhook()
            hook.write_output_prompt()
            hook.write_format_data(output["data"], output.get("metadata", {}))
            hook.finish_displayhook()


def _text(value: Any) -> str:
    return "".join(value) if isinstance(value, list) else str(value)


@contextmanager
def prompt_count(shell: Any, number: int | None) -> Iterator[None]:
    """Let the display hook believe that cell `number` is running.

    What it takes the number from is the shell's count, from IPython 9.2 on one less.
    """
    now = shell.execution_count
    if number is not None:
        shell.execution_count = number + now - shell.displayhook.prompt_count
    try:
        yield
    finally:
        shell.execution_count = now


_UNDERS = ("_", "__", "___")


class Unders:
    """The shell's last results, ``_``, ``__`` and ``___``, as they were.

    Parameters
    ----------
    shell : InteractiveShell
    """

    def __init__(self, shell: Any) -> None:
        self._results = {name: getattr(shell.displayhook, name) for name in _UNDERS}
        self._names = {name: shell.user_ns[name] for name in _UNDERS if name in shell.user_ns}

    def restore(self, shell: Any, handle: Any) -> None:
        """Put them back, where `handle`, a submission's job, has pushed them on."""
        for name, value in self._results.items():
            setattr(shell.displayhook, name, value)
        if shell.user_ns.get("_") is not handle:
            return
        for name in _UNDERS:
            shell.user_ns.pop(name, None)
            shell.user_ns_hidden.pop(name, None)
        # Not interactive: IPython then knows that these are not the user's own.
        shell.push(self._names, interactive=False)

    def forget(self, handle: Any, unders: Unders) -> None:
        """Leave a job out that is withdrawn from among them; `unders` were below it."""
        self._results = _without(self._results, handle, unders._results)
        self._names = _without(self._names, handle, unders._names)

    def close_up(self, shell: Any, handle: Any) -> None:
        """Take a job out from under later results: what it has pushed on moves up again."""
        hook, names = shell.displayhook, shell.user_ns
        there = [getattr(hook, name) for name in _UNDERS]
        if not any(value is handle for value in there) or names.get("_") is not hook._:
            return
        shown = set(map(id, names.get("_oh", {}).values()))
        above = there[: next(i for i, value in enumerate(there) if value is handle)]
        below = [
            value
            for value in self._results.values()
            if type(value) is not type(handle) or id(value) in shown  # others were withdrawn
        ]
        for name, value in zip(_UNDERS, [*above, *below, "", "", ""], strict=False):
            setattr(hook, name, value)
            shell.push({name: value}, interactive=False)


def _without(there: dict[str, Any], handle: Any, below: dict[str, Any]) -> dict[str, Any]:
    values = list(there.values())
    at = next((i for i, value in enumerate(values) if value is handle), None)
    if at is None:
        return there
    return dict(zip(_UNDERS, [*values[:at], *below.values()], strict=False))


def withdraw_handle(shell: Any, number: int, handle: Any, unders: Unders | None) -> None:
    """Take a submission's job out of ``Out`` and ``_``, where the cell's value belongs.

    Parameters
    ----------
    shell : InteractiveShell
    number : int
        ``n`` of the cell that was submitted.
    handle : object
        What stands there now: the submission's job.
    unders : Unders or None
        Before the submission.
    """
    names = shell.user_ns
    history = names.get("_oh", {})
    if handle is not None and history.get(number) is handle:
        del history[number]
        names.pop(f"_{number}", None)
    if unders is not None and shell.displayhook._ is handle:
        unders.restore(shell, handle)
    elif unders is not None and handle is not None:
        unders.close_up(shell, handle)


def set_result(shell: Any, number: int, values: tuple[Any, ...]) -> None:
    """Make ``Out[n]``, ``_n`` and ``_`` what they would be had the cell run here.

    Parameters
    ----------
    shell : InteractiveShell
    number : int
        ``n`` of the cell that was submitted.
    values : tuple
        The last ones that it displayed.
    """
    if number not in shell.user_ns.get("_oh", {}):
        with prompt_count(shell, number):
            for value in values:
                shell.displayhook.update_user_ns(value)
