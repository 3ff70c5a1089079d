"""`Job`: the user's handle on one job, in magics and in scripts."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

from dask_async_run.errors import JobStateError
from dask_async_run.job import JobResult, JobView, Message, State
from dask_async_run.kernel.gathering import Gatherer, describe
from dask_async_run.kernel.record import materialise
from dask_async_run.kernel.session import Session
from dask_async_run.kernel.tables import bytes_text, job_card
from dask_async_run.kernel.waiting import Waiting


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
        if not State(self._view.state).terminal or not self._view.saved:
            self._view = self._session.registry.show(self.id)
        return self._view

    @property
    def state(self) -> State:
        """Its state now."""
        return State(self.view.state)

    @property
    def future(self) -> Any:
        """The Dask future that is published as ``notebook/name``."""
        return self._session.client.get_dataset(f"{self._view.notebook}/{self._view.name}")

    @property
    def outputs(self) -> list[Message]:
        """Its outputs so far, in nbformat's terms."""
        return [o.output for o in self._session.registry.outputs(self.id).outputs]

    @property
    def source(self) -> str:
        """The cell as written."""
        return self._view.source

    def wait(self, timeout: float | None = None) -> Job:
        """Wait until it has ended.

        Raises
        ------
        TimeoutError
            After `timeout` seconds.
        """
        (self._view,) = Waiting(self._session).until_ended([self.view], timeout)
        return self

    def gather(self, overwrite: bool = False, timeout: float | None = None) -> Job:
        """Show its output and merge its result, as ``%async_gather`` does."""
        Gatherer(self._session).gather([self.view], overwrite=overwrite, timeout=timeout)
        return self

    def cancel(self) -> str:
        """Cancel it; answer what was done."""
        return self._session.registry.cancel([self.id])[self.id]

    def __getitem__(self, name: str) -> Any:
        """Answer a variable as it was after the cell, as a copy; waits for the job.

        Raises
        ------
        KeyError
            The cell had no such variable.
        JobStateError
            The job brought nothing back.
        """
        if self._names is None:
            self._names = self._after()
        if name not in self._names:
            failed = (self._result() or JobResult()).failed.get(name)
            why = f": it could not be pickled ({failed})" if failed else ""
            raise KeyError(f"{self.name} has no variable {name!r}{why}")
        return self._names[name]

    def _result(self) -> JobResult | None:
        return self._session.registry.result(self.id)

    def _after(self) -> dict[str, Any]:
        self.wait()
        gatherer = Gatherer(self._session)
        record = gatherer.record(self.id)
        chain = []
        for job in [*record.spec.parents, self.id]:
            result = self._session.registry.result(job)
            if result is None or not result.payload:
                raise JobStateError(self.name, self.view.state, "it brought nothing back.")
            chain.append((gatherer.record(job), result))
        return materialise(chain)

    def __await__(self) -> Generator[Any, None, Job]:
        return asyncio.to_thread(self._wait_quietly).__await__()

    def _wait_quietly(self) -> Job:
        self._session.registry.wait([self.id])
        return self

    def __repr__(self) -> str:
        view = self._view
        went = ", ".join(f"{n} ({bytes_text(size)})" for n, _, size in view.input_names)
        lines = [f"Job {view.label}: {describe(view)}"]
        if went:
            lines.append(f"  went along: {_cut(went)}")
        if view.binds:
            lines.append(f"  will bind:  {_cut(', '.join(view.binds))}")
        lines.append(f"  %async_gather {view.label} shows its output and brings the results.")
        return "\n".join(lines)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": job_card(self._view)}


def _cut(text: str, width: int = 100) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
