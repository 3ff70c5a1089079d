"""The jobs' page on Dask's dashboard, in a browser."""

from __future__ import annotations

import json
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from distributed import Client

import dask_async_run
from dask_async_run.kernel.api import Session
from elsewhere import dask_elsewhere
from lab import browser_page
from observer import stop_server
from realkernel import RealKernel
from waiting import wait_for

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

TIMEOUT = 120.0
UNTIL = "import pathlib, time\nwhile not pathlib.Path({!r}).exists():\n    time.sleep(0.02)\n"


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    """Connected to a server of this module's own, with a dashboard."""
    with tempfile.TemporaryDirectory(prefix="dar-", dir="/tmp") as home:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DASK_ASYNC_RUN_STATE", f"{home}/state")
            patch.setenv("DASK_ASYNC_RUN_RUNTIME", f"{home}/runtime")
            try:
                with dask_async_run.connect(workers=2) as session:
                    yield session
            finally:
                stop_server()


@pytest.fixture
def page(session: Session) -> Iterator[Any]:
    """The jobs' page in a browser that was let in, in which nothing goes wrong."""
    wrong: list[str] = []
    with browser_page(width=1280) as page:
        page.set_default_timeout(120_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(session._inner.page())
        page.locator(".slick-header-column").first.wait_for()
        yield page
    assert not wrong


def jobs_page(session: Session) -> str:
    assert session.dashboard is not None
    return session.dashboard.partition("?")[0].replace("/status", "/async-run")


def row(page: Any, *words: str) -> Any:
    """The table's row that has all these words."""
    found = page.locator(".slick-row")
    for word in words:
        found = found.filter(has_text=word)
    return found.first


def gone(page: Any, word: str) -> None:
    wait_for(lambda: page.locator(".slick-row", has_text=word).count() == 0, TIMEOUT)


def section(page: Any) -> Any:
    return page.get_by_role("region", name="The selected job")


def test_a_job_is_seen_from_its_beginning_to_its_end(
    page: Any, session: Session, tmp_path: Path
) -> None:
    """Its row changes by itself; what waits for it says so; its bar and source are there."""
    go = tmp_path / "go"
    bar = "import sys\nsys.stderr.write('\\r 25%|##5 | 20/80 [00:01<00:03, 20it/s]')\n"
    session.run(bar + UNTIL.format(str(go)) + "made = 1", name="slow")
    session.run("more = made + 1", name="later")
    row(page, "slow", "▶ running", "25 %").wait_for()
    row(page, "later", "○ pending", "waits for slow").wait_for()
    row(page, "slow", "running").click()
    section(page).get_by_text("will bind").wait_for()
    section(page).get_by_text("pathlib.Path(").wait_for()
    go.touch()
    row(page, "slow", "✔ finished").wait_for()
    row(page, "later", "✔ finished").wait_for()
    # The latest first, wherever in the page's source the table keeps it.
    uppermost = (
        "rows => rows.map(row => [row.getBoundingClientRect().top, row.innerText])"
        ".sort((a, b) => a[0] - b[0])[0][1]"
    )
    wait_for(lambda: "later" in page.locator(".slick-row").evaluate_all(uppermost), TIMEOUT)
    row(page, "later").click()
    section(page).get_by_text("more = made + 1").wait_for()


def test_a_click_counts_while_rows_change(page: Any, session: Session, tmp_path: Path) -> None:
    """A slow one, and one where another job's row was when it was selected."""
    go = tmp_path / "go"
    session.run(UNTIL.format(str(go)), name="ticking")
    row(page, "ticking", "1 s").wait_for()
    row(page, "ticking").hover()
    page.mouse.down()
    page.wait_for_timeout(1500)  # the seconds that it ran for change meanwhile
    page.mouse.up()
    section(page).get_by_text("running for").wait_for()
    for number in range(2):
        code = f"given = {number}"
        session.run(code, name=f"quick-{number}").wait()
        row(page, f"quick-{number}", "finished").click()
        section(page).get_by_text(code).wait_for()
    # From there on down: one row at a time.
    session.run("given = 2", name="quick-2").wait()
    row(page, "quick-2", "finished").wait_for()
    page.keyboard.press("ArrowDown")
    section(page).get_by_text("given = 0").wait_for()
    go.touch()
    row(page, "ticking", "finished").wait_for()


def test_what_a_cell_says_cannot_act(page: Any, session: Session) -> None:
    """Names, sources, outputs and HTML of cells are text, or in a frame without rights."""
    evil = "<img src=x onerror=document.title='hacked'>"
    code = (
        f'evil = """{evil}"""\nprint(evil)\n'
        "display({'text/html': evil + '<p>shown</p>', 'text/plain': ''}, raw=True)"
    )
    session.run(code, name="<b>bold<i>").wait()
    row(page, "<b>bold<i>", "finished").click()
    section(page).get_by_text(evil).first.wait_for()
    frame = section(page).locator("iframe")
    frame.wait_for()
    assert frame.get_attribute("sandbox") == ""
    assert frame.content_frame.get_by_text("shown").inner_text() == "shown"
    assert page.title() == "Dask: Async Run"


def test_buttons_ask_and_then_do(page: Any, session: Session, tmp_path: Path) -> None:
    """A job is cancelled, and run again; "No" does nothing."""
    job = session.run(UNTIL.format(str(tmp_path / "never")), name="endless")
    row(page, "endless", "running").click()
    cancel = page.get_by_role("button", name="Cancel…")
    cancel.click()
    page.get_by_text("Cancel endless?").wait_for()
    page.get_by_role("button", name="No", exact=True).click()
    page.get_by_text("Cancel endless?").wait_for(state="hidden")
    assert job.state == "running"
    cancel.click()
    page.get_by_role("button", name="Cancel it").click()
    row(page, "endless", "cancelled").wait_for()
    page.get_by_text("told to stop").wait_for()
    page.get_by_role("button", name="Run again…").click()
    page.get_by_role("button", name="Run it again").click()
    # The old one has a number now, the new one is selected.
    row(page, "endless@1", "cancelled").wait_for()
    again = row(page, "running")
    again.wait_for()
    assert "endless@1" not in again.inner_text()
    section(page).get_by_text("running for").wait_for()
    cancel.click()
    page.get_by_role("button", name="Cancel it").click()
    wait_for(lambda: page.locator(".slick-row", has_text="running").count() == 0, TIMEOUT)


def test_a_chain_is_run_again(page: Any, session: Session, tmp_path: Path) -> None:
    """Each new run builds on the other one, in whatever order they are chosen."""
    go = tmp_path / "go"
    first = session.run(f"import os\nn = 5\nassert os.path.exists({str(go)!r})", name="first")
    session.run("m = n + 1", name="second").wait()
    assert first.wait().state == "failed"
    go.touch()
    row(page, "second", "cancelled").click()
    row(page, "first", "AssertionError").click(modifiers=["Control"])
    page.get_by_role("button", name="Run again…").click()
    page.get_by_role("button", name="Run them again").click()
    page.get_by_text("submitted again: first, second").wait_for()
    wait_for(lambda: [v.state for v in session.jobs()[-2:]] == ["finished"] * 2, TIMEOUT)


def test_filters_and_keys(page: Any, session: Session) -> None:
    """Rows are chosen by state, notebook and name, and walked through with the keyboard."""
    session.run("1 / 0", name="bad").wait()
    session.run("1", name="good").wait()
    row(page, "bad", "failed", "ZeroDivisionError").wait_for()
    row(page, "good", "finished").wait_for()
    page.get_by_label("State", exact=True).select_option("failed")
    gone(page, "good")
    row(page, "bad").wait_for()
    page.get_by_label("State", exact=True).select_option("all states")
    row(page, "good").wait_for()
    page.get_by_placeholder("part of a name").fill("GOO")
    gone(page, "bad")
    page.get_by_placeholder("part of a name").fill("")
    row(page, "bad").wait_for()
    row(page, "good").click()
    section(page).get_by_text("✔ finished").wait_for()
    page.keyboard.press("ArrowDown")
    section(page).get_by_text("ZeroDivisionError").first.wait_for()
    # Dask's menu hides nothing of it where it takes two lines.
    page.set_viewport_size({"width": 900, "height": 700})
    lowest = page.evaluate("document.querySelector('.navbar').getBoundingClientRect().bottom")
    assert lowest > 60
    assert page.evaluate("document.querySelector('.filters').getBoundingClientRect().top") >= lowest
    page.goto(jobs_page(session) + f"?job={session.jobs()[-1].id[:8]}")
    section(page).get_by_text("✔ finished").wait_for()


def test_the_keyboard_alone(page: Any, session: Session, tmp_path: Path) -> None:
    """An arrow key begins in the table, Tab leads on to what is done to the chosen jobs."""
    session.run("1", name="before").wait()
    names = ("endless-1", "endless-2")
    jobs = [session.run(UNTIL.format(str(tmp_path / "never")), name=name) for name in names]
    for name in names:
        row(page, name, "running").wait_for()
    page.get_by_placeholder("part of a name").focus()
    for key in ("Tab", "ArrowDown", "ArrowDown"):
        page.keyboard.press(key)
    section(page).get_by_text("endless-1", exact=True).wait_for()
    page.keyboard.press("Shift+ArrowUp")
    cancel = page.get_by_role("button", name="Cancel…")
    for _ in range(3):
        if not cancel.evaluate("button => button.getRootNode().activeElement === button"):
            page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_text("Cancel endless-").wait_for()
    page.get_by_role("button", name="Cancel them").press("Enter")
    wait_for(lambda: all(job.state == "cancelled" for job in jobs), TIMEOUT)


def test_dasks_own_pages_lead_there(page: Any, session: Session) -> None:
    """From the menu; those who embed single plots find it, too."""
    assert session.dashboard is not None
    page.goto(session.dashboard.partition("?")[0])
    page.get_by_role("link", name="Async-Run").click()
    page.locator(".slick-header-column").first.wait_for()
    assert page.url == jobs_page(session)
    listed = page.evaluate("fetch('individual-plots.json').then(found => found.json())")
    assert listed["Individual Async Run"] == "/individual-async-run"
    assert "/individual-progress" in listed.values()
    metrics = page.evaluate("fetch('metrics').then(found => found.text())")
    assert 'dask_async_run_jobs{state="running"} ' in metrics
    assert 'dask_async_run_jobs_ended_total{state="lost"} ' in metrics
    assert "dask_scheduler_workers" in metrics


def test_its_address_is_told_as_text(open_kernel: Callable[..., RealKernel]) -> None:
    """To a front end that shows no HTML, and in a terminal."""
    kernel = open_kernel()
    kernel.do("%load_ext dask_async_run\n%async_run_server --workers 1")
    (shown,) = kernel.do("%async_dashboard").data
    assert "/async-run?code=" in shown["text/plain"]
    assert f'href="{escape(shown["text/plain"])}"' in shown["text/html"]


def test_nobody_else_sees_it(session: Session) -> None:
    """Without the cookie there is neither page nor web socket."""
    for path in ("", "/ws", "/autoload.js"):
        with pytest.raises(HTTPError, match="403"):
            urllib.request.urlopen(jobs_page(session) + path, timeout=20)


def test_on_somebody_elses_cluster(folders: Any, tmp_path: Path) -> None:
    """The page comes with the first session, only to be looked at, and leaves with the plugin."""
    with dask_elsewhere(tmp_path, dashboard=True) as cluster, Client(cluster.address) as client:
        session = dask_async_run.connect(client=client)
        session.run("far = 1", name="away").wait()
        with browser_page() as page:
            page.set_default_timeout(120_000)
            page.goto(jobs_page(session))
            row(page, "away", "finished").click()
            section(page).get_by_text("far = 1").wait_for()
            section(page).get_by_text("Only to be looked at").wait_for()
            assert page.get_by_role("button", name="Cancel…").count() == 0
            client.unregister_scheduler_plugin("dask-async-run")
            page.get_by_text("not kept any more").wait_for()

        def left() -> bool:
            try:
                urllib.request.urlopen(jobs_page(session), timeout=20)
            except HTTPError as error:
                return error.code == 404
            return False

        wait_for(left, TIMEOUT, "the page is gone")
        plots = jobs_page(session).replace("/async-run", "/individual-plots.json")
        with urllib.request.urlopen(plots, timeout=20) as found:
            assert "async-run" not in json.dumps(json.load(found))
