"""The log file of a detached server."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dask_async_run.server import log


def write(folder: Path, text: str) -> None:
    fd = log.open_log(folder)
    os.write(fd, text.encode())
    os.close(fd)


def test_it_is_appended_to_and_private(tmp_path: Path) -> None:
    write(tmp_path, "one\n")
    write(tmp_path, "two\n")
    assert log.path(tmp_path).read_text() == "one\ntwo\n"
    assert log.path(tmp_path).stat().st_mode & 0o777 == 0o600


def test_an_error_quotes_what_was_said_since(tmp_path: Path) -> None:
    assert log.last_lines(tmp_path, 0) == ""
    write(tmp_path, "of yesterday\n")
    begun = log.size(tmp_path)
    assert log.last_lines(tmp_path, begun) == ""
    write(tmp_path, "".join(f"line {i}\n" for i in range(100)))
    assert log.last_lines(tmp_path, begun, 2) == "line 98\nline 99"
    log.path(tmp_path).write_text("trimmed meanwhile\n")
    assert log.last_lines(tmp_path, begun + 1000) == "trimmed meanwhile"


def test_it_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has it open goes on writing at its beginning."""
    monkeypatch.setattr(log, "LARGEST", 1000)
    log.trim(tmp_path)
    fd = log.open_log(tmp_path)
    os.write(fd, b"x" * 2000)
    log.trim(tmp_path)
    os.write(fd, b"new\n")
    os.close(fd)
    assert log.path(tmp_path).read_bytes() == b"new\n"
    older = tmp_path / "server.log.1"
    assert older.stat().st_size == 2000
    assert older.stat().st_mode & 0o777 == 0o600
