"""What nobody has shown to a cell is in no file, page or command line of ours."""

from __future__ import annotations

import urllib.request
import uuid
from pathlib import Path
from typing import Any

import psutil

from dask_async_run.server.connection import find

from .conftest import LOAD, OpenKernel

PAGES = (
    "/metrics",
    "/info/main/workers.html",
    "/info/main/exceptions.html",
    "/info/main/logs.html",
    "/json/counts.json",
)


def holding(folder: Path, secret: str) -> list[Path]:
    """Files under a folder in which a secret is."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path for path in files if secret.encode() in path.read_bytes()]


def test_no_secret_is_written_or_shown(open_kernel: OpenKernel, folders: Any) -> None:
    """The kernel's environment, the key of the certificate, what opens the dashboard's door."""
    token = uuid.uuid4().hex
    kernel = open_kernel(API_TOKEN=token)
    kernel.do(LOAD + "%async_run_server --workers 1")
    kernel.do("import os\nos.environ['SHOWN'] = 'by the notebook'")
    kernel.do("%%async_run --name a\nprint(len(os.environ['API_TOKEN']), os.environ['SHOWN'])\n1/0")
    assert kernel.run("%async_gather a").stdout == "32 by the notebook\n"
    server = find("default")
    assert server is not None
    key = server.tls["key"].splitlines()[1]
    assert holding(folders.runtime, key) == holding(folders.runtime, server.door)
    assert [path.name for path in holding(folders.runtime, key)] == ["default.json"]

    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    assert server.dashboard_link is not None
    assert server.dashboard is not None
    browser.open(server.dashboard_link, timeout=20).close()
    shown = ""
    for page in PAGES:
        with browser.open(server.dashboard.removesuffix("/status") + page, timeout=20) as read:
            shown += read.read().decode()
    process = psutil.Process(server.pid)
    for each in (process, *process.children(recursive=True)):
        shown += " ".join(each.cmdline())
    for secret in (token, key, server.door):
        assert holding(folders.state, secret) == []
        assert secret not in shown
    assert holding(folders.runtime, token) == []
