"""Rerun: the same cell with the inputs that it had, as a new job of the same name."""

from __future__ import annotations

import dataclasses
import time
import uuid

from dask_async_run.job import JobView
from dask_async_run.kernel.gathering import Gatherer
from dask_async_run.kernel.handle import Job
from dask_async_run.kernel.record import Record
from dask_async_run.kernel.session import Session


def rerun(session: Session, view: JobView) -> Job:
    """Submit a job again, inputs and options unchanged.

    In the kernel that submitted it first, results still become its own objects.
    """
    old = Gatherer(session).record(view.id)
    spec = dataclasses.replace(
        old.spec, id=uuid.uuid4().hex, notebook=session.notebook, submitted=time.time()
    )
    record = Record(spec, session.store, session.namespace, old.kept)
    record.mutable = old.mutable
    again = session.registry.create(spec)
    session.records[spec.id] = record
    return Job(session, again)
