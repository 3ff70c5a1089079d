"""What a server can be asked to be."""

from __future__ import annotations

import os

import dask
import pytest

from dask_async_run.cli import parser
from dask_async_run.errors import ServerError
from dask_async_run.server.options import IDLE_TIMEOUT, Options, dask_config, server_environment


def test_by_default_a_worker_for_each_core() -> None:
    from dask.system import CPU_COUNT

    assert Options().checked() == Options(workers=CPU_COUNT)
    assert Options().memory_bytes == 0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (Options(name="a/b"), "cannot name a server"),
        (Options(workers=0), "0 workers"),
        (Options(workers=-3), "-3 workers"),
        (Options(memory_limit="much"), "no size"),
        (Options(memory_limit="0"), "no size"),
        (Options(memory_limit=""), "no size"),
        (Options(memory_limit="-4GiB"), "no size"),
        (Options(disk_limit="0 B"), "no size"),
        (Options(idle_timeout=-1), "idle timeout"),
        (Options(idle_timeout=float("nan")), "idle timeout"),
        (Options(idle_timeout=float("inf")), "idle timeout"),
    ],
)
def test_what_makes_no_sense_is_refused(options: Options, text: str) -> None:
    with pytest.raises(ServerError, match=text):
        options.checked()


@pytest.mark.parametrize(
    "options",
    [
        Options(),
        Options("big", 4, "4GiB", dashboard=False, idle_timeout=0.0),
        Options(memory_limit="1.5e9"),
        Options(disk_limit="20GiB"),
    ],
)
def test_options_survive_the_command_line(options: Options) -> None:
    """A detached server is told on its command line what its starter was told."""
    given = parser().parse_args(["server", *options.arguments()])
    again = Options(
        given.server,
        given.workers,
        given.memory_limit,
        not given.no_dashboard,
        given.idle_timeout,
        given.disk_limit,
    )
    assert again == options


def test_the_commands_default_timeout_is_the_servers() -> None:
    assert parser().parse_args(["server"]).idle_timeout == IDLE_TIMEOUT


@pytest.mark.parametrize(("workers", "cores", "threads"), [(2, 8, "4"), (8, 8, "1"), (9, 4, "1")])
def test_the_slots_share_the_cores(workers: int, cores: int, threads: str) -> None:
    environ = dask_config(workers, cores)["distributed.nanny.pre-spawn-environ"]
    assert isinstance(environ, dict)
    assert environ["OMP_NUM_THREADS"] == environ["OPENBLAS_NUM_THREADS"] == threads


def test_the_config_only_has_keys_that_dask_knows() -> None:
    """A key that Dask renamed would have no effect, silently."""
    import dask
    import distributed  # noqa: F401  (adds its defaults)

    for key in dask_config(1, 1):
        dask.config.get(key)


def test_a_servers_environment_is_the_starters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what is only that process's, and with folders that mean the same elsewhere."""
    monkeypatch.setenv("JPY_PARENT_PID", "12")
    monkeypatch.setenv("MINE", "yes")
    monkeypatch.setenv("DASK_ASYNC_RUN_STATE", "relative")
    environment = server_environment()
    assert "JPY_PARENT_PID" not in environment
    assert environment["MINE"] == "yes"
    assert environment["DASK_ASYNC_RUN_STATE"].startswith("/")


def test_what_a_nanny_has_set_here_stays_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ``LocalCluster()`` in the kernel leaves one BLAS thread in its environment for good."""
    meant = {"DAR_NANNY": 1, "DAR_OTHER": 1, "PATH": os.environ["PATH"]}
    with dask.config.set({"distributed.nanny.pre-spawn-environ": meant}):
        monkeypatch.setenv("DAR_NANNY", "1")
        monkeypatch.setenv("DAR_OTHER", "2")
        environment = server_environment()
    assert "DAR_NANNY" not in environment
    assert environment["DAR_OTHER"] == "2"
    assert environment["PATH"] == os.environ["PATH"]
