"""Marks of whole files: true until somebody writes, or the machine is started again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dask_async_run import marks
from dask_async_run.marks import Marks


@pytest.fixture(params=["attribute", "process"])
def noted(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Marks, Path]:
    """A file that is noted as whole: with the file itself, or where that cannot be, here."""
    if request.param == "process":
        monkeypatch.delattr(os, "setxattr")
    path = tmp_path / "file"
    path.write_bytes(b"whole")
    known = Marks()
    with path.open("rb") as file:
        known.note(file.fileno(), known.word(file.fileno()))
    return known, path


def has(known: Marks, path: Path) -> bool:
    with path.open("rb") as file:
        return known.has(file.fileno())


def test_it_stays_until_somebody_writes(noted: tuple[Marks, Path]) -> None:
    """Reading, renaming and a new time of access change nothing."""
    known, path = noted
    assert has(known, path)
    path = path.rename(path.with_name("other"))
    os.utime(path, ns=(1, path.stat().st_mtime_ns))
    path.read_bytes()
    assert has(known, path)
    path.write_bytes(b"whole")
    os.utime(path)
    assert not has(known, path)


def test_another_file_in_its_place_is_not_noted(noted: tuple[Marks, Path]) -> None:
    known, path = noted
    other = path.with_name("other")
    other.write_bytes(b"wrong")
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)
    assert not has(known, path)


def test_a_restart_of_the_machine_ends_it(
    noted: tuple[Marks, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    known, path = noted
    monkeypatch.setattr(marks, "_boot", lambda: "another")
    assert not has(known, path)


def test_what_was_written_after_the_reading_began_is_not_noted(tmp_path: Path) -> None:
    """The word is that of the file as it was read."""
    path = tmp_path / "file"
    path.write_bytes(b"whole")
    known = Marks()
    with path.open("rb") as file:
        word = known.word(file.fileno())
        os.utime(path)
        known.note(file.fileno(), word)
    assert not has(known, path)
