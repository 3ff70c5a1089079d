"""The selected job in detail, as HTML in which nothing of a cell's own can act. Pure.

Sources, names and outputs are texts of who knows whom: all are escaped. Pictures are
images, in which no script runs; HTML that a cell has shown is in a frame that has no
rights, no scripts among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from urllib.parse import quote

from dask_async_run.glimpse import Picture
from dask_async_run.job import JobView, State
from dask_async_run.looks import SIGNS, bytes_text, span
from dask_async_run.owners import short_name
from dask_async_run.progress import find_progress
from dask_async_run.scheduler.page.rows import says
from dask_async_run.screen import screen
from dask_async_run.sweeps import described

LINES = 60
"""Lines of output at most."""

SOURCE = 20_000
"""Characters of source at most."""

PICTURE = 1_000_000
"""Characters of a picture at most."""


def facts(view: JobView, waits: Sequence[str], where: str, now: float) -> str:
    """Answer the head of a job: what it is called, how it stands, what it uses, why."""
    state = State(view.state)
    said = [
        f"<b>{escape(view.label)}</b>",
        f'<span class="s {state}">{SIGNS[state]} {state}{_how_long(view, now)}</span>',
    ]
    muted = [escape(short_name(view.notebook)), escape(f"on {where}") if where else ""]
    if state is State.RUNNING and view.memory:
        muted += [f"{bytes_text(view.memory)} memory", f"{view.cpu:.0f} % CPU"]
    if view.pid and state is State.RUNNING:
        muted.append(f"process {view.pid}")
    if view.sweep:
        muted.append(escape(described(view.sweep)))
    if view.binds:
        names = ", ".join(view.binds[:8]) + (", …" if len(view.binds) > 8 else "")
        muted.append(escape(f"{'binds' if state.terminal else 'will bind'} {names}"))
    said += [f'<span class="muted">{part}</span>' for part in muted if part]
    why = says(view, waits, now) if state is not State.RUNNING else view.reason
    if why and why != view.last_line:
        said.append(f'<span class="why">{escape(why)}</span>')
    return f'<div class="facts">{"".join(said)}</div>'


def output(text: str, height: int = LINES, ended: bool = False, pictured: bool = False) -> str:
    """Answer the end of a job's text as a terminal would show it; its progress bar is elsewhere.

    Where there is none that is said, unless a picture is shown (`pictured`).
    """
    lines = screen(text)
    progress = find_progress(lines)
    if progress is not None and progress.percent < 100:
        del lines[progress.line]
    shown = "\n".join(line.html or " " for line in lines[-height:])
    if not shown:
        return "" if pictured else f'<p class="muted">No output{"" if ended else " yet"}.</p>'
    # The wrapper shows its end, also when there is more.
    return f'<div class="tail" tabindex="0"><pre>{shown}</pre></div>'


def source(text: str) -> str:
    """Answer a cell's source."""
    cut = "\n…" if len(text) > SOURCE else ""
    return f'<pre tabindex="0">{escape(text[:SOURCE])}{cut}</pre>'


def picture(shown: Picture | None) -> str:
    """Answer the latest picture or table that a cell has shown; empty: there is none."""
    if shown is None:
        return ""
    if len(shown.data) > PICTURE:
        return '<p class="muted">Its latest picture is too large for this page.</p>'
    if shown.kind == "text/html":
        # The frame is of no origin, and may do nothing: not even its links open.
        inside = f'<meta name="color-scheme" content="light">{_TABLE}{shown.data}'
        return (
            f'<iframe sandbox="" title="what the cell has shown" srcdoc="{escape(inside)}"'
            "></iframe>"
        )
    if shown.kind == "image/svg+xml":
        data = f"data:image/svg+xml,{quote(shown.data)}"
    else:
        data = f"data:{shown.kind};base64,{''.join(shown.data.split())}"
    return f'<img src="{escape(data)}" alt="the latest picture of this job">'


def question(verb: str, names: Sequence[str]) -> str:
    """Ask whether something shall be done to jobs."""
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    what = {
        "cancel": "They stop; what was bound by then is kept"
        if len(names) > 1
        else "It stops; what it has bound by then is kept",
        "rerun": "A new run with the inputs that it had, under the same name",
    }[verb]
    ask = {"cancel": "Cancel", "rerun": "Run again:"}[verb]
    return f'<div class="ask">{ask} <b>{escape(listed)}</b>? {what}.</div>'


def answer(text: str, good: bool = True) -> str:
    """Tell what came of it."""
    return f'<p class="{"good" if good else "bad"}">{escape(text)}</p>'


_TABLE = (
    "<style>body{font:13px sans-serif;margin:4px}table{border-collapse:collapse}"
    "td,th{padding:2px 8px;text-align:right;border-bottom:1px solid #ddd}</style>"
)


def _how_long(view: JobView, now: float) -> str:
    ran = view.ran(now)
    if ran is None:
        return ""
    return f" for {span(ran)}" if view.ended is None else f" after {span(ran)}"
