"""Rerun: the same cell with the inputs that it had, as a new job of the same name."""

from __future__ import annotations

from dask_async_run.errors import FrameError, not_again
from dask_async_run.job import JobView
from dask_async_run.kernel.gathering import Gatherer
from dask_async_run.kernel.handle import Job
from dask_async_run.kernel.record import Record
from dask_async_run.kernel.session import Session
from dask_async_run.sweeps import only_unfinished


def rerun(session: Session, view: JobView, failed: bool = False) -> Job:
    """Submit a job again, inputs and options unchanged.

    In the kernel that submitted it first, results still become its own objects.

    Parameters
    ----------
    session : Session
    view : JobView
    failed : bool
        Of a sweep, only the members that did not finish; the new one has the others'
        results too.

    Raises
    ------
    JobStateError
        One of its inputs is gone, or there is no good run of a job that it comes after.
    """
    old = Gatherer(session).record(view.id)
    spec = old.read_spec().again(session.notebook)
    if failed:
        spec = only_unfinished(spec, view.id)
    try:
        again = session.registry.create(spec)
    except FrameError as error:
        raise not_again(view.label, error) from error
    if spec.after:  # new runs may have taken the place of some of them
        spec = session.registry.spec(spec.id)
    kept = old.kept.again() if old.kept is not None else None
    record = Record(spec, session.store, session.namespace, kept, registry=session.registry)
    record.lineage, record.sets_up = old.lineage, old.sets_up
    session.add(record)
    return Job(session, again)
