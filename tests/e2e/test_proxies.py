"""The jobs' page through dask-labextension and jupyter-server-proxy: `tox -e clusters` has them.

In a Jupyter server whose addresses begin as on a hub.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import nbformat
import pytest

from lab import LabNotebook, browser_page, end_kernels, lab_server
from observer import stop_server
from realkernel import RealKernel

pytest.importorskip("dask_labextension", reason="not installed: tox -e clusters has it")
pytest.importorskip("jupyter_server_proxy", reason="not installed: tox -e clusters has it")

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

OpenKernel = Callable[..., RealKernel]

PREFIX = "/user/ada/"
CLUSTER = {"n_workers": 1, "threads_per_worker": 2, "host": "127.0.0.1", "dashboard_address": ":0"}
UNTIL = "import pathlib, time\nwhile not pathlib.Path({!r}).exists(): time.sleep(0.02)\n"
CONNECT = """\
import dask
dask.config.set({"distributed.dashboard.link": "{JUPYTERHUB_SERVICE_PREFIX}proxy/{port}/status"})
%load_ext dask_async_run
%async_run_server --workers 1"""
CELLS = (
    CONNECT,
    "%%async_run --name slow\nprint('begun')\nimport time\ntime.sleep(1000)",
    "%async_dashboard",
    "%async_run --name quick x = 1",
)


@dataclass(frozen=True)
class Jupyter:
    """A Jupyter server: its folder, and its address as `lab_server` yields it."""

    folder: Path
    address: str

    @property
    def base(self) -> str:
        return self.address.partition("lab?")[0]

    def ask(self, method: str, path: str) -> Any:
        """The answer to a request of its REST API."""
        token = self.address.partition("token=")[2]
        request = Request(
            self.base + path,
            method=method,
            headers={"Authorization": f"token {token}"},
            data=b"{}" if method == "PUT" else None,
        )
        with urlopen(request, timeout=120) as answer:
            text = answer.read()
        return json.loads(text) if text else None


@pytest.fixture(scope="module")
def jupyter() -> Iterator[Jupyter]:
    """A Jupyter server with both extensions."""
    with tempfile.TemporaryDirectory(prefix="dar-", dir="/tmp") as home:
        folder = Path(home, "notebooks")
        folder.mkdir()
        env = {
            "DASK_ASYNC_RUN_STATE": f"{home}/state",
            "DASK_ASYNC_RUN_RUNTIME": f"{home}/runtime",
            "DASK_LABEXTENSION__FACTORY__KWARGS": repr(CLUSTER),
            "JUPYTERHUB_SERVICE_PREFIX": PREFIX,
        }
        with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
            for name, value in env.items():
                patch.setenv(name, value)
            stack.callback(stop_server)
            yield Jupyter(folder, stack.enter_context(lab_server(folder, {}, PREFIX)))


@contextmanager
def nothing_goes_wrong(page: Any) -> Iterator[None]:
    """No error in the console, none of a script, and all that is asked for is there."""
    wrong: list[str] = []

    def said(message: Any) -> None:
        if message.type == "error":
            wrong.append(message.text)

    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", said)
    page.on("response", lambda got: wrong.append(got.url) if got.status >= 400 else None)
    yield
    assert not wrong


def row(page: Any, *words: str) -> Any:
    """The table's row that has all these words."""
    found = page.locator(".slick-row")
    for word in words:
        found = found.filter(has_text=word)
    return found.first


def titles(page: Any) -> list[str]:
    """What the table's columns are called."""
    return [str(text).strip() for text in page.locator(".slick-column-name").all_inner_texts()]


def test_dask_labextension(jupyter: Jupyter, open_kernel: OpenKernel, tmp_path: Path) -> None:
    """Its cluster in one line, and with the client that it writes; our page in its frame."""
    cluster = jupyter.ask("PUT", "dask/clusters/")
    try:
        kernel = open_kernel()
        kernel.do("%load_ext dask_async_run")
        connected = f"Connected to {cluster['scheduler_address']}."
        told = kernel.do(f"%async_run_server {cluster['scheduler_address']}").stdout
        assert connected in told
        kernel.do(
            "from dask.distributed import Client\n\n"
            f'client = Client("{cluster["scheduler_address"]}")\nclient'
        )
        assert connected in kernel.do("%async_run_server --cluster client").stdout
        kernel.do("%async_run --gather --name quick x = client.submit(sum, [1, 2]).result()")
        assert kernel.value("x") == 3
        there = f"{jupyter.base}dask/dashboard/{cluster['id']}"
        plots = jupyter.ask("GET", f"dask/dashboard/{cluster['id']}/individual-plots.json")
        assert plots["Individual Async Run"] == "/individual-async-run"
        go = tmp_path / "go"
        kernel.do(f"%%async_run --name slow\nprint('begun')\n{UNTIL.format(str(go))}")
        with browser_page(width=460, height=700) as page:
            page.goto(jupyter.address.replace("/lab?", "/api/status?"))  # lets the browser in
            with nothing_goes_wrong(page):
                page.goto(there + plots["Individual Async Run"])
                row(page, "quick", "finished").wait_for()
                row(page, "slow", "running").click()
                page.get_by_text("begun").first.wait_for()
                # As narrow as a pane beside a notebook: no menu, and columns that can be read.
                assert not page.locator(".navbar").is_visible()
                assert titles(page) == ["State", "Job", "Ran for", "Submitted"]
                page.screenshot(path=tmp_path / "embedded.png")
                go.touch()
                row(page, "slow", "finished").wait_for()
    finally:
        jupyter.ask("DELETE", f"dask/clusters/{cluster['id']}")


def test_jupyter_server_proxy(jupyter: Jupyter, tmp_path: Path) -> None:
    """Our own server's page by the links in a notebook: let in, live, its buttons work."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in CELLS])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    nbformat.write(notebook, jupyter.folder / "story.ipynb")
    with ExitStack() as stack:
        stack.callback(end_kernels, jupyter.address)
        page = stack.enter_context(browser_page(width=1280))
        lab = LabNotebook(page, jupyter.address, "story.ipynb").open()
        for number in range(3):
            lab.run(number)
            lab.finish(number)

        def follow(number: int) -> Any:
            """The page that a click on a cell's link opens."""
            link = lab.cell(number).locator('.jp-OutputArea a[href*="/proxy/"]').first
            with page.context.expect_page() as opened:
                link.click()
            return opened.value

        board = follow(1)
        board.wait_for_url(re.compile(rf"{re.escape(jupyter.base)}proxy/\d+/async-run\?job=\w+$"))
        with nothing_goes_wrong(board):
            board.reload()
            row(board, "slow", "running").wait_for()
            board.get_by_text("begun").first.wait_for()
            board.screenshot(path=tmp_path / "proxied.png")
            board.get_by_role("button", name="Cancel…").click()
            board.get_by_role("button", name="Cancel it").click()
            row(board, "slow", "cancelled").wait_for()
            board.get_by_role("button", name="Run again…").click()
            board.get_by_role("button", name="Run it again").click()
            row(board, "slow", "running").wait_for()
            board.get_by_role("button", name="Cancel…").click()
            board.get_by_role("button", name="Cancel it").click()
            row(board, "slow", "running").wait_for(state="detached")
            lab.run(3)
            row(board, "quick", "finished").wait_for()
            board.get_by_role("link", name="Workers").click()
            board.wait_for_url(re.compile(r"/proxy/\d+/workers$"))
            board.locator(".slick-header-column").first.wait_for()
            board.get_by_role("link", name="Async-Run").click()
            row(board, "quick", "finished").wait_for()
        shown = follow(2)
        shown.wait_for_url(re.compile(rf"{re.escape(jupyter.base)}proxy/\d+/async-run$"))
        row(shown, "quick", "finished").wait_for()
        # Others' pages on the same hub do not get the cookie.
        cookies = {each["name"]: each["path"] for each in page.context.cookies(shown.url)}
        (path,) = (path for name, path in cookies.items() if name.startswith("dask_async_run_"))
        assert re.fullmatch(rf"{PREFIX}proxy/\d+", path)
