"""The Dask scheduler plugin: connects the registry with the scheduler it lives in."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from distributed.comm import CommClosedError
from distributed.comm.addressing import get_address_host_port
from distributed.core import Status
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.scheduler import Scheduler, WorkerState

from dask_async_run import folders
from dask_async_run.errors import AsyncRunError, ServerError
from dask_async_run.job import JobSpec, State
from dask_async_run.messages import CLAIM, pack, unpack
from dask_async_run.scheduler.cell_ops import CellOps
from dask_async_run.scheduler.client_ops import STOPPING, ClientOps
from dask_async_run.scheduler.events import GivenBack
from dask_async_run.scheduler.frame_ops import FrameOps
from dask_async_run.scheduler.kept import KeptKeys
from dask_async_run.scheduler.metrics import told
from dask_async_run.scheduler.places import Place, Places, Where, python_of
from dask_async_run.scheduler.registry import JobRegistry
from dask_async_run.scheduler.tasks import Tasks
from dask_async_run.task import run_cell

logger = logging.getLogger(__name__)

NAME = "dask-async-run"
TELL_TIMEOUT = 10.0

LOOK = 2.0
"""Seconds between two looks whether the plugin is still wanted; it takes less to be added."""


class RegistryPlugin(SchedulerPlugin):
    """The registry of jobs, as a plugin of a Dask scheduler.

    ``client.register_plugin(RegistryPlugin(...))`` installs it. Registering it again, from
    this or another client, also at the same moment, keeps the one that runs.

    Parameters
    ----------
    state_folder : str or None
        Where journal and frames lie, on the scheduler's machine. None: a folder in the
        user's state folder that is named after the scheduler's address.
    run : callable
        What a job's Dask task calls, with the job's id; importable on the workers.
    disk_limit : int or None
        Bytes of frames that jobs may name until no more are taken.
    acting : bool
        Whether whoever sees the jobs' page on the dashboard may cancel and rerun jobs: only
        where nobody but the user sees it.
    memory : bool
        Whether large frames may lie in shared memory until they are on the disk: only where
        workers and kernels that see the state folder see that too.
    """

    name = NAME
    idempotent = True

    def __init__(
        self,
        state_folder: str | None = None,
        run: Callable[[str], Any] = run_cell,
        disk_limit: int | None = None,
        acting: bool = False,
        memory: bool = False,
    ) -> None:
        self.state_folder = state_folder
        self.run = run
        self.disk_limit = disk_limit
        self.acting = acting
        self.memory = memory
        self.host: RegistryHost | None = None

    async def start(self, scheduler: Scheduler) -> None:
        # While one plugin starts, Dask may start a second one of the same name, and which
        # of the two it keeps is open: so both get the same registry.
        host = scheduler.extensions.get(NAME)
        if host is None:
            folder = Path(self.state_folder) if self.state_folder else _default_folder(scheduler)
            host = RegistryHost(scheduler, folder, self.run, self.acting, self.memory)
            host.registry.disk_limit = self.disk_limit
        self.host = host

    async def close(self) -> None:
        host, self.host = self.host, None
        if host is not None:
            await host.close()

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        if self.host is not None:
            self.host.look_again()

    def remove_worker(
        self,
        scheduler: Scheduler,
        worker: str,
        **kwargs: Any,
    ) -> None:
        if self.host is not None:
            self.host.worker_gone(worker)
            self.host.look_again()

    def update_graph(
        self, scheduler: Scheduler, *, client: str, tasks: Iterable[Any], **kwargs: Any
    ) -> None:
        """Have cells wait for their turn in the scheduler's queue, and not on a worker.

        Dask queues only what belongs to a large group, and sends other tasks to a worker at once,
        by a guess of how long each takes. A cell would then wait behind one that runs for hours,
        with another worker idle, and others that were submitted later would overtake it.
        """
        if self.host is None or client != self.host.tasks.client_id:
            return
        for key in tasks:
            spec: Any = getattr(scheduler.tasks.get(key), "run_spec", None)
            if hasattr(spec, "_data_producer"):  # an older Dask has no such mark
                spec._data_producer = True

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        if self.host is not None and ("no-worker" in (start, finish) or finish == "queued"):
            self.host.placed(key)
        if self.host is not None and finish == "processing":
            self.host.sent(key)

    def valid_workers_downscaling(
        self, scheduler: Scheduler, workers: list[WorkerState]
    ) -> list[WorkerState]:
        """Keep workers that run a cell or alone have an input: both would be lost with them."""
        if self.host is None:
            return list(workers)
        busy, alone = self.host.registry.machine.cells(), self.host.registry.holders.alone
        return [w for w in workers if w.address not in busy and not alone(w.address)]

    def restart(self, scheduler: Scheduler) -> None:
        if self.host is not None:
            self.host.tasks.restarted()


class RegistryHost:
    """The registry, and what it needs of one scheduler; its `extensions` have it.

    Implements `dask_async_run.scheduler.registry.Cluster`.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        folder: Path,
        run: Callable[[str], Any],
        acting: bool = False,
        memory: bool = False,
    ) -> None:
        self._scheduler = scheduler
        folders.private_folder(folder, folders.STATE_VARIABLE)
        self.registry = JobRegistry(folder, self, memory)
        self.tasks = Tasks(scheduler, run, self.registry.task_ended, self.registry.task_vanished)
        self._places = Places(
            self._workers, self.registry.machine.cells, self.registry.machine.is_pending
        )
        self._kept = KeptKeys(scheduler)
        self._cells = CellOps(self.registry)
        self._asking: set[asyncio.Task[None]] = set()
        self._takers: dict[str, bool] = {}  # workers, and whether they take claims ahead
        client_ops = ClientOps(self.registry)
        self._operations = {
            name: getattr(operations, name)
            for operations in (client_ops, self._cells, FrameOps(self.registry))
            for name in operations.NAMES
        }
        scheduler.extensions[NAME] = self
        scheduler.handlers["async_run"] = self.handle
        self.registry.start()
        self._page = _mounted(scheduler, self.registry, client_ops if acting else None)
        self._looking = asyncio.get_running_loop().call_later(LOOK, self._look_whether_wanted)
        self._end_metrics = told(self.registry)
        self.registry.page = self._page.path if self._page is not None else ""

    async def handle(self, do: str, body: bytes) -> bytes:
        """Run the operation `do`; the scheduler's handler for all calls of the registry.

        Errors that a user can meet travel in the answer; Dask would wrap them in its own
        traceback.
        """
        try:
            if do not in self._operations:
                raise ServerError(f"this server knows no operation {do!r}: is it older?")
            answer = await self._operations[do](**unpack(body))
            return pack({"answer": answer})
        except AsyncRunError as error:
            return pack({"error": [type(error).__name__, list(error.args)]})
        except Exception as error:
            if self.registry.closed:
                return pack({"error": ["ServerError", [STOPPING]]})
            logger.exception("operation %s failed", do)
            problem = f"the registry failed at {do!r}: {type(error).__name__}: {error}"
            return pack({"error": ["ServerError", [problem]]})

    def _look_whether_wanted(self) -> None:
        """Close when the plugin was unregistered, of which Dask tells nobody."""
        if self._scheduler.extensions.get(NAME) is not self:
            return
        if NAME in self._scheduler.plugins:
            self._looking = asyncio.get_running_loop().call_later(LOOK, self._look_whether_wanted)
        else:
            self._closing = asyncio.create_task(self.close())

    async def close(self) -> None:
        if self._scheduler.extensions.get(NAME) is not self:
            return
        self._looking.cancel()
        del self._scheduler.extensions[NAME]
        del self._scheduler.handlers["async_run"]
        for asking in self._asking:
            asking.cancel()
        if self._page is not None:
            self._page.remove()
        self._end_metrics()
        await self.tasks.close()
        await self.registry.close()

    def submit(self, spec: JobSpec) -> None:
        self._send(spec, self._places.assign(spec, self.registry.near(spec)))

    def crowd_out(self, spec: JobSpec) -> None:
        self.tasks.take_back(spec.id)
        self._places.crowd_out(spec)
        self.look_again()

    def look_again(self) -> None:
        for spec, where in self._places.moved():
            self._send(spec, where)

    def _send(self, spec: JobSpec, where: Where) -> None:
        """Give a job a task that may go somewhere; none if there is nowhere yet."""
        if where is None or where:
            self.tasks.submit(spec, where)
        else:
            self.tasks.take_back(spec.id)
            self._say(spec.id)

    def _workers(self) -> list[Place]:
        return [
            Place(
                address,
                str(worker.name),
                worker.host,
                worker.nthreads,
                self._occupied(worker),
                worker.resources,
                python_of(worker.versions),
                worker.status == Status.running,
            )
            for address, worker in self._scheduler.workers.items()
        ]

    def _occupied(self, worker: WorkerState) -> int:
        """How many tasks a worker has to do: a job that has ended has a task for a moment yet."""
        if len(worker.processing) > 2 * worker.nthreads:
            return len(worker.processing)  # it has no place, whoever they are
        jobs = (self.tasks.job_of(task.key) for task in worker.processing)
        return sum(job is None or self.registry.is_open(job) for job in jobs)

    def withdraw(self, job: str) -> None:
        self._places.forget(job)
        self.tasks.withdraw(job)

    def unpublish(self, job: str) -> None:
        self.tasks.unpublish(job)

    async def keep(self, job: str, keys: Iterable[Any]) -> list[Any]:
        return await self._kept.keep(job, keys)

    def release(self, job: str) -> None:
        self._kept.release(job)

    def kept(self) -> list[Any]:
        return self._kept.keys()

    async def tell(self, worker: str, job: str) -> str:
        try:
            known = await asyncio.wait_for(
                self._scheduler.rpc(worker).async_run_cell(do="cancel", job=job), TELL_TIMEOUT
            )
        except Exception as error:  # noqa: BLE001  (whatever Dask raises: it is said)
            return f"{type(error).__name__}: {error}"
        return "" if known else "it does not know the job"

    async def call_back(self, worker: str, task: str) -> bool:
        call = self._scheduler.rpc(worker).async_run_cell(do="drop", task=task)
        with suppress(Exception):  # one that does not answer has it, or is gone
            return bool(await asyncio.wait_for(call, TELL_TIMEOUT))
        return False

    async def warm(self, modules: Sequence[str]) -> None:
        async def tell(worker: str) -> None:
            # A hint: a worker that does not take it will import what a cell imports.
            with suppress(Exception):
                call = self._scheduler.rpc(worker).async_run_cell(do="warm", modules=list(modules))
                await asyncio.wait_for(call, TELL_TIMEOUT)

        await asyncio.gather(*(tell(worker) for worker in list(self._scheduler.workers)))

    def waits_for(self, job: str) -> str:
        places = self._places
        return places.waits_for(job) or self.tasks.waits_for(job, places.named(job))

    def placed(self, key: Any) -> None:
        """Tell those who follow a job that no worker can take it now, or that one can.

        Of a sweep's member those who follow the sweep are told, as long as none has begun.
        """
        records = self.registry.machine.records
        record = records.get(self.tasks.job_of(key) or "")
        if record is not None and record.sweep:
            record = records.get(record.sweep)
        if record is not None and record.state is State.PENDING:
            self._say(record.id)

    def sent(self, key: Any) -> None:
        """Have a job's claim go ahead of its task, which Dask is about to send to a worker."""
        job = self.tasks.job_of(key)
        if job is None:
            return
        place = self._scheduler.tasks[key].processing_on
        if place is None or len(place.processing) - len(place.long_running) > place.nthreads:
            return  # it waits there for another task, which comes first
        worker = place.address
        if worker not in self._takers:
            self._takers[worker] = False
            self._asking.add(asking := asyncio.create_task(self._ask(worker)))
            asking.add_done_callback(self._asking.discard)
        elif self._takers[worker] and (granted := self._cells.claim_ahead(job, worker, key)):
            token, claim = granted
            message = {"op": CLAIM, "task": key, "token": token, "claim": pack(claim)}
            try:
                self._scheduler.stream_comms[worker].send(message)
            except (CommClosedError, KeyError):  # nor does the task get there
                self.registry.apply(GivenBack(job, token, time.time()))

    async def _ask(self, worker: str) -> None:
        """Find out whether a worker takes claims ahead: older ones do not."""
        call = self._scheduler.rpc(worker).async_run_cell(do="claims")
        with suppress(Exception):
            takes = await asyncio.wait_for(call, TELL_TIMEOUT)
            if worker in self._takers:
                self._takers[worker] = bool(takes)

    def worker_gone(self, worker: str) -> None:
        self._takers.pop(worker, None)
        self.registry.worker_gone(worker, f"its worker {worker} died or was stopped")

    def _say(self, job: str) -> None:
        live = self.registry.live.get(job)
        if live is not None:
            live.beats += 1
            self.registry.ring(job)

    def frame_places(self) -> list[str]:
        return self._places.best()

    def places(self, worker: str) -> int:
        known = self._scheduler.workers.get(worker)
        return int(known.nthreads) if known is not None else 0

    def is_current(self, job: str, task: str) -> bool:
        return self.tasks.is_current(job, task)

    def clients(self) -> int:
        own = self.tasks.client_id
        return sum(
            client != own and not client.startswith("Client-worker-")
            for client in self._scheduler.client_comms
        )


def _mounted(scheduler: Scheduler, registry: JobRegistry, ops: ClientOps | None) -> Any:
    """Put the jobs' page on the dashboard, if the scheduler has one: then Bokeh is there."""
    if "distributed.dashboard.scheduler" not in sys.modules:
        return None
    try:
        from dask_async_run.scheduler.page.mounting import mount

        return mount(scheduler, registry, ops)
    except Exception:
        # Jobs do not depend on a page; another version of Dask may have other insides.
        logger.exception("the jobs' page could not be put on the dashboard")
        return None


def _default_folder(scheduler: Scheduler) -> Path:
    """Where a scheduler keeps its jobs that nobody has told: found again at its next start."""
    host, port = get_address_host_port(scheduler.address)
    return folders.state_folder(re.sub(r"[^A-Za-z0-9_.-]", "-", f"cluster-{host}-{port}"))
