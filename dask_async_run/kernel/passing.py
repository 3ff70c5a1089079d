"""A passing line: shown while something is waited for, and gone afterwards."""

from __future__ import annotations

import shutil
import sys
import uuid
from typing import Any

from dask_async_run.kernel.audience import Audience, audience
from dask_async_run.looks import one_line


class PassingLine:
    """One line under what a cell has put out, where somebody looks; in the shell's thread.

    Parameters
    ----------
    shell : InteractiveShell or None
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._shown: str | None = None
        self._display = uuid.uuid4().hex

    def show(self, text: str) -> None:
        """Show a text, in the place of the one before."""
        if text != self._shown:
            self._write(text)
            self._shown = text

    def clear(self) -> None:
        """Leave nothing of it."""
        if self._shown is None:
            return
        self._shown = None
        match audience(self._shell):
            case Audience.TERMINAL:
                sys.stdout.write("\r\x1b[K")
                sys.stdout.flush()
            case Audience.PAGE:
                self._publish({}, update=True)

    def _write(self, text: str) -> None:
        match audience(self._shell):
            case Audience.TERMINAL:
                shown = fitting(text, shutil.get_terminal_size().columns)
                sys.stdout.write(f"\r\x1b[K{shown}")
                sys.stdout.flush()
            case Audience.PAGE:
                # Not a line that `clear_output` removes: what the cell put out before it would
                # go with it.
                self._publish({"text/plain": text}, update=self._shown is not None)

    def _publish(self, bundle: dict[str, str], update: bool) -> None:
        sys.stdout.flush()
        self._shell.display_pub.publish(
            data=bundle, metadata={}, transient={"display_id": self._display}, update=update
        )


def fitting(text: str, columns: int) -> str:
    """Cut a text so that it stays one line of a terminal, which alone can be taken away again.

    What stands behind its last colon stays: it is for how long has been waited.
    """
    if len(text) < columns:
        return text
    head, colon, tail = text.rpartition(":")
    if not head or len(tail) > columns // 2:
        return one_line(text, columns - 1)
    return f"{one_line(head, columns - 1 - len(colon + tail))}{colon}{tail}"
