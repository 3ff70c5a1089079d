"""Jobs and outputs as plain text."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from dask_async_run.job import JobView, State

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def label(view: JobView) -> str:
    """A job's name among those of all notebooks."""
    return f"{view.notebook}/{view.label}"


def job_facts(view: JobView) -> dict[str, Any]:
    """A job for ``--json``: what a `JobView` has, without its result's own facts."""
    facts = asdict(view)
    del facts["result"]
    return {**facts, "label": view.label, "state": str(view.state)}


def table(views: Sequence[JobView], now: float) -> str:
    """A line for each job, in columns.

    Parameters
    ----------
    views : sequence of JobView
        What to show, in this order.
    now : float
        Seconds since the epoch.
    """
    rows = [("JOB", "NOTEBOOK", "STATE", "TIME", "LAST")]
    for view in views:
        saved = "" if view.saved or view.state != State.FINISHED else "*"
        rows.append(
            (view.label, view.notebook, f"{view.state}{saved}", _time(view, now), _last(view))
        )
    widths = [min(40, max(len(row[i]) for row in rows)) for i in range(4)]
    lines = []
    for row in rows:
        cut = [_cut(cell, width).ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*cut, _cut(row[-1], 60)]).rstrip())
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
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, errors="backslashreplace").decode(encoding))


def _time(view: JobView, now: float) -> str:
    if view.ended is not None:
        took = f"{_span(view.ended - view.started)}, " if view.started else ""
        return f"{took}{_span(now - view.ended)} ago"
    if view.started is not None:
        return _span(now - view.started)
    return f"for {_span(now - view.submitted)}"


def _span(seconds: float) -> str:
    seconds = max(0.0, seconds)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _last(view: JobView) -> str:
    if view.ename:
        return f"{view.ename}: {view.evalue}"
    return view.reason or view.last_line


def _cut(text: str, width: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 3] + "..."
