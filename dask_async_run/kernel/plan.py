"""``--plan``: what a submission would send, bind and wait for."""

from __future__ import annotations

from html import escape

from dask_async_run.kernel.session import Session
from dask_async_run.kernel.submission import Prepared
from dask_async_run.kernel.tables import bytes_text


class PlanView:
    """What would travel, as a table; nothing was submitted.

    Parameters
    ----------
    session : Session
    prepared : Prepared
    """

    def __init__(self, session: Session, prepared: Prepared) -> None:
        self._rows = [
            (i.name, i.type_name, bytes_text(i.nbytes), i.why) for i in prepared.captured.inputs
        ]
        self._rows += [
            (name, "", "", f"comes from {job}") for name, job in prepared.pending.items()
        ]
        self._rows += [
            (name, "", "", f"left out, only mentioned: {why}")
            for name, why in prepared.captured.left_out.items()
        ]
        captured = prepared.captured
        self.nbytes = len(captured.stream) + sum(b.nbytes for b in captured.buffers)
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
