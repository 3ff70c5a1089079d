"""What a cell shows besides text, in nbformat's terms: displays, its result, its error."""

from __future__ import annotations

import datetime
import math
import numbers
from binascii import b2a_base64
from collections.abc import Iterable, Mapping
from typing import Any

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher

from dask_async_run.worker.channel import Channel
from dask_async_run.worker.widgets import Widgets


class CellDisplayPublisher(DisplayPublisher):
    """What ``display`` and ``clear_output`` lead to; like ipykernel's, over a `Channel`."""

    channel: Channel
    widgets: Widgets

    def publish(
        self,
        data: dict[str, Any],
        metadata: dict[str, Any] | None = None,
        source: object = None,
        *,
        transient: dict[str, Any] | None = None,
        update: bool = False,
        **kwargs: Any,
    ) -> None:
        checked: Any = self
        checked._validate_data(data, metadata)
        output = {
            "output_type": "update_display_data" if update else "display_data",
            "data": showable(data),
            "metadata": plain(metadata or {}),
            "transient": plain(transient or {}),
        }
        if self.channel.in_child:
            # The socket is the parent's: what a fork shows comes as text.
            print(output["data"].get("text/plain", ""))
        elif (shown := self.widgets.shown(output)) is not None:
            self.channel.send("output", shown)

    def clear_output(self, wait: bool = False) -> None:
        if not self.widgets.cleared():
            self.channel.send("output", {"output_type": "clear_output", "wait": bool(wait)})


class CellDisplayHook(DisplayHook):
    """What shows the value of a cell's last expression; like ipykernel's.

    Attributes
    ----------
    values : tuple
        The last three values that it showed, oldest first: ``___``, ``__`` and ``_``.
    """

    channel: Channel
    widgets: Widgets
    values: tuple[Any, ...] = ()
    _shown: dict[str, Any] | None = None

    def update_user_ns(self, result: Any) -> None:
        # An empty text that was shown is not the one that stands for nothing at first.
        shell: Any = self.shell
        if result is not shell.user_ns["_oh"]:
            self.values = (*self.values, result)[-3:]
        base: Any = super()
        base.update_user_ns(result)

    def start_displayhook(self) -> None:
        self._shown = None

    def write_output_prompt(self) -> None:
        pass

    def write_format_data(
        self, format_dict: dict[str, Any], md_dict: dict[str, Any] | None = None
    ) -> None:
        self._shown = {
            "output_type": "execute_result",
            "execution_count": self.prompt_count,
            "data": showable(format_dict),
            "metadata": plain(md_dict or {}),
        }

    def finish_displayhook(self) -> None:
        shown, self._shown = self._shown, None
        if shown and shown["data"]:
            if self.channel.in_child:
                print(shown["data"].get("text/plain", ""))
            elif (seen := self.widgets.shown(shown)) is not None:
                self.channel.send("output", seen)


def error_output(
    error: BaseException, traceback: list[str], name: str | None = None
) -> dict[str, Any]:
    """Return nbformat's ``error`` output."""
    ename, evalue = error_text(error)
    return {
        "output_type": "error",
        "ename": plain(name) if name else ename,
        "evalue": evalue,
        "traceback": plain(traceback),
    }


def error_text(error: BaseException | None) -> tuple[str, str]:
    """Return an exception's type and text; empty for None."""
    if error is None:
        return "", ""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a user's __str__
        text = "<exception str() failed>"
    return plain(type(error).__name__), plain(text)


def showable(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mime bundle in plain values."""
    return {str(mime): plain(value) for mime, value in data.items()}


def plain(value: Any) -> Any:
    """Return `value` in what both JSON and msgpack can hold, as Jupyter's messages do.

    bytes become base64, dates ISO 8601, NaN and infinities their ``repr``, mappings
    dicts with str keys, other iterables lists, anything else its ``str``.
    """
    match value:
        case None | bool():
            return value
        case str():
            return _encodable(value)
        case bytes() | bytearray() | memoryview():
            return b2a_base64(value, newline=False).decode("ascii")
        case numbers.Integral():
            # JSON has no limit, msgpack has 64 bits; as a float it stays a number.
            return int(value) if -(2**63) <= int(value) < 2**64 else float(int(value))
        case numbers.Real():
            return float(value) if math.isfinite(value) else repr(float(value))
        case datetime.date():
            return value.isoformat()
        case Mapping():
            return {_encodable(str(key)): plain(item) for key, item in value.items()}
        case Iterable():
            return [plain(item) for item in value]
        case _:
            return _encodable(str(value))


def _encodable(text: str) -> str:
    """Return a plain str, lone surrogates replaced: neither msgpack nor JSON takes them."""
    if text.isascii():
        return str(text)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
