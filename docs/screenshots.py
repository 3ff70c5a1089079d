"""Make the README's pictures from a real run in JupyterLab, in Chromium, light and dark.

    python docs/screenshots.py          # all
    python docs/screenshots.py page     # only those of the jobs' page on the dashboard

Submits, reloads the page, restarts the kernel, gathers; a picture is only written when
what it shows has happened. Needs the test extra and Chromium.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

import nbformat  # noqa: E402  (the path to the helpers comes first)

from lab import LabNotebook, browser_page, lab_server  # noqa: E402
from observer import stop_server  # noqa: E402
from waiting import wait_for  # noqa: E402

NOTEBOOK = "digits.ipynb"
SERVE, DATA, TRAIN, FREE, ATTACH, GATHER, USE = range(7)
CELLS = (
    "%load_ext dask_async_run\n%async_run_server --workers 2 --no-dashboard",
    """\
import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier
from tqdm import tqdm

X, y = load_digits(return_X_y=True)""",
    """\
%%async_run --name train
model, curve = MLPClassifier(64, alpha=0.1, learning_rate_init=5e-4), []
for epoch in tqdm(range(1, 2001), desc="epochs"):
    model.partial_fit(X[:1200], y[:1200], classes=range(10))
    curve.append(model.score(X[1200:], y[1200:]))
    if epoch % 250 == 0:
        tqdm.write(f"epoch {epoch}: accuracy {curve[-1]:.3f}")

plt.figure(figsize=(6, 2.4))
plt.plot(curve)
plt.show()
max(curve)""",
    "(y == 7).sum()",
    "%load_ext dask_async_run\n%async_attach train",
    "%async_gather train",
    "len(curve), model",
)


FIGURE = """\
import matplotlib.pyplot as plt
fig, axes = plt.subplots(figsize=(6, 2.4))
axes.plot([x**0.5 for x in range(100)])
display(fig)
plt.close(fig)
"""
TRAIN_SLOWLY = """\
import time
from tqdm import tqdm

weights = bytearray(120_000_000)
for epoch in tqdm(range(1, 301), desc="epochs"):
    if epoch % 10 == 0:
        tqdm.write(f"epoch {epoch}: accuracy {0.97 - 0.5 / epoch:.3f}")
    sum(weights[:9_000_000])
    time.sleep(0.4)
score = 0.965
"""
REGRID = """\
import time
for step in range(400):
    print("step", step)
    time.sleep(0.5)
"""
JOBS = {
    "digits.ipynb": {
        "load": "rows = list(range(100_000))\nprint(len(rows), 'rows')",
        "curve": FIGURE,
        "train": TRAIN_SLOWLY,
        "report": "print(score)",
    },
    "weather.ipynb": {
        "download": "raise TimeoutError('no answer from the archive')",
        "regrid": REGRID,
    },
}
SWEEP = {"rate": [0.1, 0.01], "depth": range(8)}
PICTURES = (("", 1180, False), ("-dark", 1180, True), ("-narrow", 800, False))


def jobs_page() -> None:
    """Make the pictures of the jobs' page on the dashboard."""
    import dask_async_run

    with tempfile.TemporaryDirectory(prefix="dask-async-run-docs-") as home:
        os.environ["DASK_ASYNC_RUN_STATE"] = f"{home}/state"
        os.environ["DASK_ASYNC_RUN_RUNTIME"] = f"{home}/run"
        try:
            with dask_async_run.connect(workers=3) as session:
                for notebook, jobs in JOBS.items():
                    session._inner.notebook = notebook
                    for name, code in jobs.items():
                        session.run(code, name=name)
                sweep = "import time\ntime.sleep(9)\nloss = rate * depth"
                session.run(sweep, name="lr", sweep=SWEEP)
                for suffix, width, dark in PICTURES:
                    _page_picture(session._inner.page(), f"5-page{suffix}", width, dark)
        finally:
            stop_server()


def _page_picture(address: str, name: str, width: int, dark: bool) -> None:
    with browser_page(width, 1000, dark) as page:
        page.set_default_timeout(120_000)
        page.goto(address)
        page.locator(".slick-row", has_text="train").filter(has_text="running").click()
        page.locator("pre", has_text="epoch 10:").first.wait_for()
        page.locator(".slick-row", has_text="members").wait_for()
        page.wait_for_timeout(6000)  # for the charts to have a line
        page.mouse.move(0, 0)
        end = page.get_by_role("region", name="Timeline").bounding_box()
        clip = {"x": 0, "y": 0, "width": width, "height": end["y"] + end["height"] + 14}
        page.screenshot(path=ROOT / "docs" / f"{name}.png", clip=clip, full_page=True)


def main() -> None:
    if sys.argv[1:] == ["page"]:
        jobs_page()
        return
    with tempfile.TemporaryDirectory(prefix="dask-async-run-docs-") as home:
        folder = Path(home, "notebooks")
        folder.mkdir()
        for suffix in ("", "-dark"):
            env = {
                "DASK_ASYNC_RUN_STATE": f"{home}/state{suffix}",
                "DASK_ASYNC_RUN_RUNTIME": f"{home}/run",
                "IPYTHONDIR": f"{home}/ipython",
            }
            os.environ.update(env)
            content = nbformat.v4.new_notebook(
                cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS],
                metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
            )
            nbformat.write(content, folder / NOTEBOOK)
            with (
                lab_server(folder, env) as address,
                browser_page(960, 1500, dark=bool(suffix)) as page,
            ):
                try:
                    _story(LabNotebook(page, address, NOTEBOOK).open(), folder, suffix)
                finally:
                    stop_server()
    jobs_page()


def _story(notebook: LabNotebook, folder: Path, suffix: str) -> None:
    def do(cell: int) -> None:
        notebook.run(cell)
        notebook.finish(cell)

    def shown(cell: int, *words: str) -> None:
        wait_for(lambda: all(w in notebook.output(cell) for w in words), 120, f"{words} in {cell}")

    def picture(name: str, first: int, last: int) -> None:
        """Write the cells from `first` to `last`; the pointer and the selection are elsewhere."""
        page = notebook.page
        page.mouse.move(0, 0)
        notebook.show(first)
        boxes = [notebook.cell(n).bounding_box() for n in (first, last)]
        clip = {
            "x": boxes[0]["x"],
            "y": boxes[0]["y"],
            "width": boxes[0]["width"],
            # Without the border of the selected cell below.
            "height": boxes[1]["y"] + boxes[1]["height"] - boxes[0]["y"] - 4,
        }
        page.screenshot(path=ROOT / "docs" / f"{name}{suffix}.png", clip=clip)

    for cell in (SERVE, DATA, TRAIN, FREE):
        do(cell)
    shown(TRAIN, "▶ running", "memory", "it/s", "accuracy")
    picture("1-submitted", TRAIN, FREE)
    notebook.save(folder)

    notebook.reload()
    shown(TRAIN, "▶ running", "epoch 500:")
    picture("2-reloaded", TRAIN, TRAIN)

    notebook.restart()
    notebook.run(ATTACH)
    shown(ATTACH, "(running", "epoch 750:")
    picture("3-restarted", ATTACH, ATTACH)

    notebook.finish(ATTACH, 120)
    do(GATHER)
    shown(GATHER, "epoch 2000:")
    image = notebook.cell(GATHER).locator(".jp-OutputArea img")
    wait_for(lambda: image.count() == 1 and image.evaluate("image => image.naturalWidth") > 100)
    do(USE)
    picture("4-gathered", GATHER, USE)


if __name__ == "__main__":
    main()
