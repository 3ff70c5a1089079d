"""The saver: what it calls saved has been synced, and its log does not grow for ever."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dask_async_run.frames import FrameStore
from dask_async_run.memory import LARGE, Memory
from dask_async_run.scheduler import saver as saver_module
from dask_async_run.scheduler.events import Record
from dask_async_run.scheduler.journal import Journal
from dask_async_run.scheduler.saver import Saver
from scripted import job_spec
from waiting import wait_for

in_memory = pytest.mark.usefixtures("shared_memory")


class Place:
    """A journal, a frame store, a saver, and what it has saved."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal.open(folder / "journal.sqlite")
        self.store = FrameStore(folder / "frames")
        self.saved: list[str] = []
        self.problems: dict[str, str] = {}
        self.saver = Saver(self.journal.path, self.store, self.note)

    def note(self, saved: list[str], problems: dict[str, str]) -> None:
        self.saved += saved
        self.problems |= problems

    def write(self, size: int = 10) -> str:
        spec = job_spec("a")
        self.journal.create(Record(spec.id, "nb", "a", 1), spec, 0.0)
        self.journal.append(spec.id, 1, [os.urandom(size)], 0.0)
        self.journal.flush()
        self.journal.forget([spec.id])
        return spec.id

    @property
    def log_size(self) -> int:
        return self.journal.path.with_name("journal.sqlite-wal").stat().st_size


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.saver.close()
    place.journal.close()


def test_frames_and_journal_are_synced_before_a_job_is_called_saved(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frames' files, their folder, and the journal's log; then the callback."""
    synced: list[str] = []
    sync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").resolve().name)
        assert place.saved == []
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    place.write()
    frame = place.store.put(b"x")
    place.saver.save("job", [frame.digest])
    wait_for(lambda: place.saved == ["job"])
    assert synced == [frame.digest, "frames", "journal.sqlite-wal"]


def test_a_job_with_a_missing_frame_is_not_saved_and_holds_nobody_up(place: Place) -> None:
    """The others of the same batch are."""
    place.saver.save("broken", ["0" * 32 + "-1"])
    place.saver.save("good", [])
    wait_for(lambda: place.saved == ["good"])
    wait_for(lambda: "is missing" in place.problems.get("broken", ""))


def test_an_error_does_not_end_the_saver(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that refuses to sync once may work again later: nothing is forgotten."""
    refused = threading.Event()

    def refuse(descriptor: int) -> None:
        refused.set()
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(saver_module, "RETRY", 0.05)
    place.write()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        place.saver.save("one", [])
        assert refused.wait(10)
    place.saver.save("two", [])
    wait_for(lambda: place.saved == ["one", "two"])


def test_a_frame_that_the_disk_refuses_is_tried_again_and_holds_nobody_up(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One disk error is no reason never to save a job, nor not to save the others."""
    bad, good = place.store.put(b"bad").digest, place.store.put(b"good").digest
    sync = os.fsync

    def refuse(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").resolve().name == bad:
            raise OSError(5, "Input/output error")
        sync(descriptor)

    monkeypatch.setattr(saver_module, "RETRY", 0.05)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        place.saver.save("one", [bad])
        place.saver.save("two", [good])
        wait_for(lambda: place.saved == ["two"])
    wait_for(lambda: place.saved == ["two", "one"])
    assert place.problems == {}


def test_the_log_is_checkpointed_when_it_is_large(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in the journal for good leaves the log: its size stays bounded."""
    monkeypatch.setattr(saver_module, "_CHECKPOINT_FROM", 100_000)
    monkeypatch.setattr(saver_module, "_TRUNCATE_FROM", 1_000_000)
    largest = 0
    for n in range(30):
        place.write(200_000)
        place.saver.save(str(n), [])
        wait_for(lambda n=n: place.saved[-1:] == [str(n)])  # type: ignore[misc]
        largest = max(largest, place.log_size)
    assert largest < 3_000_000


def test_closing_saves_what_is_left_and_ends_the_thread(tmp_path: Path) -> None:
    """Nothing that was asked for is dropped."""
    place = Place(tmp_path)
    for n in range(20):
        place.saver.save(str(n), [])
    place.saver.close()
    assert place.saved == [str(n) for n in range(20)]
    assert not any(t.name == "dask-async-run-saver" for t in threading.enumerate())
    place.journal.close()


def test_syncing_empties_the_trash(place: Place) -> None:
    """What the collector took away gives its space back."""
    place.store.discard([place.store.put(b"x").digest])
    place.saver.sync()
    wait_for(lambda: not list((place.store.folder / ".trash").iterdir()))


def test_what_nobody_finishes_is_swept_when_that_is_asked_for(place: Place) -> None:
    """And not at each syncing."""
    part = place.store.folder / f"{'0' * 32}.part"
    part.write_bytes(b"half")
    os.utime(part, (1.0, 1.0))
    trash = place.store.folder / ".trash"
    for sweep in (False, True):
        trash.mkdir(exist_ok=True)
        (trash / "frame").touch()
        place.saver.sync(sweep=sweep)
        wait_for(lambda: not list(trash.iterdir()))
        wait_for(lambda: part.exists() is not sweep)  # noqa: B023 - at once


@in_memory
def test_a_results_frames_come_to_the_disk_before_its_job_is_called_saved(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And others only when they have lain in memory for a while."""
    monkeypatch.setattr(saver_module, "SETTLE", 1000.0)
    Memory.make(place.store.folder)
    result, other = (place.store.put(bytes([n]) * LARGE).digest for n in range(2))
    place.saver.save("one", [result])
    wait_for(lambda: place.saved == ["one"])
    assert [digest for digest, _ in place.store.in_memory()] == [other]
    assert place.store.path(result).exists()


@in_memory
def test_inputs_come_to_the_disk_soon(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asks for it: a rerun after a restart of the machine needs them."""
    monkeypatch.setattr(saver_module, "SETTLE", 0.2)
    Memory.make(place.store.folder)
    digest = place.store.put(bytes(LARGE)).digest
    place.saver.sync()  # as after each commit
    wait_for(lambda: place.store.in_memory() == [])
    assert place.store.path(digest).exists()


@in_memory
def test_inputs_come_to_the_disk_soon_also_when_the_clock_is_set_back(place: Place) -> None:
    """What was written before has a time that is still to come."""
    memory = Memory.make(place.store.folder)
    assert memory is not None
    digest = place.store.put(bytes(LARGE)).digest
    later = time.time() + 7200
    os.utime(memory.folder / place.store.path(digest).name, (later, later))
    place.saver.sync()
    wait_for(lambda: place.store.in_memory() == [])
    assert place.store.path(digest).exists()


@in_memory
def test_a_full_disk_leaves_frames_in_memory(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The job is not called saved; both come when there is room."""
    Memory.make(place.store.folder)
    result, other = (place.store.put(bytes([n]) * LARGE).digest for n in range(2))
    monkeypatch.setattr(saver_module, "RETRY", 0.05)
    monkeypatch.setattr(saver_module, "SETTLE", 0.0)

    def full(*arguments: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "sendfile", full)
        place.saver.save("one", [result])
        wait_for(lambda: "frames stay in memory" in caplog.text)
        wait_for(lambda: "one is not saved yet" in caplog.text)
        assert place.saved == []
        assert {digest for digest, _ in place.store.in_memory()} == {result, other}
    wait_for(lambda: place.saved == ["one"])
    wait_for(lambda: place.store.in_memory() == [])
    assert not list(place.store.folder.glob("*.part"))


@in_memory
def test_closing_leaves_nothing_in_memory(tmp_path: Path) -> None:
    """What no job names included; the folder is gone."""
    place = Place(tmp_path)
    memory = Memory.make(place.store.folder)
    assert memory is not None
    digest = place.store.put(bytes(LARGE)).digest
    place.saver.close()
    place.journal.close()
    assert not memory.folder.exists()
    place.store.verify(digest, LARGE)


def test_what_cannot_be_given_back_does_not_end_the_saver(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs are saved all the same."""

    def fail(store: FrameStore) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(FrameStore, "trim", fail)
    place.write()
    for job in ("first", "second"):
        place.saver.save(job, [place.store.put(job.encode()).digest])
        wait_for(lambda: job in place.saved)  # noqa: B023 - at once


def test_where_saving_takes_long_more_is_saved_at_once(folders: Any, monkeypatch: Any) -> None:
    """It is waited for longer then, and never for long."""
    store = FrameStore(folders.home / "frames")
    done = threading.Event()

    def slowly(digests: Any) -> None:
        time.sleep(0.05 if digests else 0)

    monkeypatch.setattr(store, "sync", slowly)
    saver = Saver(folders.home / "journal.sqlite", store, lambda jobs, problems: done.set())
    try:
        assert saver.pace(0.05) == 0.05
        saver.save("job", ["frame"])
        assert done.wait(10)
        wait_for(lambda: saver.pace(0.05) >= 0.25)
        assert saver.pace(0.05) <= 0.5
    finally:
        saver.close()
