"""A fact that is stated twice is the same in both places."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest

import dask_async_run
import survival
from dask_async_run.job import State

ROOT = Path(__file__).parents[1]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_readmes_test_command_is_what_ci_runs() -> None:
    """.ci/run ends with the README's line, word for word."""
    command = text(".ci/run").rstrip().splitlines()[-1]
    assert command.endswith(".venv/bin/tox")
    assert f"```sh\n{command}\n```" in text("README.md")


def test_one_version() -> None:
    """pyproject.toml, the package, its metadata and the change log's newest entry agree."""
    found = re.search(r'^version = "(.+)"$', text("pyproject.toml"), re.MULTILINE)
    assert found is not None
    released = re.findall(r"^## \[(\d.*?)\]", text("CHANGELOG.md"), re.MULTILINE)
    assert {found[1], version("dask-async-run"), released[0]} == {dask_async_run.__version__}


def test_the_readme_names_every_state() -> None:
    """And each in code font."""
    for state in State:
        assert f"`{state}`" in text("README.md")


def test_the_readme_names_every_magic() -> None:
    """And no others."""
    from dask_async_run.kernel.magics import MAGICS

    assert set(re.findall(r"%(async_\w+)", text("README.md"))) == set(MAGICS)


def test_everything_public_is_there() -> None:
    """`__all__` is what there is."""
    for name in dask_async_run.__all__:
        assert getattr(dask_async_run, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = dask_async_run.nothing


def test_contributing_has_a_line_for_each_module() -> None:
    """Its tree is what the modules' docstrings say."""
    done = subprocess.run(
        [sys.executable, "-c", "import tree; print(tree.tree(), end='')"],
        cwd=ROOT / "docs",
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"```\n{done.stdout}```" in text("CONTRIBUTING.md"), "run: python docs/tree.py"


def test_the_command_is_installed() -> None:
    """`dask-async-run` is `cli.main`, and the help names what the README names."""
    (script,) = entry_points(group="console_scripts", name="dask-async-run")
    assert script.value == "dask_async_run.cli:main"
    done = subprocess.run(
        [sys.executable, "-m", "dask_async_run", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    named = set(re.findall(r"dask-async-run ([a-z]+)", text("README.md")))
    for command in named:
        assert re.search(rf"^ +{command}\b", done.stdout, re.MULTILINE), command


def test_readmes_table_of_survival_is_what_tests_try() -> None:
    """Each row has a test that causes the fault, each mark a row."""
    assert survival.markdown() in text("README.md")
    marks = {
        fault
        for path in (ROOT / "tests").rglob("test_*.py")
        for fault in re.findall(r'@pytest\.mark\.survives\(\s*"([^"]+)"', path.read_text())
    }
    assert marks == {row.fault for row in survival.ROWS}
