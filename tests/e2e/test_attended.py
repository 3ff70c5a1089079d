"""What a kernel puts out when somebody looks: views without widgets, notices, attached jobs."""

from __future__ import annotations

import os
import queue
import re
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pexpect
import pytest

from observer import Observer
from realkernel import RealKernel

from .conftest import SharedServer

pytestmark = pytest.mark.timeout(300)

WAIT = "import os, time\nwhile not os.path.exists({!r}): time.sleep(0.01)\n"
WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def kernel(shared_kernel: RealKernel) -> RealKernel:
    """A kernel whose front end says that somebody is there."""
    shared_kernel.attended = True
    return shared_kernel


@pytest.fixture
def observer(shared_server: SharedServer) -> Observer:
    return shared_server.observer


def updates(kernel: RealKernel, until: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """Messages that come until one of them is the right one; `finish` sees them, too."""
    found = []
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(queue.Empty):
            message = kernel.client.get_iopub_msg(timeout=0.5)
            found.append(message)
            if until(message):
                kernel.put_back(found)
                return found
    raise TimeoutError([message["msg_type"] for message in found])


def is_summary(message: dict[str, Any]) -> bool:
    return message["msg_type"] == "update_display_data" and any(
        word in message["content"]["data"]["text/html"] for word in ("finished", "cancelled")
    )


def test_nothing_depends_on_the_moment_where_nobody_looks(
    shared_kernel: RealKernel, observer: Observer
) -> None:
    """No view, no notice: a notebook that is executed twice is the same twice."""
    submitted = shared_kernel.do("%%async_run --name alone\nx = 1")
    assert [o["output_type"] for o in submitted.outputs] == ["execute_result"]
    observer.wait("alone")
    assert shared_kernel.do("1 + 1").text == "2\n"


@pytest.mark.parametrize("missing", ["nothing", "anywidget", "ipywidgets"])
def test_a_view_and_its_end(kernel: RealKernel, tmp_path: Path, missing: str) -> None:
    """One display under the submitting cell; updates are that cell's; the last one is plain HTML.

    The cell's value is its job all the same.
    """
    widgets = missing != "ipywidgets"
    kernel.do(f"import sys; sys.modules[{missing!r}] = None")
    go = tmp_path / "go"
    sent = kernel.submit(f"%%async_run --name seen\nprint('early')\n{WAIT.format(str(go))}")
    submitted = kernel.finish(sent)
    (display,) = submitted.outputs
    assert display["output_type"] == "display_data"
    assert (WIDGET in display["data"]) is widgets
    assert "%async_gather seen" in display["data"]["text/html"]
    assert kernel.value(f"type(Out[{submitted.count}]).__name__") == "Job"
    # The updates that come while another cell runs belong to the first one.
    done = tmp_path / "done"
    busy = kernel.submit(WAIT.format(str(done)))
    kernel.wait_until_busy(busy)
    go.touch()
    found = updates(kernel, is_summary)
    done.touch()
    assert WIDGET not in found[-1]["content"]["data"]
    assert "early" in found[-1]["content"]["data"]["text/html"]
    for message in found:
        if message["msg_type"] == "update_display_data":
            assert message["parent_header"]["msg_id"] == sent
            assert message["content"]["transient"] == display["transient"]
    assert any(m["msg_type"] == "comm_msg" for m in found) is widgets
    kernel.finish(busy)


def test_unloading_ends_the_views(kernel: RealKernel, tmp_path: Path) -> None:
    """They say that nobody follows any more; no task is left, the job goes on."""
    kernel.do(f"%%async_run --name on\n{WAIT.format(str(tmp_path / 'go'))}")
    sent = kernel.submit("%unload_ext dask_async_run")
    found = updates(
        kernel,
        lambda m: (
            m["msg_type"] == "update_display_data"
            and "not followed any more" in m["content"]["data"]["text/html"]
        ),
    )
    assert "running" in found[-1]["content"]["data"]["text/html"] or "pending" in str(found[-1])
    kernel.finish(sent)
    left = "[t for t in __import__('threading').enumerate() if 'dask' in t.name.lower()]"
    assert kernel.value(f"str({left})") == "[]"
    (tmp_path / "go").touch()
    kernel.do("%load_ext dask_async_run\n%async_gather on")


def test_a_view_that_ends_right_after_its_job(kernel: RealKernel) -> None:
    """It is saved as what it shows last, and had not heard yet that the job ended."""
    kernel.submit("%%async_run --name quick\nx = 1")
    sent = kernel.submit("%async_gather quick\n%unload_ext dask_async_run")
    found = updates(
        kernel,
        lambda m: (
            m["content"].get("execution_state") == "idle" and m["parent_header"]["msg_id"] == sent
        ),
    )
    shown = [m["content"]["data"] for m in found if m["msg_type"] == "update_display_data"]
    assert "finished" in shown[-1]["text/html"]
    kernel.finish(sent)


def test_an_interrupt_while_a_view_is_made(kernel: RealKernel, tmp_path: Path) -> None:
    """The job was submitted by then; a first view imports what takes a second."""
    slow = "print('importing', flush=True)\nimport time\ntime.sleep(60)"
    (tmp_path / "ipywidgets.py").write_text(slow)
    sent = kernel.submit("%%async_run --name unseen\nx = 1")
    kernel.wait_until_shows(sent, "importing")
    kernel.interrupt()
    told = kernel.finish(sent).traceback
    assert told.endswith("the job is not shown here, but goes on: %async_gather unseen")
    assert "File " not in told
    (tmp_path / "ipywidgets.py").unlink()
    kernel.do("%async_gather unseen")
    assert kernel.value("x") == 1


def test_the_end_of_a_job_is_said_once(kernel: RealKernel, observer: Observer) -> None:
    """Above the output of the next cell that gathers nothing, and not of what it gathered."""
    kernel.do("%%async_run --name one\nx = 1")
    kernel.do("%%async_run --name two\ny = 1")
    for name in ("one", "two"):
        observer.wait(name)
    assert "two" not in kernel.do("%async_gather one").text
    said = kernel.do("print('own')").stdout
    assert said.startswith("two finished after")
    assert said.endswith("%async_gather two\nown\n")
    assert "one" not in said
    assert kernel.do("print('own')").text == "own\n"
    # Where the browser cannot say it, that is said.
    assert "ipywidgets" not in kernel.do("%%async_run --name bell --notify\nx = 1").stderr
    kernel.do("%async_gather bell\nimport sys; sys.modules['ipywidgets'] = None")
    assert "pip install ipywidgets" in kernel.do("%async_run --name bell --notify x = 1").stderr
    kernel.do("%async_gather bell")
    kernel.do("%config AsyncRun.notice = False")
    kernel.do("%%async_run --name three\n1 / 0")
    observer.wait("three")
    assert kernel.do("print('own')").text == "own\n"
    kernel.do("%config AsyncRun.notice = True")
    assert "three failed" in kernel.do("print('own')").stdout


def test_several_jobs_are_followed_at_once_after_a_restart(
    kernel: RealKernel, tmp_path: Path, observer: Observer
) -> None:
    """Everything so far, then what comes; an interrupt ends the following, not the jobs."""
    go = tmp_path / "go"
    for name in ("left", "right"):
        kernel.do(
            f"%%async_run --name {name}\nprint('{name} early')\n{WAIT.format(str(go))}"
            f"print('{name} late')"
        )
    for name in ("left", "right"):
        observer.wait_for_text(name, f"{name} early")
    kernel.restart()
    loaded = kernel.do("%load_ext dask_async_run\n%async_run_server")
    assert "2 jobs of this notebook are waiting" in loaded.text

    sent = kernel.submit("%async_attach left right")
    shown = ""
    while "right early" not in shown:
        message = kernel.client.get_iopub_msg(timeout=30)
        shown += message["content"].get("text", "")
    assert "left early" in shown
    kernel.interrupt()
    stopped = kernel.finish(sent)
    assert stopped.status == "ok"
    assert "not stopped" in stopped.stderr
    assert {observer.job(name).state for name in ("left", "right")} == {"running"}  # type: ignore[union-attr]

    sent = kernel.submit("%async_attach left right")
    go.touch()
    followed = kernel.finish(sent)
    for name in ("left", "right"):
        assert followed.stdout.index(f"{name} early") < followed.stdout.index(f"{name} late")
    assert followed.stdout.startswith("── left ──\nleft early\n")

    # The notebook gets another name; a kernel only knows it when it is started again.
    Path(kernel.cwd, "renamed.ipynb").touch()
    old, kernel.notebook = kernel.notebook, "renamed.ipynb"
    kernel.restart()
    told = kernel.do("%load_ext dask_async_run").text
    assert f"{old}/left (finished), {old}/right (finished)" in told
    brings = re.search(r"%async_gather \w+", told)
    assert brings is not None
    assert "left early" in kernel.do(f"%async_run_server\n{brings[0]}").stdout


def test_a_terminal_says_so_before_the_next_prompt(
    shared_server: SharedServer, tmp_path: Path
) -> None:
    """As a line of its own, once; there are no views."""
    env = {**os.environ, **shared_server.env, "JPY_SESSION_NAME": "terminal-test", "PAGER": "cat"}
    command = ["-m", "IPython", "--simple-prompt", "--colors=NoColor", "--no-banner"]
    terminal = pexpect.spawn(sys.executable, command, env=env, cwd=tmp_path, timeout=60)
    try:
        for line in (
            "%load_ext dask_async_run",
            "%async_run_server",
            "%async_run --name term print('from', 'there'); x = 1",
            "%async_wait term",
        ):
            terminal.expect(r"In \[\d+\]: ")
            terminal.sendline(line)
        terminal.expect("term finished after .*: %async_gather term")
        terminal.expect(r"In \[\d+\]: ")
        terminal.sendline("'next'")
        terminal.expect(r"Out\[\d+\]: 'next'\s+In \[\d+\]: ")
        for magic in ("%async_attach", "%async_gather"):
            terminal.sendline(f"{magic} term")
            terminal.expect(r"from there\s+In \[\d+\]: ")
        terminal.sendline("%async_run?")
        terminal.expect(r"Examples:\s+%%async_run --name train")
        terminal.expect(r"In \[\d+\]: ")
        terminal.sendline("exit")
        terminal.expect(pexpect.EOF)
    finally:
        terminal.close(force=True)
