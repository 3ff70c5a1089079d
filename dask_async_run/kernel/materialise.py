"""Namespaces as they were after a job, apart from the notebook's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dask_async_run.job import JobResult
from dask_async_run.kernel.record import Record
from dask_async_run.namespace.axes import parameters
from dask_async_run.namespace.inputs import Chain, Prepare
from dask_async_run.namespace.salvage import why_lost


def names_after(
    job: str,
    record_of: Callable[[str], Record],
    result_of: Callable[[str], JobResult | None],
    prepare: Prepare | None = None,
) -> tuple[dict[str, Any], dict[str, str]] | None:
    """Answer a private namespace as it was after a job, its parents' changes included.

    Parameters
    ----------
    job : str
        Its id.
    record_of, result_of : callable
        What there is of a job, by id. They raise `NoSuchJobError` for one that is gone.
    prepare : callable or None
        As of `Chain.merge`.

    Returns
    -------
    (namespace, lost) or None
        As of `materialise`; None if it, or a job that it builds on, brought nothing back.
    """
    chain = []
    for each in [*record_of(job).spec.parents, job]:
        result = result_of(each)
        if result is None or not result.payload:
            return None
        chain.append((record_of(each), result))
    return materialise(chain, prepare)


def materialise(
    records: Sequence[tuple[Record, JobResult]], prepare: Prepare | None = None
) -> tuple[dict[str, Any], dict[str, str]]:
    """Answer a private namespace as it was after a job, its parents' changes included.

    Parameters
    ----------
    records : sequence of (Record, JobResult)
        The job's parents in order, then the job itself.
    prepare : callable or None
        As of `Chain.merge`.

    Returns
    -------
    namespace : dict
    lost : dict of str to str
        Names that cannot be loaded, and why.
    """
    namespace: dict[str, Any] = {"__name__": "__main__"}
    chain = Chain(namespace, salvaging=True)
    lost: dict[str, str] = {}
    for record, result in records:
        loaded = chain.merge(record.as_parent(result), prepare)
        lost |= {name: why_lost(why) for name, why in chain.inputs[record.id].lost.items()}
        lost = {name: why for name, why in lost.items() if name not in loaded.bound} | loaded.lost
        if record.spec.member is not None:
            given = parameters(chain.inputs[record.id].axes, record.spec.member)
            namespace.update({n: v for n, v in given.items() if n not in loaded.bound})
    return namespace, lost
