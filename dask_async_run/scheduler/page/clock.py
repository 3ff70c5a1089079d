"""How an axis says times: in the browser's time zone, which Bokeh's own axes do not."""

from __future__ import annotations

from bokeh.models import CustomJSTickFormatter

_CODE = """\
const wide = ticks.length > 1 ? ticks[ticks.length - 1] - ticks[0] : 0
const then = new Date(tick)
const time = {hour: "2-digit", minute: "2-digit"}
if (wide > 86400e3) { return then.toLocaleString([], {weekday: "short", ...time}) }
return then.toLocaleTimeString([], wide < 240e3 ? {...time, second: "2-digit"} : time)
"""


def local_times() -> CustomJSTickFormatter:
    """Answer a formatter of the ticks of a time axis."""
    return CustomJSTickFormatter(code=_CODE)
