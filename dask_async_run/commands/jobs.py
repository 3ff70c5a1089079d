"""``jobs``, ``show``, ``source``, ``output`` and ``wait``: what the journal says.

It says all but what a running cell uses just now, and is there while no server runs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from dask_async_run.commands import text
from dask_async_run.commands.exit_codes import NOT_FINISHED, OK
from dask_async_run.commands.journals import (
    POLL,
    checked_states,
    chosen,
    chosen_one,
    journal_of,
    labels_of,
    until_ended,
    views_of,
)
from dask_async_run.job import JobView, State
from dask_async_run.selection import select


def run(given: argparse.Namespace) -> int:
    """Run the command that was given; returns its exit code."""
    commands: dict[str, Callable[[argparse.Namespace], int]] = {
        "jobs": _jobs,
        "show": _show,
        "source": _source,
        "output": _output,
        "wait": _wait,
    }
    return commands[given.command](given)


def ended_well(views: Sequence[JobView]) -> int:
    """The exit code that tells whether all jobs have finished, of those that have ended."""
    ended = [view.state for view in views if State(view.state).terminal]
    return OK if all(state == State.FINISHED for state in ended) else NOT_FINISHED


def _jobs(given: argparse.Namespace) -> int:
    states = checked_states(given.state)
    wanted: dict[str, Any] = {"notebook": given.notebook}
    with journal_of(given.server) as journal:
        if given.job:
            wanted["jobs"] = [view.id for view in select(labels_of(journal, given.job), given.job)]
        elif not given.json and not states:
            wanted["latest"] = given.last
        views = views_of(given.server, journal, **wanted)
        more = journal.count(given.notebook) - len(views) if "latest" in wanted and journal else 0
    if states:
        views = [view for view in views if view.state in states]
    if given.json:
        print(json.dumps([text.job_facts(view) for view in views]))
    elif views:
        print(text.table(views, time.time(), text.width()))
        if more > 0:
            print(f"and {more:,} more: dask-async-run jobs --last all")
    else:
        print("no jobs.")
    return OK


def _show(given: argparse.Namespace) -> int:
    with journal_of(given.server) as journal:
        view = chosen_one(given.server, journal, given.job)
        events = journal.events(view.id)
    facts = text.all_facts(view, events)
    print(json.dumps(facts) if given.json else text.card(facts, time.time()))
    return OK


def _source(given: argparse.Namespace) -> int:
    with journal_of(given.server) as journal:
        view = chosen_one(given.server, journal, given.job)
        spec = journal.spec(view.id)
    source = spec.source if spec is not None else view.source
    if given.json:
        print(json.dumps({"id": view.id, "job": text.label(view), "source": source}))
    else:
        print(source, end="" if source.endswith("\n") else "\n")
    return OK


def _wait(given: argparse.Namespace) -> int:
    with journal_of(given.server) as journal:
        views = chosen(given.server, journal, given.job)
    views = until_ended(given.server, views, given.timeout, given.any)
    if given.json:
        print(json.dumps([text.job_facts(view) for view in views]))
    else:
        for view in views:
            print(f"{text.label(view)}: {view.state}{text.because(view)}")
    return ended_well(views)


def _output(given: argparse.Namespace) -> int:
    with journal_of(given.server) as journal:
        job = chosen_one(given.server, journal, given.job).id
    follow = given.follow and not given.json
    outputs = put_out(given.server, job, wait=given.follow, show=follow)
    if given.json:
        print(json.dumps(outputs))
    elif not follow:
        text.show(text.folded(outputs), sys.stdout.isatty())
    return OK


def put_out(server: str, job: str, wait: bool, show: bool) -> list[dict[str, Any]]:
    """A job's outputs so far, in nbformat's terms.

    Parameters
    ----------
    wait : bool
        Until it has ended, or its server has.
    show : bool
        Print them as they come; answers none.
    """
    from dask_async_run.messages import unpack_output  # here: msgpack

    colours = sys.stdout.isatty()
    with journal_of(server) as journal:
        since, outputs = 0, list[dict[str, Any]]()
        while True:
            # The state first: what was put out before the end is in the journal at the end.
            now = views_of(server, journal, jobs=[job])
            ended = not now or State(now[0].state).terminal
            while found := journal.outputs(job, since):
                since = found[-1][0]
                outputs += [unpack_output(packed) for _, _, packed in found]
            if ended and (tail := journal.tail(job)):
                outputs.append({"output_type": "stream", "name": "stdout", "text": tail})
            if show:
                text.show(outputs, colours)
                outputs.clear()
            if ended or not wait:
                return outputs
            time.sleep(POLL)
