"""The command in a shell: a script's whole life, with a server and without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import dask_async_run
from dask_async_run import cli
from dask_async_run.server.connection import Connection
from dask_async_run.server.control import stop_server
from dask_async_run.server.launch import ensure_server
from waiting import wait_for

BIN = Path(sys.executable).parent

FIT = '''\
"""A script as people write them."""
from __future__ import annotations

import sys

import pandas as pd
from beside import Thing


class Own:
    kind = "own"


def main() -> int:
    return OFFSET + 1


OFFSET = 3
thing, own = Thing(4), Own()
df = pd.DataFrame({"a": [1, 2]})
print(sys.argv[1:], __name__, __file__)
if __name__ == "__main__":
    score = main()
main()
'''

NOTEBOOK = {
    "nbformat": 4,
    "nbformat_minor": 5,
    "metadata": {},
    "cells": [
        {"cell_type": "markdown", "source": ["# title"]},
        {"cell_type": "code", "source": ["x = 6\n", "f'{x} first'"]},
        {"cell_type": "code", "source": ["!echo from the system\n", "y = x * 7"]},
        {"cell_type": "code", "source": ["y"]},
    ],
}


@pytest.fixture
def server(folders: Any) -> Iterator[Connection]:
    yield ensure_server(workers=1, dashboard=False)[0]
    stop_server(force=True)


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of bash that finds the command on its path."""
    return subprocess.run(
        ["bash", "-c", line],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=120,
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"},
    )


class Command:
    """The command in this process: what it prints, and its exit code."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.code = 0
        self.err = ""

    def __call__(self, *arguments: str) -> str:
        self.code = cli.main(arguments)
        said = self._capsys.readouterr()
        self.err = said.err
        return said.out

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json"))


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    # Gathering in this process finds the module beside the script, which goes with the test.
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "beside.py").write_text("class Thing:\n    def __init__(self, n): self.n = n\n")
    (tmp_path / "fit.py").write_text(FIT)
    (tmp_path / "bad.py").write_text("x = 1\n\n1 / 0\n")
    (tmp_path / "broken.py").write_text("x = 1\nif\n")
    (tmp_path / "report.ipynb").write_text(json.dumps(NOTEBOOK))
    yield tmp_path
    sys.modules.pop("beside", None)


@pytest.mark.timeout(300)
def test_a_scripts_life(server: Connection, folder: Path, command: Command) -> None:
    """Submitted, waited for, gathered into files, run again, forgotten; kept without a server."""
    ran = shell("dask-async-run run fit.py --name fit --json -- --epochs 3", folder)
    assert ran.returncode == cli.OK, ran.stderr
    facts = json.loads(ran.stdout)
    assert (facts["name"], facts["notebook"]) == ("fit", str(folder / "fit.py").lstrip("/"))
    assert facts["source"] == FIT

    ran = shell("dask-async-run run report.ipynb --follow 2>/dev/null && echo well", folder)
    assert ran.stdout == "'6 first'\nfrom the system\n42\nwell\n", ran
    ran = shell("dask-async-run run bad.py --wait; echo code $?", folder)
    assert ran.stdout == f"code {cli.NOT_FINISHED}\n"
    assert "failed: ZeroDivisionError: division by zero" in ran.stderr
    broken = folder / "broken.py"
    command("run", str(broken))
    assert command.code == cli.USAGE
    assert command.err == f"dask-async-run: {broken}: invalid syntax ({broken}, line 2).\n"

    # What it printed: nothing of the last expression; and where it failed.
    assert command("wait", "fit") == f"{facts['notebook']}/fit: finished\n"
    assert command("output", "fit") == f"['--epochs', '3'] __main__ {folder}/fit.py\n"
    failure = command("output", "bad")
    assert f"File {folder}/bad.py:3" in failure
    assert "----> 3 1 / 0" in failure
    assert command("source", "bad") == "x = 1\n\n1 / 0\n"
    assert command.json("source", "bad")["source"] == "x = 1\n\n1 / 0\n"

    told = command("gather", "fit")
    assert "OFFSET = 3\n" in told
    assert "score = 4\n" in told
    assert "\nsys = " not in told
    assert command("gather", "fit", "--var", "score") == "4\n"
    answer = command.json("gather", "fit", "--var", "df")
    assert answer["variables"]["df"]["value"] == [{"a": 1}, {"a": 2}]
    command("gather", "fit", "--var", "df", "-o", str(folder / "df.csv"))
    assert pd.read_csv(folder / "df.csv").to_dict("list") == {"a": [1, 2]}
    assert command.code == cli.OK
    command("gather", "fit", "--var", "scor")
    assert command.code == cli.ERROR
    assert "it has no variable 'scor'. Did you mean 'score'?" in command.err
    command("gather", "fit", "-o", str(folder / "all.xyz"))
    assert (command.code, "its suffix has to be one of" in command.err) == (cli.ERROR, True)
    command("export", "fit", "-o", "/nowhere/fit.ipynb")
    assert command.code == cli.ERROR
    assert command.err.endswith(
        "cannot be written to /nowhere/fit.ipynb: No such file or directory.\n"
    )
    assert command("gather", "bad") == "x = 1\n"
    assert command.code == cli.NOT_FINISHED
    assert not command.json("jobs", "fit")[0]["gathered"]

    # A job that builds on another one, with what that one did.
    with dask_async_run.connect(namespace={"rows": [1]}, start=False) as session:
        session.run("rows.append(2)", name="first")
        session.run("rows.append(3)", name="second").wait(60)
        session.run("import time; time.sleep(1000)", name="long")
    assert command.json("gather", "second", "--var", "rows")["variables"]["rows"]["value"] == [
        1,
        2,
        3,
    ]

    # Waiting ends when its time is up; the job goes on until it is cancelled.
    command("wait", "long", "--timeout", "0.1")
    assert (command.code, "The jobs go on" in command.err) == (cli.NOT_YET, True)
    command("gather", "long")
    assert (command.code, "nothing to gather yet" in command.err) == (cli.NOT_YET, True)
    command("forget", "long")
    assert command.code == cli.REFUSED
    assert [job["name"] for job in command.json("wait", "long", "fit", "--any")] == ["fit", "long"]
    command("cancel", "long")
    assert ": cancelled" in command("wait", "long")
    assert command.code == cli.NOT_FINISHED

    # Again, with the inputs that it had, however the file is now.
    (folder / "fit.py").write_text("raise SystemExit")
    assert command.json("rerun", "*", "--state", "lost") == []
    assert command("rerun", "fit") == (
        f"{facts['notebook']}/fit@1: runs again, as {facts['notebook']}/fit\n"
    )
    assert [job["version"] for job in command.json("wait", "fit")] == [2]
    assert command("gather", "fit", "--var", "score") == "4\n"
    assert "fit@1: forgotten\n1 job, results of" in command("forget", "fit@1")
    shown = command.json("show", "fit")
    assert {"score", "df"} <= {*shown["bound"]}
    assert [event["state"] for event in shown["events"]] == ["pending", "running", "finished"]
    # From here on nothing about it changes.
    failed = wait_for(lambda: (shown := command.json("show", "bad"))["saved"] and shown, 60)
    card = command("show", "bad")
    assert "state      failed" in card
    assert "ZeroDivisionError" in card

    # Somebody moves the folder away: that there were no jobs would be no answer.
    state = Path(server.state_folder)
    aside = state.rename(state.with_name("aside"))
    command("jobs")
    assert (command.code, f"The folder {state} was moved" in command.err) == (cli.ERROR, True)
    aside.rename(state)

    assert "is running already" in command("server", "start")
    assert command.json("server", "--name", "default", "status")["pid"] == server.pid
    assert command.json("server", "log", "-n", "3")["log"] == server.log
    assert command("server", "log", "-n", "1").count("\n") <= 1
    assert command.json("server", "stop") == {"name": "default", "stopped": True}

    # Without a server: all that only reads.
    assert command.json("show", "bad") == failed
    assert command("source", "fit") == FIT
    ran = shell("dask-async-run gather fit -o fit.pkl", folder)
    assert (ran.returncode, ran.stderr) == (cli.OK, ""), ran
    there = (
        "import pickle; d = pickle.load(open('fit.pkl', 'rb')); print(d['thing'].n, d['own'].kind)"
    )
    assert shell(f'{sys.executable} -c "{there}"', folder).stdout == "4 own\n"
    assert command("wait", "fit").endswith("finished\n")
    for words in (["rerun", "fit"], ["forget", "fit"], ["cancel", "fit"], ["prune"]):
        command(*words)
        advice = "'dask-async-run server start' starts one."
        assert (command.code, command.err) == (
            cli.NO_SERVER,
            f"dask-async-run: no server 'default' is running. {advice}\n",
        )

    # Nothing is unpickled from where others can write.
    for place, mode in ((state, 0o755), (state / "journal.sqlite", 0o644)):
        before = place.stat().st_mode
        place.chmod(mode)
        command("gather", "fit")
        place.chmod(before)
        assert command.code == cli.ERROR, place
        assert "open to other users" in command.err


COMPLETE = """\
eval "$(dask-async-run completion bash)"
COMP_LINE='{line}' COMP_POINT={point} COMP_TYPE=9 COMP_WORDBREAKS=$' \\t\\n"=;|&(:'
COMPREPLY=()
_python_argcomplete dask-async-run
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def complete(line: str, folder: Path) -> set[str]:
    done = shell(COMPLETE.format(line=line, point=len(line)), folder)
    return {word.strip() for word in done.stdout.split("\n") if word.strip()}


def _ends(folder: Path, name: str, code: str) -> subprocess.CompletedProcess[str]:
    (folder / f"{name}.py").write_text(code)
    return shell(f"dask-async-run run {name}.py --follow", folder)


@pytest.mark.timeout(300)
def test_a_script_ends_as_python_ends_it(
    server: Connection, folder: Path, command: Command
) -> None:
    """It exits well or badly, without advice on IPython, and waits for the threads it started."""
    ran = _ends(folder, "well", "import sys\nx = 1\nif __name__ == '__main__':\n    sys.exit(0)")
    assert (ran.returncode, ran.stdout) == (cli.OK, "")
    assert ran.stderr.endswith("/well: finished\n")
    assert command("gather", "well") == "x = 1\n"
    ran = _ends(folder, "quits", "print(1)\nquit()\nprint(2)")
    assert (ran.returncode, ran.stdout) == (cli.OK, "1\n")
    ran = _ends(folder, "badly", "import sys\nsys.exit(3)")
    assert (ran.returncode, ran.stdout) == (cli.NOT_FINISHED, "")
    assert ran.stderr.endswith("/badly: failed: SystemExit: 3\n")
    assert len(ran.stderr.splitlines()) == 2
    ran = _ends(folder, "says", "raise SystemExit('no such file')")
    assert ran.stderr.splitlines()[1] == "no such file"
    ran = _ends(folder, "raises", "def f():\n    1 / 0\nf()")
    assert "----> 3 f()" in ran.stdout
    assert "dask_async_run" not in ran.stdout
    late = "import threading, time\nrows = []\ndef f():\n    time.sleep(6)\n    rows.append(1)\n"
    ran = _ends(folder, "late", f"{late}threading.Thread(target=f).start()")
    assert ran.returncode == cli.OK
    assert "rows = [1]\n" in command("gather", "late")


@pytest.mark.timeout(300)
def test_a_script_is_found_by_the_processes_that_it_spawns(
    server: Connection, folder: Path
) -> None:
    """Also where it does not read ``__file__``, and is written in an encoding of its own."""
    code = (
        "# -*- coding: latin-1 -*-\nimport multiprocessing\n\ndef f(x):\n    return x * 2\n\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(pool.map_async(f, ['\xe9']).get(60))\n"
    )
    (folder / "spawns.py").write_bytes(code.encode("latin-1"))
    ran = shell("dask-async-run run spawns.py --follow", folder)
    assert ran.stdout == "['\xe9\xe9']\n", ran.stderr


@pytest.mark.timeout(300)
def test_bash_completes_commands_options_and_jobs(server: Connection, folder: Path) -> None:
    """In a real shell; names come from the journal, also those of an ended server."""
    with dask_async_run.connect(namespace={}, start=False) as session:
        session.run("best = score = 1", name="train").wait(60)
        session.run("x = 1", name="trial").wait(60)
    stop_server(force=True)
    assert complete("dask-async-run ga", folder) == {"gather"}
    assert complete("dask-async-run server st", folder) == {"start", "status", "stop"}
    assert complete("dask-async-run gather --var best --ou", folder) == {"--output"}
    assert complete("dask-async-run show tr", folder) == {"train", "trial"}
    assert complete("dask-async-run gather train --var s", folder) == {"score"}
    assert complete("dask-async-run jobs --state fa", folder) == {"failed"}


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_every_shell_has_its_completion(name: str, command: Command) -> None:
    assert "dask-async-run" in command("completion", name)
    assert command.code == cli.OK


def test_without_any_job(folders: Any, command: Command) -> None:
    """What reads says so, makes nothing, and prints no JSON in place of an answer."""
    for words in (["show", "x"], ["source", "x"], ["wait", "x"], ["gather", "x", "--json"]):
        assert command(*words) == ""
        assert (command.code, command.err) == (
            cli.ERROR,
            "dask-async-run: there is no job 'x'. There are no jobs yet.\n",
        )
    command("server", "log")
    assert command.code == cli.ERROR
    assert not folders.state.exists()
