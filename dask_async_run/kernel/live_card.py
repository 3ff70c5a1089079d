"""The live card: how a job looks while somebody watches it, and the summary it leaves. Pure.

Inline styles and the front end's own colour variables, as in `tables`. Nothing moves
that need not: the text's place never shrinks, lines do not wrap, numbers have one width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

from dask_async_run.glimpse import Picture
from dask_async_run.job import JobView, State
from dask_async_run.kernel.tables import job_facts, state_html
from dask_async_run.looks import COLOURS, bytes_text, one_line, span
from dask_async_run.progress import Progress, find_progress
from dask_async_run.screen import Line, screen
from dask_async_run.sweeps import ended_members, others, seconds_left, size

LINES = 15
"""Lines of text that are shown."""

WHY = 200
"""Characters of the reason that are shown."""

SAVED_PICTURE = 300_000
"""Characters of a picture at most that stays in a saved notebook; the gather brings it too."""

_MUTED = "opacity:.7;font-size:90%;white-space:nowrap"
_NUMBERS = "font-variant-numeric:tabular-nums"
# As wide as there is place, however wide what is in it: flex items grow with their content.
_BOUNDED = "width:0;min-width:100%;box-sizing:border-box"
_PRE = (
    f"{_BOUNDED};margin:4px 0 0 0;padding:4px 8px;line-height:1.35;white-space:pre;overflow:hidden;"
    "text-overflow:ellipsis;text-align:left;color:inherit;border-radius:3px;"
    "font-family:var(--jp-code-font-family, monospace);font-size:var(--jp-code-font-size, 13px);"
    "background:rgba(128,128,128,.12)"
)


@dataclass(frozen=True, slots=True)
class Shown:
    """What is shown of a job at one moment.

    Parameters
    ----------
    view : JobView
    lines : sequence of Line
        The end of its text.
    picture : Picture or None
    now : float
        Seconds since the epoch.
    height : int
        Lines that the text's place has had already.
    note : str
        Something to be said beside the state: that the connection is lost.
    page : str
        Where the dashboard shows it; empty: nowhere.
    awaited : sequence of str
        What the jobs are called that it waits for, where that is known.
    """

    view: JobView
    lines: Sequence[Line] = ()
    picture: Picture | None = None
    now: float = 0.0
    height: int = 0
    note: str = ""
    page: str = ""
    awaited: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Card:
    """A card's parts, each HTML; empty: there is none.

    Parameters
    ----------
    colour : str
        CSS, of the state.
    height : int
        Lines of text, `Shown.height` for the next card.
    """

    colour: str
    head: str
    facts: str
    bar: str
    text: str
    picture: str
    height: int

    @property
    def html(self) -> str:
        """All of it, for a front end without widgets and for a saved notebook."""
        return (
            f'<div style="border-left:3px solid {self.colour};padding:2px 10px">'
            f"{self.head}{self.facts}{self.bar}{self.text}{self.picture}</div>"
        )


def live_card(shown: Shown) -> Card:
    """Answer the card of a job that is watched."""
    lines = list(shown.lines)
    progress = None
    if shown.view.state == State.RUNNING:
        progress = find_progress(lines)
        if progress is not None:
            del lines[progress.line]  # the bar says it
        progress = progress or _sweep_progress(shown)
    return Card(
        colour=COLOURS[State(shown.view.state)],
        head=_head(shown),
        facts=_facts(shown),
        bar=_bar(progress) if progress else "",
        text=_text(lines, shown.height),
        picture=_picture(shown.picture),
        height=max(shown.height, min(len(lines), LINES)),
    )


def submitted(view: JobView) -> tuple[str, str]:
    """Answer HTML and text that stay true whatever becomes of a job.

    What a notebook keeps that was saved, or whose page was loaded again, meanwhile.
    """
    html = (
        f'<div style="border-left:3px solid {COLOURS[State.PENDING]};padding:2px 10px">'
        f"<b>{escape(view.label)}</b> &nbsp;submitted{job_facts(view)}</div>"
    )
    return html, f"Job {view.label}: submitted\n  {_advice(view)}"


def summary(shown: Shown) -> Card:
    """Answer the card of a job that has ended, or is not watched any more: no height to keep."""
    shown = replace(shown, page="")  # the server may be another one when it is read
    picture = shown.picture
    if picture is not None and len(picture.data) > SAVED_PICTURE:
        picture = None
    return Card(
        colour=COLOURS[State(shown.view.state)],
        head=_head(shown),
        facts=_facts(shown),
        bar="",
        text=_text(list(shown.lines), 0),
        picture=_picture(picture),
        height=0,
    )


def summary_text(shown: Shown) -> str:
    """Say the summary without HTML, for GitHub's diffs, terminals and screen readers."""
    view = shown.view
    parts = [f"Job {view.label}: {view.state}{_how_long(shown)}"]
    if why := one_line(view.why, WHY):
        parts[0] += f" ({why})"
    parts += [f"  | {line.text}" for line in shown.lines[-LINES:]]
    parts.append(f"  {_advice(view)}")
    return "\n".join(parts)


def lines_of(text: str) -> list[Line]:
    """Answer the lines of a glimpse's text that a card can need."""
    return screen(text)[-LINES - 1 :]


def _how_long(shown: Shown) -> str:
    view = shown.view
    ran = view.ran(shown.now)
    if view.ended is not None:
        return "" if ran is None else f" after {span(ran)}"
    if ran is not None:
        return f" for {span(ran)}"
    return f" for {span(shown.now - view.submitted)}"


def _advice(view: JobView) -> str:
    if view.state == State.LOST:
        return f"%async_rerun {view.label} runs it again with the same inputs."
    return f"%async_gather {view.label} shows its output and brings the results."


def _head(shown: Shown) -> str:
    view = shown.view
    first = [f"<b>{escape(view.label)}</b>", state_html(view)]
    first.append(f'<span style="white-space:nowrap">{_how_long(shown).strip()}</span>')
    rest = []
    if view.host:
        where = f"on {escape(view.host)}"
        rest.append(f"{where}, process {view.pid}" if view.pid else where)
    if view.state == State.RUNNING and view.memory:
        rest.append(f"{bytes_text(view.memory)} memory")
        rest.append(f"{view.cpu:.0f} % CPU")
    spans = [*first, *(f'<span style="{_MUTED}">{part}</span>' for part in rest)]
    if why := one_line(view.why, WHY):
        spans.append(
            f'<span style="font-size:90%;min-width:0;overflow-wrap:anywhere">{escape(why)}</span>'
        )
    if shown.note:
        spans.append(f'<span style="font-size:90%;font-style:italic">{escape(shown.note)}</span>')
    return (
        f'<div style="display:flex;flex-wrap:wrap;column-gap:14px;align-items:baseline;'
        f'line-height:26px;{_NUMBERS}">{"".join(spans)}</div>'
    )


def _facts(shown: Shown) -> str:
    return f'<div style="line-height:1.45">{job_facts(shown.view, shown.page, shown.awaited)}</div>'


def _bar(progress: Progress) -> str:
    percent = f"{progress.percent:.0f} %"
    said = [progress.count, progress.rate, f"{progress.left} left" if progress.left else ""]
    words = "&nbsp;&nbsp;".join(escape(part) for part in said if part)
    what = f"<span>{escape(progress.what[:40])}</span>" if progress.what else ""
    return (
        f'<div style="display:flex;align-items:center;gap:10px;margin-top:4px;{_NUMBERS};'
        f'white-space:nowrap">{what}'
        f'<div role="progressbar" aria-valuenow="{progress.percent:.0f}" aria-valuemin="0" '
        'aria-valuemax="100" style="flex:1 1 60px;max-width:320px;height:9px;border-radius:5px;'
        'background:var(--jp-border-color2, rgba(128,128,128,.35));overflow:hidden">'
        f'<div style="width:{progress.percent:.1f}%;height:100%;'
        f'background:{COLOURS[State.RUNNING]}"></div></div>'
        f'<b style="min-width:3.2em">{percent}</b><span style="{_MUTED}">{words}</span></div>'
    )


def _sweep_progress(shown: Shown) -> Progress | None:
    view = shown.view
    if not view.sweep:
        return None
    done, whole = ended_members(view), size(view.sweep)
    left = seconds_left(view, shown.now)
    return Progress(
        line=0,
        percent=100 * done / whole,
        count=", ".join([f"{done}/{whole} members", *others(view)]),
        left="" if left is None else f"about {span(left)}",
    )


def _text(lines: list[Line], height: int) -> str:
    shown = lines[-LINES:]
    if not shown and height <= 1:
        return ""  # one line that has become a bar leaves no empty place
    rows = "\n".join(line.html or " " for line in shown)
    least = f";min-height:{1.35 * height:.2f}em" if height > len(shown) else ""
    return f'<pre style="{_PRE}{least}">{rows}</pre>'


def _picture(picture: Picture | None) -> str:
    if picture is None or not picture.data:
        return ""
    if picture.kind == "text/html":
        return (
            '<div class="jp-RenderedHTMLCommon" tabindex="0" aria-label="the latest display" '
            f'style="{_BOUNDED};max-height:420px;overflow:auto;margin-top:6px;padding:0">'
            f"{picture.data}</div>"
        )
    if picture.kind == "image/svg+xml":
        from urllib.parse import quote

        source = f"data:image/svg+xml,{quote(picture.data)}"
    else:
        data = "".join(picture.data.split())
        source = f"data:{picture.kind};base64,{data}"
    return (
        f'<img src="{escape(source)}" alt="the latest picture of this job" '
        'style="display:block;max-width:100%;max-height:360px;margin-top:6px">'
    )
