"""Widgets are shown as text that is kept up to date; clearing one clears nothing else."""

from __future__ import annotations

import pytest

from cells import Cells
from dask_async_run.job import State


def test_a_widget_is_shown_as_its_text_brought_up_to_date(cells: Cells) -> None:
    """No front end has its model."""
    ended = cells.run("import ipywidgets\ns = ipywidgets.IntSlider(3)\ndisplay(s)\ns.value = 7")
    assert ended.shown.data == [{"text/plain": "IntSlider(value=7)"}]


def test_a_progress_bar_of_tqdm_ends_as_it_ended(cells: Cells) -> None:
    """`tqdm.notebook` makes a widget."""
    pytest.importorskip("tqdm")
    ended = cells.run("from tqdm.notebook import tqdm\nfor i in tqdm(range(5)): pass")
    assert ended.shown.data[0]["text/plain"].startswith("100%|")


def test_a_bar_that_is_not_to_stay_goes(cells: Cells) -> None:
    """It is closed, and a page takes what is closed away."""
    pytest.importorskip("tqdm")
    ended = cells.run(
        "from tqdm.notebook import tqdm\nfor i in tqdm(range(2), desc='stays'):\n"
        "    for j in tqdm(range(5), leave=False): pass"
    )
    stays, *gone = (data["text/plain"] for data in ended.shown.data)
    assert stays.startswith("stays: 100%|")
    assert gone == ["", ""]


def test_a_bar_that_has_ended_tells_how_long_it_took(cells: Cells) -> None:
    """And not how long ago it began, though another one goes on."""
    pytest.importorskip("tqdm")
    ended = cells.run(
        "from tqdm.notebook import tqdm\nbar = tqdm(total=2)\nbar.update(2)\nbar.close()\n"
        "bar._time = lambda: bar.start_t + 5000\nfor _ in tqdm(range(3)): pass"
    )
    first, second = (data["text/plain"] for data in ended.shown.data)
    assert first.startswith("100%|")
    assert "1:23:20" not in first
    assert second.startswith("100%|")


def test_a_progress_bar_that_an_exception_cut_short(cells: Cells) -> None:
    """The exception is the only error that is shown."""
    pytest.importorskip("tqdm")
    code = "from tqdm.notebook import tqdm\nfor i in tqdm(range(5)):\n    if i == 3: 1/0"
    ended = cells.run(code)
    errors = [o["ename"] for o in ended.outputs if o["output_type"] == "error"]
    assert errors == ["ZeroDivisionError"]


def test_tqdm_auto_chooses_as_in_a_kernel(cells: Cells) -> None:
    """The bar of notebooks, not that of terminals."""
    pytest.importorskip("tqdm")
    ended = cells.run("from tqdm.auto import tqdm\nfor i in tqdm(range(5)): pass")
    assert ended.shown.data[0]["text/plain"].startswith("100%|█")
    assert ended.text("stderr") == ""


OUTPUT = """
import ipywidgets
from IPython.display import clear_output
print("kept")
out = ipywidgets.Output()
with out:
    for i in range(5):
        clear_output(wait=True)
        display(i)
print("after")
"""


def test_clearing_an_output_widget_replaces_what_is_in_it(cells: Cells) -> None:
    """And leaves the cell's own output alone."""
    ended = cells.run(OUTPUT)
    assert ended.text() == "kept\nafter\n"
    assert ended.shown.data == [{"text/plain": "4"}]


def test_an_exception_in_an_output_widget_is_shown_and_swallowed(cells: Cells) -> None:
    """As ipywidgets does in a notebook."""
    ended = cells.run("import ipywidgets\nwith ipywidgets.Output():\n    1/0\nprint('on')")
    assert ended.state is State.FINISHED
    assert (ended.shown.error or {})["ename"] == "ZeroDivisionError"
    assert ended.text() == "on\n"


def test_interact_shows_its_first_result(cells: Cells) -> None:
    """Nobody can move the slider."""
    ended = cells.run("import ipywidgets\nipywidgets.interact(lambda x: print(x), x=(0, 10));")
    assert ended.text() == "5\n"


def test_a_live_display_of_rich_ends_as_it_ended(cells: Cells) -> None:
    """It clears an output widget many times a second."""
    ended = cells.run(
        "print('kept')\nfrom rich.progress import track\nfor i in track(range(3)): pass"
    )
    assert ended.text() == "kept\n"
    assert any("100%" in data["text/plain"] for data in ended.shown.data)
    assert not any("Output()" in data["text/plain"] for data in ended.shown.data)


def test_an_output_widget_is_a_place(cells: Cells) -> None:
    """Nothing is to be seen of an empty one; what was put in it is."""
    code = "import ipywidgets\nout = ipywidgets.Output(layout={'border': '1px solid'})\n"
    assert cells.run(f"{code}display(out)\nout").shown.data == []
    code, put = "import ipywidgets\nout = ipywidgets.Output()\n", "out.append_stdout('hello')"
    for body in (f"display(out)\n{put}", f"{put}\ndisplay(out)"):
        ended = cells.run(code + body)
        assert len(ended.shown.data) == 1
        assert "hello" in ended.shown.data[0]["text/plain"]


def test_a_comm_can_be_made_and_used(cells: Cells) -> None:
    """It leads nowhere."""
    code = "import comm\nc = comm.create_comm(target_name='x')\nc.send({'a': 1})\nc.close()"
    assert cells.run(code).state is State.FINISHED
