"""What a server that starts tells the process that started it, over a pipe.

One JSON object a line: first ``{"pid": n}``, then ``{"ready": true}`` or
``{"error": text, "busy": bool}``. The pipe's end without either is the server's
death. Nothing has to be polled, and no exit code to be waited for: the server
is not a child of its starter (see `launch`).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import time
from typing import Any


class Speaker:
    """The server's end.

    Parameters
    ----------
    fd : int
        The pipe's writing end; owned by this object, and not inherited by the
        workers: their lives would hide the server's death.
    """

    def __init__(self, fd: int) -> None:
        os.set_inheritable(fd, False)
        self._fd: int | None = fd

    def say(self, **message: Any) -> None:
        """Send a message; nothing happens if the starter is gone."""
        if self._fd is not None:
            with contextlib.suppress(OSError):
                os.write(self._fd, json.dumps(message).encode() + b"\n")

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class Listener:
    """The starter's end.

    Parameters
    ----------
    fd : int
        The pipe's reading end; owned by this object.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._rest = b""

    def next(self, deadline: float) -> dict[str, Any] | None:
        """Return the next message, None at the end.

        Parameters
        ----------
        deadline : float
            By `time.monotonic`.

        Raises
        ------
        TimeoutError
            Nothing came until then.
        """
        while b"\n" not in self._rest:
            # In slices: an interrupt is only noticed between two calls on macOS.
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            if not select.select([self._fd], [], [], min(left, 0.5))[0]:
                continue
            data = os.read(self._fd, 65536)
            if not data:
                return None
            self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        return message

    def close(self) -> None:
        os.close(self._fd)
