"""Nobody sees the dashboard who was not let in by the user whose it is."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

from dask_async_run.server import door
from dask_async_run.server.connection import Connection
from dask_async_run.server.launch import ensure_server

SECRET = "5" * 32
GOOD = door.code(SECRET, now=1000.0)


@dataclass
class Code:
    name: str
    given: str
    now: float
    good: bool


CODES = [
    Code("fresh", GOOD, 1000.0, True),
    Code("just in time", GOOD, 1000.0 + door.CODE_LIFE, True),
    Code("too old", GOOD, 1001.0 + door.CODE_LIFE, False),
    Code("another server's", door.code("6" * 32, now=1000.0), 1000.0, False),
    Code("made to last", str(10**10) + GOOD[-18:], 1000.0, False),
    Code("damaged", GOOD[:-1] + ("1" if GOOD[-1] == "0" else "0"), 1000.0, False),
    Code("empty", "", 1000.0, False),
    Code("short", GOOD[-18:], 1000.0, False),
    Code("text", "x" * 30, 1000.0, False),
    Code("other digits", "\u0661" * 30, 1000.0, False),
    Code("huge", "9" * 5000, 1000.0, False),
]


@pytest.mark.parametrize("case", CODES, ids=lambda case: case.name)
def test_codes(case: Code) -> None:
    """A code is good for some minutes, with its own server."""
    assert door.is_good(SECRET, case.given, case.now) is case.good


@pytest.fixture
def connection(folders: Any, stopping: None) -> Connection:
    return ensure_server(workers=1)[0]


class Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirection."""

    def redirect_request(self, *args: object) -> None:
        return None


def status(url: str, **headers: str) -> int:
    """Status of a plain request, which follows no redirection."""
    try:
        with urllib.request.build_opener(Stay).open(
            urllib.request.Request(url, headers=headers), timeout=20
        ) as page:
            return int(page.status)
    except HTTPError as error:
        return error.code


def test_without_a_cookie_there_is_nothing(connection: Connection) -> None:
    """No page, no metrics, no web socket; the health check alone tells nothing of anybody."""
    assert connection.dashboard is not None
    root = connection.dashboard.removesuffix("/status")
    socket = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    for path in ("/", "/status", "/metrics", "/info/main/workers.html", "/sitemap.json", "/json/x"):
        assert status(root + path) == 403, path
    assert status(f"{root}/status?code=123") == 403
    assert status(f"{root}/status", Cookie=f"dask_async_run_{root.rpartition(':')[2]}=1") == 403
    key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    assert status(f"{root}/status/ws", **socket, **key) == 403
    assert status(f"{root}/health") == 200


def test_the_link_lets_a_browser_in(connection: Connection) -> None:
    """Once; the code is gone from the address then, and the cookie is enough."""
    assert connection.dashboard is not None
    assert connection.dashboard_link is not None
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with browser.open(f"{connection.dashboard_link}&theme=dark", timeout=20) as page:
        assert (page.status, page.url) == (200, f"{connection.dashboard}?theme=dark")
    with browser.open(connection.dashboard.replace("/status", "/metrics"), timeout=20) as page:
        assert page.status == 200
    # Whatever folder a proxy puts its pages in, the browser keeps the cookie for that one.
    with pytest.raises(HTTPError) as answer:
        urllib.request.build_opener(Stay).open(connection.dashboard_link, timeout=20)
    with answer.value as redirection:
        assert "path" not in redirection.headers["Set-Cookie"].casefold()
    assert connection.door not in repr(connection)


def as_nobody(attempt: Callable[[], str]) -> str:
    """What a function answers in a process of another user."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os.write(write, attempt().encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as said:
        answer = said.read()
    os.waitpid(child, 0)
    return answer


def refusal(folder: str) -> str:
    try:
        return str(list(Path(folder).iterdir()))
    except PermissionError:
        return "refused"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_of_the_machine_gets_nowhere(connection: Connection, folders: Any) -> None:
    """Neither to the dashboard nor into the folders."""
    folders.home.chmod(0o755)
    assert connection.dashboard is not None
    page = connection.dashboard
    assert as_nobody(lambda: str(status(page))) == "403"
    for folder in (connection.state_folder, str(folders.runtime)):
        assert as_nobody(lambda folder=folder: refusal(folder)) == "refused"  # type: ignore[misc]
