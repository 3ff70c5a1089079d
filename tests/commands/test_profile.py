"""The extension in every IPython session, and out of it again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dask_async_run.commands.profile import (
    config_file,
    disable,
    enable,
    enabled,
    with_extension,
    without_extension,
)
from dask_async_run.errors import ProfileError

OTHERS: list[dict[str, Any]] = [
    {},
    {"version": 1},
    {"TerminalInteractiveShell": {"colors": "Linux"}},
    {"InteractiveShellApp": {"extensions": ["autoreload"]}},
    {"InteractiveShellApp": {"extra_extensions": ["autoreload"], "exec_lines": ["1"]}},
]


@pytest.mark.parametrize("config", OTHERS)
def test_disable_undoes_enable(config: dict[str, Any]) -> None:
    there = with_extension(config)
    assert enabled(there)
    assert not enabled(config)
    assert with_extension(there) == there
    assert without_extension(there) == config
    assert without_extension(config) == config


def test_what_a_user_wrote_is_undone_too() -> None:
    config = {"InteractiveShellApp": {"extensions": ["a", "dask_async_run"]}}
    assert without_extension(config) == {"InteractiveShellApp": {"extensions": ["a"]}}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"InteractiveShellApp": 3}',
        "\udcff",
        '{"InteractiveShellApp": {"extra_extensions": "x"}}',
    ],
)
def test_what_is_not_understood_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ipython_config.json"
    path.write_text(text, errors="surrogateescape")
    for change in (enable, disable):
        with pytest.raises(ProfileError, match="Nothing was changed"):
            change(path)
    assert path.read_text(errors="surrogateescape") == text
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_was_not_there_is_gone_again(tmp_path: Path) -> None:
    path = tmp_path / "profile_default" / "ipython_config.json"
    assert enable(path)
    assert not enable(path)
    assert json.loads(path.read_text()) == {
        "InteractiveShellApp": {"extra_extensions": ["dask_async_run"]}
    }
    assert disable(path)
    assert not disable(path)
    assert list(path.parent.iterdir()) == []


def test_a_link_and_its_files_mode_stay(tmp_path: Path) -> None:
    real = tmp_path / "dotfiles.json"
    real.write_text('{"version": 1}')
    real.chmod(0o600)
    link = tmp_path / "ipython_config.json"
    link.symlink_to(real)
    assert enable(link)
    assert link.is_symlink()
    assert enabled(json.loads(real.read_text()))
    assert real.stat().st_mode & 0o777 == 0o600


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    with pytest.raises(ProfileError):
        enable(Path("/proc/nowhere/ipython_config.json"))


def test_ipython_loads_it_and_the_users_own_extensions_too(tmp_path: Path) -> None:
    """Where `ipython_config.py` sets `extensions`, both lists count."""
    path = config_file()
    path.parent.mkdir(parents=True)
    (path.parent / "ipython_config.py").write_text(
        "c.InteractiveShellApp.extensions = ['theirs']\n"
    )
    for name in ("theirs", "dask_async_run"):
        (tmp_path / f"{name}.py").write_text(
            f"def load_ipython_extension(shell): print('loaded {name}')\n"
        )
    enable(path)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); del sys.argv[1]\n"
        "from IPython import start_ipython; start_ipython(['-c', '0'])"
    )
    ran = subprocess.run(
        [sys.executable, "-P", "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert ran.stdout.split("\n")[:2] == ["loaded theirs", "loaded dask_async_run"], ran
