"""The command, as a shell calls it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dask_async_run
from dask_async_run import cli
from dask_async_run.commands.exit_codes import MEANINGS
from dask_async_run.server.connection import Connection
from dask_async_run.server.control import forget, stop_server
from dask_async_run.server.launch import ensure_server
from jobs import cell_spec, connected, said
from waiting import wait_for

HEAVY = ("distributed", "dask", "IPython", "numpy", "bokeh", "tornado")

COMMANDS = [
    "demo",
    "server",
    "status",
    "stop",
    "jobs",
    "show",
    "source",
    "output",
    "wait",
    "gather",
    "cancel",
    "rerun",
    "forget",
    "prune",
    "run",
    "enable",
    "disable",
    "completion",
]


def command(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dask_async_run", *arguments],
        capture_output=True,
        text=True,
        timeout=90,
        **options,
    )


@pytest.fixture
def server(folders: Any) -> Iterator[Connection]:
    yield ensure_server(workers=1, dashboard=False)[0]
    stop_server(force=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([name, "--help"])
    assert caught.value.code == cli.OK
    text = capsys.readouterr().out
    assert f"  dask-async-run {name}" in text
    assert "SUPPRESS" not in text
    assert "%%" not in text


def test_the_help_names_every_command_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    text = capsys.readouterr().out
    for name in COMMANDS:
        assert re.search(rf"^    {name}\s", text, re.MULTILINE)
    for code in MEANINGS:
        assert re.search(rf"^  {code}  ", text, re.MULTILINE)
    examples = re.findall(r"^  dask-async-run (.*?)  ", text, re.MULTILINE)
    assert len(examples) == 7
    for example in examples:
        cli.parser().parse_args(example.split())


@pytest.mark.parametrize(
    "line", ["", "nonsense", "output", "stop --nonsense", "server --workers x"]
)
def test_wrong_usage(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(line.split())
    assert caught.value.code == cli.USAGE
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("jbos", "COMMAND: there is no 'jbos'. Did you mean 'jobs'?"),
        ("nonsense", "COMMAND: there is no 'nonsense'. --help lists them."),
        ("server stat", "ACTION: there is no 'stat'. Did you mean 'start'?"),
        ("completion tcsh", "shell: there is no 'tcsh'. There are: bash, zsh, fish."),
        ("jobs --sate failed", "unrecognized arguments: --sate. Did you mean '--state'?"),
        ("server start --worker=2x", "argument --workers: invalid int value: '2x'"),
        ("stop --sever=2", "unrecognized arguments: --sever=2. Did you mean '--server'?"),
        ("show a b", "unrecognized arguments: b"),
    ],
)
def test_what_is_misspelt_is_told_the_nearest(
    line: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """And shows the usage of its own command."""
    with pytest.raises(SystemExit) as caught:
        cli.main(line.split())
    assert caught.value.code == cli.USAGE
    shown = capsys.readouterr().err
    assert shown.endswith(f"error: {said}\n")
    if "unrecognized" in said:
        assert shown.startswith(f"usage: dask-async-run {line.split(maxsplit=1)[0]} ")


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == cli.OK
    assert capsys.readouterr().out == f"dask-async-run {dask_async_run.__version__}\n"


@pytest.mark.parametrize("line", ["--help", "jobs", "jobs --json", "status", "stop", "cancel x"])
def test_a_quick_answer_imports_little(line: str) -> None:
    code = (
        "import sys; from dask_async_run.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, *line.split()], capture_output=True, text=True
    )
    assert ran.stderr.splitlines()[-1] == "[]", ran


def test_without_a_server(folders: Any) -> None:
    """Everything answers, and nothing is made."""
    assert command("status").returncode == cli.NO_SERVER
    assert json.loads(command("status", "--json").stdout) == {"name": "default", "running": False}
    stopped = command("stop")
    assert (stopped.returncode, stopped.stdout) == (cli.OK, "no server 'default' is running.\n")
    assert command("jobs").stdout == "no jobs.\n"
    assert json.loads(command("jobs", "--json").stdout) == []
    assert command("cancel", "x").returncode == cli.NO_SERVER
    missing = command("output", "train")
    assert missing.returncode == cli.ERROR
    assert missing.stderr == "dask-async-run: there is no job 'train'. There are no jobs yet.\n"
    assert command("jobs", "--state", "done").returncode == cli.USAGE
    assert command("status", "--name", "a/b").returncode == cli.ERROR
    assert not folders.state.exists()
    assert not folders.runtime.exists()


def test_a_notebooks_folder_full_of_traps(tmp_path: Path) -> None:
    """Run by its path, as a server is, it imports nothing from the working folder."""
    main = Path(cli.__file__).with_name("__main__.py")
    (tmp_path / "argparse.py").write_text("raise SystemExit('trap')")
    ran = subprocess.run(
        [sys.executable, "-P", str(main), "jobs"], capture_output=True, text=True, cwd=tmp_path
    )
    assert ran.stdout == "no jobs.\n", ran


def test_run_by_its_path_it_is_the_package_that_lies_there(tmp_path: Path) -> None:
    """Not another version that is installed: server and kernel are the same code."""
    (tmp_path / "dask_async_run").mkdir()
    (tmp_path / "dask_async_run" / "__init__.py").write_text("raise SystemExit('another one')")
    main = Path(cli.__file__).with_name("__main__.py")
    ran = subprocess.run(
        [sys.executable, "-P", str(main), "jobs"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert ran.stdout == "no jobs.\n", ran


def test_enable_and_disable(folders: Any) -> None:
    first = command("enable")
    assert "every IPython session of profile 'default'" in first.stdout
    path = folders.home / "ipython" / "profile_default" / "ipython_config.json"
    assert str(path) in first.stdout
    assert "enabled already" in command("enable").stdout
    assert path.exists()
    assert "no longer" in command("disable").stdout
    assert not path.exists()
    assert "not enabled" in command("disable").stdout
    path.write_text("{")
    broken = command("enable")
    assert broken.returncode == cli.ERROR
    assert "no valid JSON" in broken.stderr
    assert "Traceback" not in broken.stderr
    assert command("enable", "--profile", "work").returncode == cli.OK
    assert (folders.home / "ipython" / "profile_work" / "ipython_config.json").exists()


@pytest.mark.timeout(300)
def test_a_servers_day(server: Connection) -> None:
    """Jobs listed, shown, followed, cancelled; the server asked, refused to stop, stopped."""
    with connected(server) as (_, registry):
        done = registry.create(
            cell_spec("import sys; print('hello'); print('oh', file=sys.stderr); 6 * 7", "done")
        )
        failed = registry.create(cell_spec("1 / 0", "failed"))
        registry.wait([done.id, failed.id], 60)
        long = registry.create(
            cell_spec("import time\nfor i in range(10**6): print(i); time.sleep(0.05)", "long")
        )
        waiting = registry.create(cell_spec("1", "later"))
        wait_for(lambda: "3\n" in said(registry, long.id))

    table = command("jobs").stdout.splitlines()
    assert [line.split()[:3] for line in table[:5]] == [
        ["JOB", "NOTEBOOK", "STATE"],
        ["done", "story.ipynb", table[1].split()[2]],
        ["failed", "story.ipynb", "failed"],
        ["long", "story.ipynb", "running"],
        ["later", "story.ipynb", "pending"],
    ]
    assert "ZeroDivisionError: division by zero" in table[2]
    facts = json.loads(command("jobs", "--json", "--state", "finished").stdout)
    assert [job["name"] for job in facts] == ["done"]
    assert json.loads(command("jobs", "l*", "--json").stdout)[0]["id"] == long.id
    assert command("jobs", "--notebook", "other").stdout == "no jobs.\n"
    last = command("jobs", "--last", "0").stdout.splitlines()
    assert [line.split()[0] for line in last[:3]] == ["JOB", "long", "later"]
    assert last[-1] == "and 2 more: dask-async-run jobs --last all"
    assert command("jobs", "--last", "all").stdout.splitlines()[1].startswith("done ")

    shown = command("output", "done")
    assert (shown.returncode, shown.stdout, shown.stderr) == (cli.OK, "hello\n42\n", "oh\n")
    outputs = json.loads(command("output", "done", "--json").stdout)
    assert outputs[-1]["data"]["text/plain"] == "42"
    error = command("output", "story.ipynb/failed@1").stdout
    assert "ZeroDivisionError: division by zero" in error
    assert "\x1b[" not in error
    wrong = command("output", "lonk")
    assert wrong.returncode == cli.ERROR
    assert "Did you mean 'long'?" in wrong.stderr

    status = json.loads(command("status", "--json").stdout)
    assert status["pid"] == server.pid
    assert status["unfinished"] == [
        {"job": "long", "state": "running"},
        {"job": "later", "state": "pending"},
    ]
    assert "tls" not in status
    plain = command("status").stdout
    assert f"process {server.pid}" in plain
    assert "1 running, 1 waiting" in plain

    refused = command("stop")
    assert refused.returncode == cli.REFUSED
    assert "long (running), later (pending)" in refused.stderr

    # Whoever follows sees the lines as they come, and the end.
    with subprocess.Popen(
        [sys.executable, "-m", "dask_async_run", "output", "--follow", "long"],
        stdout=subprocess.PIPE,
        text=True,
    ) as following:
        assert following.stdout is not None
        assert [following.stdout.readline() for _ in range(3)] == ["0\n", "1\n", "2\n"]
        cancelled = command("cancel", "l*")
        assert cancelled.returncode == cli.OK
        assert "story.ipynb/later: cancelled before it ran" in cancelled.stdout
        assert "story.ipynb/long: told to stop" in cancelled.stdout
        rest = following.communicate(timeout=30)[0]
        assert following.returncode == cli.OK
        assert "KeyboardInterrupt" in rest
    states = {job["name"]: job["state"] for job in json.loads(command("jobs", "--json").stdout)}
    assert states["long"] == states["later"] == "cancelled"
    assert waiting.name == "later"

    stopped = command("stop")
    assert (stopped.returncode, stopped.stdout) == (
        cli.OK,
        "server 'default' stopped; finished jobs are kept.\n",
    )
    shown = command("output", "done")
    assert shown.stdout == "hello\n42\n", shown
    assert command("status").returncode == cli.NO_SERVER


@pytest.mark.timeout(300)
def test_prune_forgets_what_was_gathered(server: Connection) -> None:
    """And nothing else, unless it is named; what is younger or among the latest stays."""
    with connected(server) as (_, registry):
        jobs = [registry.create(cell_spec("x = 1", name=name)) for name in ("a", "a", "a", "b")]
        registry.wait([job.id for job in jobs])
        registry.gathered([job.id for job in jobs[:3]])
        assert command("prune", "--older-than", "1h").stdout == "0 jobs, results of 0 B\n"
        told = command("prune", "--keep-last", "2", "--dry-run").stdout
        assert "story.ipynb/a@1: would be forgotten\n1 job" in told
        assert len(registry.jobs()) == 4
        told = command("prune", "--keep-last", "2").stdout
        assert "story.ipynb/a@1: forgotten\n1 job" in told
        command("prune")
        assert [view.name for view in registry.jobs()] == ["b"]
        command("prune", "b")
        assert registry.jobs() == []
        base = registry.create(cell_spec("x = 1", name="base"))
        built = registry.create(
            cell_spec("y = x", name="built", after=[base.id], parents=[base.id])
        )
        other = registry.create(cell_spec("x = 1", name="other"))
        registry.wait([base.id, built.id, other.id])
        registry.gathered([base.id, other.id])
        told = command("prune").stdout
        assert "base: kept: job 'base' is finished: it cannot be forgotten before" in told
        assert "other: forgotten\n" in told
        assert [view.name for view in registry.jobs()] == ["base", "built"]
        command("forget", "base", "built")
        assert registry.jobs() == []
        # Another process has forgotten one meanwhile, which is what was wanted.
        assert forget(server, [jobs[0].id]) == {}
    assert command("prune", "--older-than", "soon").returncode == cli.USAGE
    assert command("prune", "nosuch").returncode == cli.ERROR


@pytest.mark.timeout(300)
def test_a_name_in_two_notebooks_is_not_guessed(server: Connection) -> None:
    """Nothing is cancelled, run again or forgotten in a notebook that nobody had in mind."""
    with connected(server) as (_, registry):
        cells = [cell_spec("x = 1", "twin"), cell_spec("x = 2", "twin", notebook="other.ipynb")]
        jobs = [registry.create(cell) for cell in cells]
        registry.wait([job.id for job in jobs])
        for verb in ("cancel", "rerun", "forget", "prune", "wait"):
            refused = command(verb, "twin")
            assert refused.returncode == cli.ERROR
            assert "story.ipynb/twin, other.ipynb/twin. Say which one." in refused.stderr
        assert [job.id for job in registry.jobs()] == [job.id for job in jobs]
        assert command("forget", "other.ipynb/twin").returncode == cli.OK
        assert command("wait", "twin").stdout == "story.ipynb/twin: finished\n"
        assert [job.id for job in registry.jobs()] == [jobs[0].id]


@pytest.mark.timeout(300)
def test_without_its_server_a_running_job_is_lost(server: Connection) -> None:
    with connected(server) as (_, registry):
        job = registry.create(cell_spec("print('so far'); import time; time.sleep(100)"))
        wait_for(lambda: said(registry, job.id))
    os.kill(server.pid, signal.SIGKILL)
    (facts,) = wait_for(
        lambda: [
            job for job in json.loads(command("jobs", "--json").stdout) if job["state"] != "running"
        ]
    )
    assert (facts["state"], facts["reason"]) == ("lost", "the server died")
    followed = command("output", "-f", "cell")
    assert (followed.returncode, followed.stdout) == (cli.OK, "so far\n")


def test_a_reader_that_has_had_enough(folders: Any) -> None:
    """`dask-async-run jobs | head` is no error of ours."""
    with subprocess.Popen(
        [sys.executable, "-m", "dask_async_run", "jobs"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as writing:
        assert writing.stdout is not None
        assert writing.stderr is not None
        writing.stdout.close()
        assert writing.stderr.read() == b""


def test_an_answer_that_cannot_be_written(folders: Any) -> None:
    """One line says so."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "dask_async_run", "jobs"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    told = "dask-async-run: the answer cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (cli.ERROR, told)


def test_without_standard_output(folders: Any) -> None:
    """``>&-``: the exit code is all that is asked for."""
    command = f"{sys.executable} -m dask_async_run jobs >&-"
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (cli.OK, "")
