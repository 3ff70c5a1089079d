"""Whoever waits for a job whose end cannot be recorded is told why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

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
