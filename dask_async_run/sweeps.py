"""Sweeps: one cell, run once for each combination of parameters, as one job with members.

A sweep is a job like others: it has a name, a version, a state, a result; it is listed,
waited for, chained to, gathered and forgotten as one. What it runs are its *members*,
``lr[0]``, ``lr[1]``, ...: jobs in the journal and in the machine too, each with a claim, an
attempt, outputs, a timeout, a result and an end of its own, so that all that holds for a
job (at most once, what a dying process or worker means) holds for each. They are apart
from other jobs in four ways:

- They have no spec of their own: it is made out of the sweep's (`member_spec`), whose inputs
  are stored once. The values of the parameters are part of these; a member's number says
  which of them its cell finds (`namespace.members`).
- No list shows them unless it is asked for a sweep's, or for one by its name.
- Nobody submits, forgets or reruns one alone, and Dask knows no name of them. Their ids
  follow from the sweep's (`member_id`): a submission that is repeated makes the same ones.
- They are gathered with their sweep: each has a namespace of its own, which is not merged.

When the last member has ended, the sweep's own cell runs, somewhere on the cluster: it
*collects* what the members bound into a table (`collecting_spec`), which is what the sweep
binds. So a later cell that reads the table waits for the sweep and finds it on the
cluster, as with any job. The table has a row for each member, failed ones too. A sweep
*finishes* if at least one member did; its reason says how many did not. If none did, it
ends as they did without collecting. One that was cancelled does not collect either; a
kernel makes the table of what has ended by then, as it does for a partial gather.

What happens when ...

- a member fails, hangs (``--timeout`` is each member's) or its process or worker dies: that
  member ends so (or runs again, with ``--retries``), the others do not notice.
- the server dies: finished members are kept, running ones are lost, those that had not begun
  are submitted again by the next server, and the sweep collects when they have ended.
  Collecting is our own code: it is run again if it is lost.
- a sweep is run again with ``--failed``: the new run's members that finished in the old one
  begin as finished, with copies of what these left in the journal.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from keyword import iskeyword

from dask_async_run.errors import JobStateError
from dask_async_run.job import JobSpec, JobView, Message, State
from dask_async_run.namespace.axes import Axis, count

MOST = 100_000
"""Members that a sweep may have at most."""

COLLECTING_RETRIES = 3
"""How often collecting is run again when its worker or process dies."""


def member_id(sweep: str, number: int) -> str:
    """Id of a sweep's member."""
    return uuid.uuid5(uuid.UUID(hex=sweep), str(number)).hex


def member_name(name: str, number: int) -> str:
    """Name of a member of the sweep `name`; no other job can be called so."""
    return f"{name}[{number}]"


def member_spec(spec: JobSpec, number: int) -> JobSpec:
    """What a member runs: the sweep's cell, with the parameters of this number."""
    return replace(
        spec,
        id=member_id(spec.id, number),
        name=member_name(spec.name, number),
        binds=spec.sweep["binds"],
        only=spec.sweep["only"],
        member=number,
        of=spec.id,
    )


def collecting_spec(spec: JobSpec) -> JobSpec:
    """What a sweep's own cell is: shows the table, which its name means when it starts."""
    return replace(
        spec,
        code=spec.sweep["table"],
        only=[],
        also=[],
        timeout=None,
        memory=None,
        retries=COLLECTING_RETRIES,
        resources={},
    )


def as_sweep(spec: JobSpec, axes: Sequence[Axis], at_once: int, frame: bool) -> JobSpec:
    """Make a sweep of what would be one job.

    Parameters
    ----------
    axes : sequence of Axis
    at_once : int
        Members that run side by side at most; 0: any number.
    frame : bool
        Whether the table is to be a DataFrame.
    """
    table = table_name(spec.name)
    # While members run, their templates import what collecting them is going to need.
    warm = ["pandas"] if frame and "pandas" not in spec.warm else []
    return replace(
        spec,
        warm=[*spec.warm, *warm],
        binds=[table],
        certain=[table],
        deletes=[],
        removes=[],
        mutates=[],
        only=[],
        dynamic=False,
        sweep={
            **extent(axes),
            "table": table,
            "binds": spec.binds,
            "only": spec.only,
            "at_once": at_once,
            "frame": frame,
            "again": "",
        },
    )


def extent(axes: Sequence[Axis]) -> Message:
    """What of a `JobSpec.sweep` says how large it is."""
    return {
        "size": count(axes),
        "axes": [[list(axis.names), len(axis.values)] for axis in axes],
    }


def table_name(name: str) -> str:
    """The variable that a sweep's table is bound to: the sweep's name, made an identifier."""
    plain = "".join(c if c.isidentifier() or c.isdigit() else "_" for c in name)
    if not plain.isidentifier():
        plain = f"sweep_{plain}"
    return f"{plain}_" if iskeyword(plain) else plain


def size(sweep: Message) -> int:
    """How many members a sweep has."""
    return int(sweep["size"])


def shortfall(ended: Mapping[State, int]) -> str:
    """Say how many members did not finish, and how they ended; empty if all did."""
    bad = {state: n for state, n in ended.items() if state is not State.FINISHED and n}
    if not bad:
        return ""
    how = ", ".join(f"{n} {state}" for state, n in sorted(bad.items()))
    return f"{sum(bad.values())} of {sum(ended.values())} members did not finish: {how}"


def ended_members(view: JobView) -> int:
    """How many members of a sweep have ended."""
    return sum(n for state, n in view.members.items() if State(state).terminal)


def seconds_left(view: JobView, now: float) -> float | None:
    """Estimate how long the rest of a sweep takes, from how long the part that ended took."""
    done = ended_members(view)
    if not done or view.started is None:
        return None
    return max(0.0, now - view.started) / done * (size(view.sweep) - done)


def standing(view: JobView, now: float, span: Callable[[float], str]) -> str:
    """Say how far a sweep is: "5/12 members, 1 failed, 2 running, about 3 min left".

    Parameters
    ----------
    view : JobView
    now : float
        Seconds since the epoch.
    span : callable
        Says a number of seconds.
    """
    said = [f"{ended_members(view)}/{size(view.sweep)} members", *others(view)]
    left = seconds_left(view, now)
    if left and not State(view.state).terminal:
        said.append(f"about {span(left)} left")
    return ", ".join(said)


def others(view: JobView) -> list[str]:
    """Say how many members neither wait nor have finished: "1 failed", "2 running"."""
    return [
        f"{n} {state}"
        for state, n in sorted(view.members.items())
        if state not in (State.PENDING, State.FINISHED)
    ]


def described(sweep: Message) -> str:
    """Say what a sweep runs: "12 members: lr (3) x depth (4)"."""
    axes = " x ".join(f"{', '.join(names)} ({values})" for names, values in sweep["axes"])
    many = "1 member" if size(sweep) == 1 else f"{size(sweep):,} members"
    return f"{many}: {axes}"


def unfinished_ones(views: Sequence[JobView]) -> list[JobView]:
    """Answer which of some jobs ended, or have members that ended, without finishing.

    Raises
    ------
    JobStateError
        One of them is a sweep that has not ended: its members may still finish.
    """
    for view in views:
        if view.sweep and not State(view.state).terminal:
            advice = f"which members fail is not known before it ends. %async_wait {view.label}"
            raise JobStateError(view.label, view.state, advice)
    good = {State.FINISHED, State.PENDING, State.RUNNING}
    return [v for v in views if {State(v.state), *map(State, v.members)} - good]


def only_unfinished(spec: JobSpec, old: str) -> JobSpec:
    """Have a sweep that is run again take over what finished of the `old` one, by its id."""
    return replace(spec, sweep={**spec.sweep, "again": old}) if spec.has_members else spec
