"""Frames on a real cluster whose workers do not see the registry's folder."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from distributed import Worker

from dask_async_run.carrier import CarriedFrames, FrameCarrier
from dask_async_run.errors import FrameError
from dask_async_run.frames import Frame, name_of
from dask_async_run.incoming import PIECE, Incoming
from dask_async_run.job import JobSpec, Payload
from dask_async_run.peers import DIRECT, Peers
from dask_async_run.registry import Registry
from dask_async_run.scheduler.holders import Holders
from dask_async_run.worker.frames_here import FramesHere
from registry_site import Site
from scripted import job_spec
from waiting import wait_for

T = TypeVar("T")

LARGE = bytes(range(256)) * (2 * PIECE // 256) + b"the rest"
"""Three pieces."""


class Elsewhere:
    """A site whose workers have copies of frames; counts the registry's frame operations."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self.frames: dict[str, FramesHere] = {}
        self.calls: Counter[str] = Counter()
        for number, worker in enumerate(site.cluster.workers.values()):
            self.frames[worker.address] = self.run(self._equip(worker, folder / f"w{number}"))
        for name in ("write_frame", "read_frame", "complete_frame"):
            do = site.host._operations[name]
            site.host._operations[name] = partial(self._counted, name, do)
        site.registry.use_peers()
        self.kernel = CarriedFrames(site.registry)

    async def _equip(self, worker: Worker, folder: Path) -> FramesHere:
        registry = Registry.of_worker(worker)
        carrier = FrameCarrier(registry, Peers(worker.rpc), worker.address)
        here = FramesHere(folder, carrier, partial(registry.held, worker.address))
        worker.handlers["async_run_frames"] = here.serve
        return here

    async def _counted(self, name: str, do: Callable[..., Any], **arguments: Any) -> Any:
        self.calls[name] += 1
        return await do(**arguments)

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        loop: Any = self.site.cluster.loop
        return asyncio.run_coroutine_threadsafe(call, loop.asyncio_loop).result(30)

    async def can_go(self) -> set[str]:
        """The workers that an adaptive cluster may retire."""
        return set(self.site.scheduler.workers_to_close(target=0))

    def let_go(self, *held: asyncio.Event) -> None:
        loop: Any = self.site.cluster.loop
        for event in held:
            loop.asyncio_loop.call_soon_threadsafe(event.set)

    def worker(self, address: str) -> Worker:
        (worker,) = (w for w in self.site.cluster.workers.values() if w.address == address)
        return worker

    def stored(self, frame: Frame) -> bool:
        return self.site.host.registry.store.has(frame.digest)

    def at(self, frame: Frame) -> list[str]:
        return self.site.host.registry.holders.of(frame.digest)

    def fetch(self, address: str, frame: Frame) -> bytes:
        here = self.frames[address]
        self.run(here.fetch([[frame.digest, frame.size]]))
        return bytes(here.store.open(frame.digest, frame.size))

    def put_apart(self, data: bytes) -> tuple[Frame, str, str]:
        """Bring a frame to a worker and the store; answer it, that worker and the other one."""
        frame = self.kernel.put(data)
        wait_for(lambda: self.stored(frame))
        (first,) = self.at(frame)
        (other,) = self.frames.keys() - {first}
        self.calls.clear()
        return frame, first, other


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Elsewhere]:
    with Site(tmp_path / "state") as site:
        elsewhere = Elsewhere(site, tmp_path)
        try:
            yield elsewhere
        finally:
            for here in elsewhere.frames.values():
                elsewhere.run(here.settle(0))


def holding(frame: Frame, name: str, *steps: str, **options: Any) -> JobSpec:
    inputs = Payload(b"", [[frame.digest, frame.size]]).to_message()
    return job_spec(name, *steps, inputs=inputs, **options)


def hold_back(here: FramesHere, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Have a worker's frames not reach the registry, until what is answered is set."""
    go = asyncio.Event()
    carrier: Any = here._carrier
    send_from = carrier.send_from

    async def stuck(*args: Any) -> None:
        await go.wait()
        await send_from(*args)

    monkeypatch.setattr(carrier, "send_from", stuck)
    return go


def on_one_worker(
    elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, asyncio.Event], Any, str, str]:
    """Put a frame on a worker that does not pass it on yet: what lets it, where, where not."""
    held = {address: hold_back(here, monkeypatch) for address, here in elsewhere.frames.items()}
    frame = elsewhere.kernel.put(LARGE)
    (first,) = elsewhere.at(frame)
    (other,) = elsewhere.frames.keys() - {first}
    return held, frame, first, other


def test_a_large_frame_goes_to_a_worker_which_passes_it_on(elsewhere: Elsewhere) -> None:
    """The kernel sends nothing to the scheduler; a second time it sends nothing at all."""
    frame = elsewhere.kernel.put(LARGE)
    (first,) = elsewhere.at(frame)
    store = elsewhere.frames[first].store
    assert bytes(store.open(frame.digest, frame.size)) == LARGE
    wait_for(lambda: elsewhere.stored(frame))
    assert elsewhere.calls == {"write_frame": 3, "complete_frame": 1}  # the worker's
    kept = elsewhere.site.host.registry.store
    assert bytes(kept.open(frame.digest, frame.size)) == LARGE
    elsewhere.calls.clear()
    assert elsewhere.kernel.put(LARGE) == frame
    assert elsewhere.calls == {}


def test_it_is_not_sent_again_while_it_is_on_its_way(
    elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job is taken whose input only a worker has, and runs there; saved is it later."""
    held = [hold_back(here, monkeypatch) for here in elsewhere.frames.values()]
    frame = elsewhere.kernel.put(LARGE)
    assert elsewhere.kernel.put(LARGE) == frame
    assert len(elsewhere.at(frame)) == 1
    assert elsewhere.calls == {}
    spec = holding(frame, "train")
    elsewhere.site.registry.create(spec)
    (view,) = elsewhere.site.ended(spec)
    assert (view.state, view.worker) == ("finished", elsewhere.at(frame)[0])
    wait_for(lambda: elsewhere.site.host.registry._awaited == [spec.id])
    assert not elsewhere.stored(frame)
    assert not elsewhere.site.registry.show(spec.id).saved
    # Nor does an adaptive cluster retire the worker meanwhile.
    workers = elsewhere.frames.keys()
    assert elsewhere.run(elsewhere.can_go()) == workers - set(elsewhere.at(frame))
    elsewhere.let_go(*held)
    wait_for(lambda: elsewhere.site.registry.show(spec.id).saved)
    assert elsewhere.stored(frame)
    assert elsewhere.run(elsewhere.can_go()) == workers


def test_a_copy_that_nobody_brings_is_not_enough(elsewhere: Elsewhere) -> None:
    """A worker may have one of a job that was forgotten: the store gets the frame again."""
    frame, first, _ = elsewhere.put_apart(LARGE)
    elsewhere.site.host.registry.store.remove([frame.digest])
    assert elsewhere.at(frame) == [first]
    with pytest.raises(FrameError, match="is missing from"):
        elsewhere.site.registry.create(holding(frame, "train"))
    assert elsewhere.kernel.put(LARGE) == frame
    spec = holding(frame, "train")
    elsewhere.site.registry.create(spec)
    wait_for(lambda: elsewhere.stored(frame))
    assert elsewhere.site.ends(spec) == [("finished", "")]
    wait_for(lambda: elsewhere.site.registry.show(spec.id).saved)


def test_what_is_small_goes_to_the_registry(elsewhere: Elsewhere) -> None:
    """One call is all that it costs; an empty one is a file too."""
    for data in (b"x" * (DIRECT - 1), b""):
        frame = elsewhere.kernel.put(data)
        assert elsewhere.stored(frame)
        assert elsewhere.at(frame) == []
    assert elsewhere.calls == {"write_frame": 2, "complete_frame": 2}


def test_another_worker_takes_it_from_the_first(elsewhere: Elsewhere) -> None:
    """Past the scheduler; from then on both have it, and a kernel fetches from both."""
    frame, first, other = elsewhere.put_apart(LARGE)
    assert elsewhere.fetch(other, frame) == LARGE
    assert elsewhere.at(frame) == [first, other]
    assert elsewhere.site.registry.fetch_frame(frame.digest, frame.size) == LARGE
    assert elsewhere.calls == {}


def test_a_cell_that_took_an_input_from_another_worker_sees_to_it(
    elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That one was to bring it to the store, and may be gone before it has."""
    held, frame, _, other = on_one_worker(elsewhere, monkeypatch)
    assert elsewhere.fetch(other, frame) == LARGE
    assert not elsewhere.stored(frame)
    elsewhere.let_go(held[other])
    elsewhere.run(elsewhere.frames[other].leave([[frame.digest, frame.size]]))
    wait_for(lambda: elsewhere.stored(frame))


@pytest.mark.parametrize("removed", [False, True])
def test_what_the_registry_does_not_take_is_sent_again(
    elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch, removed: bool
) -> None:
    """Its disk may have been full; unless somebody has removed the copy: then that is told."""
    monkeypatch.setattr("dask_async_run.worker.frames_here.SEND_AGAIN", 0.1)
    operations = elsewhere.site.host._operations
    refused: list[str] = []

    async def full(**arguments: Any) -> None:
        refused.append(arguments["transfer"])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setitem(operations, "write_frame", full)
        frame = elsewhere.kernel.put(LARGE)
        (first,) = elsewhere.at(frame)
        wait_for(lambda: len(set(refused)) > 1)
        assert not elsewhere.stored(frame)
        if removed:
            elsewhere.frames[first].store.remove([frame.digest])
            wait_for(lambda: elsewhere.at(frame) == [])
    if not removed:
        wait_for(lambda: elsewhere.stored(frame))


def test_who_cannot_reach_the_worker_waits_until_it_has_brought_it(
    elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel may reach a worker that another worker does not."""
    held, frame, first, other = on_one_worker(elsewhere, monkeypatch)

    async def nobody(self: Peers, address: str) -> bool:
        return False

    monkeypatch.setattr(Peers, "reach", nobody)
    fetched: list[bytes] = []
    thread = threading.Thread(target=lambda: fetched.append(elsewhere.fetch(other, frame)))
    thread.start()
    wait_for(lambda: elsewhere.calls["read_frame"] == 3)
    assert not elsewhere.stored(frame)
    elsewhere.let_go(held[first])
    thread.join()
    assert fetched == [LARGE]


def test_why_a_frame_is_missing() -> None:
    """A worker is blamed only for what it had not brought yet."""
    holders, folder = Holders(), Path("/frames")
    holders.add("w", ["brought", "bringing"], passing=["brought", "bringing"])
    holders.came("brought")
    holders.gone("w")
    assert holders.missing("brought", folder) == "is missing from /frames"
    assert "was on the worker w alone" in holders.missing("bringing", folder)
    assert not holders


def test_a_frame_that_two_send_is_sent_once(elsewhere: Elsewhere) -> None:
    """What a job's result names may be on its way to the store already."""
    (here, *_) = elsewhere.frames.values()
    frame = here.store.put(LARGE)
    named = [[frame.digest, frame.size]]

    async def both() -> None:
        await asyncio.gather(here.send(named), here.send(named))

    elsewhere.run(both())
    assert elsewhere.stored(frame)
    assert elsewhere.calls == {"write_frame": 3, "complete_frame": 1}


def test_two_cells_that_need_it_at_once_fetch_it_once(
    elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame, first, other = elsewhere.put_apart(LARGE)
    reads: Counter[int] = Counter()
    serve = elsewhere.frames[first].serve

    async def counted(do: str, **arguments: Any) -> Any:
        reads[arguments["offset"]] += 1
        return await serve(do, **arguments)

    monkeypatch.setitem(elsewhere.worker(first).handlers, "async_run_frames", counted)
    here = elsewhere.frames[other]
    wanted = [[frame.digest, frame.size]]

    async def both() -> None:
        await asyncio.gather(here.fetch(wanted), here.fetch(wanted))

    elsewhere.run(both())
    assert reads == {0: 1, PIECE: 1, 2 * PIECE: 1}


@pytest.mark.parametrize("fault", ["gone", "damaged", "silent"])
def test_who_has_it_no_more_is_passed_over(
    elsewhere: Elsewhere, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its copy was removed, or changed, or it does not answer: then it comes from the store."""
    frame, first, other = elsewhere.put_apart(LARGE)
    here = elsewhere.frames[first]
    if fault == "gone":
        here.store.remove([frame.digest])
    elif fault == "damaged":
        with here.store.path(frame.digest).open("r+b") as file:
            file.seek(PIECE + 5)
            file.write(b"?")
    else:
        monkeypatch.setattr("dask_async_run.peers.PATIENCE", 0.5)

        async def silent(**request: Any) -> None:
            await asyncio.sleep(3600)

        monkeypatch.setitem(elsewhere.worker(first).handlers, "async_run_frames", silent)
    assert elsewhere.fetch(other, frame) == LARGE
    assert elsewhere.calls == {"read_frame": 3}


def test_workers_that_cannot_be_reached_are_left_alone(
    elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All goes through the scheduler; that nobody can be reached is tried once in a while."""
    monkeypatch.setattr("dask_async_run.peers.REACH", 0.3)
    tried: list[str] = []
    pool = elsewhere.site.client.rpc
    connect = pool.connect

    async def refused(address: str, **options: Any) -> Any:
        if address not in elsewhere.frames:
            return await connect(address, **options)
        tried.append(address)
        return await connect("tcp://127.0.0.1:1", **options)  # where nobody listens

    monkeypatch.setattr(pool, "connect", refused)
    first, second = elsewhere.kernel.put(LARGE), elsewhere.kernel.put(LARGE[1:])
    assert elsewhere.stored(first)
    assert elsewhere.stored(second)
    assert elsewhere.at(first) == []
    assert sorted(tried) == sorted(elsewhere.frames)
    assert elsewhere.site.registry.fetch_frame(first.digest, first.size) == LARGE


def test_a_worker_without_room_is_passed_over(
    elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frame goes through the scheduler, whole."""

    def full(incoming: Incoming, offset: int, piece: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    # The registry's own writes are not by this name.
    monkeypatch.setattr(
        "dask_async_run.worker.frames_here.Incoming", type("Full", (Incoming,), {"write": full})
    )
    frame = elsewhere.kernel.put(LARGE)
    assert elsewhere.stored(frame)
    assert elsewhere.at(frame) == []


def test_a_buffer_that_changes_meanwhile_arrives_as_it_was_once(elsewhere: Elsewhere) -> None:
    """Whatever has arrived, its name is right."""
    data = bytearray(LARGE)
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            data[-1] = (data[-1] + 1) % 256

    thread = threading.Thread(target=change)
    thread.start()
    try:
        frame = elsewhere.kernel.put(data)
    finally:
        stop.set()
        thread.join()
    wait_for(lambda: elsewhere.stored(frame))
    kept = elsewhere.site.host.registry.store.open(frame.digest, frame.size)
    assert name_of(kept) == frame
    assert bytes(kept[:-1]) == LARGE[:-1]


def test_a_worker_that_dies_before_it_passed_a_frame_on(
    elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who needs it hears what became of it; a kernel that still has it sends it again."""
    for here in elsewhere.frames.values():
        hold_back(here, monkeypatch)
    frame = elsewhere.kernel.put(LARGE)
    (first,) = elsewhere.at(frame)
    (other,) = elsewhere.frames.keys() - {first}
    holders = elsewhere.site.host.registry.holders
    assert holders.alone(first)
    assert not holders.alone(other)
    elsewhere.run(elsewhere.frames[first].settle(0))
    elsewhere.run(elsewhere.worker(first).close())
    wait_for(lambda: not elsewhere.at(frame))
    with pytest.raises(FrameError, match=f"was on the worker {first} alone, which died"):
        elsewhere.fetch(other, frame)
    with pytest.raises(FrameError, match="was on the worker"):
        elsewhere.site.registry.create(holding(frame, "train"))
    assert elsewhere.kernel.put(LARGE) == frame
    assert elsewhere.at(frame) == [other]
    spec = holding(frame, "train")
    elsewhere.site.registry.create(spec)
    assert elsewhere.site.ends(spec) == [("finished", "")]


def test_a_job_goes_where_its_inputs_are_if_there_is_a_place(
    elsewhere: Elsewhere, tmp_path: Path
) -> None:
    """Each of some jobs in a row; one that would have to wait there goes elsewhere."""
    frame, first, other = elsewhere.put_apart(LARGE)
    site = elsewhere.site
    for number in range(6):
        spec = holding(frame, f"near-{number}")
        site.registry.create(spec)
        assert site.ended(spec)[0].worker == first
    go = tmp_path / "go"
    long = holding(frame, "long", f"await {go}")
    site.registry.create(long)
    wait_for(lambda: site.registry.show(long.id).state == "running")
    short = holding(frame, "short")
    site.registry.create(short)
    assert site.ended(short)[0].worker == other
    named = holding(frame, "named", workers=[other])
    site.registry.create(named)
    assert site.ended(named)[0].worker == other
    go.touch()
    assert site.ended(long)[0].worker == first


def test_a_copy_that_is_tidied_away_is_told(
    elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is sent to a worker for what it has no more."""
    monkeypatch.setattr("dask_async_run.worker.frames_here.KEEP", len(LARGE))
    old, first, _ = elsewhere.put_apart(LARGE)
    new = name_of(LARGE[::-1])
    here = elsewhere.frames[first]
    here.store.put(LARGE[::-1])
    elsewhere.run(here.send([[new.digest, new.size]]))
    assert elsewhere.at(new) == [first]
    with here.used([[new.digest, new.size]]):
        pass
    wait_for(lambda: elsewhere.at(old) == [])
    assert elsewhere.at(new) == [first]
    assert not here.store.has(old.digest)
