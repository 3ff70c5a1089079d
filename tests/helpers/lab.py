"""JupyterLab in a process of its own, and Debian's Chromium looking at it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import nbformat

from waiting import wait_for

SAVE_AGAIN = 5.0
"""Seconds after which a notebook that was not saved is told to be saved again."""

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"

FLAGS = (
    "--no-sandbox",  # Chromium has no sandbox for root, which is who runs in a container
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    # Nothing of the browser's own goes out: it need not, and a closed network refuses it.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
)

SETTINGS = {
    "apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
    "apputils-extension/themes": {"adaptive-theme": True},  # what the browser prefers
    "completer-extension/manager": {"autoCompletion": False},
    "docmanager-extension/plugin": {"autosave": False},
    "notebook-extension/tracker": {"windowingMode": "none"},  # else cells out of sight are empty
}


class BrowserMissingError(Exception):
    def __str__(self) -> str:
        return (
            f"there is no browser at {CHROMIUM}: install Chromium with the system's package "
            "manager (on Debian: apt-get install chromium), or leave these tests out with "
            "-m 'not browser'"
        )


@contextmanager
def lab_server(folder: Path, env: Mapping[str, str], base_url: str = "/") -> Iterator[str]:
    """Run JupyterLab on `folder` and yield its address, token included.

    Parameters
    ----------
    folder : Path
        Where the notebooks are; the server's own files go beside it.
    env : mapping
        Added to this process's environment for the server and its kernels.
    base_url : str
        What all its addresses begin with, as a hub's ``/user/ada/``.
    """
    with tempfile.TemporaryDirectory(prefix="dar-lab-", dir="/tmp") as runtime:
        yield from _serve(folder, env, base_url, Path(runtime))


def _serve(folder: Path, env: Mapping[str, str], base_url: str, runtime: Path) -> Iterator[str]:
    private = folder.parent / "lab-private"
    for name, content in SETTINGS.items():
        file = private / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
    token = "dask-async-run"
    server_env = {
        **os.environ,
        **env,
        "JUPYTER_RUNTIME_DIR": str(runtime),
        "JUPYTER_CONFIG_DIR": str(private / "config"),
        "JUPYTER_DATA_DIR": str(private / "data"),
        "JUPYTERLAB_SETTINGS_DIR": str(private / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(private / "workspaces"),
        # Lab finds its own Python first, whether or not the environment is activated.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
        f"--ServerApp.root_dir={folder}",
        f"--IdentityProvider.token={token}",
        "--ServerApp.ip=127.0.0.1",
        "--ServerApp.port=0",
        f"--ServerApp.base_url={base_url}",
        "--LabApp.extension_manager=readonly",
        # Sockets in the runtime folder, whose path is short; `filesockets` tells why.
        "--ConnectionFileMixin.transport=ipc",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    log = private / "lab.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            env=server_env,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:

        def address() -> str | None:
            if process.poll() is not None:
                raise RuntimeError(f"JupyterLab ended:\n{log.read_text()[-3000:]}")
            for file in runtime.glob("jpserver-*.json"):
                try:
                    info = json.loads(file.read_text())
                except ValueError:  # half written
                    continue
                return f"http://127.0.0.1:{info['port']}{base_url}lab?token={token}"
            return None

        yield wait_for(address, 60, "JupyterLab's address")
    finally:
        process.send_signal(signal.SIGTERM)  # shuts its kernels down
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def end_kernels(address: str) -> None:
    """Shut the kernels of a JupyterLab down, where it goes on for other tests.

    Parameters
    ----------
    address : str
        As `lab_server` yields it.
    """
    base, query = address.replace("/lab?", "/api/kernels?").split("?")

    def ask(method: str, path: str = "") -> bytes:
        request = Request(f"{base}{path}?{query}", method=method)
        with urlopen(request, timeout=30) as answer:
            found: bytes = answer.read()
        return found

    for kernel in json.loads(ask("GET")):
        ask("DELETE", f"/{kernel['id']}")


@contextmanager
def browser_page(width: int = 1100, height: int = 1000, dark: bool = False) -> Iterator[Any]:
    """Yield a Playwright page of a headless Chromium.

    Raises
    ------
    BrowserMissingError
        There is no Chromium.
    """
    if not Path(CHROMIUM).exists():
        raise BrowserMissingError
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, headless=True, args=list(FLAGS)
        )
        try:
            page = browser.new_page(
                viewport={"width": width, "height": height},
                device_scale_factor=2,
                color_scheme="dark" if dark else "light",
            )
            page.set_default_timeout(90_000)
            yield page
        finally:
            browser.close()


@dataclass
class LabNotebook:
    """One notebook, open in JupyterLab.

    Parameters
    ----------
    page
        Playwright's page.
    address : str
        Of the server, as `lab_server` yields it.
    path : str
        The notebook, relative to the server's folder.
    classic : bool
        In Notebook 7, which the same server offers.
    """

    page: Any
    address: str
    path: str
    classic: bool = False

    def open(self) -> LabNotebook:
        """Show the notebook alone (simple interface), with its kernel ready."""
        base, query = self.address.split("?", 1)
        front = "notebooks" if self.classic else "doc/tree"
        self.page.goto(f"{base.removesuffix('/lab')}/{front}/{self.path}?{query}")
        self._ready()
        return self

    def reload(self) -> None:
        self.page.reload()
        self._ready()

    def _ready(self) -> None:
        """Wait for the kernel; a page that never hears of its own is loaded again, once."""
        from playwright.sync_api import TimeoutError as PageTimeoutError

        self.page.wait_for_selector(".jp-Notebook .jp-Cell")
        try:
            self._wait_for_status(idle=True, timeout=60_000)
        except PageTimeoutError:
            self.page.reload()
            self.page.wait_for_selector(".jp-Notebook .jp-Cell")
            self._wait_for_status(idle=True)

    def _wait_for_status(self, idle: bool, timeout: float | None = None) -> None:
        """Wait until the kernel is idle, or until it is not there for a while; in ms."""
        # The toolbar's indicator says "idle" before there is a connection; these do not.
        if self.classic:
            status = self.page.locator(
                ".jp-NotebookKernelStatus-fade:not(.jp-NotebookKernelStatus-info)"
                if idle
                else ".jp-NotebookKernelStatus-info, .jp-NotebookKernelStatus-warn"
            )
        else:
            words = "Idle" if idle else "Restarting|Starting|Unknown"
            status = self.page.locator(".jp-StatusBar-TextItem")
            status = status.filter(has_text=re.compile(rf"\| ({words})"))
        status.first.wait_for(state="attached", timeout=timeout)

    def restart(self) -> None:
        """Restart the kernel by the menu, as a person does, and wait until it is there again."""
        self.menu("Kernel", "Restart Kernel…")
        self.page.locator(".jp-Dialog button", has_text="Restart").click()
        self._wait_for_status(idle=False)
        self._wait_for_status(idle=True)

    def cell(self, number: int) -> Any:
        """The cell, counted from 0, markdown included."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(number)

    def run(self, number: int) -> None:
        """Run a cell with Shift-Enter; returns at once."""
        cell = self.cell(number)
        cell.scroll_into_view_if_needed()
        cell.locator(".jp-InputArea-editor").click()
        self.page.keyboard.press("Shift+Enter")

    def show(self, number: int) -> None:
        """Scroll so that the cell is at the top."""
        self.cell(number).evaluate("node => node.scrollIntoView({block: 'start'})")

    def prompt(self, number: int) -> str:
        """``[3]:``, ``[*]:`` or empty."""
        return str(self.cell(number).locator(".jp-InputPrompt").first.inner_text()).strip()

    def finish(self, number: int, timeout: float = 120) -> str:
        """Wait until the cell has run; return its output's text."""
        wait_for(
            lambda: self.prompt(number).strip("[]:").isdigit(), timeout, f"cell {number} has run"
        )
        return self.output(number)

    def output(self, number: int) -> str:
        """Text of a cell's output area, empty if there is none."""
        areas = self.cell(number).locator(".jp-OutputArea")
        # In one go: the page may take the area away between two questions.
        return str(areas.evaluate_all("areas => areas.length ? areas[0].innerText : ''"))

    def menu(self, *names: str) -> None:
        """Choose from the menu bar."""
        self.page.locator(".lm-MenuBar-itemLabel", has_text=names[0]).first.click()
        for name in names[1:]:
            item = self.page.locator(".lm-Menu-itemLabel")
            item.filter(has_text=re.compile(f"^{re.escape(name)}$")).first.click()

    def save(self, folder: Path) -> Any:
        """Save by the menu; return the saved notebook, which lies in the server's `folder`.

        JupyterLab drops the command without a word while it has not heard yet that an earlier
        save, whose file is there, has ended: then it is given again.
        """
        file = folder / self.path
        before = file.stat().st_mtime_ns
        self.menu("File", "Save Notebook")
        again = time.monotonic() + SAVE_AGAIN

        def saved() -> Any:
            nonlocal again
            if file.stat().st_mtime_ns == before:
                if time.monotonic() > again:
                    self.menu("File", "Save Notebook")
                    again = time.monotonic() + SAVE_AGAIN
                return None
            try:
                return nbformat.read(file, as_version=4)
            except (nbformat.reader.NotJSONError, nbformat.ValidationError):
                return None  # half written

        return wait_for(saved, 120, f"{self.path} is saved")
