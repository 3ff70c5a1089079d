"""Where things lie, and that nobody else can touch them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from dask_async_run import folders as module
from dask_async_run.errors import ServerError
from dask_async_run.folders import (
    RUNTIME_VARIABLE,
    STATE_VARIABLE,
    check_private_folder,
    private_folder,
    runtime_folder,
    server_name,
    state_folder,
)


@pytest.mark.parametrize("name", ["default", "a", "_x", "gpu-2.big", "x" * 64])
def test_names_that_a_server_can_have(name: str) -> None:
    assert server_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a\0b", "a b", "-x", ".x", "é", "x" * 65, "a\n", "'"]
)
def test_names_that_would_be_other_files_are_refused(name: str) -> None:
    with pytest.raises(ServerError, match="cannot name a server"):
        server_name(name)
    with pytest.raises(ServerError):
        state_folder(name)


def test_the_environment_chooses_the_folders(folders: Any) -> None:
    assert state_folder("big") == folders.state / "big"
    assert runtime_folder() == folders.runtime


def test_without_environment_they_are_where_the_system_wants_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(STATE_VARIABLE)
    monkeypatch.delenv(RUNTIME_VARIABLE)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    assert state_folder().name == module.DEFAULT_SERVER
    assert state_folder().parent.name == "dask_async_run"
    assert runtime_folder() == tmp_path / "runtime" / "dask_async_run"


def test_a_relative_folder_becomes_absolute(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(STATE_VARIABLE, "here")
    assert state_folder() == tmp_path / "here" / "default"


def test_a_missing_folder_is_made_for_this_user_alone(tmp_path: Path) -> None:
    """Whatever the umask is, and parents too."""
    before = os.umask(0)
    try:
        folder = private_folder(tmp_path / "a" / "b" / ("c" * 200) / "d", "VARIABLE")
    finally:
        os.umask(before)
    for made in (folder, *folder.parents[:3]):
        assert made.stat().st_mode & 0o777 == 0o700
    assert private_folder(folder, "VARIABLE") == folder


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o711, 0o701])
def test_a_folder_that_others_can_enter_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(ServerError, match=rf"{mode:04o}.*chmod 700"):
        private_folder(folder, "VARIABLE")
    assert folder.stat().st_mode & 0o777 == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "foreign"
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)
    with pytest.raises(ServerError, match="belongs to user 12345"):
        check_private_folder(folder)


def test_what_cannot_be_made_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (
        tmp_path / "file" / "x",
        tmp_path / "file",
        tmp_path / ("x" * 300),
        Path("/proc/x"),
    ):
        with pytest.raises(ServerError) as caught:
            private_folder(folder, "THE_VARIABLE")
        assert str(folder) in str(caught.value)
