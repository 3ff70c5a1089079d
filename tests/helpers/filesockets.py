"""Kernels that are talked to through sockets in a folder.

Jupyter chooses a kernel's TCP ports before the kernel binds them. Where much connects at the
same time, as in these tests, somebody else may have one of them by then, and the kernel dies at
its start.
"""

from __future__ import annotations

import shutil
import tempfile

from jupyter_client.connect import ConnectionFileMixin
from jupyter_client.manager import AsyncKernelManager, KernelManager
from traitlets import CaselessStrEnum


class _FileSockets(ConnectionFileMixin):
    """The sockets are in a folder of the kernel's own, with a short path: 107 bytes at most."""

    transport = CaselessStrEnum(["tcp", "ipc"], default_value="ipc")
    _folder = ""

    def _ip_default(self) -> str:
        self._folder = tempfile.mkdtemp(prefix="dar-kernel-", dir="/tmp")
        return f"{self._folder}/socket"

    def cleanup_ipc_files(self) -> None:
        super().cleanup_ipc_files()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)


class FileKernelManager(_FileSockets, KernelManager):
    """Of one kernel."""


class AsyncFileKernelManager(_FileSockets, AsyncKernelManager):
    """Of one kernel, as nbclient wants it."""
