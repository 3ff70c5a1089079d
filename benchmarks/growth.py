"""How a cell's time grows with the number of jobs in the journal."""

from __future__ import annotations

import time
import uuid
from contextlib import ExitStack
from typing import Any

from dask_async_run import folders
from dask_async_run.frames import FrameStore
from dask_async_run.job import JobResult, JobSpec, State
from dask_async_run.kernel.notebook import notebook_id
from dask_async_run.scheduler.events import Record
from dask_async_run.scheduler.journal import Journal
from dask_async_run.server.control import stop_server
from peers import Ours


def measure(
    peer: Ours, counts: tuple[int, ...], rounds: int, shared: bool = False
) -> dict[int, list[float]]:
    """Answer seconds of round trips by number of jobs; servers side by side, in turn.

    If `shared`, on the server that runs, however many jobs it has.
    """
    found: dict[int, list[float]] = {count: [] for count in counts}
    with ExitStack() as stack:
        for count in () if shared else counts:
            fill(f"jobs-{count}", count)
            stack.callback(stop_server, f"jobs-{count}", force=True)
        for number in range(rounds + 1):
            for count in counts:
                if not shared:
                    peer.use(f"jobs-{count}")
                for again in range(4):
                    peer.put(1)
                    begun = time.perf_counter()
                    peer.finish(peer.submit("y = 1"))
                    if number and again:
                        found[count].append(time.perf_counter() - begun)
    return found


def fill(server: str, count: int) -> None:
    """Write jobs that have ended to the journal of a server that does not run yet."""
    folder = folders.private_folder(folders.state_folder(server), folders.STATE_VARIABLE)
    FrameStore(folder / "frames")
    journal = Journal.open(folder / "journal.sqlite")
    notebook, now = notebook_id({}), time.time()
    for number in range(count):
        values: dict[str, Any] = {
            "id": uuid.uuid4().hex,
            "notebook": notebook,
            "name": f"j{number}",
        }
        spec = JobSpec(source="y = 1", code="y = 1", filename="<cell 1>", submitted=now, **values)
        state = State.FINISHED
        record = Record(**values, version=1, after=frozenset(), retries=0, state=state, ended=now)
        journal.create(record, spec, now)
        journal.store(record, now)
        journal.store_result(spec.id, JobResult(bound=["y"]), now)
        journal.mark(spec.id, "gathered")
        journal.mark(spec.id, "saved")
    journal.close()
