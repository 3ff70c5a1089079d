"""`Job`: the user's handle on one job, in magics and in scripts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from typing import Any

from dask_async_run.errors import JobStateError, MergeError
from dask_async_run.job import JobResult, JobView, Message, State
from dask_async_run.kernel.gathering import Gatherer
from dask_async_run.kernel.materialise import names_after
from dask_async_run.kernel.session import Session
from dask_async_run.kernel.tables import describe, job_card
from dask_async_run.kernel.waiting import Waiting
from dask_async_run.looks import bytes_text
from dask_async_run.messages import plain
from dask_async_run.namespace.remote import on_cluster
from dask_async_run.provenance import provenance
from dask_async_run.quantities import age
from dask_async_run.sweeps import described, member_id, size, standing

PUBLICATION = 2.0
"""Seconds that the publication of a job's future takes at most."""

CARDS = 8
"""Jobs at most of which each has a card of its own where several are submitted at once."""


class Job:
    """One job.

    Parameters
    ----------
    session : Session
    view : JobView
        As it was last seen; `view` asks again.

    Notes
    -----
    All methods are for the thread that the session belongs to.
    """

    def __init__(self, session: Session, view: JobView) -> None:
        self._session = session
        self._view = view
        self._names: dict[str, Any] | None = None
        self._lost: dict[str, str] = {}

    @property
    def id(self) -> str:
        """32 hex digits."""
        return self._view.id

    @property
    def name(self) -> str:
        """Name, with its version if it is not the latest of that name."""
        return self._view.label

    @property
    def view(self) -> JobView:
        """What the registry tells of it now."""
        if not self._view.settled:
            self._view = self._session.registry.show(self.id)
        return self._view

    @property
    def state(self) -> State:
        """Its state now."""
        return State(self.view.state)

    @property
    def saved(self) -> bool:
        """Whether what it left behind survives a reboot, and lies in its store if it has one."""
        return self.view.settled

    @property
    def kept(self) -> str:
        """Where what it left behind lies, and what would lose it."""
        return self.view.kept

    @property
    def future(self) -> Any:
        """The Dask future of its task, which is published as ``notebook/name``.

        Its result is a dict: ``state``, ``reason``, ``error``, ``bound``; no values.

        Raises
        ------
        JobStateError
            There is none: a later job has the name, no worker may take it yet, or it ran
            before the cluster was started.
        """
        view = self._session.registry.show(self.id)  # a later one may have its name by now
        client, name = self._session.client, plain(f"{view.notebook}/{view.name}")
        deadline = time.monotonic() + PUBLICATION
        while view.latest and time.monotonic() < deadline:
            future = client.get_dataset(name, default=None)
            if future is not None and self.id in future.key:
                return future
            time.sleep(0.02)  # it is published a moment after the submission
        why = view.reason or "Dask has no task of it now"
        why = why if view.latest else "a later job has its name, and is what is published"
        raise JobStateError(view.label, view.state, f"it has no future: {why}.")

    @property
    def outputs(self) -> list[Message]:
        """Its outputs so far, in nbformat's terms."""
        return [o.output for o in self._session.registry.outputs(self.id).outputs]

    @property
    def source(self) -> str:
        """The cell as written."""
        return self._view.source

    @property
    def provenance(self) -> Message:
        """Where its results come from: source, inputs, packages, times and places.

        See `dask_async_run.provenance.provenance`; a dict that JSON can hold.
        """
        record = Gatherer(self._session).record(self.id)
        stream = record.sent()
        return provenance(self.view, record.spec, self._result(), stream.data)

    def wait(self, timeout: float | None = None) -> Job:
        """Wait until it has ended.

        Raises
        ------
        JobTimeoutError
            After `timeout` seconds.
        """
        (self._view,) = Waiting(self._session).until_ended([self.view], timeout)
        return self

    def gather(
        self, overwrite: bool = False, timeout: float | None = None, partial: bool = False
    ) -> Job:
        """Show its output and merge its result, as ``%async_gather`` does."""
        Gatherer(self._session).gather(
            [self.view], overwrite=overwrite, timeout=timeout, partial=partial
        )
        return self

    def cancel(self) -> str:
        """Cancel it; answer what was done."""
        return self._session.registry.cancel([self.id])[self.id]

    @property
    def members(self) -> list[Job]:
        """The members of a sweep, in their order; none of another job."""
        views = self._session.registry.jobs(sweep=self.id) if self._view.sweep else []
        return [Job(self._session, view) for view in views]

    def _member(self, number: int) -> Job:
        whole = size(self._view.sweep) if self._view.sweep else 0
        if not whole:
            raise KeyError(f"{self.name} has no variable {number!r}, and is no sweep")
        if not -whole <= number < whole:
            raise IndexError(f"{self.name} has members 0 to {whole - 1}, and no {number}")
        job = member_id(self.id, number % whole)
        return Job(self._session, self._session.registry.show(job))

    def __getitem__(self, name: str | int) -> Any:
        """Answer a variable as it was after the cell, as a copy; waits for the job.

        A number means a member of a sweep: a `Job`.

        Raises
        ------
        KeyError
            The cell had no such variable.
        JobStateError
            The job brought nothing back.
        MergeError
            It cannot be loaded.
        IndexError
            The sweep has no such member.
        """
        if isinstance(name, int):
            return self._member(name)
        if self._names is None:
            self._names, self._lost = self._after()
        if name in self._lost:
            raise MergeError(self.name, f"{name} cannot be loaded ({self._lost[name]})")
        if name not in self._names:
            failed = (self._result() or JobResult()).failed.get(name)
            why = f": it could not be pickled ({failed})" if failed else ""
            if not why and self.view.state != State.FINISHED:
                why = f": it is {self.view.state}"
                why += f" ({self.view.why})" if self.view.why else ""
            raise KeyError(f"{self.name} has no variable {name!r}{why}")
        return self._names[name]

    def _result(self) -> JobResult | None:
        return self._session.registry.result(self.id)

    def _after(self) -> tuple[dict[str, Any], dict[str, str]]:
        self.wait()
        session = self._session
        with on_cluster(session.remote):
            names = names_after(self.id, Gatherer(session).record, session.registry.result)
        if names is None:
            raise JobStateError(self.name, self.view.state, "it brought nothing back.")
        return names

    def __await__(self) -> Generator[Any, None, Job]:
        return asyncio.to_thread(self._wait_quietly).__await__()

    def _wait_quietly(self) -> Job:
        self._session.registry.wait([self.id])
        return self

    def __repr__(self) -> str:
        view = self._view
        went = ", ".join(f"{n} ({bytes_text(size)})" for n, _, size in view.input_names)
        lines = [f"Job {view.label}: {describe(view)}"]
        if view.sweep:
            lines.append(f"  {described(view.sweep)}")
            if view.started is not None:
                lines.append(f"  {standing(view, time.time(), age)}")
        if went:
            lines.append(f"  went along: {_cut(went)}")
        if view.binds:
            lines.append(f"  will bind:  {_cut(', '.join(view.binds))}")
        if view.sweep:
            lines.append(f"  %async_gather {view.label} brings their table as {view.binds[0]}.")
        else:
            lines.append(f"  %async_gather {view.label} shows its output and brings the results.")
        return "\n".join(lines)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        awaited = self._session.awaited(self._view)
        return {"text/plain": repr(self), "text/html": job_card(self._view, awaited)}


def _cut(text: str, width: int = 100) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


class Jobs(list[Job]):
    """Several jobs that were submitted at once: a list, shown as its jobs are."""

    def __repr__(self) -> str:
        return "\n".join(map(repr, self))

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))

    def _ipython_display_(self) -> None:
        """Show each as a single one is shown, unless there are so many that nobody looks at all."""
        from IPython.display import display

        if len(self) > CARDS:
            raise NotImplementedError  # as text, then
        for job in self:
            display(job)
