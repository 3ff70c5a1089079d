"""Chains that are run again: a job that built on one which did not finish builds on its new run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from dask_async_run.errors import JobStateError
from dask_async_run.job import JobSpec, JobView, State
from dask_async_run.scheduler.machine import came_to_nothing
from dask_async_run.scheduler.reader import JournalReader

_ALIVE = (State.PENDING, State.RUNNING, State.FINISHED)


def mended(
    spec: JobSpec, ended: Mapping[str, tuple[str, State]], journal: JournalReader
) -> JobSpec:
    """Answer a rerun's spec with new runs of what it comes after and has come to nothing.

    A new run has the very inputs of the old one, so what the spec's own inputs say of objects that
    came with those holds. It is the first run that has not come to nothing, and not the last: a
    job that is between the two in the chain, and was run again before, builds on that one, too.

    Parameters
    ----------
    spec : JobSpec
        Of a job that runs another one again.
    ended : mapping of str to (str, State)
        Name and state of those of ``spec.after`` that have ended, by id.
    journal : JournalReader

    Raises
    ------
    JobStateError
        There is no such run of one of them: the job would be cancelled at once, and for ever.
    """
    new: dict[str, str] = {}
    for job in spec.after:
        name, state = ended.get(job, ("", State.FINISHED))
        if state is State.FINISHED:
            continue
        parents = [new.get(parent, parent) for parent in spec.parents]
        again = _first_alive(job, name, spec.notebook, parents, job in spec.parents, journal)
        if again is None:
            called = JobView.from_message(journal.rows(jobs=[job])[0]).label
            why = f"it comes after {called!r}, which {came_to_nothing(state)}"
            advice = f"Run {called!r} again first, or both together; or submit its cell anew"
            raise JobStateError(spec.name, "not run again", f"{why}. {advice}.")
        new[job] = again
    if not new:
        return spec
    return replace(
        spec,
        after=[new.get(job, job) for job in spec.after],
        parents=[new.get(job, job) for job in spec.parents],
    )


def _first_alive(
    job: str,
    name: str,
    notebook: str,
    parents: Iterable[str],
    builds: bool,
    journal: JournalReader,
) -> str | None:
    """Answer the first new run of a job that runs, may run or has finished."""
    old = journal.spec(job)
    root = (old.rerun_of if old else "") or job
    known = {*parents}
    for row in journal.rows(notebook, _ALIVE, wanted=[name]):
        run = journal.spec(row["id"])
        if run is None or run.rerun_of != root:
            continue
        # What it builds on is built before it in the cell's process: nothing but this job's own.
        if not builds or known.issuperset(run.parents):
            return run.id
    return None
