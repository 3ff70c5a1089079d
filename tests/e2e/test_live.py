"""A job is seen running, in JupyterLab: lines as they come, a reload, a bar, buttons, its end."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from lab import LabNotebook, browser_page, end_kernels, lab_server
from observer import stop_server
from waiting import wait_for

pytestmark = [pytest.mark.browser, pytest.mark.timeout(480)]

LOAD = "%load_ext dask_async_run\n%async_run_server --workers 2 --no-dashboard"
WIDGET = "application/vnd.jupyter.widget-view+json"

Open = Callable[..., LabNotebook]


@pytest.fixture(scope="module")
def lab() -> Iterator[tuple[Path, str]]:
    """A JupyterLab for the tests of this module: the folder it serves, and its address."""
    with tempfile.TemporaryDirectory(prefix="dar-lab-", dir="/tmp") as home:
        folder = Path(home, "notebooks")
        folder.mkdir()
        env = {
            "DASK_ASYNC_RUN_STATE": f"{home}/state",
            "DASK_ASYNC_RUN_RUNTIME": f"{home}/runtime",
            "IPYTHONDIR": f"{home}/ipython",
        }
        with pytest.MonkeyPatch.context() as patch, lab_server(folder, env) as address:
            for name, value in env.items():
                patch.setenv(name, value)
            try:
                yield folder, address
            finally:
                stop_server()


@pytest.fixture
def open_notebook(lab: tuple[Path, str], request: pytest.FixtureRequest) -> Iterator[Open]:
    """Opens a notebook of some cells, the extension loaded in the first one; its page is alone."""
    folder, address = lab
    with browser_page() as page:

        def make(*cells: str, classic: bool = False) -> LabNotebook:
            content = nbformat.v4.new_notebook(
                cells=[nbformat.v4.new_code_cell(cell) for cell in (LOAD, *cells)],
                metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
            )
            name = f"{request.node.name}.ipynb"
            nbformat.write(content, folder / name)
            notebook = LabNotebook(page, address, name, classic).open()
            notebook.run(0)
            notebook.finish(0)
            return notebook

        yield make
    end_kernels(address)


def until_shown(notebook: LabNotebook, cell: int, *words: str, timeout: float = 120) -> str:
    """Wait until a cell's output has all of the words; answer it."""

    def shown() -> str:
        output = notebook.output(cell)
        return output if all(word in output for word in words) else ""

    try:
        return wait_for(shown, timeout)
    except TimeoutError:
        raise AssertionError(f"{words} do not appear in:\n{notebook.output(cell)}") from None


def last_line(output: str) -> int:
    """Number of the last of the lines ``line N``; 0 while there is none.

    An output is empty for a moment while the page puts the card in the place of what was saved.
    """
    return max(map(int, re.findall(r"\bline (\d+)", output)), default=0)


def until_line(notebook: LabNotebook, cell: int, number: int) -> str:
    """Wait until a cell's output has come to a line; answer it."""

    def shown() -> str:
        output = notebook.output(cell)
        return output if last_line(output) >= number else ""

    return wait_for(shown, 120, f"line {number} of cell {cell}")


def until_plain(notebook: LabNotebook, cell: int) -> None:
    """Wait until a card is plain HTML: its widget, which looks the same at its end, has gone."""
    widgets = notebook.cell(cell).locator(".jp-OutputArea .jupyter-widgets")
    wait_for(lambda: widgets.count() == 0, what=f"the card of cell {cell} is plain HTML")


def saved_bundle(lab: tuple[Path, str], notebook: LabNotebook, cell: int) -> Any:
    saved = notebook.save(lab[0])
    (output,) = saved.cells[cell].outputs
    assert output.output_type == "display_data"
    return output.data


def test_lines_appear_and_go_on_after_a_reload(
    open_notebook: Open, lab: tuple[Path, str], tmp_path: Path
) -> None:
    """The card comes back with what it showed, goes on, and tells its end; then the next cell."""
    go = tmp_path / "go"
    notebook = open_notebook(
        "%%async_run --name talk\nimport os, time\nn = 0\n"
        f"while not os.path.exists({str(go)!r}):\n"
        "    print('line', n := n + 1)\n    time.sleep(0.05)\n",
        "1 + 1",
        "2 + 2",
    )
    notebook.run(1)
    until_line(notebook, 1, 20)
    until_shown(notebook, 1, "talk", "▶ running", "line ", "process", "memory", "% CPU")
    notebook.save(lab[0])
    before = last_line(notebook.output(1))
    notebook.reload()
    until_line(notebook, 1, before + 20)
    until_shown(notebook, 1, "▶ running", "line ")
    go.touch()
    ended = until_shown(notebook, 1, "✔ finished", "%async_gather talk")
    assert "Cancel" not in ended
    # The last lines, not more: the text's place never has more than these.
    assert ended.count("line ") <= 15

    # The page no longer knows the card as an output that the kernel may change.
    until_plain(notebook, 1)
    data = saved_bundle(lab, notebook, 1)
    assert WIDGET not in data
    assert "✔ finished" in data["text/html"]
    notebook.menu("Settings", "Save Widget State Automatically")
    # The setting travels to the server and back before it counts.
    wait_for(lambda: "✔ finished" in str(notebook.save(lab[0]).metadata.get("widgets")))
    notebook.menu("Settings", "Save Widget State Automatically")

    notebook.run(2)
    until_shown(notebook, 2, "talk finished after", "2")
    notebook.finish(2)
    notebook.run(3)
    assert "talk" not in until_shown(notebook, 3, "4")
    assert "talk" not in notebook.finish(3)


def test_a_card_is_there_again_after_a_restart(
    open_notebook: Open, lab: tuple[Path, str], tmp_path: Path
) -> None:
    """Once the new kernel is connected it goes on, in this page and when that is loaded again.

    Until then it says what to do, and has no buttons, which would do nothing.
    """
    go = tmp_path / "go"
    notebook = open_notebook(
        "%%async_run --name lasting\nimport os, time\nn = 0\n"
        f"while not os.path.exists({str(go)!r}):\n"
        "    print('line', n := n + 1)\n    time.sleep(0.05)\n",
    )
    notebook.run(1)
    until_shown(notebook, 1, "▶ running", "line ")
    notebook.save(lab[0])
    notebook.restart()
    until_shown(notebook, 1, "as it was when the kernel ended", "%async_run_server")
    assert notebook.cell(1).locator("button", has_text="Cancel").count() == 0
    parts = "nodes => nodes.map(node => getComputedStyle(node, '::before').display)"
    lost = notebook.cell(1).locator(".jupyter-widgets-disconnected")
    assert set(lost.evaluate_all(parts)) == {"none"}
    stopped = last_line(notebook.output(1))
    notebook.run(0)
    notebook.finish(0)
    until_line(notebook, 1, stopped + 20)
    assert "as it was when" not in notebook.output(1)
    before = last_line(notebook.output(1))
    notebook.reload()
    until_line(notebook, 1, before + 20)
    until_shown(notebook, 1, "▶ running", "line ")
    notebook.cell(1).locator("button", has_text="Cancel").click()
    until_shown(notebook, 1, "■ cancelled")


def test_the_saved_notebook_has_the_summary(
    open_notebook: Open, lab: tuple[Path, str], tmp_path: Path
) -> None:
    """Without a kernel: HTML and text of how it ended, a picture, no widget.

    While it runs, the card shows what the cell displays, as it comes.
    """
    go = tmp_path / "go"
    notebook = open_notebook(
        "%%async_run --name draw\nimport os, time\nimport matplotlib.pyplot as plt\n"
        "from IPython.display import HTML, display\n"
        "print('drawing')\ndisplay(HTML('<table><tr><td>seven</td></tr></table>'))\n"
        f"while not os.path.exists({str(go)!r}): time.sleep(0.02)\n"
        "plt.plot([1, 2])\nplt.show()"
    )
    notebook.run(1)
    until_shown(notebook, 1, "▶ running", "seven")
    assert notebook.cell(1).locator(".jp-OutputArea td", has_text="seven").count() == 1
    go.touch()
    until_shown(notebook, 1, "✔ finished", "drawing")
    until_plain(notebook, 1)
    picture = notebook.cell(1).locator(".jp-OutputArea img")
    assert picture.evaluate("image => image.naturalWidth") > 100
    data = saved_bundle(lab, notebook, 1)
    assert WIDGET not in data
    assert "finished" in data["text/html"]
    assert "image/png;base64" in data["text/html"]
    assert "| drawing" in data["text/plain"]
    assert "%async_gather draw" in data["text/plain"]


def test_a_deleted_cell_that_is_put_back(
    open_notebook: Open, lab: tuple[Path, str], tmp_path: Path
) -> None:
    """Its job ended meanwhile: the notebook is saved with the summary, and not as submitted."""
    go = tmp_path / "go"
    notebook = open_notebook(
        f"%%async_run --name quick\nimport os\nwhile not os.path.exists({str(go)!r}): pass\nx = 1",
        "%%async_run --name later\ny = x",
    )
    for cell in (1, 2):
        notebook.run(cell)
    until_shown(notebook, 2, "waits for", "quick")
    for keys in ("Escape", "ArrowUp", "ArrowUp", "d", "d"):
        notebook.page.keyboard.press(keys)
    wait_for(lambda: "later" in notebook.cell(1).inner_text(), what="the cell has gone")
    go.touch()
    until_plain(notebook, 1)  # after the other one's card
    for keys in ("Escape", "z"):
        notebook.page.keyboard.press(keys)
    until_shown(notebook, 1, "quick", "✔ finished")
    until_plain(notebook, 1)
    assert "finished" in saved_bundle(lab, notebook, 1)["text/plain"]


def test_a_progress_bar(open_notebook: Open, tmp_path: Path) -> None:
    """tqdm's bar is shown as a bar, with its percentage, count, rate and time left."""
    go = tmp_path / "go"
    notebook = open_notebook(
        "%%async_run --name fit\nimport os, time\nfrom tqdm import tqdm\n"
        "for n in tqdm(range(80), desc='fit', mininterval=0, miniters=1):\n    time.sleep(0.02)\n"
        f"    while n == 40 and not os.path.exists({str(go)!r}): time.sleep(0.02)"
    )
    notebook.run(1)
    bar = notebook.cell(1).locator("[role=progressbar]")
    wait_for(lambda: bar.count() == 1 and int(bar.get_attribute("aria-valuenow")) >= 50, 60)
    shown = until_shown(notebook, 1, "/80", "it/s", "left", " %")
    assert "█" not in shown
    go.touch()
    until_shown(notebook, 1, "✔ finished", "100%", "80/80")
    wait_for(lambda: bar.count() == 0, what="the bar goes")


# The least contrast, as WCAG 2 defines it, of a text to what is behind it; and the text.
CONTRAST = """\
root => {
  const parts = css => {
    const [r, g, b, a = 1] = css.match(/[\\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const over = (top, below) => below.map((c, i) => top[3] * top[i] + (1 - top[3]) * c);
  const light = c => c.map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const found = [];
  const walk = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const text = walk.currentNode.textContent.trim();
    const place = walk.currentNode.parentElement;
    if (!text || !place.offsetParent) continue;
    const above = [];
    for (let e = place; e; e = e.parentElement) above.unshift(getComputedStyle(e));
    let behind = [255, 255, 255], opacity = 1;
    for (const style of above) {
      behind = over(parts(style.backgroundColor), behind);
      opacity *= Number(style.opacity);
    }
    const colour = parts(getComputedStyle(place).color);
    const [dim, bright] = [light(over([...colour.slice(0, 3), colour[3] * opacity], behind)),
      light(behind)].sort((a, b) => a - b);
    found.push([(bright + 0.05) / (dim + 0.05), text]);
  }
  return found.sort((a, b) => a[0] - b[0])[0];
}"""


def test_light_and_dark(open_notebook: Open) -> None:
    """What a card and the table of jobs say is legible in both, a cell's own colours too."""
    notebook = open_notebook(
        "%%async_run --name tell\nimport time\n"
        "print(*(f'\\x1b[{n}mcolour {n}' for n in range(31, 37)), '\\x1b[0mplain')\n"
        "while True:\n    print('\\rstep 2/4', end='', flush=True)\n    time.sleep(0.05)",
        "%async_run --name bad 1 / 0",
        "%async_wait bad",
        "%async_jobs",
    )
    for cell in range(1, 5):
        notebook.run(cell)
        notebook.finish(cell)
    until_shown(notebook, 1, "▶ running", "colour 36", "50 %")
    until_shown(notebook, 2, "✘ failed")
    for scheme in ("light", "dark"):
        notebook.page.emulate_media(color_scheme=scheme)
        is_light = str(scheme == "light").lower()
        theme = notebook.page.locator(f"body[data-jp-theme-light={is_light}]")
        theme.wait_for(state="attached")
        for cell in (1, 2, 4):
            area = notebook.cell(cell).locator(".jp-OutputArea-output").first
            # A theme comes after its name.
            wait_for(lambda area=area: area.evaluate(CONTRAST)[0] >= 3, 60, f"{scheme}, {cell}")  # type: ignore[misc]


def test_notebook_7(open_notebook: Open, lab: tuple[Path, str], tmp_path: Path) -> None:
    """As in JupyterLab: live, reloaded, restarted, attached, gathered with a figure, cancelled."""
    go = tmp_path / "go"
    notebook = open_notebook(
        "%%async_run --name talk\nimport os, time\nimport matplotlib.pyplot as plt\nn = 0\n"
        f"while not os.path.exists({str(go)!r}):\n"
        "    print('line', n := n + 1)\n    time.sleep(0.05)\n"
        "plt.plot([1, 2])\nplt.show()",
        "%load_ext dask_async_run\n%async_attach talk",
        "%async_gather talk",
        "%%async_run --name endless\nimport time\nwhile True: time.sleep(0.01)",
        classic=True,
    )
    notebook.run(1)
    until_shown(notebook, 1, "▶ running", "line ", "memory")
    notebook.save(lab[0])
    before = last_line(notebook.output(1))
    notebook.reload()
    until_line(notebook, 1, before + 20)
    until_shown(notebook, 1, "▶ running", "line ")
    notebook.restart()
    stopped = last_line(notebook.output(1))
    notebook.run(2)
    until_line(notebook, 2, stopped + 20)
    until_shown(notebook, 2, "line 1\n")
    go.touch()
    notebook.finish(2)
    until_shown(notebook, 1, "✔ finished")
    notebook.run(3)
    notebook.finish(3)
    saved = notebook.save(lab[0])
    for cell in (2, 3):
        assert "line 1\nline 2\n" in saved.cells[cell].outputs[-2].text
        assert "image/png" in saved.cells[cell].outputs[-1].data
    assert WIDGET not in saved.cells[1].outputs[0].data
    notebook.run(4)
    until_shown(notebook, 4, "▶ running")
    notebook.cell(4).locator("button", has_text="Cancel").click()
    until_shown(notebook, 4, "■ cancelled")


def test_the_cancel_button(open_notebook: Open) -> None:
    """The cell is interrupted, and the card says so; also while a cell runs here."""
    notebook = open_notebook(
        "%%async_run --name endless\nimport time\nwhile True: time.sleep(0.01)",
    )
    notebook.run(1)
    until_shown(notebook, 1, "▶ running")
    notebook.cell(1).locator("button", has_text="Cancel").click()
    until_shown(notebook, 1, "■ cancelled", "KeyboardInterrupt")


def test_the_browser_notifies(open_notebook: Open, lab: tuple[Path, str], tmp_path: Path) -> None:
    """Once, if it was allowed by a click; not again where the page is loaded again."""
    go = tmp_path / "go"
    notebook = open_notebook(
        "%%async_run --name rung --notify\nimport os, time\n"
        f"while not os.path.exists({str(go)!r}): time.sleep(0.02)"
    )
    # The browser's own notifications, written down as they are made.
    notebook.page.add_init_script(
        "window.rung = []; window.Notification = new Proxy(window.Notification, {construct("
        "make, words) { rung.push(words); return Reflect.construct(make, words); }})"
    )
    notebook.reload()
    notebook.run(1)
    button = notebook.cell(1).locator("button", has_text="Notify me")
    button.wait_for()
    notebook.page.context.grant_permissions(["notifications"])
    button.click()
    notebook.cell(1).locator("button", has_text="Will notify").wait_for()
    notebook.save(lab[0])
    go.touch()
    until_shown(notebook, 1, "✔ finished")
    ((title, words),) = wait_for(lambda: notebook.page.evaluate("rung"))
    assert title.startswith("Job rung: finished after")
    assert "%async_gather rung" in words["body"]
    notebook.reload()
    until_shown(notebook, 1, "✔ finished")
    assert notebook.page.evaluate("rung") == []


def test_gather_when_done(open_notebook: Open, tmp_path: Path) -> None:
    """The next cell after the end of the job has its variables, and its output above its own."""
    go = tmp_path / "go"
    notebook = open_notebook(
        f"%%async_run --name make\nimport os, time\nprint('made')\n"
        f"while not os.path.exists({str(go)!r}): time.sleep(0.02)\nresult = 41",
        "1 + 1",
        "result + 1",
    )
    notebook.run(1)
    until_shown(notebook, 1, "▶ running")
    notebook.cell(1).locator("button", has_text="Gather when done").click()
    notebook.run(2)
    assert "made" not in notebook.finish(2)
    go.touch()
    until_shown(notebook, 1, "✔ finished")
    notebook.run(3)
    shown = until_shown(notebook, 3, "made", "42")
    assert "make finished" not in shown
    assert "make finished" not in notebook.finish(3)


def test_a_hundred_thousand_lines(open_notebook: Open, lab: tuple[Path, str]) -> None:
    """Cost the page and the saved notebook what fifteen do; the last one is seen."""
    notebook = open_notebook(
        "%%async_run --name flood\nfor n in range(100_000): print('line', n)", "%async_gather flood"
    )
    notebook.run(1)
    output = until_shown(notebook, 1, "✔ finished", "line 99999")
    assert output.count("line ") == 15
    bundle = saved_bundle(lab, notebook, 1)
    assert sum(len(str(value)) for value in bundle.values()) < 10_000


def test_no_live_view_if_it_is_switched_off(open_notebook: Open, lab: tuple[Path, str]) -> None:
    """The cell's value is then shown as any other one."""
    notebook = open_notebook(
        "%config AsyncRun.live = False\n%config AsyncRun.notice = False",
        "%%async_run --name quiet\nx = 1",
        "%async_wait quiet",
        "1 + 1",
    )
    for cell in (1, 2, 3, 4):
        notebook.run(cell)
        notebook.finish(cell)
    assert "quiet" not in notebook.output(4)
    (output,) = notebook.save(lab[0]).cells[2].outputs
    assert output.output_type == "execute_result"
    assert "gather with" in output.data["text/html"]


def test_the_table_sorts_at_a_click(open_notebook: Open) -> None:
    """By what stands in a column, up and down, also by keyboard; no kernel is needed."""
    notebook = open_notebook(
        "%async_run --name big x = b'1' * 100_000",
        "%async_run --name small y = 1",
        "%async_run --name after --after small z = 1",
        "%async_wait",
        "%async_jobs",
    )
    for cell in (1, 2, 3, 4, 5):
        notebook.run(cell)
        notebook.finish(cell)
    end_kernels(notebook.address)
    table = notebook.cell(5).locator(".jp-OutputArea table")

    def jobs() -> list[str]:
        return [str(name) for name in table.locator("th[scope=row]").all_inner_texts()]

    assert jobs() == ["big", "small", "after"]
    table.locator("button", has_text="job").focus()
    notebook.page.keyboard.press("Enter")
    wait_for(lambda: jobs() == ["after", "big", "small"])
    result = table.locator("th", has_text="result")
    result.locator("button").click()
    wait_for(lambda: jobs()[-1] == "big")
    result.locator("button").click()
    wait_for(lambda: jobs()[0] == "big")
    assert result.get_attribute("aria-sort") == "descending"
    assert "▼" in result.inner_text()
