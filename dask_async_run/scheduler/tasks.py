"""The jobs' Dask tasks: submitted, withdrawn, published.

The registry has a Dask client of its own, in the scheduler's event loop, so that the
tasks do not depend on any kernel. A task is only a means: what becomes of a job is the
registry's business, which is told when a task ends or vanishes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from pathlib import PurePath
from typing import Any

from distributed import Client, Future
from distributed.scheduler import KilledWorker, Scheduler

from dask_async_run.clients import make_client
from dask_async_run.credentials import for_clients
from dask_async_run.job import JobSpec
from dask_async_run.messages import plain
from dask_async_run.scheduler.placement import waits_for

logger = logging.getLogger(__name__)

CLIENT_NAME = "dask-async-run"

PUBLISH_DELAY = 0.05
"""Seconds between a job's submission and the publication of its name in Dask."""

CLOSE_TIMEOUT = 5.0

UNPUBLISH_AT_ONCE = 50

HYPHEN = "\u2011"


class Tasks:
    """The Dask tasks of one scheduler's jobs.

    Parameters
    ----------
    scheduler : Scheduler
        In whose event loop this lives.
    run : callable
        What a task calls with the job's id.
    ended : callable
        Called with a job's id and a problem (or ``""``) when its task has ended.
    vanished : callable
        Called with a job's id when its task is gone without having ended.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        run: Callable[[str], Any],
        ended: Callable[[str, str], None],
        vanished: Callable[[str], None],
    ) -> None:
        self._scheduler = scheduler
        self._run = run
        self._ended = ended
        self._vanished = vanished
        self._client: Client | None = None
        self._connecting = asyncio.Lock()
        self._closed = False
        self._count = 0
        self._jobs: dict[str, str] = {}  # Dask key: job
        self._keys: dict[str, str] = {}  # job: Dask key
        self._futures: dict[str, Future[Any]] = {}  # of tasks that have not ended, by key
        self._watching: set[asyncio.Task[None]] = set()
        self._names: dict[str, str] = {}  # name under which it is published: job
        self._orders: list[Callable[[Client], Awaitable[None]]] = []
        self._publications: dict[str, Future[Any] | None] = {}
        self._work = asyncio.Event()
        self._publish = asyncio.Event()
        self._background = [
            asyncio.create_task(self._work_on_orders()),
            asyncio.create_task(self._work_on_publications()),
        ]

    @property
    def client_id(self) -> str:
        """Id of the registry's own client; empty before it has connected."""
        return self._client.id if self._client is not None else ""

    def submit(self, spec: JobSpec, where: Collection[str] | None = None) -> None:
        """Give a job a task, soon, and publish it under the job's name.

        A task that the job had is taken back.

        Parameters
        ----------
        spec : JobSpec
        where : collection of str or None
            Addresses of the workers that it may go to; None: all.
        """
        self.take_back(spec.id)
        self._count += 1
        key = dask_key(spec, self._count)
        self._jobs[key] = spec.id
        self._keys[spec.id] = key
        self._orders.append(lambda client: self._submit(client, spec, key, where))
        self._work.set()

    def take_back(self, job: str) -> None:
        """Cancel a job's task, soon; the job may get another one."""
        self._forget(job, cancel=True)

    def withdraw(self, job: str) -> None:
        """Cancel a job's task, soon, and take its name back."""
        self.take_back(job)
        self.unpublish(job)

    def unpublish(self, job: str) -> None:
        """Take the job's name back, if it means this job."""
        for name in [name for name, owner in self._names.items() if owner == job]:
            del self._names[name]
            self._publications[name] = None
            self._publish.set()

    def restarted(self) -> None:
        """Notice that ``Client.restart`` was called: tasks and published names are gone."""
        self._publications = dict.fromkeys([*self._names, *self._publications])
        self._names.clear()
        self._publish.set()
        # The client is about to be told too, and would then cancel what it had submitted
        # meanwhile: so the next orders go to a new one.
        client, self._client = self._client, None
        self._futures.clear()
        jobs = list(self._keys)
        self._jobs.clear()
        self._keys.clear()
        for job in jobs:
            self._vanished(job)
        if client is not None:
            self._background.append(asyncio.create_task(_close(client)))

    def waits_for(self, job: str, named: Collection[str]) -> str:
        """Say what a job's task waits for, if no worker can take it; as `placement.waits_for`."""
        return waits_for(self._scheduler, self._keys.get(job), named)

    def is_current(self, job: str, key: str) -> bool:
        """Whether a job's task has this Dask key: others were taken back."""
        return self._keys.get(job) == key

    def job_of(self, key: Any) -> str | None:
        """Answer the job whose task has this Dask key."""
        return self._jobs.get(key)

    async def close(self) -> None:
        """Disconnect; the tasks are forgotten by Dask."""
        # Cancelling alone would not do: a Dask call that is cancelled while it connects may
        # raise something else instead.
        self._closed = True
        ours = {*self._background, *self._watching}
        for task in ours:
            task.cancel()
        if ours:
            await asyncio.wait(ours, timeout=CLOSE_TIMEOUT)
        if self._client is not None:
            await _close(self._client)

    # --- the client's side ---

    async def _submit(
        self, client: Client, spec: JobSpec, key: str, where: Collection[str] | None
    ) -> None:
        if self._keys.get(spec.id) != key:
            return  # withdrawn before it got here
        try:
            future = client.submit(
                self._run,
                spec.id,
                key=key,
                pure=False,
                retries=0,
                priority=spec.priority,
                fifo_timeout=0,  # else jobs that are submitted together begin in any order
                resources=spec.resources or None,
                workers=sorted(where) if where else None,
                allow_other_workers=False,
            )
        except Exception as error:  # noqa: BLE001  (it becomes the job's end)
            self._forget(spec.id, cancel=False)
            self._ended(spec.id, f"{type(error).__name__}: {error}"[:300])
            return
        self._futures[key] = future
        watching = asyncio.create_task(self._watch(key, future))
        self._watching.add(watching)
        watching.add_done_callback(self._watching.discard)
        if spec.of:
            return  # a name for each of a thousand members would cost more than they do
        name = published_name(spec)
        self._names[name] = spec.id
        self._publications[name] = future
        self._publish.set()

    async def _watch(self, key: str, future: Future[Any]) -> None:
        exception = await future.exception()
        job = self._jobs.get(key)
        if job is None:
            return  # withdrawn, or replaced by another one
        status = future.status
        self._forget(job, cancel=False)
        # KilledWorker says nothing about this task: all that waited on a worker when it
        # was killed are counted as suspects.
        if status not in ("finished", "error") or isinstance(exception, KilledWorker):
            self._vanished(job)
        else:
            self._ended(job, repr(exception)[:300] if exception else "")

    def _forget(self, job: str, cancel: bool) -> None:
        key = self._keys.pop(job, None)
        if key is None:
            return
        del self._jobs[key]
        future = self._futures.pop(key, None)
        if future is None:
            return
        if cancel:
            # By force: the published name, and whoever fetched it, want it too.
            self._orders.append(lambda client: _cancel(client, future))
            self._work.set()
        # Let go of, not released: while its publication is on its way it must stay known.

    async def _work_on_orders(self) -> None:
        while not self._closed:
            await self._work.wait()
            self._work.clear()
            client = await self._connected()
            orders, self._orders = self._orders, []
            for order in orders:
                try:
                    await order(client)
                except Exception:
                    # What is lost with it comes back as a task that vanished.
                    logger.exception("an order to Dask failed")

    async def _work_on_publications(self) -> None:
        while not self._closed:
            await self._publish.wait()
            # Publishing costs Dask more than a short job does; together it is one call.
            await asyncio.sleep(PUBLISH_DELAY)
            self._publish.clear()
            client = await self._connected()
            changes, self._publications = self._publications, {}
            put = {
                name: future
                for name, future in changes.items()
                if future is not None and future.client is client and not future.cancelled()
            }
            try:
                if put:
                    await client.publish_dataset(override=True, **put)
                gone = sorted(changes.keys() - put.keys())
                for start in range(0, len(gone), UNPUBLISH_AT_ONCE):
                    some = gone[start : start + UNPUBLISH_AT_ONCE]
                    await asyncio.gather(*(client.unpublish_dataset(name) for name in some))
            except Exception as error:  # noqa: BLE001
                # A name in Dask is a convenience; jobs are found in the registry.
                logger.warning("names of jobs could not be published: %s", error)
                self._publications = {**changes, **self._publications}
                self._publish.set()

    async def _connected(self) -> Client:
        async with self._connecting:  # one client for both, so that their orders stay in order
            return await self._connect()

    async def _connect(self) -> Client:
        while self._client is None or self._client.status != "running":
            if self._closed:
                raise asyncio.CancelledError
            client, self._client = self._client, None
            if client is not None:
                await _close(client)
                client = None
            try:
                client = make_client(
                    self._scheduler.address,
                    security=for_clients(self._scheduler.security, "scheduler"),
                    asynchronous=True,
                    set_as_default=False,
                    name=CLIENT_NAME,
                )
                self._client = await client
            except (OSError, ValueError) as error:  # as `registry.CONNECTION_ERRORS`
                if client is not None:  # making it writes its key to a temporary file
                    await _close(client)
                logger.warning("the registry cannot connect to its own scheduler: %s", error)
                await asyncio.sleep(1)
            except BaseException:
                if client is not None:
                    await _close(client)
                raise
        return self._client


def dask_key(spec: JobSpec, count: int) -> str:
    """Dask key of a job's task: readable, unique, and grouped by the job's (sweep's) name.

    Dask's dashboard and its memory of how long tasks take go by what stands before the
    first word with a digit after a ``-``: so another hyphen, which looks the same, is in
    names. Where there is little place Dask shows the beginning, so the job comes first. The
    notebook is there so that a function of the user's own with that name is another task.
    """
    group = spec.name.partition("[")[0] if spec.of else spec.name
    name = f"{group[:60]} in {PurePath(spec.notebook).stem[-40:]}".replace("-", HYPHEN)
    return f"{plain(name)}-{spec.id}-{count}"  # Dask cannot send others


def published_name(spec: JobSpec) -> str:
    """Name of the Dask dataset under which the latest job of a name is published."""
    return plain(f"{spec.notebook}/{spec.name}")


async def _cancel(client: Client, future: Future[Any]) -> None:
    if future.client is client:  # else its client is closed, and the task gone with it
        await client.cancel(
            [future], force=True, reason="cancelled", msg="The job was cancelled or replaced."
        )


async def _close(client: Client) -> None:
    try:
        await client.close(timeout=CLOSE_TIMEOUT)
    except Exception as error:  # noqa: BLE001  (a new one takes its place anyhow)
        logger.info("the registry's client did not close cleanly: %s", error)
    # An asynchronous client counts as a user of its event loop, and `close` does not end that
    # (distributed 2026.8): the thread of a cluster that lives in a kernel would never end.
    client._loop_runner.stop()
