"""Settings of a notebook: what its cells have by default."""

from __future__ import annotations

from typing import Any

from realkernel import RealKernel


def test_limits_by_default(shared_kernel: RealKernel, shared_server: Any) -> None:
    """Cells have them; a line of a magic overrules them; unset, there are none."""
    kernel, observer = shared_kernel, shared_server.observer
    kernel.do('%config AsyncRun.timeout = "0.3s"\n%config AsyncRun.retries = 1')
    kernel.do("%%async_run --name limited\nimport time; time.sleep(30)")
    kernel.do("%%async_run --name longer --timeout none\nimport time; time.sleep(0.6)")
    dying = "open('ran', 'a').write('x')\nimport os; os._exit(3)"
    kernel.do(f"%%async_run --name dying --timeout none\n{dying}")
    assert observer.wait("limited").state == "timed-out"
    assert observer.wait("longer").state == "finished"
    assert observer.wait("dying").state == "failed"
    assert kernel.value("open('ran').read()") == "xx"
    kernel.do("%%async_run --name kept --timeout 1s\nsteps = 3; import time; time.sleep(30)")
    told = kernel.run("%async_gather kept").traceback
    assert "ran longer than 1 s; stopped by SIGINT. What it had done by then is merged: " in told
    assert "steps" in told
    assert kernel.value("steps") == 3
    assert "stopped by SIGINT" in kernel.do("%async_jobs kept").text
    kernel.do("%config AsyncRun.timeout = None\n%config AsyncRun.retries = 0")
    kernel.do("%%async_run --name free\nimport time; time.sleep(0.6)")
    assert observer.wait("free").state == "finished"


def test_a_nonsensical_configuration(shared_kernel: RealKernel) -> None:
    """The extension is not loaded, and says why in a line."""
    shared_kernel.do("%unload_ext dask_async_run")
    shared_kernel.do("get_ipython().config.AsyncRun.timeout = 'parsecs'")
    told = shared_kernel.run("%load_ext dask_async_run")
    assert told.text.startswith("UsageError: dask_async_run cannot be loaded: AsyncRun.timeout")
    assert told.text.count("\n") == 1
