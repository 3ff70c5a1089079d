"""Arrivals: what is copied from snapshots, what is told of it, and what a next server does."""

from __future__ import annotations

import asyncio
import json
import os
import resource
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from dask_async_run.errors import ServerError
from dask_async_run.frames import FrameStore, name_of, unread_name
from dask_async_run.kernel.snapshot import address_of, end, is_possible, take
from dask_async_run.scheduler import arrivals as arrivals_module
from dask_async_run.scheduler.arrivals import Arrivals
from dask_async_run.scheduler.holders import Holders
from dask_async_run.snapshots import Part, Snapshot, SnapshotReader
from waiting import wait_for

pytestmark = pytest.mark.skipif(not is_possible(), reason="this system takes no snapshots")


class Site:
    """A store, who tells of it, and snapshots of two arrays, which write them to files or not."""

    def __init__(self, folder: Path, writes: bool) -> None:
        self.writes = writes
        self.files: dict[str, int] = {}
        self.notes = folder / "notes"
        self.store = FrameStore(folder / "frames")
        self.holders = Holders()
        self.news = 0
        self.named: dict[str, str] = {}
        self.fails = 0
        self.arrays = [np.full(1_000_000, value) for value in (1.0, 2.0)]
        self.snapshots: list[Snapshot] = []

    def arrivals(self) -> Arrivals:
        return Arrivals(self.notes, self.store, self.holders, self)

    def frame_came(self, name: str, names: Mapping[str, str]) -> None:
        assert self.store.has(names[name])
        self.named[name] = names[name]

    def frames_came(self) -> None:
        self.news += 1

    async def committed(self) -> None:
        assert len(self.noted) == 1
        if self.fails:
            self.fails -= 1
            raise ServerError("no room")

    def parts(self) -> list[Part]:
        views = [array.data.cast("B") for array in self.arrays]
        return [
            Part(unread_name(view.nbytes), view.nbytes, address_of(view), self.file(view.nbytes))
            for view in views
        ]

    def file(self, size: int) -> str:
        if not self.writes:
            return ""
        name, self.files[name] = self.store.begin(size)
        return name

    def take(self, parts: list[Part] | None = None) -> Snapshot:
        self.snapshots.append(take(self.parts() if parts is None else parts, self.files))
        while self.files:
            os.close(self.files.popitem()[1])
        return self.snapshots[-1]

    def copy(self, snapshot: Snapshot) -> None:
        """Have all of it copied."""

        async def story() -> None:
            arrivals = self.arrivals()
            assert await arrivals.bring(snapshot)
            await arrivals.wait(part.digest for part in snapshot.parts)

        asyncio.run(story())

    def is_gone(self, snapshot: Snapshot) -> bool:
        try:
            return psutil.Process(snapshot.pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    @property
    def noted(self) -> list[Path]:
        return list(self.notes.iterdir()) if self.notes.exists() else []


@pytest.fixture(params=["read", "written"])
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    site = Site(tmp_path, request.param == "written")
    yield site
    for snapshot in site.snapshots:
        end(snapshot)
        wait_for(partial(site.is_gone, snapshot), 10)


def test_what_comes_is_told_and_then_there(site: Site) -> None:
    """Coming until it is there and has its name; then the snapshot is ended, and no note is left.

    Who asks later by the name that it had learns the one that it has.
    """
    snapshot = site.take()
    coming = [part.digest for part in snapshot.parts]
    expected = {name: name_of(a.data).digest for name, a in zip(coming, site.arrays, strict=True)}
    for array in site.arrays:
        array[:] = 0.0

    async def story() -> None:
        arrivals = site.arrivals()
        assert await arrivals.bring(snapshot)
        assert arrivals
        assert all(map(site.holders.is_coming, coming))
        assert not arrivals.named(coming)
        assert len(site.noted) == 1
        await arrivals.wait([coming[1]])
        assert not arrivals
        assert not any(map(site.holders.is_coming, coming))
        assert arrivals.named([*coming, "another"]) == expected

    asyncio.run(story())
    assert site.news == 2
    assert not site.noted
    assert site.named == expected
    for name, value in zip(coming, (1.0, 2.0), strict=True):
        assert (np.frombuffer(site.store.open(expected[name], 8_000_000)) == value).all()
    wait_for(lambda: site.is_gone(snapshot), 10)


def test_what_is_there_is_not_written_again(site: Site) -> None:
    """It gets the name of the frame that there is."""
    there = site.store.put(site.arrays[0].data)
    written = (site.store.folder / there.digest).stat()
    snapshot = site.take()

    site.copy(snapshot)
    assert site.named[snapshot.parts[0].digest] == there.digest
    assert (site.store.folder / there.digest).stat().st_ino == written.st_ino
    assert len(list(site.store)) == 2


def test_the_snapshot_stays_until_the_names_are_on_record(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that has no room for the journal: the next server would not know what came."""
    monkeypatch.setattr(arrivals_module, "RECORD_AGAIN", 0.01)
    site.fails = 3
    snapshot = site.take()

    site.copy(snapshot)
    assert not site.fails
    assert not site.noted


@contextmanager
def no_room() -> Iterator[None]:
    """While it lasts, nobody can write much to a file, snapshots that begin now included."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_what_a_snapshot_had_no_room_to_write_is_read_there(site: Site) -> None:
    """Shared memory that is full, where a disk has room."""
    with no_room():
        snapshot = site.take()
    site.copy(snapshot)
    for part, array in zip(snapshot.parts, site.arrays, strict=True):
        assert site.named[part.digest] == name_of(array.data).digest
    assert len(list(site.store.folder.iterdir())) == 2


def test_one_whose_snapshot_was_killed_is_told_of(site: Site) -> None:
    """As by the system when memory ran out."""
    with no_room():
        snapshot = site.take()

    async def story() -> None:
        arrivals = site.arrivals()
        assert await arrivals.bring(snapshot)
        end(snapshot)
        wait_for(lambda: site.is_gone(snapshot), 10)
        await arrivals.wait(part.digest for part in snapshot.parts)

    asyncio.run(story())
    for part in snapshot.parts:
        assert "could not be copied" in site.holders.fate(part.digest)
    assert not site.noted
    assert not list(site.store.folder.iterdir())


def test_what_it_had_written_before_it_was_killed_is_there(tmp_path: Path) -> None:
    """All of it is known to be."""
    site = Site(tmp_path, writes=True)
    snapshot = site.take()

    async def story() -> None:
        arrivals = site.arrivals()
        assert await arrivals.bring(snapshot)
        reader = SnapshotReader(snapshot)
        wait_for(lambda: reader.written(snapshot.parts[0]) is None, 10)
        end(snapshot)
        wait_for(lambda: site.is_gone(snapshot), 10)
        await arrivals.wait(part.digest for part in snapshot.parts)

    asyncio.run(story())
    for part, array in zip(snapshot.parts, site.arrays, strict=True):
        assert site.named[part.digest] == name_of(array.data).digest


def _elsewhere(site: Site) -> Snapshot:
    """One of a machine on which that pid is nobody's."""
    snapshot = site.take()
    end(snapshot)
    wait_for(lambda: site.is_gone(snapshot), 10)
    return snapshot


def _too_large(site: Site) -> Snapshot:
    first, second = site.parts()
    return site.take([first, Part(second.digest, 2**60, second.address)])


@pytest.mark.parametrize("made", [_elsewhere, _too_large])
def test_what_cannot_be_copied_is_refused(site: Site, made: Callable[[Site], Snapshot]) -> None:
    """Then nothing is coming, and the snapshot is left to who took it."""
    snapshot = made(site)
    gone = site.is_gone(snapshot)

    async def story() -> None:
        arrivals = site.arrivals()
        assert not await arrivals.bring(snapshot)
        assert not arrivals

    asyncio.run(story())
    assert not site.noted
    assert not any(site.holders.is_coming(part.digest) for part in snapshot.parts)
    assert site.is_gone(snapshot) == gone


def test_the_next_server_goes_on(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was killed, or stopped while there was much to copy, leaves its notes."""
    monkeypatch.setattr(arrivals_module, "PATIENCE", 0.0)
    snapshot = site.take()

    async def first() -> None:
        arrivals = site.arrivals()
        assert await arrivals.bring(snapshot)
        await arrivals.close()

    async def second() -> None:
        arrivals = site.arrivals()
        arrivals.start()
        assert all(site.holders.is_coming(part.digest) for part in snapshot.parts)
        await arrivals.wait(part.digest for part in snapshot.parts)

    asyncio.run(first())
    assert len(site.noted) == 1
    assert site.noted[0].stat().st_mode & 0o077 == 0
    assert not site.is_gone(snapshot)
    asyncio.run(second())
    expected = [name_of(array.data).digest for array in site.arrays]
    assert [site.named[part.digest] for part in snapshot.parts] == expected
    assert all(map(site.store.has, expected))
    assert not site.noted
    wait_for(lambda: site.is_gone(snapshot), 10)


def test_what_went_with_its_snapshot_is_told_by_the_next_server(site: Site) -> None:
    """As after a reboot."""
    snapshot = site.take()
    site.notes.mkdir()
    (site.notes / "a.json").write_text(arrivals_module._to_text(snapshot))
    end(snapshot)
    wait_for(partial(site.is_gone, snapshot), 10)

    async def story() -> None:
        arrivals = site.arrivals()
        arrivals.start()
        assert not arrivals

    asyncio.run(story())
    assert not site.noted
    for part in snapshot.parts:
        assert "gone with its snapshot" in site.holders.fate(part.digest)
        assert not site.holders.is_coming(part.digest)


@pytest.mark.parametrize("text", ["", "{}", json.dumps({"pid": 1, "word": "zz"}), "[1]"])
def test_a_note_that_says_nothing_is_dropped(site: Site, text: str) -> None:
    """And one of a snapshot that is not there any more, as after a reboot."""
    site.notes.mkdir()
    (site.notes / "a.json").write_text(text)

    async def story() -> None:
        arrivals = site.arrivals()
        arrivals.start()
        assert not arrivals

    asyncio.run(story())
    assert not site.noted
