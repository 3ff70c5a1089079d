"""The harness itself: what `RealKernel` says of a kernel is so."""

from __future__ import annotations

from pathlib import Path

import psutil

from realkernel import RealKernel


def test_outputs_arrive_in_nbformats_terms(tmp_path: Path) -> None:
    """Streams, displays, updates, the last expression and errors are told apart."""
    with RealKernel(tmp_path, "a.ipynb") as kernel:
        ran = kernel.do(
            "import os, sys\n"
            "print('out'); print('err', file=sys.stderr)\n"
            "h = display({'text/plain': 'one'}, raw=True, display_id='d')\n"
            "h.update({'text/plain': 'two'}, raw=True)\n"
            "os.path.basename(os.environ['JPY_SESSION_NAME'])"
        )
        assert (ran.stdout, ran.stderr, ran.result) == ("out\n", "err\n", "'a.ipynb'")
        assert ran.data[0] == {"text/plain": "two"}
        failed = kernel.run("x = 1\n1 / 0")
        assert failed.status == "error"
        assert failed.error is not None
        assert failed.error["ename"] == "ZeroDivisionError"
        assert "line 2" in failed.traceback
        assert kernel.value("x + 1") == 2


def test_kill_and_restart(tmp_path: Path) -> None:
    """A killed kernel is gone with its group; the next one knows nothing of it."""
    with RealKernel(tmp_path) as kernel:
        kernel.do("x = 1")
        pid = kernel.pid
        kernel.kill()
        assert not psutil.pid_exists(pid)
        kernel.restart()
        assert kernel.pid != pid
        ran = kernel.run("x")
        assert ran.error is not None
        assert ran.error["ename"] == "NameError"
