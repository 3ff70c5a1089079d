"""Figures over time, and what stands at their axes: times of the browser's own zone, sizes."""

from __future__ import annotations

from typing import Any

from bokeh.models import CustomJSTickFormatter, NumeralTickFormatter
from bokeh.plotting import figure

_CODE = """\
const wide = ticks.length > 1 ? ticks[ticks.length - 1] - ticks[0] : 0
const then = new Date(tick)
const time = {hour: "2-digit", minute: "2-digit", hourCycle: "h23"}
if (wide > 86400e3) { return then.toLocaleString([], {weekday: "short", ...time}) }
return then.toLocaleTimeString([], wide < 240e3 ? {...time, second: "2-digit"} : time)
"""


_BYTES = """\
let number = tick, unit = 0
while (number >= 1000 && unit < 4) { number /= 1000; unit++ }
const digits = number < 10 && unit ? 1 : 0
return `${number.toFixed(digits)} ${["B", "kB", "MB", "GB", "TB"][unit]}`
"""


def local_times() -> CustomJSTickFormatter:
    """Answer a formatter of the ticks of a time axis."""
    return CustomJSTickFormatter(code=_CODE)


def sizes() -> CustomJSTickFormatter:
    """Answer a formatter of numbers of bytes."""
    return CustomJSTickFormatter(code=_BYTES)


def plain() -> NumeralTickFormatter:
    """Answer a formatter of whole numbers."""
    return NumeralTickFormatter(format="0")


def time_figure(**options: Any) -> Any:
    """Answer an empty figure over time, that looks like a part of the page, light or dark."""
    plot = figure(
        x_axis_type="datetime",
        toolbar_location=None,
        tools="",
        sizing_mode="stretch_width",
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        min_border_right=12,
        **options,
    )
    plot.grid.grid_line_color = "rgba(128,128,128,0.25)"
    plot.xaxis.formatter = local_times()
    for axis in plot.axis:
        axis.axis_line_color = None
        axis.major_tick_line_color = None
        axis.minor_tick_line_color = None
        axis.major_label_text_color = "#7d7d7d"
        axis.major_label_text_font_size = "11px"
    return plot
