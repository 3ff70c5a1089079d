"""For every test: folders of its own, and nothing left behind."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import settings

from dask_async_run.memory import DEFAULT, VARIABLE
from leftovers import MARK, Snapshot
from survival import markdown

# Hypothesis: no deadline for an example, since machines are shared; the same examples in
# every run of CI, new ones at everybody's desk.
settings.register_profile("project", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("project")

LINGER = 60.0
"""Seconds that processes and threads of a test may take to end after it."""


SOAK = 8.0
"""Seconds of the soak in an ordinary run."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a soak be longer, and be repeated."""
    group = parser.getgroup("soak", "the soak of tests/e2e/test_soak.py")
    group.addoption("--soak-seconds", type=float, default=SOAK, help="how long it goes on")
    group.addoption("--seed", type=int, default=None, help="what it draws its actions from")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give a soak the time that it was told to take."""
    limit = 4 * config.getoption("--soak-seconds") + 300
    for item in items:
        if "soak_seconds" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(limit))


@pytest.fixture
def soak_seconds(request: pytest.FixtureRequest) -> float:
    return float(request.config.getoption("--soak-seconds"))


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The same one in every run of CI, a new one at everybody's desk."""
    given = request.config.getoption("--seed")
    return int(time.time()) % 100_000 if given is None and "CI" not in os.environ else given or 0


@dataclass(frozen=True)
class Folders:
    """A test's own folders, which its environment variables name."""

    home: Path
    state: Path
    runtime: Path
    temp: Path

    def environment(self) -> dict[str, str]:
        return {
            "DASK_ASYNC_RUN_STATE": str(self.state),
            "DASK_ASYNC_RUN_RUNTIME": str(self.runtime),
            "JUPYTER_RUNTIME_DIR": str(self.runtime / "jupyter"),
            "IPYTHONDIR": str(self.home / "ipython"),
            "TMPDIR": str(self.temp),
        }


def _visible() -> set[str]:
    """Names in the working folder, caches of tools left out."""
    return {path.name for path in Path().iterdir() if not path.name.startswith((".", "__"))}


@pytest.fixture(scope="session", autouse=True)
def _nothing_of_the_users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the whole run away from the configuration, caches and state of whoever runs it."""
    tmp_path_factory.getbasetemp()  # now, before a test's own temporary folder is in force
    home = Path(tempfile.mkdtemp(prefix="dar-home-"))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
            patch.setenv(name, str(home / name.lower()))
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
            patch.setenv(name, str(home / name.lower()))
        patch.setenv("IPYTHONDIR", str(home / "ipython"))
        patch.setenv("DASK_CONFIG", str(home / "dask"))
        # One for the run, not one a test: building matplotlib's font cache takes seconds.
        patch.setenv("MPLCONFIGDIR", str(home / "matplotlib"))
        patch.setenv("DASK_ASYNC_RUN_STATE", str(home / "state"))
        patch.setenv("DASK_ASYNC_RUN_RUNTIME", str(home / "runtime"))
        # What servers that a test kills have in memory goes with the run.
        has_any = DEFAULT.is_dir() and os.access(DEFAULT, os.W_OK)
        memory = tempfile.mkdtemp(prefix="dar-memory-", dir=DEFAULT) if has_any else ""
        patch.setenv(VARIABLE, memory)
        patch.delenv("JPY_SESSION_NAME", raising=False)
        yield
    shutil.rmtree(home, ignore_errors=True)
    if memory:
        shutil.rmtree(memory, ignore_errors=True)


@pytest.fixture(autouse=True)
def folders(monkeypatch: pytest.MonkeyPatch) -> Iterator[Folders]:
    """Give the test folders of its own; after it, assert that it left nothing behind.

    What fixtures of a wider scope started is there before the test and not
    counted. What did last is ended, so that one test's fault does not become
    the next one's.
    """
    # A short path: sockets' names must fit into 107 bytes.
    home = Path(tempfile.mkdtemp(prefix="dar-", dir="/tmp"))
    made = Folders(home, home / "state", home / "runtime", home / "tmp")
    made.temp.mkdir()
    mark = uuid.uuid4().hex
    for name, value in {**made.environment(), MARK: mark}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tempfile, "tempdir", str(made.temp))
    before = Snapshot(mark, made.temp)
    here = _visible()

    yield made

    deadline = time.monotonic() + LINGER
    while (left := before.left()) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in before.processes():
        with suppress(psutil.Error):
            process.kill()
    left += [f"file {name} in the working folder" for name in _visible() - here]
    shutil.rmtree(home, ignore_errors=True)
    if left:
        pytest.fail("left behind:\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture
def shared_memory() -> None:
    """Skip the test on a machine that has no shared memory."""
    if not os.environ[VARIABLE]:
        pytest.skip("this machine has no shared memory")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print README's table of survival as this run found it, if it caused the faults."""
    ended: dict[str, list[str]] = {}
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            for fault in getattr(report, "survives", ()):
                ended.setdefault(fault, []).append(outcome)
    if ended:
        told = {
            fault: f"{len(ends)} x" if set(ends) == {"passed"} else "FAILED"
            for fault, ends in ended.items()
        }
        terminalreporter.section("what survives")
        terminalreporter.write_line(markdown(told))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[Any]:
    """Note which faults a test caused."""
    report: Any = yield
    if report.when == "call" or report.outcome == "failed":
        report.survives = [mark.args[0] for mark in item.iter_markers("survives")]
    return report
