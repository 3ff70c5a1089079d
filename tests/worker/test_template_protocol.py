"""What a worker and its template process say to each other."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

LITTLE_ROOM = """\
import os, resource, socket
from dask_async_run.worker.template_protocol import CellFds, receive_request, send_request

here, there = socket.socketpair()
send_request(here, {"cell": 1}, CellFds(*[0] * 5))
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (there.fileno() + 3, most))
try:
    receive_request(there)
except OSError as error:
    print(error)
"""


def test_a_template_with_too_many_open_files_says_so() -> None:
    """The system leaves descriptors out without a word."""
    done = subprocess.run([sys.executable, "-c", LITTLE_ROOM], capture_output=True, text=True)
    assert os.strerror(errno.EMFILE) in done.stdout, done
    assert "as many files open as it may" in done.stdout
