"""Ctrl-C while something is done before a cell stops the cell."""

from __future__ import annotations

from pathlib import Path

import pytest

from realkernel import RealKernel


@pytest.mark.timeout(120)
def test_a_cell_is_not_run_after_an_interrupt(shared_kernel: RealKernel, tmp_path: Path) -> None:
    """With ``pending = "wait"`` a cell waits for the job that makes what it reads."""
    kernel = shared_kernel
    kernel.attended = True
    kernel.do("%config AsyncRun.pending = 'wait'")
    kernel.do("%%async_run --name slow\nimport time; time.sleep(1000); made = 1")
    reading = kernel.submit(f"open({str(tmp_path / 'ran')!r}, 'w'); made")
    kernel.wait_until_busy(reading)
    kernel.wait_until_shows(reading, "waiting for slow", 30)
    kernel.interrupt()
    stopped = kernel.finish(reading)
    assert stopped.error is not None
    assert stopped.error["ename"] == "KeyboardInterrupt"
    assert "not waited for any more, but not stopped either: slow" in stopped.traceback
    assert "Error in callback" not in stopped.text
    assert not (tmp_path / "ran").exists()
    # The next cell runs; also behind a cell that could not be refused, being none.
    assert kernel.do("%config AsyncRun.pending = 'warn'\n6 * 7").result == "42"
    kernel.do("%async_cancel slow")
