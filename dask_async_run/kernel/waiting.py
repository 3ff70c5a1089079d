"""Waiting for jobs, with what is being waited for shown.

The line disappears when the waiting is over: what a gather leaves in the
notebook is the cells' own output.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from dask_async_run.job import JobView, State
from dask_async_run.kernel.session import Session

SHOW_AFTER = 1.0
"""Seconds of waiting before something is shown."""

_SLICE = 0.5


class Waiting:
    """Waits for jobs of a session; an interrupt (``KeyboardInterrupt``) ends it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._shown: str | None = None

    def until_ended(self, views: Sequence[JobView], timeout: float | None = None) -> list[JobView]:
        """Wait until all of the jobs have ended.

        Returns
        -------
        list of JobView
            As they are now, in the order that was given.

        Raises
        ------
        TimeoutError
            After `timeout` seconds; says which ones have not.
        """
        ids = [view.id for view in views]
        if all(State(view.state).terminal for view in views):
            return list(views)
        begun = time.monotonic()
        try:
            while True:
                waited = time.monotonic() - begun
                left = _SLICE if timeout is None else min(_SLICE, timeout - waited)
                now = {v.id: v for v in self._session.registry.wait(ids, max(0.0, left))}
                open_ = [now[i] for i in ids if not State(now[i].state).terminal]
                if not open_:
                    return [now[i] for i in ids]
                if timeout is not None and time.monotonic() - begun >= timeout:
                    listed = ", ".join(f"{v.label} ({v.state})" for v in open_)
                    raise TimeoutError(
                        f"after {timeout:g} s, not ended: {listed}. The jobs go on; nothing was "
                        "gathered."
                    )
                if waited > SHOW_AFTER:
                    self._show(open_, waited)
        finally:
            self._clear()

    def _show(self, views: list[JobView], waited: float) -> None:
        listed = ", ".join(f"{view.label} ({view.state})" for view in views[:5])
        more = f" and {len(views) - 5} more" if len(views) > 5 else ""
        text = f"waiting for {listed}{more}: {waited:.0f} s"
        if text != self._shown:
            self._write(text)
            self._shown = text

    def _write(self, text: str) -> None:
        shell: Any = self._session.shell
        if shell is None or not sys.stdout:
            return
        if hasattr(shell, "kernel"):
            sys.stdout.write(f"\r{text}")
        elif sys.stdout.isatty():
            sys.stdout.write(f"\r\x1b[K{text}")
        sys.stdout.flush()

    def _clear(self) -> None:
        shell: Any = self._session.shell
        if self._shown is None or shell is None:
            return
        self._shown = None
        if hasattr(shell, "kernel"):
            sys.stdout.flush()
            shell.display_pub.clear_output(wait=False)
        elif sys.stdout.isatty():
            sys.stdout.write("\r\x1b[K")
            sys.stdout.flush()
