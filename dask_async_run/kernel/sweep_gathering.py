"""What is particular about gathering a sweep: members that failed, and a table before the end."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any

from dask_async_run.job import JobResult, JobView, Message, Payload, State
from dask_async_run.kernel.record import Record
from dask_async_run.kernel.replay import Replay
from dask_async_run.kernel.session import Session
from dask_async_run.namespace.inputs import Parent, Stream
from dask_async_run.namespace.members import MemberLoader, member_of, table
from dask_async_run.sweeps import size

SHOWN = 3
"""Ways of not finishing of which an example is shown when a sweep is gathered."""

LINES = 20
"""Lines of text, and of the traceback, of each of them."""

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def show_failed(session: Session, view: JobView) -> None:
    """Show what members put out that did not finish: the first of each reason, a few reasons."""
    bad = {State.FAILED, State.TIMED_OUT, State.LOST}
    if not any(State(state) in bad for state in view.members):
        return
    alike: dict[str, list[JobView]] = {}
    for member in session.registry.jobs(states=bad, sweep=view.id):
        alike.setdefault(f"{member.state}: {member.why}", []).append(member)
    for why, (first, *others) in list(alike.items())[:SHOWN]:
        more = f" (and {len(others)} more)" if others else ""
        print(f"── {first.label}{more} {why} ──")
        _show_end(session, first)
    if rest := [member.label for members in list(alike.values())[SHOWN:] for member in members]:
        print(f"── {len(rest)} more did not finish, for other reasons ──")
    label = next(iter(alike.values()))[0].label
    print(f"%async_attach {label} shows all that it put out.", file=sys.stderr)


def _show_end(session: Session, member: JobView) -> None:
    """Show the end of a member's text, and its exception."""
    outputs = [output.output for output in session.registry.outputs(member.id).outputs]
    text = "".join(o["text"] for o in outputs if o["output_type"] == "stream").splitlines()
    if len(text) > LINES:
        text = [f"... {len(text) - LINES} lines more", *text[-LINES:]]
    for line in text:
        print(line)
    for output in outputs:
        if output["output_type"] == "error":
            # As text: a notebook that runs unattended stops at an output that is an error.
            print("\n".join(_shortened(_ANSI.sub("", "\n".join(output["traceback"])))))


def _shortened(traceback: str) -> list[str]:
    """Answer a traceback's lines: of many the first, and the last."""
    lines = traceback.splitlines()
    if len(lines) <= LINES:
        return lines
    half = LINES // 2
    return [*lines[:half], f"... {len(lines) - 2 * half} lines more", *lines[-half:]]


class PartialTable:
    """The table of the members of a sweep that have ended by now.

    Parameters
    ----------
    session : Session
    view : JobView
    record : Record
        Of the sweep; all that it builds on has a record in the session, too.
    """

    def __init__(self, session: Session, view: JobView, record: Record) -> None:
        self._session = session
        self._view = view
        self._record = record
        self.name: str = record.spec.sweep["table"]

    def make(self) -> Any:
        """Answer the table."""
        spec = self._record.spec
        collected = self._session.registry.collected(spec.id)
        record = self._record
        loader = MemberLoader(self._parents(), record.sent(), record.spec.makers)
        members = [member_of(message, self._stream(message["result"])) for message in collected]
        return table(members, loader, spec.sweep["only"], spec.sweep["frame"])

    def bring(self, overwrite: bool) -> Any:
        """Bind the table in the notebook, if it has rows and its name was not changed here since.

        Returns
        -------
        object
            The table.
        """
        made = self.make()
        record, names, name = self._record, self._session.namespace, self.name
        missing = object()
        here = names.get(name, missing)
        ours = overwrite or here is missing or here is record.partial
        if not len(made):
            return made
        if ours or (record.kept is not None and record.kept.base(name) is here):
            names[name] = record.partial = made
            return made
        label = self._view.label
        print(
            f"{label}: {name} is here already, with another value; it was left alone. "
            f"%async_gather {label} --overwrite takes the sweep's table.",
            file=sys.stderr,
        )
        return made

    def show(self, made: Any) -> None:
        """Display the table, and say what it is a part of."""
        rows = len(made)
        whole = size(self._view.sweep)
        print(f"{self._view.label}: {rows} of {whole} members have ended", end="")
        print(f": the table is {self.name}." if rows else ".")
        if rows:
            Replay(self._session.shell).show_value(made)

    def _parents(self) -> list[Parent]:
        parents = []
        for job in self._record.spec.parents:
            record = self._session.records[job]
            result = self._session.registry.result(job)
            stream = self._stream(result.to_message() if result else None)
            if stream is not None:
                spec = record.spec
                sent = record.sent()
                parents.append(Parent(job, spec.parents, sent, stream, makers=spec.makers))
        return parents

    def _stream(self, result: Message | None) -> Stream | None:
        payload = JobResult.from_message(result or {}).payload
        return self._record.stream(Payload.from_message(payload)) if payload else None


def has_part(views: Sequence[JobView]) -> list[JobView]:
    """Answer the sweeps among some jobs that have not ended."""
    return [view for view in views if view.sweep and not State(view.state).terminal]
