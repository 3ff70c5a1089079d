"""Figures of plotly's, and names of their parts."""

from __future__ import annotations

from typing import Any

import pytest

from dask_async_run.namespace.charts import make_chart, part_at, reduce_chart
from notebook import Notebook

pytestmark = [
    pytest.mark.contract(3, 17),
    # Older ones find their own templates outdated, wherever these are used.
    pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning"),
]
go = pytest.importorskip("plotly.graph_objects")

SETUP = """\
import plotly.graph_objects as go
fig = go.Figure([go.Scatter(x=[1, 2], y=[3, 4]), go.Bar(x=[1], y=[2])]); same = fig
fig.add_annotation(text='note'); fig.update_layout(xaxis2={'title': 'second'})
trace = fig.data[0]; marker = trace.marker; layout = fig.layout; axis = layout.xaxis2
note = layout.annotations[0]
"""
CHANGES = [
    ("fig.update_traces(marker_color='red')", "trace.marker.color, fig.data[1].marker.color"),
    ("trace.marker.color = 'red'", "fig.data[0].marker.color, fig.to_dict()['data'][0]['marker']"),
    ("marker.color = 'red'", "trace.marker.color, fig.data[0].marker is marker"),
    ("axis.title = 'other'", "fig.layout.xaxis2.title.text"),
    ("note.text = 'other'; there = note is fig.layout.annotations[0]", "note.text, there"),
    ("fig.add_annotation(text='more')", "[each.text for each in fig.layout.annotations]"),
    ("fig.add_trace(go.Pie(values=[1]))", "[each.type for each in fig.data], len(same.data)"),
    ("fig.data = fig.data[:1]", "[each.type for each in fig.data]"),
    ("fig.data = fig.data[::-1]", "[each.type for each in fig.data], trace is fig.data[1]"),
    ("fig.data = fig.data[1:]; fig.add_bar(y=[3])", "[each.y for each in fig.data]"),
    ("fig.add_scatter(y=[3]); fig.data = fig.data[::-1]", "trace is fig.data[2], marker.color"),
    ("fig.data = []; fig.add_bar(x=[7])", "[each.type for each in fig.data]"),
    ("trace.x = [5, 6]; fig.layout.title = 'A'", "list(trace.x), fig.layout.title.text"),
    ("fig.update_layout(title=None, template='plotly_dark')", "fig.layout.template.layout.font"),
    ("fig.frames = [go.Frame(name='a')]", "[each.name for each in fig.frames]"),
]


@pytest.mark.parametrize(("cell", "asked"), CHANGES)
def test_a_figure_is_changed_in_place(notebook: Notebook, cell: str, asked: str) -> None:
    """What is a part of it stays one, and a later change of the part is one of the figure."""
    notebook.here(SETUP)
    plainly: dict[str, Any] = {}
    exec(SETUP + cell, plainly)
    notebook.there(cell)
    expected = eval(f"str(({asked}))", plainly)
    assert notebook.here(f"str(({asked}))") == expected
    assert notebook.here("same is fig and layout is fig.layout and axis is layout.xaxis2")
    assert notebook.here("str(fig.to_dict())") == str(plainly["fig"].to_dict())
    assert notebook.here("list(fig.layout) == list(same.layout)")
    later = "fig.update_traces(opacity=0.5); fig.update_layout(title='later'); str(fig.to_dict())"
    *statements, last = later.split("; ")
    exec("; ".join(statements), plainly)
    notebook.here("; ".join(statements))
    assert notebook.here(last) == eval(last, plainly)


def test_arrays_of_a_figure_stay_arrays(notebook: Notebook) -> None:
    """On the way there and back, in one that a cell makes, too."""
    notebook.here(
        "import numpy as np; import plotly.graph_objects as go\n"
        "fig = go.Figure(go.Scatter(x=np.arange(3.)))"
    )
    notebook.there("top = fig.data[0].x.max(); made = go.Figure(go.Scatter(x=np.arange(4)))")
    assert notebook.here("top, made.data[0].x.max(), type(made.data[0].x).__name__") == (
        2.0,
        3,
        "ndarray",
    )


def test_parts_in_no_figure(notebook: Notebook) -> None:
    """They have parts themselves."""
    notebook.here("import plotly.graph_objects as go; bar = go.Bar(x=[1]); marker = bar.marker")
    notebook.there("marker.color = 'red'; fig = go.Figure(bar)")
    assert notebook.here("bar.marker is marker and bar.marker.color == 'red'")
    notebook.here("marker.color = 'blue'")
    assert notebook.here("bar.marker.color, fig.data[0].marker.color") == ("blue", "red")
    notebook.there("bar.x = None; fig.data[0].marker = None")
    assert notebook.here("bar.x, bar.marker is marker, fig.data[0].marker.color") == (
        None,
        True,
        None,
    )


def test_a_merge_that_fails_leaves_the_figure() -> None:
    """As it was before."""
    from dask_async_run.namespace.opaque import CHART

    figure = go.Figure(go.Scatter(x=[1]), layout={"title": "A"})
    trace, before = figure.data[0], str(figure.to_dict())
    other = go.Figure([go.Scatter(x=[2], mode="lines"), go.Bar(x=[1])], layout={"height": 100})
    undo = CHART.apply(figure, CHART.state(other, None))
    assert str(figure.to_dict()) == str(other.to_dict())
    undo()
    assert str(figure.to_dict()) == before
    assert figure.data[0] is trace
    figure.add_bar(x=[3])
    before = str(figure.to_dict())
    CHART.apply(figure, CHART.state(go.Figure(go.Pie(values=[1])), None))()
    assert str(figure.to_dict()) == before


def test_a_figure_has_what_it_had_in_its_order() -> None:
    """plotly takes the type out and puts it last, and leaves out what is empty."""
    figure = go.Figure(go.Scatter(x=[1], xaxis="x"))
    figure.data[0].line.color = "red"
    figure.update_layout(annotations=[{"text": "a", "font": {}}], title={})
    make, given = reduce_chart(figure)
    assert list(make(*given)._data[0]) == list(figure._data[0])
    made = make(*given)
    assert list(made._data[0]) == list(figure._data[0])
    assert made._layout == figure._layout


def test_the_place_of_a_part() -> None:
    """A part that was taken out of its figure has none."""
    figure = go.Figure([go.Scatter(x=[1]), go.Bar(x=[1])])
    bar = figure.data[1]
    make, given = reduce_chart(bar.marker)
    assert (make, given) == (part_at, (figure, ("data", 1, "marker")))
    assert make(*given) is bar.marker
    figure.data = figure.data[:1]
    make, given = reduce_chart(bar)
    assert make is make_chart
    assert make(*given).type == "bar"
