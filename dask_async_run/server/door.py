"""The dashboard's door: who has not been let in by this user sees nothing behind it.

The dashboard is a web page on the loopback interface, which every user of the machine can
reach. So it asks for a cookie. A browser gets the cookie from a link with a code, which who
can read the connection file can make; a code is good for some minutes, so that a link in a
saved notebook is nobody's key. The door stands before everything that the scheduler's web
server has, web sockets and metrics too.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from typing import Any
from urllib.parse import urlencode

CODE_LIFE = 900
"""Seconds for which a link opens the door."""

_DIGITS = 18
_OPEN = ("/health",)
_TEXT = (
    "This dashboard is shown to the user alone whose jobs it shows. Open the link that "
    "%async_dashboard (in a notebook) or `dask-async-run status` (in a shell) makes; it is good "
    f"for {CODE_LIFE // 60} minutes, and this browser is let in from then on.\n"
)


def new_secret() -> str:
    """Make a secret for one server."""
    return secrets.token_hex(16)


def code(secret: str, now: float | None = None) -> str:
    """Make a code of digits that is good for `CODE_LIFE` seconds."""
    end = str(int((time.time() if now is None else now) + CODE_LIFE))
    return end + _sign(secret, end)


def is_good(secret: str, given: str, now: float | None = None) -> bool:
    """Whether a code was made with the secret, and not too long ago."""
    end, sign = given[:-_DIGITS], given[-_DIGITS:]
    if not (end.isascii() and end.isdigit() and len(end) < _DIGITS):
        return False
    fresh = int(end) >= (time.time() if now is None else now)
    return hmac.compare_digest(sign.encode(), _sign(secret, end).encode()) and fresh


def link(address: str, secret: str) -> str:
    """Add a code to the dashboard's address."""
    return f"{address}{'&' if '?' in address else '?'}{urlencode({'code': code(secret)})}"


def _sign(secret: str, text: str) -> str:
    digest = hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()
    return f"{int.from_bytes(digest) % 10**_DIGITS:0{_DIGITS}}"


def shut(application: Any, secret: str, port: int) -> None:
    """Put a door before a tornado application; in the server's event loop.

    Parameters
    ----------
    application : tornado.web.Application
    secret : str
    port : int
        Where it listens: browsers send a cookie to all ports of a machine.
    """
    from tornado.web import RequestHandler

    name, value = f"dask_async_run_{port}", _sign(secret, "cookie")
    find = application.find_handler

    def let_in(request: Any) -> bool:
        held = request.cookies.get(name)
        return held is not None and hmac.compare_digest(held.value.encode(), value.encode())

    class Door(RequestHandler):
        """Answers who has no cookie: gives one for a good code."""

        def prepare(self) -> None:
            given = self.get_query_argument("code", "")
            # One that was let in is not kept out by an old link.
            if self.request.method == "GET" and (is_good(secret, given) or let_in(self.request)):
                # A cookie without a path is for the folder of the page that the browser asked
                # for: behind a proxy, which has others' pages beside this one, it stays there.
                path = "" if self.request.path.count("/") == 1 else "/"
                self.set_cookie(name, value, path=path, httponly=True, samesite="Lax")
                left = {
                    key: self.get_query_arguments(key)
                    for key in self.request.query_arguments
                    if key != "code"
                }
                query = f"?{urlencode(left, doseq=True)}" if left else ""
                # Relative: behind a proxy the path has a prefix that is not known here.
                self.redirect((self.request.path.rpartition("/")[2] or ".") + query)
                return
            self.set_status(403)
            self.set_header("Content-Type", "text/plain; charset=UTF-8")
            self.finish(_TEXT)

        def check_xsrf_cookie(self) -> None:
            """Nothing is done here that a forged request could use."""

    def find_handler(request: Any, **kwargs: Any) -> Any:
        if request.path in _OPEN or ("code" not in request.query_arguments and let_in(request)):
            return find(request, **kwargs)
        return application.get_handler_delegate(request, Door)

    application.find_handler = find_handler
