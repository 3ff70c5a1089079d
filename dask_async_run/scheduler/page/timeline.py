"""The timeline: which cell ran when, a line for each place where cells run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bokeh.models import FactorRange, HoverTool, Range1d, TapTool

from dask_async_run.job import State
from dask_async_run.looks import COLOURS, span
from dask_async_run.scheduler.page.feed import Feed
from dask_async_run.scheduler.page.rows import Row, Span
from dask_async_run.scheduler.page.ticks import time_figure

COLUMNS = (
    *("id", "name", "notebook", "state", "where", "line", "begin", "end", "middle", "took"),
    *("colour", "label"),
)

MOST = 500
"""Bars at most: the latest."""

WIDTH = 130
"""Characters that a whole line of the timeline has place for, about."""


class Lanes:
    """Gives each run a line of its worker's on which nothing else ran meanwhile. Pure."""

    def __init__(self) -> None:
        self._lanes: dict[str, list[list[tuple[str, float, float]]]] = {}

    def line(self, run: Span) -> int:
        """Answer the line, from 0; the same one each time for the same run."""
        end = float("inf") if run.ended is None else run.ended
        lanes = self._lanes.setdefault(run.worker, [])
        for number, lane in enumerate(lanes):
            for place, (job, _, _) in enumerate(lane):
                if job == run.id:
                    lane[place] = (run.id, run.started, end)
                    return number
        for number, lane in enumerate(lanes):
            if all(end <= begun or run.started >= ended for _, begun, ended in lane):
                lane.append((run.id, run.started, end))
                return number
        lanes.append([(run.id, run.started, end)])
        return len(lanes) - 1


class Timeline:
    """The timeline of one page.

    Attributes
    ----------
    root : figure
        Its Bokeh model.
    feed : Feed
        Of the bars; tapping one selects it.
    """

    def __init__(self) -> None:
        self.feed = Feed(COLUMNS)
        self._lanes = Lanes()
        self._running: set[str] = set()
        self._window = 600.0
        self._lines = FactorRange()
        self._range = Range1d(0, 1)
        self.root = self._figure()

    def show(self, spans: Mapping[str, Span], changed: Iterable[str], now: float) -> None:
        """Bring it up to date: what changed, and what still runs."""
        begin = now - self._window
        wanted = [spans[job] for job in changed if job in spans]
        wanted += [spans[job] for job in self._running if job in spans]
        wanted.sort(key=lambda run: run.ended is None)  # an end makes place for what began
        rows = {
            run.id: self._bar(run, now) for run in wanted if run.ended is None or run.ended > begin
        }
        self._running = {run.id for run in spans.values() if run.ended is None}
        self._put(rows, [job for job in changed if job not in spans], spans, now)

    def look_back(self, seconds: float, spans: Mapping[str, Span], now: float) -> None:
        """Show so many seconds before now."""
        self._window = seconds
        self._all(spans, now)

    def _all(self, spans: Mapping[str, Span], now: float) -> None:
        begin = now - self._window
        seen = [run for run in spans.values() if run.ended is None or run.ended > begin]
        latest = sorted(seen, key=lambda run: run.started)[-MOST:]
        self._lanes = Lanes()
        self._running = {run.id for run in latest if run.ended is None}
        self.feed.replace({run.id: self._bar(run, now) for run in latest})
        self._settle(now)

    def _put(
        self, rows: dict[str, Row], gone: list[str], spans: Mapping[str, Span], now: float
    ) -> None:
        if len(self.feed) + len(rows) > MOST * 1.2:
            self._all(spans, now)
            return
        self.feed.update(rows, gone)
        self._settle(now)

    def _settle(self, now: float) -> None:
        lines = sorted(set(self.feed.source.data["line"]), key=_order, reverse=True)
        if lines != self._lines.factors:
            self._lines.factors = lines
            self.root.height = 46 + min(420, max(30, 26 * len(lines)))
        self._range.update(start=1000 * (now - self._window), end=1000 * now)

    def _bar(self, run: Span, now: float) -> dict[str, Any]:
        lane = self._lanes.line(run)
        end = now if run.ended is None else run.ended
        # One that is over at once can be seen, too.
        seen = max(end, run.started + self._window / 400)
        room = int(WIDTH * (seen - max(run.started, now - self._window)) / self._window)
        return {
            "id": run.id,
            "name": run.name,
            "notebook": run.notebook,
            "state": run.state,
            "where": run.where,
            "line": run.where + (f" · {lane + 1}" if lane else ""),
            "begin": 1000 * run.started,
            "end": 1000 * seen,
            "middle": 1000 * max(run.started, now - self._window),
            "took": span(end - run.started),
            "colour": COLOURS[State(run.state)],
            "label": run.name[:room] if room >= 2 else "",
        }

    def _figure(self) -> Any:
        plot = time_figure(height=76, x_range=self._range, y_range=self._lines)
        bars = plot.hbar(
            y="line",
            left="begin",
            right="end",
            height=0.76,
            source=self.feed.source,
            fill_color="colour",
            line_color=None,
            nonselection_fill_alpha=0.75,
            selection_line_color="#e8a33d",
            selection_line_width=3,
        )
        plot.text(
            x="middle",
            y="line",
            text="label",
            source=self.feed.source,
            text_color="white",
            text_font_size="11px",
            text_baseline="middle",
            x_offset=4,
            nonselection_text_alpha=1.0,
        )
        told = [("job", "@name"), ("notebook", "@notebook"), ("state", "@state, @took")]
        plot.add_tools(
            HoverTool(renderers=[bars], tooltips=[*told, ("where", "@where")]),
            TapTool(renderers=[bars]),
        )
        plot.ygrid.grid_line_color = None
        return plot


def _order(line: str) -> list[Any]:
    """Sort "worker 10" after "worker 9"."""
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in line.split()]
