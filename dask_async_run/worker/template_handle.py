"""A worker's hold on its template process."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import IO

import psutil

from dask_async_run.worker.processes import signal_name
from dask_async_run.worker.template_protocol import CellFds, bootstrap, send_request

PATIENCE = 30.0
"""Seconds for which a cell waits where the system allows no more processes."""

logger = logging.getLogger(__name__)


class TemplateHandle:
    """Starts the template process, starts it again when it died, ends it.

    Thread-safe: the tasks of a worker with several threads share one. The process ends
    when this handle's socket closes, whichever way this process dies.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None
        self._socket: socket.socket | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Pid of the template process, None if none runs."""
        process = self._process
        return process.pid if process and process.poll() is None else None

    def start(self) -> None:
        """Start the process if none runs; returns before it is ready."""
        with self._lock:
            self._start()

    def fork(
        self,
        fds: CellFds,
        environ: dict[str, str] | None = None,
        warm: Sequence[str] = (),
    ) -> None:
        """Ask for a cell process; returns before there is one.

        Parameters
        ----------
        fds : CellFds
            Stay the caller's, who closes them after the call.
        environ : dict
            Environment variables to be set in the template and so in the cell.
        warm : sequence of str
            Modules that the template may import afterwards.

        Raises
        ------
        RuntimeError
            The handle is closed.
        OSError
            The template died at this moment.
        """
        request = {"environ": environ or {}, "warm": list(warm), "patience": PATIENCE}
        with self._lock:
            sock = self._start()
            try:
                send_request(sock, request, fds)
            except (BrokenPipeError, ConnectionResetError):
                # It died since we looked. Nothing was forked: who cannot read, cannot fork.
                self._reap()
                send_request(self._start(), request, fds)

    def warm(self, modules: Sequence[str]) -> None:
        """Have the template import modules when it has nothing else to do."""
        with self._lock, suppress(OSError, RuntimeError):
            send_request(self._start(), {"warm": list(modules)}, None)

    def death(self) -> str:
        """Say how the template process died, and its last words; empty if it has not.

        Called when its cells' status pipes have closed: it is gone, or nearly so.
        """
        with self._lock:
            process = self._process
            if self._closed or process is None:
                return "the worker was closing" if self._closed else ""
            try:
                code = process.wait(1.0)
            except subprocess.TimeoutExpired:
                return ""
            how = f"exit code {code}" if code >= 0 else f"signal {-code} ({signal_name(-code)})"
            words = self._last_words()
            return f"{how}: {words}" if words else how

    def close(self, timeout: float = 5.0) -> None:
        """End the template and all cells, and what they started; blocks until they are gone."""
        with self._lock:
            self._closed = True
            if self._socket is not None:
                self._socket.close()
            if self._process is not None:
                try:
                    self._process.wait(timeout)
                except subprocess.TimeoutExpired:
                    for child in psutil.Process(self._process.pid).children(recursive=True):
                        child.kill()
                    self._process.kill()
                    self._process.wait()
            self._last_words()

    def _start(self) -> socket.socket:
        if self._closed:
            raise RuntimeError("this worker is closing: it runs no more cells")
        if self._process is not None and self._process.poll() is not None:
            self._reap()
        if self._socket is None:
            ours, theirs = socket.socketpair()
            with theirs:
                self._said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
                # A session of its own: signals that a terminal or a supervisor sends to the
                # worker's group are the worker's to handle.
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-c", bootstrap(sys.path, theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stderr=self._said,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                    env=dict(os.environ),
                )
            self._socket = ours
        return self._socket

    def _last_words(self) -> str:
        """Return the last line that the process wrote to stderr, and log all of it."""
        if self._said is None:
            return ""
        self._said.seek(0)
        text = self._said.read().decode("utf-8", "replace").strip()
        self._said.close()
        self._said = None
        if text:
            logger.error("the template process died and said:\n%s", text)
        return text.rpartition("\n")[2]

    def _reap(self) -> None:
        self._last_words()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            self._process.wait()
            self._process = None
