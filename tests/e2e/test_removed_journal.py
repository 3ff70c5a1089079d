"""Whoever waits for a job whose end cannot be recorded is told why."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from observer import Observer, stop_server
from waiting import wait_for

from .conftest import SERVE, OpenKernel


@pytest.mark.timeout(180)
def test_waiting_says_why_an_end_is_not_on_record(open_kernel: OpenKernel, folders: Any) -> None:
    """The state folder was removed while the job ran: waiting for it would never end."""
    kernel = open_kernel()
    kernel.do(SERVE)
    kernel.do("%%async_run --name short\nimport os\nwhile not os.path.exists('go'): pass")
    kernel.do("%%async_run --name next --after short\n1")
    told = kernel.run("%async_wait next --timeout 1").text
    assert "not ended: next (pending: waits for short)" in told
    journal = folders.state / "default" / "journal.sqlite"
    aside = journal.rename(journal.with_name("aside"))
    folder = Path(kernel.value("__import__('os').getcwd()"))
    (folder / "go").touch()
    told = kernel.run("%async_wait short --timeout 5").text
    assert "not ended: short (running: not on record yet: the journal" in told
    assert "Put it back, or stop the server and start it again). The jobs go on" in told
    # Where nobody sees what is waited for, as in a notebook that is executed, it would wait
    # without a word, and for ever.
    kernel.do("import dask_async_run.kernel.waiting as waiting; waiting.UNRECORDED = 1.5")
    told = kernel.run("%async_gather short").traceback
    assert told.startswith("ServerError: not waited for any more: short (running: not on record")
    aside.rename(journal)
    kernel.do("%async_wait short next --timeout 60")

    # The whole folder is away: what is small of a result comes back, and nobody makes it anew.
    waits = "import os\nopen('begun-{}', 'w').close()\nwhile not os.path.exists('went'): pass\n"
    ends = f"import numpy\n{waits}large, small = numpy.ones(3_000_000), 5"
    kernel.do(f"%%async_run --name ends\n{ends.format('ends')}")
    kernel.do(f"%%async_run --name goes\n{waits.format('goes')}")
    wait_for(lambda: len(list(folder.glob("begun-*"))) == 2)
    state = folders.state / "default"
    aside = state.rename(state.with_name("aside"))
    (folder / "went").touch()
    wait_for(lambda: kernel.do("%async_jobs").text.count("not on record yet: the journal") == 2)
    assert not state.exists()
    aside.rename(state)
    kernel.do("%async_wait goes ends")
    told = kernel.run("%async_gather goes ends").text
    assert "the server's state folder was moved or removed: there was no space for large" in told
    assert kernel.value("small") == 5


@pytest.mark.timeout(180)
def test_a_state_folder_that_is_deleted_costs_no_running_job(
    open_kernel: OpenKernel, folders: Any, observer: Observer
) -> None:
    """It is made anew; what lay in it and nowhere else is said to be gone."""
    kernel = open_kernel()
    kernel.do(f"{SERVE}\nimport numpy")
    kernel.do("%%async_run --name early\nlost, kept = numpy.ones(3_000_000), 1")
    wait_for(lambda: (job := observer.job("early")) is not None and job.saved)
    wait_for(lambda: len(list((folders.state / "default/frames").glob("*-24000000"))) == 1)
    waits = "import os\nprint('begun', flush=True)\nwhile not os.path.exists('go'): pass\n"
    kernel.do(f"%%async_run --name runs\n{waits}large, small = numpy.zeros(3_000_000), 5")
    observer.wait_for_text("runs", "begun")
    folder = Path(kernel.value("__import__('os').getcwd()"))
    state = folders.state / "default"
    shutil.rmtree(state)
    (folder / "go").touch()
    assert kernel.do("%async_gather runs --timeout 60").stdout == "begun\n"
    assert kernel.value("(large.shape, small)") == ((3_000_000,), 5)
    assert "somebody deleted the server's state folder" in kernel.do("%async_jobs early").text
    told = kernel.run("%async_gather early").traceback
    assert "%async_rerun early makes it again" in told
    assert "%async_gather early --only kept brings what can be loaded" in told
    for _ in range(2):  # on either worker
        kernel.do("%async_run --gather import numpy; numpy.ones(2_000_000).sum()")
    for made in (state, state / "frames"):
        assert made.stat().st_mode & 0o777 == 0o700
    kernel.restart()
    stop_server()
    kernel.do(SERVE)
    kernel.do("%async_gather runs")
    assert kernel.value("(large.shape, small)") == ((3_000_000,), 5)
