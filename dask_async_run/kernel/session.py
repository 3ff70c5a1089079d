"""The session: this kernel's connection to a cluster, and what it remembers of its jobs.

Everything here runs in the kernel, in the thread that calls it (its main thread,
for magics). The Dask client has an event loop thread of its own.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin

from distributed import Client
from distributed.comm.addressing import get_address_host

from dask_async_run.carrier import CarriedFrames
from dask_async_run.clients import make_client
from dask_async_run.errors import (
    AsyncRunError,
    JobStateError,
    NoServerError,
    NoSuchJobError,
    ServerError,
    ServerGoneError,
)
from dask_async_run.folders import FRAMES, sees
from dask_async_run.frames import FrameStore
from dask_async_run.job import JobView, State
from dask_async_run.kernel.drawing import Drawn
from dask_async_run.kernel.names import resolve
from dask_async_run.kernel.notebook import notebook_id
from dask_async_run.kernel.passing import PassingLine
from dask_async_run.kernel.record import Record
from dask_async_run.kernel.remote import KernelsObjects
from dask_async_run.kernel.shipping import Cluster
from dask_async_run.kernel.snapshot import SnapshotFrames
from dask_async_run.namespace.held import Held
from dask_async_run.owners import current_owner, owned, short_names
from dask_async_run.registry import CONNECTION_ERRORS, Endings, Remains, SyncRegistry
from dask_async_run.remote import address_of
from dask_async_run.server.connection import Connection, find
from dask_async_run.stores import Frames, RecalledFrames

BRIEF = 2.0
"""Seconds that a scheduler has to answer what nobody told us to ask."""
SILENCE = 30.0
"""Seconds for which one that did not is not asked again."""
JUST_NOW = 0.05
"""Seconds after which the scheduler is asked again what it has just said."""


class Session:
    """A connection to one cluster, for one namespace.

    Parameters
    ----------
    client : Client
        A synchronous one; the session closes it if it `owns` it.
    shell : InteractiveShell or None
    namespace : dict
        The user's.
    connection : Connection or None
        Of the server, where one of ours is connected to.
    owns : bool
    cluster : Cluster or None
        That somebody else runs.

    Attributes
    ----------
    owner : str
        Who this is among the users of a cluster that somebody else runs; empty on a server of
        one's own.
    notebook : str
        The name under which this notebook's jobs are kept.
    state_folder : str
        Where the registry keeps its jobs, on the scheduler's machine.
    store : RecalledFrames
    remote : KernelsObjects
        Dask's futures and clients in this kernel.
    records : dict of str to Record
        The jobs that this kernel knows more of than the registry does, by id.
    gathered : set of str
        Ids of the jobs that were gathered here.
    remains : dict of str to Remains
        What jobs left behind, by id, where it came with the news of their end and nobody
        gathered it yet.
    changed : dict of (str, int, int) to set of str
        Objects (`Record.place`) that gathered jobs changed in place here, and their ids.
    brought : dict of str to (float, Held)
        Of jobs that another kernel submitted: what names got from them here, and when the job
        was submitted.
    removed : dict of str to float
        Names that a cell has bound and deleted again, and when that cell was submitted, or run
        here: of an older job they do not come back.
    drawn : Drawn
    not_looked_for : int
        Jobs that were gathered since it was looked for what only this remembers.
    """

    def __init__(
        self,
        client: Client,
        shell: Any,
        namespace: dict[str, Any],
        connection: Connection | None = None,
        owns: bool = True,
        cluster: Cluster | None = None,
    ) -> None:
        self.client = client
        self.shell = shell
        self.namespace = namespace
        self.connection = connection
        self.cluster = cluster
        self._owns = owns
        self.address = address_of(client)
        alive = None if connection is None else partial(_lives, connection)
        self.registry = SyncRegistry(client, alive=alive, line=PassingLine(shell))
        self.remote = KernelsObjects(client)
        self.owner = "" if connection is not None else current_owner()
        self.notebook = owned(notebook_id(namespace), self.owner)
        self.records: dict[str, Record] = {}
        self.gathered: set[str] = set()
        self._waiting: dict[str, Record] = {}
        self.remains: dict[str, Remains] = {}
        self.changed: dict[tuple[str, int, int], frozenset[str]] = {}
        self.brought: dict[str, tuple[float, Held]] = {}
        self.removed: dict[str, float] = {}
        self.drawn = Drawn()
        self.not_looked_for = 0
        self._silent_until = 0.0
        self._brief = SyncRegistry(client, BRIEF)
        self._said = _Said()
        hello = self.registry.hello()
        folder = Path(hello["state_folder"])
        self.state_folder = str(folder)
        self._page = str(hello.get("page", ""))  # an older server has none ...
        self._tells_endings = bool(hello.get("endings"))
        if hello.get("peers"):  # ... nor workers that others fetch frames from
            self.registry.use_peers()
        frames: Frames
        if not sees(folder, hello["host_token"]):
            frames = CarriedFrames(self.registry)
        elif hello.get("unread"):  # ... and copies no frames that have no name yet
            frames = SnapshotFrames(FrameStore(folder / FRAMES), self.registry.bring)
        else:
            frames = FrameStore(folder / FRAMES)
        self.store = RecalledFrames(frames, self.registry.recall)

    @property
    def alive(self) -> bool:
        """Whether the client is connected."""
        return bool(self.client.status == "running")

    def answers(self) -> bool:
        """Whether the scheduler answers at once; if it did not, it is not asked for a while.

        For what is asked without being told to: an ordinary cell waits for no scheduler. It is
        asked for the jobs' ends, which are then known for as long as the cell is looked at.
        """
        if time.monotonic() < self._silent_until:
            return False
        try:
            records = self.waiting()
            if all(record.ended is not None for record in records):
                self._brief.idle()
            else:
                self._ask(records, self._brief)
        except AsyncRunError:
            self._silent_until = time.monotonic() + SILENCE
            who = "the server" if self.connection is not None else self.address
            print(
                f"{who} does not answer; whether jobs have ended is not known here.",
                file=sys.stderr,
            )
            return False
        return True

    @property
    def dashboard(self) -> str | None:
        """Web address of the dashboard; of our own server's, good for some minutes."""
        if self.connection is not None:
            return self.connection.dashboard_link
        try:
            link = self.client.dashboard_link
        except KeyError:
            # The user's template for it (distributed.dashboard.link) names a variable, as a hub's,
            # that this environment does not have; or there is no dashboard.
            port = self.client.scheduler_info()["services"].get("dashboard")
            link = f"http://{self._host}:{port}/status" if port else None
        # Dask takes what is before the first colon for the host, also of [::1]:8786.
        return str(link).replace("://[:", f"://{self._host}:") if link else None

    @property
    def _host(self) -> str:
        host = str(get_address_host(self.address))
        return f"[{host}]" if ":" in host else host

    def page(self, job: str = "") -> str:
        """Web address of the page of all jobs, or of one by its id; empty: there is none.

        Of our own server's, good for some minutes.
        """
        link = self.dashboard
        if not link or not self._page:
            return ""
        path, _, query = link.partition("?")
        shown = urlencode({"job": job}) if job else ""
        query = "&".join(filter(None, (shown, query)))
        return urljoin(path, self._page) + (f"?{query}" if query else "")

    def jobs(self, wanted: Iterable[str] = ()) -> list[JobView]:
        """Answer this notebook's jobs, or those that are named, in order of submission."""
        wanted = list(wanted)
        if not wanted:
            return self.registry.jobs(self.notebook)
        words = {word.rpartition("@")[0] or word for word in wanted}
        views = self.registry.jobs(self.notebook, wanted=words)
        try:
            return resolve(views, wanted, self.notebook)
        except (NoSuchJobError, JobStateError):
            # A pattern, another notebook's, the beginning of an id, or none at all.
            found = resolve(self.registry.labels(wanted), wanted, self.notebook)
            return self.registry.jobs(wanted=[view.id for view in found])

    def called(self, view: JobView) -> str:
        """What to call a job: with its notebook, where that is another one."""
        if view.notebook == self.notebook:
            return view.label
        return f"{short_names([view.notebook, self.notebook])[view.notebook]}/{view.label}"

    def awaited(self, view: JobView) -> list[str]:
        """Answer what those jobs are called that a pending job waits for, as is known here.

        None if one of them is another kernel's: only the server knows what that is called.
        """
        if view.state != State.PENDING or not all(job in self.records for job in view.after):
            return []
        records = [self.records[job] for job in view.after]
        return [record.spec.name for record in records if record.ended is None]

    def note_removed(self, names: Iterable[str], when: float) -> None:
        """Note names that a cell of some time, a job's or one here, has left deleted."""
        for name in names:
            if name not in self.namespace:
                self.removed[name] = max(when, self.removed.get(name, 0.0))

    def removed_after(self, when: float) -> list[str]:
        """Answer the names that cells have left deleted which are younger than that."""
        return [name for name, removed in self.removed.items() if removed > when]

    def note_changes(self, job: str, places: Iterable[tuple[str, int, int]]) -> None:
        """Note that what a job did to objects in place has been done here (`Record.place`)."""
        alone = frozenset({job})  # one for all of them: there may be hundreds of thousands
        for place in places:
            before = self.changed.get(place)
            self.changed[place] = alone if before is None else before | alone

    def waiting(self) -> list[Record]:
        """Answer the jobs that this kernel submitted and has not gathered, in order.

        Members of sweeps are not among them: nobody waits for what they bind.
        """
        return list(self._waiting.values())

    def add(self, record: Record) -> None:
        """Know one more job."""
        self.records[record.id] = record
        if record.id not in self.gathered and not record.spec.of:
            self._waiting[record.id] = record

    def note_gathered(self, job: str) -> None:
        """Note that a job has been gathered here."""
        self.gathered.add(job)
        self._waiting.pop(job, None)

    def take_over(self, old: Session) -> None:
        """Know what another session of the same cluster knew."""
        self.gathered |= old.gathered
        for record in old.records.values():
            record.connect(self.registry)
            self.add(record)
        self.changed |= old.changed
        self.brought |= old.brought
        self.removed |= old.removed

    def forget(self, jobs: Iterable[str]) -> None:
        """Drop what is known of jobs that were forgotten, by id.

        What others build on is kept if it was gathered: these may be gathered later, or again.
        """
        gone = frozenset(jobs)
        left = [record for record in self.records.values() if record.id not in gone]
        needed = {job for record in left for job in record.spec.parents} & self.gathered
        for job in gone & self.records.keys():  # their order stays
            if job in needed:
                self.records[job].forgotten = True
            else:
                del self.records[job]
                self._waiting.pop(job, None)
        for job in gone:
            self.remains.pop(job, None)

    def endings(self, records: Sequence[Record]) -> dict[str, JobView | None]:
        """Answer the jobs that there are of some records, by id; None: it has not ended.

        Of those that are known to have ended the scheduler is not asked again, and of those that
        have not it tells nothing: submitting costs the same however many jobs wait or were not
        gathered. See `drop_forgotten`.
        """
        open_ = {record.id for record in records if record.ended is None}
        if not self._said.holds(open_, self.registry.calls):
            self._ask(records, self.registry)
        return {record.id: record.ended for record in records if record.id not in self._said.gone}

    def _ask(self, records: Sequence[Record], registry: SyncRegistry) -> None:
        open_ = [record.id for record in records if record.ended is None]
        found = self.endings_of(open_, registry)
        ended = {view.id: view for view in found.ended}
        for record in records:
            record.ended = record.ended or ended.get(record.id)
        calls = self.registry.calls
        self._said = _Said(frozenset(open_), frozenset(found.gone), calls, time.monotonic())

    def endings_of(self, jobs: Sequence[str], registry: SyncRegistry | None = None) -> Endings:
        """As `Registry.endings`, of a server of an earlier version too.

        Parameters
        ----------
        jobs : sequence of str
        registry : SyncRegistry or None
            By which it is asked; None: as ever.
        """
        registry = registry or self.registry
        if not jobs:
            return Endings([], [])
        if self._tells_endings:
            return registry.endings(jobs)
        views = registry.jobs(wanted=jobs)
        there = {view.id for view in views}
        ended = [view for view in views if State(view.state).terminal]
        return Endings(ended, [job for job in jobs if job not in there])

    def drop_forgotten(self, records: Iterable[Record]) -> bool:
        """Find out whether somebody forgot jobs that have ended, or were gathered.

        Returns
        -------
        bool
            Some were: `endings` does not answer them any more.
        """
        ended = [
            record
            for record in records
            if not record.forgotten and (record.ended is not None or record.id in self.gathered)
        ]
        if not ended:
            return False
        there = {view.id for view in self.registry.jobs(wanted=[record.id for record in ended])}
        gone = [record for record in ended if record.id not in there]
        for record in gone:
            record.ended, record.forgotten = None, True
        return bool(gone)

    def compare(self, modules: Iterable[str]) -> None:
        """Say, once, what of some modules' packages is not the same on somebody else's cluster."""
        if self.cluster is not None and (found := self.cluster.remarks(modules)):
            print(
                f"Not the same on the cluster: {', '.join(found)}. What is made with one version "
                "may be no good with another.",
                file=sys.stderr,
            )

    def close(self) -> None:
        """Disconnect; jobs go on."""
        self.registry.settle()
        if self._owns:
            self.client.close()


@dataclass(frozen=True, slots=True)
class _Said:
    """What the scheduler has said last of jobs that were open.

    Parameters
    ----------
    asked, gone : frozenset of str
        Ids of those that it was asked for, and of those that are not there any more.
    calls : int
        How many others had been made by then: any of them may change what it says.
    when : float
        Monotonic.
    """

    asked: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()
    calls: int = 0
    when: float = -math.inf

    def holds(self, jobs: set[str], calls: int) -> bool:
        """Whether it need not be asked for some jobs again."""
        just_now = time.monotonic() - self.when < JUST_NOW
        return not jobs or (just_now and jobs <= self.asked and calls == self.calls)


def _lives(connection: Connection) -> bool:
    """Whether a server's process lives, without asking it: it may have much to do."""
    try:
        return find(connection.name) == connection
    except ServerError:
        return False


def gone(name: str) -> ServerGoneError:
    """Answer the error that says so of a server."""
    return ServerGoneError(
        f"the server {name!r} is gone. Start it again with %async_run_server: finished jobs "
        "are kept."
    )


def open_again(old: Session) -> Session:
    """Connect again to a cluster of somebody else's, whose connection was lost.

    Raises
    ------
    ServerError
        It does not answer, or is another one now that cannot run this notebook's cells.
    """
    client, address = old.client, old.address
    try:
        again = make_client(address, security=client.security, set_as_default=False, timeout="10s")
    except CONNECTION_ERRORS as error:
        raise ServerError(
            f"the connection to the cluster at {address} is lost, and it does not answer: {error}. "
            "The jobs there go on. Try again, or connect with %async_run_server ADDRESS."
        ) from error
    return open_session(old.shell, old.namespace, client=again, owns=True)


def open_session(
    shell: Any,
    namespace: dict[str, Any],
    connection: Connection | None = None,
    client: Client | None = None,
    owns: bool = False,
) -> Session:
    """Connect to a server of ours, or wrap a client of some other cluster.

    Parameters
    ----------
    shell : InteractiveShell or None
    namespace : dict
    connection : Connection or None
        Of the server; without and without `client`: the default server's.
    client : Client or None
        Of a cluster that somebody else started: our plugins are installed there, see
        `shipping.Cluster`.
    owns : bool
        Whether the session closes that client.

    Raises
    ------
    NoServerError
        There is no server.
    ServerError
        It does not answer.
    """
    if client is not None:
        cluster = Cluster(client)
        cluster.install()
        return Session(client, shell, namespace, owns=owns, cluster=cluster)
    connection = connection or find("default")
    if connection is None:
        raise NoServerError
    line = PassingLine(shell)
    try:
        client = _client(connection, line)
    finally:
        line.clear()
    return Session(client, shell, namespace, connection)


def _client(connection: Connection, line: PassingLine) -> Client:
    for timeout in ("3s", "30s"):
        try:
            return make_client(
                connection.address,
                security=connection.security(),
                set_as_default=False,
                timeout=timeout,
                name="dask-async-run",
            )
        except CONNECTION_ERRORS as error:
            # A server that was killed may be found for a moment more.
            if find(connection.name) != connection:
                raise gone(connection.name) from error
            problem = error
            line.show(
                f"the server {connection.name!r} does not answer: it is busy, or was stopped. "
                "Waiting for it"
            )
    raise ServerError(
        f"the server {connection.name!r} at {connection.address} does not answer: {problem}. "
        "Stop it with %async_stop_server --force and start it again.",
        connection.log,
    ) from problem
