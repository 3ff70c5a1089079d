"""Long polls: who waits for which job."""

from __future__ import annotations

import asyncio
from collections.abc import Collection


class Bell:
    """Wakes those who wait for a key; in one event loop.

    Ringing costs what those cost who wait for that key, however many others wait.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._closed = False

    async def wait(
        self,
        keys: Collection[str],
        timeout: float | None,  # noqa: ASYNC109  (to be over is an answer, not an error)
    ) -> bool:
        """Wait until one of `keys` rings.

        Returns
        -------
        bool
            False: `timeout` seconds passed, or the bell was closed.
        """
        if self._closed:
            return False
        future = asyncio.get_running_loop().create_future()
        for key in keys:
            self._waiting.setdefault(key, set()).add(future)
        try:
            done, _ = await asyncio.wait([future], timeout=timeout)
            return bool(done) and not self._closed
        finally:
            for key in keys:
                waiting = self._waiting.get(key)
                if waiting is not None:
                    waiting.discard(future)
                    if not waiting:
                        del self._waiting[key]

    def ring(self, key: str) -> None:
        """Wake those who wait for `key`."""
        for future in self._waiting.get(key, ()):
            if not future.done():
                future.set_result(None)

    def close(self) -> None:
        """Wake everybody; nobody waits from now on."""
        self._closed = True
        for key in list(self._waiting):
            self.ring(key)

    def __len__(self) -> int:
        """How many keys somebody waits for."""
        return len(self._waiting)
