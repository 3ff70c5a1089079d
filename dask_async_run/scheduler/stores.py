"""The registry's stores at URLs: which there are, what goes there, what comes back."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from dask_async_run.errors import AsyncRunError, ServerError, StoreError
from dask_async_run.job import Message
from dask_async_run.scheduler.journal import Journal
from dask_async_run.scheduler.recalling import recall
from dask_async_run.scheduler.records import opened, statements
from dask_async_run.scheduler.storer import Storer
from dask_async_run.stores import UrlStore, place_at

if TYPE_CHECKING:
    from dask_async_run.scheduler.registry import JobRegistry

HOME_FILE = "store_home"
"""In a state folder: the random word by which its place in every store is called."""

ANSWER = 60.0
"""Seconds in which a store has to answer that is used for the first time."""


class Stores:
    """What the registry does with stores; in the scheduler's event loop.

    Parameters
    ----------
    registry : JobRegistry
    """

    def __init__(self, registry: JobRegistry) -> None:
        self._registry = registry
        self._journal = registry.journal
        self._loop = asyncio.get_running_loop()
        self._home = ""
        self._checked: set[str] = set()
        self._recalling = asyncio.Lock()  # several may miss the same frame
        self._storer = Storer(
            registry.journal.path, registry.store, self._done_in_thread, self._removed_in_thread
        )

    def start(self) -> None:
        """Go on with what the last server left."""
        for job, _ in self._journal.unstored():
            self._storer.store(job)
        if self._journal.leavings():
            self._storer.tidy()

    async def close(self) -> None:
        """Bring away what can be in a short time."""
        await self._loop.run_in_executor(None, self._storer.close)
        await asyncio.sleep(0)  # its last words

    def made_anew(self) -> None:
        """Go on in a state folder that was deleted and made again."""
        self._storer.made_anew()
        if self._home:
            (self._registry.folder / HOME_FILE).write_text(self._home)

    def bring(self, jobs: Collection[str]) -> None:
        """Bring jobs, which are saved here, to where they are to lie too."""
        for job in {job for job, _ in self._journal.unstored(jobs)}:
            self._storer.store(job)

    def tidy(self) -> None:
        """Remove what was forgotten where it lies too."""
        if self._journal.leavings():
            self._storer.tidy()

    async def checked(self, url: str) -> str:
        """Answer the place that jobs have at a URL, which is tried the first time.

        Raises
        ------
        StoreError
            It cannot be used, and why.
        """
        if not url:
            return ""
        place = place_at(url, self._own_home())
        if place not in self._checked:
            try:
                await asyncio.wait_for(asyncio.to_thread(_check, place), ANSWER)
            except TimeoutError:
                raise StoreError(url, f"it does not answer within {ANSWER:.0f} s") from None
            except StoreError as error:
                raise StoreError(url, error.problem) from error
            self._checked.add(place)
        return place

    async def check(self, url: str) -> Message:
        """Try a store; answer the place here, and how many jobs there this registry lacks."""
        place = await self.checked(url)
        there = await asyncio.to_thread(_jobs_at, url)
        jobs = [job for _, job in there]
        return {"place": place, "unknown": len({*jobs} - self._journal.known(jobs))}

    async def restore(self, url: str) -> Message:
        """Take in the jobs that lie at a URL and that this registry does not know.

        Returns
        -------
        dict
            ``jobs``: how many; ``problems``: what is wrong with others, each once.
        """
        problems: dict[str, None] = {}
        there = await asyncio.to_thread(_jobs_at, url)
        known = self._journal.known([job for _, job in there])
        records = []
        for place, job in there:
            if job in known:
                continue
            try:
                records.append((place, opened(job, await asyncio.to_thread(_record, place, job))))
            except AsyncRunError as error:
                problems[str(error)] = None
        records.sort(key=lambda each: (each[1]["submitted"], each[1]["member"]))
        jobs = 0
        for place, record in records:
            sweep = record["sweep"]
            if self._journal.known([record["id"]]) or (sweep and not self._journal.known([sweep])):
                continue  # asked for twice; a member alone is nothing
            version = self._journal.next_version(record["notebook"], record["name"])
            try:
                self._journal.restore(statements(record, version, place, time.time()))
                jobs += not sweep
            except ServerError as error:
                problems[str(error)] = None
            await asyncio.sleep(0)
        return {"jobs": jobs, "problems": list(problems)}

    async def at_hand(self, digests: Iterable[str]) -> None:
        """Make frames be here that are not, as far as a store has them; raises as `recall`."""
        missing = [digest for digest in digests if not self._registry.store.has(digest)]
        if missing:
            await self.recall(missing)

    async def recall(self, digests: Sequence[str]) -> None:
        """Make frames be here, and whole, as far as a store has them.

        Raises
        ------
        StoreError, FrameError
            As `recalling.recall`.
        """
        async with self._recalling:
            await asyncio.to_thread(self._recall, list(digests))

    def _recall(self, digests: Sequence[str]) -> None:
        with Journal.open_readonly(self._journal.path) as journal:
            recall(journal, self._registry.store, digests)

    def _own_home(self) -> str:
        path = self._registry.folder / HOME_FILE
        if not self._home:
            try:
                self._home = path.read_text()
            except FileNotFoundError:
                self._home = secrets.token_hex(4)
                path.write_text(self._home)
            if not re.fullmatch(r"[0-9a-f]{8}", self._home):
                raise StoreError(str(path), "it does not hold what was written there; remove it")
        return self._home

    def _done_in_thread(self, job: str, place: str, problem: str) -> None:
        self._loop.call_soon_threadsafe(self._done, job, place, problem)

    def _done(self, job: str, place: str, problem: str) -> None:
        self._journal.note_store(job, place, done=not problem, problem=problem)
        self._registry.touch()

    def _removed_in_thread(self, place: str, names: list[str]) -> None:
        self._loop.call_soon_threadsafe(self._removed, place, names)

    def _removed(self, place: str, names: list[str]) -> None:
        self._journal.removed(place, names)
        self._registry.touch()


def _check(place: str) -> None:
    UrlStore(place).check()


def _jobs_at(url: str) -> list[tuple[str, str]]:
    return [(place, job) for place in UrlStore.places(url) for job in UrlStore(place).jobs()]


def _record(place: str, job: str) -> bytes:
    return UrlStore(place).record(job)
