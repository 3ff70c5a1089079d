"""Jobs and outputs as plain text."""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from dask_async_run.job import JobView, State
from dask_async_run.looks import one_line, span
from dask_async_run.quantities import age
from dask_async_run.sweeps import described, standing

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def label(view: JobView) -> str:
    """A job's name among those of all notebooks."""
    return f"{view.notebook}/{view.label}"


def job_facts(view: JobView) -> dict[str, Any]:
    """A job for ``--json``: what a `JobView` has, without its result's own facts."""
    facts = asdict(view)
    del facts["result"]
    return {**facts, "label": view.label, "state": str(view.state)}


def all_facts(view: JobView, events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """All about one job, for ``show``: its result's names and its changes of state too."""
    result = view.result or {}
    names = {key: result.get(key) or [] for key in ("bound", "deleted", "mutated")}
    return {
        **job_facts(view),
        **names,
        "failed": result.get("failed") or {},
        "events": [dict(event) for event in events],
    }


def card(facts: dict[str, Any], now: float) -> str:
    """What `all_facts` answered, in lines.

    Parameters
    ----------
    facts : dict
    now : float
        Seconds since the epoch.
    """
    view = JobView.from_message(facts)
    saved = " (saved)" if view.saved else ""
    where = ", ".join(part for part in (view.host, view.worker) if part)
    rows = {
        "job": f"{label(view)} (run {view.version}, {view.id})",
        "state": f"{view.state}{saved}{because(view)}",
        "submitted": _when(view.submitted, now),
        "started": _when(view.started, now),
        "ended": _when(view.ended, now),
        "took": span(ran) if view.ended and (ran := view.ran(now)) is not None else "",
        "where": f"{where}, process {view.pid}" if where and view.pid else where,
        "members": _members(view),
        "waits for": ", ".join(view.after) if not State(view.state).terminal else "",
        "reads": ", ".join(f"{name} ({kind}, {size} B)" for name, kind, size in view.input_names),
        "binds": ", ".join(facts["bound"] if view.ended else view.binds),
        "changes": ", ".join(facts["mutated"] if view.ended else view.mutates),
        "deletes": ", ".join(facts["deleted"] if view.ended else view.deletes),
        "not back": "; ".join(f"{name}: {why}" for name, why in facts["failed"].items()),
        "result": f"{view.nbytes} bytes" if view.nbytes else "",
        "output": f"{view.outputs} pieces, the last: {_cut(view.last_line, 60)}"
        if view.outputs
        else "",
        "kept": view.kept,
        "gathered": "yes" if view.gathered else "no",
    }
    lines = [f"{title:<11}{value}" for title, value in rows.items() if value]
    for event in facts["events"]:
        reason = f": {event['reason']}" if event["reason"] else ""
        lines.append(f"{_clock(event['time'])}  {event['state']}{reason}")
    return "\n".join(lines)


def _members(view: JobView) -> str:
    if not view.sweep:
        return ""
    how = ", ".join(f"{n} {state}" for state, n in sorted(view.members.items()))
    return f"{described(view.sweep)}; {how}"


def because(view: JobView) -> str:
    """Why a job is as it is, if there is something to say: begins with a colon."""
    return f": {_cut(view.why, 200)}" if view.why else ""


def width() -> int:
    """Columns of the terminal; without one, as many as the table needs."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000


def table(views: Sequence[JobView], now: float, columns: int = 10_000) -> str:
    """A line for each job, in columns.

    Parameters
    ----------
    views : sequence of JobView
        What to show, in this order.
    now : float
        Seconds since the epoch.
    columns : int
        How long a line may be: the last column gives way.
    """
    rows = [("JOB", "NOTEBOOK", "STATE", "TIME", "LAST")]
    for view in views:
        saved = "" if view.saved or view.state != State.FINISHED else "*"
        rows.append(
            (view.label, view.notebook, f"{view.state}{saved}", _time(view, now), _last(view, now))
        )
    widths = [min(40, max(len(row[i]) for row in rows)) for i in range(4)]
    left = max(12, min(60, columns - sum(widths) - 2 * len(widths)))
    lines = []
    for row in rows:
        # Of a path the end tells which notebook it is.
        row = (row[0], _cut_front(row[1], widths[1]), *row[2:])
        cut = [_cut(cell, width).ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*cut, _cut(row[-1], left)]).rstrip())
    if any(row[2].endswith("*") for row in rows):
        lines.append("* not yet safe against a loss of power")
    return "\n".join(lines)


def folded(outputs: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a notebook would show in the end: outputs cleared and updated."""
    shown: list[dict[str, Any]] = []
    clear = False
    for output in outputs:
        kind = output["output_type"]
        if kind == "clear_output":
            clear = bool(output.get("wait"))
            if not clear:
                shown.clear()
        elif kind == "update_display_data":
            name = output.get("transient", {}).get("display_id")
            for i, other in enumerate(shown):
                if name is not None and other.get("transient", {}).get("display_id") == name:
                    shown[i] = {**other, "data": output["data"]}
        else:
            if clear:
                shown.clear()
                clear = False
            shown.append(output)
    return shown


def show(outputs: Iterable[dict[str, Any]], colours: bool) -> None:
    """Print outputs: text where it belongs, of pictures what they are.

    Parameters
    ----------
    outputs : iterable of dict
        In nbformat's terms.
    colours : bool
        Whether to leave a traceback's colours in.
    """
    for output in outputs:
        match output["output_type"]:
            case "stream":
                stream = sys.stderr if output["name"] == "stderr" else sys.stdout
                _write(stream, output["text"])
            case "error":
                lines = "\n".join(output["traceback"]) + "\n"
                _write(sys.stdout, lines if colours else _ANSI.sub("", lines))
            case "display_data" | "execute_result" | "update_display_data":
                _write(sys.stdout, _bundle(output["data"]) + "\n")
    sys.stdout.flush()


def _bundle(data: dict[str, Any]) -> str:
    plain = data.get("text/plain")
    others = [kind for kind in data if kind.startswith(("image/", "application/", "video/"))]
    shown = [] if plain is None else ["".join(plain)]
    return " ".join([*shown, *(f"[{kind}]" for kind in others)]) or f"[{', '.join(data)}]"


def _write(stream: Any, text: str) -> None:
    other = sys.stdout if stream is sys.stderr else sys.stderr
    other.flush()  # in order, where both go to a file
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, errors="backslashreplace").decode(encoding))


def _time(view: JobView, now: float) -> str:
    if view.ended is not None:
        ran = view.ran(now)
        took = "" if ran is None else f"{span(ran)}, "
        return f"{took}{age(now - view.ended)} ago"
    if view.started is not None:
        return age(now - view.started)
    return f"for {age(now - view.submitted)}"


def _when(moment: float | None, now: float) -> str:
    return f"{_clock(moment)} ({age(now - moment)} ago)" if moment else ""


def _clock(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def _last(view: JobView, now: float) -> str:
    if view.ename:
        return view.why
    if view.members and not State(view.state).terminal:
        return standing(view, now, age)
    return view.reason or view.last_line


def _cut(text: str, width: int) -> str:
    return one_line(text, width, "...")


def _cut_front(text: str, width: int) -> str:
    return text if len(text) <= width else "..." + text[len(text) - width + 3 :]
