"""What a terminal's encoding lacks is spelt out."""

from __future__ import annotations

import io
import sys

import pytest

from dask_async_run.spelling import spelt_out


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_what_is_not_in_ascii(monkeypatch: pytest.MonkeyPatch, errors: str) -> None:
    """Also where Python was told by a locale of C to let undecodable names through."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", errors=errors)
    monkeypatch.setattr(sys, "stdout", stream)
    with spelt_out():
        print("größe", flush=True)
    assert raw.getvalue() == b"gr\\xf6\\xdfe\n"
    assert stream.errors == errors
