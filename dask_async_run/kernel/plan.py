"""``--plan``: what a submission would send, bind and wait for."""

from __future__ import annotations

from html import escape

from dask_async_run.frames import name_of
from dask_async_run.kernel.files import Outgoing
from dask_async_run.kernel.preparation import Prepared
from dask_async_run.kernel.session import Session
from dask_async_run.kernel.submission import local_code
from dask_async_run.looks import bytes_text
from dask_async_run.namespace.capture import Captured
from dask_async_run.sweeps import described, extent


def _there_already(session: Session, captured: Captured) -> dict[str, str]:
    """Say of each input how much of what is large in it need not travel any more."""
    frames = [name_of(buffer).digest for buffer in captured.buffers]
    missing = set(session.registry.missing_frames(frames)) if frames else set()
    said = {}
    for found in captured.inputs:
        own = frames[found.buffers]
        lacking = [digest for digest in own if digest in missing]
        said[found.name] = "" if not own or len(lacking) == len(own) else ", there already"
        if 0 < len(lacking) < len(own):
            said[found.name] = ", partly there already"
    return said


class PlanView:
    """What would travel, as a table; nothing was submitted.

    Parameters
    ----------
    session : Session
    prepared : Prepared
    outgoing : Outgoing
    """

    def __init__(self, session: Session, prepared: Prepared, outgoing: Outgoing) -> None:
        there = _there_already(session, prepared.captured)
        shared = {
            name: f", shared: the file {file}" for name, file in prepared.captured.shared.items()
        }
        self._rows = [
            (
                i.name,
                i.type_name,
                bytes_text(i.nbytes),
                i.why + there[i.name] + shared.get(i.name, ""),
            )
            for i in prepared.captured.inputs
        ]
        if prepared.axes:
            self._rows.append(("--sweep", "", "", described(extent(prepared.axes))))
        self._rows += [
            (name, "", "", f"comes from {job}") for name, job in prepared.pending.items()
        ]
        self._rows += [
            (name, "", "", f"left out, only mentioned: {why}")
            for name, why in prepared.captured.left_out.items()
        ]
        captured = prepared.captured
        self._rows += [
            (thing, "", "", f"left out: {why}") for thing, why in captured.unsent.items()
        ]
        local = local_code(session, prepared)
        code = {} if local is None else {m.name: m.nbytes for m in local.modules}
        self._rows += [(name, "module", bytes_text(n), "local code") for name, n in code.items()]
        files = outgoing.sizes
        self._rows += [(name, "file", bytes_text(n), "uploaded") for name, n in files.items()]
        self.nbytes = (
            sum(files.values())
            + sum(code.values())
            + len(captured.stream)
            + sum(b.nbytes for b in captured.buffers)
        )
        self.binds = sorted(prepared.analysis.binds)
        self.waits_for = [
            session.records[job].spec.name if job in session.records else job[:8]
            for job in prepared.after
        ]

    def _lines(self) -> list[str]:
        lines = [f"{bytes_text(self.nbytes)} would travel, surroundings included."]
        if self.binds:
            lines.append("It will bind: " + ", ".join(self.binds))
        if self.waits_for:
            lines.append("It waits for: " + ", ".join(self.waits_for))
        lines.append("Nothing was submitted.")
        return lines

    def __repr__(self) -> str:
        rows = [("NAME", "TYPE", "SIZE", "WHY"), *self._rows] if self._rows else []
        widths = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
        table = [
            "  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[3]]).rstrip()
            for row in rows
        ]
        return "\n".join([*table, *self._lines()])

    def _repr_html_(self) -> str:
        cell = 'style="text-align:left;padding:1px 10px"'
        head = "".join(f"<th {cell}>{t}</th>" for t in ("name", "type", "size", "why"))
        body = "".join(
            "<tr>" + "".join(f"<td {cell}>{escape(value)}</td>" for value in row) + "</tr>"
            for row in self._rows
        )
        table = f"<table><tr>{head}</tr>{body}</table>" if self._rows else ""
        return table + "".join(f"<div>{escape(line)}</div>" for line in self._lines())
