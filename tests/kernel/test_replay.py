"""Recorded outputs become ordinary ones, in their order."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest

from dask_async_run.kernel.replay import COARSE, EXACT, Replay


class Gathering(io.StringIO):
    """A stream that shows what it was given when it is flushed, as a kernel's does."""

    def __init__(self, name: str, shown: list[tuple[str, str]]) -> None:
        super().__init__()
        self._name = name
        self._shown = shown

    def flush(self) -> None:
        if text := self.getvalue():
            self._shown.append((self._name, text))
        self.seek(0)
        self.truncate()


def replayed(told: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """What a kernel's page would be sent of these pieces of text."""
    shown: list[tuple[str, str]] = []
    outputs: list[dict[str, Any]] = [
        {"output_type": "stream", "name": name, "text": text} for name, text in told
    ]
    with pytest.MonkeyPatch.context() as patch:
        for name in ("stdout", "stderr"):
            patch.setattr(sys, name, Gathering(name, shown))
        Replay(None).show(outputs)
    return shown


def test_streams_in_their_order() -> None:
    """A bar on stderr stands above the line that the cell printed after it."""
    told = [("stderr", "bar 0\n"), ("stdout", "loss 0\n"), ("stderr", "bar 1\n")]
    told += [("stdout", "loss 1\n")]
    assert replayed(told) == told


def test_many_changes_of_stream() -> None:
    """Past some of them the order is kept roughly, and the page is not flooded."""
    told = [("stdout", "out\n"), ("stderr", "err\n")] * 20_000
    shown = replayed(told)
    assert shown[: EXACT - 1] == told[: EXACT - 1]
    assert len(shown) < EXACT + 3 * 8 * 20_000 / COARSE
    for name, text in (("stdout", "out\n"), ("stderr", "err\n")):
        assert "".join(piece for kind, piece in shown if kind == name) == text * 20_000
    assert max(len(piece) for _, piece in shown) <= COARSE
