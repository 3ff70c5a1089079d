"""The chart of one quantity that a running cell uses, over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bokeh.models import ColumnDataSource

from dask_async_run.scheduler.page.ticks import time_figure


class Chart:
    """One quantity over time.

    Parameters
    ----------
    title : str
    colour : str
    ticks : TickFormatter
        Says the numbers.
    """

    def __init__(self, title: str, colour: str, ticks: Any) -> None:
        self._source = ColumnDataSource({"time": [], "value": []})
        self.root = self._figure(title, colour, ticks)

    def show(self, times: Sequence[float], values: Sequence[float]) -> None:
        """Show these samples: all that is new is sent, or all if it is another series."""
        old = self._source.data["time"]
        known = len(old)
        if times[:known] != old or not known:
            self._source.data = {"time": list(times), "value": list(values)}
        elif len(times) > known:
            self._source.stream({"time": list(times[known:]), "value": list(values[known:])})

    def _figure(self, title: str, colour: str, ticks: Any) -> Any:
        plot = time_figure(title=title, height=110)
        plot.varea("time", 0, "value", source=self._source, fill_color=colour, fill_alpha=0.25)
        plot.line("time", "value", source=self._source, line_color=colour, line_width=2)
        plot.y_range.start = 0
        plot.xgrid.grid_line_color = None
        plot.yaxis.formatter = ticks
        plot.yaxis.ticker.desired_num_ticks = 3
        plot.xaxis.ticker.desired_num_ticks = 4
        plot.title.text_color = "#7d7d7d"
        plot.title.text_font_size = "12px"
        plot.title.text_font_style = "normal"
        plot.x_range.range_padding = 0
        return plot
