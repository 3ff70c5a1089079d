"""The demo says what is so, and cleans up however it ends (the `folders` fixture looks)."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

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
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_cleans_up(number: signal.Signals) -> None:
    """Interrupted while the job runs: not 0, and nothing is left."""
    process = subprocess.Popen(
        COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    errors: list[str] = []
    assert process.stdout is not None
    assert process.stderr is not None
    reader = threading.Thread(target=lambda: errors.extend(process.stderr or ()))
    reader.start()
    for line in process.stdout:
        if "%%async_run --name train" in line:
            process.send_signal(number)
            break
    rest = process.stdout.read()
    assert process.wait() == 130, rest
    reader.join()
    assert "All of it was right" not in rest
    assert "interrupted" in "".join(errors)
    process.stdout.close()
    process.stderr.close()
