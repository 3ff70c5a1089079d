"""What stands at the axes: times of the browser's own zone, sizes, whole numbers."""

from __future__ import annotations

from bokeh.models import CustomJSTickFormatter, NumeralTickFormatter

_CODE = """\
const wide = ticks.length > 1 ? ticks[ticks.length - 1] - ticks[0] : 0
const then = new Date(tick)
const time = {hour: "2-digit", minute: "2-digit"}
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
