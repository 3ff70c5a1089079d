"""Bad input gets one line that says what is wrong: no frame of ours, no hang, no lost job."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dask_async_run import errors
from observer import Observer
from realkernel import Ran, RealKernel
from waiting import wait_for

OURS = {name for name, kind in vars(errors).items() if isinstance(kind, type)}
OF_THE_CELL = {"SyntaxError", "IndentationError", "TabError"}

LINES = """\
%%async_run --name a/b
%%async_run --name \u202etxt.exe
%%async_run --name a\x9bb
%%async_run --name a\u200bb
%%async_run --name a\0b
%%async_run --name ""
%%async_run --name "open
%%async_run --name=-x
%%async_run --name $HOME
%%async_run --name {10_000}
%%async_run --timeout 0
%%async_run --timeout ''
%%async_run --timeout 1e400
%%async_run --timeout 5parsecs
%%async_run --memory ''
%%async_run --memory=-5
%%async_run --memory 1e30TiB
%%async_run --retries=-3
%%async_run --max-parallel 3
%%async_run --retries 99999999999999999999
%%async_run --priority=-99999999999999999999
%%async_run --resources =1
%%async_run --resources GPU=nan
%%async_run --only a.b
%%async_run --after nosuch
%%async_run --nosuch
%async_run --name
%async_run x = = 1
%async_gather {10_000}
%async_gather ""
%async_gather [
%async_gather nosuch@99999999999999999999
%async_gather --timeout x
%async_cancel
%async_cancel a\0b
%async_forget nosuch
%async_rerun ''
%async_attach *
%async_jobs --last x
%async_jobs --last=-1
%async_run_server --workers 0
%async_run_server --name a/b
%async_run_server --idle-timeout x
%async_run_server nosuch://x
%async_run_server --scheduler-file /nosuch
%async_run_server --scheduler-file /etc
%async_run_server --scheduler-file /etc/passwd
%async_run_server --cluster nosuch
%async_run_server --cluster __name__
%async_run_server tls://127.0.0.1:1 --tls-ca /nosuch
%async_stop_server --name a/b
%config AsyncRun.timeout = "5parsecs"
%config AsyncRun.timeout = -1
%config AsyncRun.memory = 0
%config AsyncRun.retries = "x"
%config AsyncRun.workers = 0
%load_ext dask_async_run.nosuch
"""


def is_said_in_a_line(told: Ran) -> bool:
    """Whether an error is one of ours or of the cell's, and shows no line of this package."""
    assert "dask_async_run/" not in told.text, told.text
    if told.error is None:
        return bool(re.search("UsageError|ERROR:root:", told.text)) and told.text.count("\n") < 3
    return told.error["ename"] in OURS | OF_THE_CELL | {"ModuleNotFoundError"}


def test_nasty_lines(shared_kernel: RealKernel) -> None:
    """Each is refused, and says so in a line that is not too long."""
    for line in LINES.replace("{10_000}", "x" * 10_000).split("\n")[:-1]:
        told = shared_kernel.run(f"{line}\nx = 1" if line.startswith("%%") else line)
        assert is_said_in_a_line(told), (line[:80], told.text[-2000:])
        assert len(told.text) < 1000, line[:80]
    assert shared_kernel.do("%async_jobs").text == "This notebook has no jobs.\n"


ALPHABET = "abx=()[]:,.'\"\\\n\t 019%?#{}$@*/-\u00e9\u202e\U0001f680\x00\x1b"
WORDS = st.sampled_from(
    [*"a b x = == + ( ) [ ] : if for in def class return await lambda".split(), "\n", "\n    ", " "]
)
OPTIONS = st.sampled_from(["--name", "--after", "--only", "--timeout", "--also", "--gather"])
MAGICS = st.sampled_from(["gather", "jobs", "cancel", "forget", "rerun", "wait", "attach"])


@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    st.one_of(
        st.builds("%%async_run\n{}".format, st.text(ALPHABET, max_size=40)),
        st.builds("%%async_run\n{}".format, st.lists(WORDS, max_size=15).map(" ".join)),
        st.builds("%%async_run {} {}\nx = 1".format, OPTIONS, st.text(ALPHABET, max_size=20)),
        st.builds("%async_{} {} --timeout 5".format, MAGICS, st.text(ALPHABET, max_size=20)),
    )
)
def test_random_lines(shared_kernel: RealKernel, code: str) -> None:
    """Whatever is typed."""
    told = shared_kernel.run(code)
    assert "dask_async_run/" not in told.text, told.text
    assert "Traceback" not in told.text or "Cell In" in told.text, told.text


def test_no_job_of_the_random_lines_is_lost(shared_kernel: RealKernel, shared_server: Any) -> None:
    """What was taken has ended as its cell did."""
    observer: Observer = shared_server.observer
    for job in observer.jobs():
        if job.notebook.endswith("test_random_lines.ipynb"):
            ended = observer.wait(f"{job.name}") if job.latest else job
            assert ended.state in ("finished", "failed", "cancelled", "timed-out"), ended


def test_a_flipped_bit_in_a_large_result(shared_kernel: RealKernel, shared_server: Any) -> None:
    """Neither the kernel nor the next cell gets a wrong value; the job that made it is named."""
    shared_kernel.do("%%async_run --name large\nimport numpy as np\nlarge = np.arange(2**23)")
    observer: Observer = shared_server.observer
    observer.wait("large")
    wait_for(lambda: (job := observer.job("large")) is not None and job.saved, 60)
    frames = Path(shared_server.env["DASK_ASYNC_RUN_STATE"], "default", "frames")
    (frame,) = (path for path in frames.iterdir() if path.name.endswith(f"-{2**26}"))
    with frame.open("r+b") as file:
        file.seek(2**25)
        file.write(b"\x01")
    told = shared_kernel.run("%async_gather large")
    assert is_said_in_a_line(told), told.text
    assert re.search(r"MergeError.*large.*is damaged", told.text, re.DOTALL), told.text
    assert shared_kernel.value("'large' in globals()") is False
    shared_kernel.do("%%async_run --name next\ntotal = large.sum()")
    ended = observer.wait("next")
    assert ended.state == "failed"
    assert "is damaged" in f"{ended.reason} {ended.evalue}"
    # What is made again is whole again.
    shared_kernel.do("%async_rerun large\n%async_gather large", timeout=60)
    assert shared_kernel.value("int(large.sum())") == 2**22 * (2**23 - 1)
    assert "and 2 more: %async_jobs --last all" in shared_kernel.do("%async_jobs --last 1").text


def test_a_working_folder_that_was_removed(
    shared_kernel: RealKernel, shared_server: Any, tmp_path: Path
) -> None:
    """The cell runs and it is said where; only files of the folder cannot go along."""
    folder = tmp_path / "gone"
    folder.mkdir()
    before = shared_kernel.value("__import__('os').getcwd()")
    try:
        shared_kernel.do(f"%cd -q {folder}")
        folder.rmdir()
        ran = shared_kernel.do("%%async_run --name homeless\nfound = 6 * 7")
        assert "working folder of this notebook was removed" in ran.stderr
        refused = shared_kernel.run("%%async_run --upload *.csv\n1")
        assert "--upload: the notebook's working folder was removed" in refused.text
        shared_kernel.do("%async_gather homeless")
        assert shared_kernel.value("found") == 42
    finally:
        shared_kernel.do(f"%cd -q {before}")
