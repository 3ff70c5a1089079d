"""The demo says what is so, and cleans up however it ends (the `folders` fixture looks)."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import suppress

import pytest

COMMAND = [sys.executable, "-m", "dask_async_run", "demo"]


@pytest.mark.timeout(400)
def test_demo() -> None:
    """It ends with 0, and every check that it makes is shown."""
    done = subprocess.run(COMMAND, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "best score: 0.9750" in done.stdout
    assert "ok: the same figure" in done.stdout
    assert "ok: no process is left" in done.stdout
    assert "All of it was right" in done.stdout


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("step", "number"),
    [
        ("All state is in", signal.SIGHUP),
        ("%%async_run --name train", signal.SIGINT),
        ("%%async_run --name train", signal.SIGTERM),
    ],
)
def test_an_interrupted_demo_cleans_up(step: str, number: signal.Signals) -> None:
    """Interrupted where a kernel starts, or the job runs: not 0, and nothing is left."""
    with subprocess.Popen(
        COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        seen = ""
        for line in process.stdout:
            seen += line
            if step in line:
                process.send_signal(number)
                break
        rest, errors = process.communicate()
    assert process.returncode == 130, seen + rest + errors
    assert "All of it was right" not in rest
    assert "interrupted" in errors


@pytest.mark.timeout(400)
def test_an_interrupt_while_it_cleans_up_changes_nothing() -> None:
    """Somebody who presses Ctrl-C again and again has nothing left behind either."""
    with subprocess.Popen(
        COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "%async_run_server" in line:
                break
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.3)
        _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "interrupted" in errors
