"""Jobs in a store at a URL: brought there, recalled, taken in elsewhere, removed."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dask_async_run.errors import FrameError, StoreError
from dask_async_run.frames import FrameStore, size_of
from dask_async_run.job import JobSpec, JobView, Payload
from dask_async_run.scheduler import storer as storer_module
from dask_async_run.scheduler.events import Record
from dask_async_run.scheduler.journal import Journal
from dask_async_run.stores import UrlStore
from dask_async_run.sweeps import member_id
from registry_site import Site
from scripted import job_spec
from waiting import wait_for


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """The folder that the store is."""
    return tmp_path / "runs"


@pytest.fixture
def url(runs: Path) -> str:
    return f"file://{runs}"


def submit(site: Site, state: Path, url: str, name: str = "a", **options: object) -> JobSpec:
    """A job with a frame in its inputs and another one in its result."""
    frames = FrameStore(state / "frames")
    given, made = frames.put(b"given to " + name.encode()), frames.put(b"made by " + name.encode())
    inputs = Payload(b"s", [[given.digest, given.size]]).to_message()
    step = f"frames {made.digest} {made.size}"
    return site.submit(name, "say hello", step, inputs=inputs, store=url, **options)


def stored(site: Site, *specs: JobSpec) -> list[JobView]:
    """Views of the jobs when all lie in their stores."""
    site.ended(*specs)
    views: list[JobView] = []

    def there() -> bool:
        views[:] = [site.registry.show(spec.id) for spec in specs]
        return all(view.stored for view in views)

    wait_for(there, 60)
    return views


def frames_of(site: Site, spec: JobSpec) -> list[str]:
    result = site.registry.result(spec.id)
    assert result is not None
    return spec.payload.digests + Payload.from_message(result.payload).digests


def names(runs: Path) -> set[str]:
    """What lies in the store, but for what says what it is."""
    found = {str(path.relative_to(next(runs.iterdir()))) for path in runs.glob("*/*/*")}
    assert not any(name.endswith(".part") for name in found)
    return found


def removed(state: Path, spec: JobSpec) -> bool:
    """Whether a forgotten job's record is removed from its stores, and that is written."""
    with Journal.open_readonly(state / "journal.sqlite") as journal:
        return f"jobs/{spec.id}" not in [name for _, name in journal.leavings()]


@contextmanager
def another(folder: Path) -> Iterator[Site]:
    with Site(folder) as site:
        yield site


def test_a_job_lies_in_its_store_when_it_has_ended(
    site: Site, state: Path, runs: Path, url: str
) -> None:
    """Its record, its inputs and its result; the view says where, and what would lose it."""
    spec = submit(site, state, url)
    (view,) = stored(site, spec)
    assert names(runs) == {f"jobs/{spec.id}", *(f"frames/{d}" for d in frames_of(site, spec))}
    assert view.store.startswith(f"{url}/dask-async-run-")
    assert "lost only with both" in view.kept
    assert view.settled
    plain = site.submit("plain")
    (view,) = site.ended(plain)
    assert (view.store, view.stored) == ("", False)
    assert len(list(runs.glob("*/jobs/*"))) == 1


def test_frames_that_are_gone_or_damaged_here_are_recalled(
    site: Site, state: Path, url: str
) -> None:
    """Whoever asks for one gets it; a job that needs them runs; a damaged one is put right."""
    spec = submit(site, state, url)
    stored(site, spec)
    frames = FrameStore(state / "frames")
    given, made = frames_of(site, spec)
    frames.path(made).write_bytes(b"X" * size_of(made))
    frames.remove([given])
    site.registry.recall([given, made])
    frames.verify(given, size_of(given))
    frames.verify(made, size_of(made))
    frames.remove([given, made])
    assert site.registry.fetch_frame(made, size_of(made)) == b"made by a"
    again = spec.again("nb")
    site.registry.create(again)
    assert frames.has(given)
    frames.remove([given])
    site.ended(again)
    lost = frames.put(b"nobody has kept it")
    frames.remove([lost.digest])
    site.registry.recall([lost.digest])
    assert not frames.has(lost.digest)


def test_another_server_takes_in_what_a_store_has(
    state: Path, tmp_path: Path, runs: Path, url: str
) -> None:
    """A job with what it builds on; outputs, result and frames; twice is once."""
    with Site(state) as first:
        parent = submit(first, state, "", "parent")
        first.ended(parent)
        child = submit(first, state, url, "child", after=[parent.id], parents=[parent.id])
        gone = submit(first, state, url, "gone")
        stored(first, child, gone)
        assert first.registry.show(parent.id).stored
        expected = frames_of(first, child) + frames_of(first, parent)
    damaged = next(runs.glob(f"*/jobs/{gone.id}"))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with another(tmp_path / "elsewhere") as second:
        older = second.submit("child")
        second.ended(older)
        assert second.registry.check_store(url)["unknown"] == 3
        answer = second.registry.restore(url)
        assert answer["jobs"] == 2
        assert len(answer["problems"]) == 1
        assert "is damaged" in answer["problems"][0]
        assert second.registry.restore(url)["jobs"] == 0
        views = second.registry.jobs("nb")
        assert [view.label for view in views] == ["child@1", "parent", "child"]
        assert [o.output["text"] for o in second.registry.outputs(child.id).outputs] == ["hello\n"]
        assert second.registry.spec(child.id) == child
        for digest in expected:
            assert not FrameStore(tmp_path / "elsewhere" / "frames").has(digest)
            second.registry.fetch_frame(digest, size_of(digest))
        second.registry.forget([child.id])
        wait_for(lambda: removed(tmp_path / "elsewhere", child), 60)
        assert not list(runs.glob(f"*/jobs/{child.id}"))
        # Nobody here knows what the job needs that could not be taken in: all frames stay.
        damaged.unlink()
        assert {*expected} <= {path.name for path in runs.glob("*/frames/*")}
        second.registry.forget([parent.id])
        wait_for(lambda: not {*expected} & {path.name for path in runs.glob("*/frames/*")}, 60)
        assert not list(runs.glob("*/jobs/*"))


def test_a_job_that_was_running_is_lost_where_it_is_taken_in(
    state: Path, tmp_path: Path, url: str
) -> None:
    """A sweep whose members were stored, and which had not ended when its server went."""
    with Site(state) as first:
        sweep = {
            "size": 2,
            "axes": [],
            "table": "t",
            "binds": [],
            "only": [],
            "at_once": 1,
            "frame": False,
            "again": "",
        }
        wait = f"await {tmp_path / 'go'}"
        spec = first.submit("s", f"run {tmp_path / 'ran'}", store=url, sweep=sweep)
        member = member_id(spec.id, 0)
        held = first.submit("held", wait)
        wait_for(lambda: first.registry.show(member).stored, 60)
        (tmp_path / "go").touch()
        first.ended(held)
    with another(tmp_path / "elsewhere") as second:
        second.registry.restore(url)
        (view,) = second.registry.jobs("nb")
        assert view.id == spec.id
        assert second.registry.show(member).state == "finished"
        assert sum(view.members.values()) >= 1


def test_forgetting_removes_what_no_other_job_names(
    site: Site, state: Path, runs: Path, url: str
) -> None:
    """Two jobs of the same inputs: they go with the second one; a stranger's file stays."""
    one = submit(site, state, url, "a")
    two = submit(site, state, url, "a")
    stored(site, one, two)
    stranger = next(runs.iterdir()) / "jobs" / "notes.txt"
    stranger.write_text("theirs")
    site.registry.forget([one.id])
    wait_for(lambda: f"jobs/{one.id}" not in names(runs), 60)
    assert {f"frames/{digest}" for digest in frames_of(site, two)} <= names(runs)
    site.registry.forget([two.id])
    wait_for(lambda: names(runs) == {"jobs/notes.txt"}, 60)


def test_a_frame_that_another_server_removes_meanwhile_is_brought_again(
    site: Site, state: Path, runs: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was there, no record said yet that it is needed, and who had taken in its job forgot."""
    put_record = UrlStore.put_record

    def late(store: UrlStore, job: str, record: bytes) -> None:
        for path in runs.glob("*/frames/*"):
            path.unlink()
        put_record(store, job, record)

    monkeypatch.setattr(UrlStore, "put_record", late)
    spec = submit(site, state, url)
    stored(site, spec)
    assert names(runs) == {f"jobs/{spec.id}", *(f"frames/{d}" for d in frames_of(site, spec))}


def test_what_is_wrong_with_a_store_fails_no_job_and_is_tried_again(
    site: Site,
    state: Path,
    runs: Path,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The job has finished, keeps its result here and says why it is not there; then it is."""
    monkeypatch.setattr(storer_module, "RETRY", (0.05, 0.1))
    stored(site, submit(site, state, url, "first"))
    place = next(runs.iterdir())
    aside = place.rename(runs.parent / "aside")
    place.write_text("in the way")
    with caplog.at_level(logging.CRITICAL, "dask_async_run.scheduler.storer"):
        spec = submit(site, state, url, "second")
        (view,) = site.ended(spec)
        assert view.state == "finished"
        wait_for(lambda: site.registry.show(spec.id).store_problem, 60)
        view = site.registry.show(spec.id)
        assert "not yet at file:" in view.kept
        assert not view.settled
        place.unlink()
        aside.rename(place)
        stored(site, spec)
    assert site.registry.show(spec.id).store_problem == ""


def test_a_store_that_cannot_be_used_is_told_before_anything_is_submitted(
    site: Site, tmp_path: Path
) -> None:
    """There is no job then."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/runs cannot be used: .*Error"):
        site.submit("a", store=f"file://{tmp_path}/file/runs")
    with pytest.raises(StoreError, match="Protocol not known"):
        site.submit("a", store="nosuch://bucket")
    assert site.registry.jobs("nb") == []


def test_what_was_left_to_do_is_done_after_the_next_start(
    state: Path, runs: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that ended while the store was away goes on: to bring, and to remove."""
    with Site(state) as first:
        old = submit(first, state, url, "old")
        stored(first, old)
        place = next(runs.iterdir())
        aside = place.rename(runs.parent / "aside")
        place.write_text("in the way")
        spec = submit(first, state, url, "new")
        first.ended(spec)
        first.registry.forget([old.id])
        wait_for(lambda: first.registry.show(spec.id).store_problem, 60)
    place.unlink()
    aside.rename(place)
    with Site(state) as second:
        stored(second, spec)
        wait_for(lambda: f"jobs/{old.id}" not in names(runs), 60)
        assert f"jobs/{spec.id}" in names(runs)


def test_a_frame_that_no_store_has_whole_is_no_result(
    site: Site, state: Path, runs: Path, url: str
) -> None:
    """Damaged there and gone here: that is said, and nothing else is given out."""
    spec = submit(site, state, url)
    stored(site, spec)
    _, made = frames_of(site, spec)
    (there,) = runs.glob(f"*/frames/{made}")
    there.write_bytes(b"Y" * size_of(made))
    FrameStore(state / "frames").remove([made])
    with pytest.raises(FrameError, match="damaged"):
        site.registry.fetch_frame(made, size_of(made))


def test_a_journal_from_before_stores_is_read_and_migrated(tmp_path: Path) -> None:
    """By a command that runs before the new server does, and by that server."""
    path = tmp_path / "journal.sqlite"
    with Journal.open(path) as journal:
        spec = job_spec("a")
        journal.create(Record(spec.id, "nb", "a"), spec, 1.0)
    old = sqlite3.connect(path)
    old.executescript(
        "DROP TABLE stores; DROP TABLE leavings; DROP TABLE spans; PRAGMA user_version = 2;"
    )
    old.close()
    with Journal.open_readonly(path) as reader:
        assert [(view.name, view.store) for view in reader.views()] == [("a", "")]
    with Journal.open(path) as journal:
        journal.note_store(spec.id, "s3://runs/x", done=True)
        assert [(view.store, view.stored) for view in journal.views()] == [("s3://runs/x", True)]
