"""The journal: what is committed is there, for whoever reads it, whatever was killed."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dask_async_run.errors import LockedJournalError, ServerError
from dask_async_run.job import JobResult, JobSpec, Payload, State
from dask_async_run.messages import pack
from dask_async_run.owners import owned
from dask_async_run.scheduler import schema
from dask_async_run.scheduler.events import Record
from dask_async_run.scheduler.journal import BRIEF_PATIENCE, Journal
from dask_async_run.scheduler.reader import JournalReader
from scripted import job_spec


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    journal = Journal.open(path)
    yield journal
    journal.close()


def add(journal: Journal, name: str = "a", **options: object) -> tuple[JobSpec, Record]:
    spec = job_spec(name, **options)
    record = Record(
        spec.id,
        spec.notebook,
        spec.name,
        journal.next_version(spec.notebook, spec.name),
        frozenset(spec.after),
    )
    journal.create(record, spec, time.time())
    return spec, record


def finish(journal: Journal, record: Record, result: JobResult | None = None) -> None:
    record.state, record.ended = State.FINISHED, time.time()
    journal.store(record, time.time())
    if result is not None:
        journal.store_result(record.id, result, time.time())


def test_what_is_written_can_be_read_with_and_without_a_server(
    journal: Journal, path: Path
) -> None:
    """Everything about a job, through a second, read-only connection too."""
    spec, record = add(journal, inputs=Payload(b"in", [["d1", 4]]).to_message())
    record.state, record.started, record.worker = State.RUNNING, 2.0, "w"
    journal.store(record, 2.0)
    journal.append(spec.id, 1, [pack({"n": 1}), pack({"n": 2})], 3.0)
    journal.progress(spec.id, 2, "line \udcff", 77)
    result = JobResult(Payload(b"out", [["d2", 5]]).to_message(), bound=["x"], ename="E", nbytes=8)
    finish(journal, record, result)
    journal.mark(spec.id, "gathered")
    journal.flush()
    with Journal.open_readonly(path) as reader:
        for source in (journal, reader):
            (view,) = source.views("nb")
            assert (view.id, view.label, view.state, view.version) == (spec.id, "a", "finished", 1)
            assert (view.outputs, view.last_line, view.pid) == (2, "line \\udcff", 77)
            assert (view.nbytes, view.ename, view.gathered, view.saved) == (8, "E", True, False)
            assert (view.source, view.started) == (spec.source, 2.0)
            assert view.result == {
                **result.to_message(),
                "payload": {"stream": b"", "frames": [["d2", 5]], "stream_frame": None},
            }
            assert source.spec(spec.id) == spec
            assert source.result(spec.id) == result
            assert source.outputs(spec.id, 1) == [(2, 3.0, pack({"n": 2}))]
            assert [e["state"] for e in source.events(spec.id)] == ["running", "finished"]
            assert source.frames(spec.id).keys() == {"d1", "d2"}
            assert source.is_named("d2")
            assert not source.is_named("d3")
            assert (source.unsaved(), source.names()) == ([spec.id], ["a"])
        with pytest.raises(ServerError, match="readonly"):
            reader._execute("DELETE FROM jobs")


def test_a_frame_that_was_read_is_renamed_in_all_jobs_that_need_it(
    journal: Journal, path: Path
) -> None:
    """Whether it is a buffer or the stream; what a job named before under the new name stays."""
    inputs = Payload(b"", [["unread1-4", 4], ["d-4", 4]], ["unread2-9", 9]).to_message()
    first, _ = add(journal, "a", inputs=inputs)
    second, _ = add(journal, "b", inputs=Payload(b"in", [["unread1-4", 4]]).to_message())
    other, _ = add(journal, "c", inputs=Payload(b"in", [["unread3-4", 4]]).to_message())
    names = {"unread1-4": "d-4", "unread2-9": "e-9"}
    journal.rename_frame("unread1-4", names)
    journal.rename_frame("unread2-9", names)
    journal.flush()
    with Journal.open_readonly(path) as reader:
        for source in (journal, reader):
            specs = {spec.name: source.spec(spec.id) for spec in (first, second, other)}
            expected = Payload(b"", [["d-4", 4], ["d-4", 4]], ["e-9", 9]).to_message()
            assert specs["a"] == replace(first, inputs=expected)
            assert specs["b"] == replace(second, inputs=Payload(b"in", [["d-4", 4]]).to_message())
            assert specs["c"] == other
            assert [set(source.frames(spec.id)) for spec in (first, second, other)] == [
                {"d-4", "e-9"},
                {"d-4"},
                {"unread3-4"},
            ]
    assert not journal.is_named("unread1-4")


def test_versions_and_latest(journal: Journal) -> None:
    """A name's jobs are numbered within their notebook; the highest is the latest."""
    for name, notebook in [("a", "n"), ("a", "n"), ("a", "m"), ("b", "n"), ("a", "n")]:
        add(journal, name, notebook=notebook)
    assert [v.label for v in journal.views()] == ["a@1", "a@2", "a", "b", "a"]
    assert [v.label for v in journal.views("n")] == ["a@1", "a@2", "b", "a"]


@pytest.mark.parametrize(
    "name", ["", "é 🎉", "a'b\"c", "a/b@2", "x" * 10_000, "\udcff", "a\0b", "%"]
)
def test_any_name_will_do(journal: Journal, name: str) -> None:
    """Names that users think of are only data here."""
    add(journal, name, notebook=name)
    add(journal, name, notebook=name)
    assert [v.version for v in journal.views(name)] == [1, 2]


def test_outputs_come_in_bounded_portions(journal: Journal) -> None:
    """A watcher of a flood does not make the scheduler read all of it at once."""
    spec, _ = add(journal)
    journal.append(spec.id, 1, [bytes(1000)] * 10, 0.0)
    seen = 0
    portions = 0
    while rows := journal.outputs(spec.id, seen, limit=2500):
        assert [row[0] for row in rows] == list(range(seen + 1, seen + 1 + len(rows)))
        seen = rows[-1][0]
        portions += 1
    assert (seen, portions) == (10, 4)


def test_the_tail_is_replaced(journal: Journal) -> None:
    """Only the latest end of a flood counts; an empty one is none."""
    spec, _ = add(journal)
    for tail in ("one", "two"):
        journal.store_tail(spec.id, tail)
    assert journal.tail(spec.id) == "two"
    journal.store_tail(spec.id, "")
    assert journal.tail(spec.id) == ""


def test_deleting_leaves_nothing_of_the_job_and_all_of_the_others(journal: Journal) -> None:
    """Every table is cleared of it."""
    specs = []
    for name in "ab":
        spec, record = add(journal, name, inputs=Payload(b"", [["d", 1]]).to_message())
        journal.append(spec.id, 1, [b"x"], 0.0)
        journal.store_tail(spec.id, "t")
        finish(journal, record, JobResult())
        specs.append(spec)
    journal.forget([specs[0].id])
    for table in ("outputs", "tails", "events", "frames"):
        assert {row["job"] for row in journal._all(f"SELECT job FROM {table}")} == {specs[1].id}
    for table in ("briefs", "specs", "results"):
        assert [row["number"] for row in journal._all(f"SELECT number FROM {table}")] == [2]
    assert journal.known([s.id for s in specs]) == {specs[1].id}


def test_unfinished_jobs_are_found_again(path: Path) -> None:
    """What a later server has to take up, in order of submission, with what it decides by."""
    with Journal.open(path) as journal:
        done, record = add(journal, "done")
        finish(journal, record)
        waiting, _ = add(journal, "waiting", after=[done.id], retries=2)
        running, record = add(journal, "running")
        record.state, record.attempt, record.worker = State.RUNNING, 1, "w"
        journal.store(record, 1.0)
    with Journal.open(path) as journal:
        one, two = journal.unfinished()
        assert (one.id, one.state, one.after, one.retries) == (
            waiting.id,
            State.PENDING,
            frozenset([done.id]),
            2,
        )
        assert (two.id, two.state, two.attempt, two.worker) == (running.id, State.RUNNING, 1, "w")
        assert journal.ended([done.id, running.id]) == {done.id: ("done", State.FINISHED)}


# --- one owner, private, of a known version, in one piece ---


def test_a_journal_has_one_writer(journal: Journal, path: Path) -> None:
    """A second server on the same folder is refused while the first lives."""
    with pytest.raises(ServerError, match="another server runs on this state folder"):
        Journal.open(path)
    journal.close()
    Journal.open(path).close()
    Journal.open(path).close()


def test_files_are_private_from_the_start(path: Path) -> None:
    """0600 whatever the umask; a journal that others can read is refused."""
    umask = os.umask(0)
    try:
        with Journal.open(path) as journal:
            add(journal)
            modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()}
    finally:
        os.umask(umask)
    assert set(modes.values()) == {0o600}
    assert len(modes) == 4  # the journal, its two companions, its lock
    path.chmod(0o644)
    with pytest.raises(ServerError, match="open to other users"):
        Journal.open(path)


def test_a_newer_journal_is_refused(path: Path) -> None:
    """After a downgrade nothing is misread or destroyed."""
    Journal.open(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {schema.SCHEMA_VERSION + 1}")
    connection.close()
    for opening in (Journal.open, Journal.open_readonly):
        with pytest.raises(ServerError, match="newer dask_async_run"):
            opening(path)


def test_an_older_journal_is_migrated(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step is applied once; jobs are kept; the old one is readable before."""
    with Journal.open(path) as journal:
        spec, _ = add(journal)
    monkeypatch.setattr(schema, "SCHEMA_VERSION", schema.SCHEMA_VERSION + 2)
    monkeypatch.setattr(
        schema,
        "_MIGRATIONS",
        {
            schema.SCHEMA_VERSION - 2: "ALTER TABLE jobs ADD COLUMN size INTEGER;",
            schema.SCHEMA_VERSION - 1: "UPDATE jobs SET size = 5;",
        },
    )
    with Journal.open_readonly(path) as reader:
        assert [v.id for v in reader.views()] == [spec.id]
    for _ in range(2):
        with Journal.open(path) as journal:
            assert [row["size"] for row in journal._all("SELECT size FROM jobs")] == [5]
            assert journal._all("PRAGMA user_version")[0][0] == schema.SCHEMA_VERSION


def test_a_journal_from_before_spans_is_read_and_migrated(path: Path) -> None:
    """How long a job ran was not measured then: it is what its times say."""
    with Journal.open(path) as journal:
        _, record = add(journal)
        record.started = 5.0
        record.state, record.ended = State.FINISHED, 7.0
        journal.store(record, 7.0)
    old = sqlite3.connect(path)
    old.executescript("DROP TABLE spans; PRAGMA user_version = 3;")
    old.close()
    with Journal.open_readonly(path) as reader:
        assert [(view.took, view.ran(0.0)) for view in reader.views()] == [(None, 2.0)]
    with Journal.open(path) as journal:
        _, record = add(journal, "b")
        record.started = 5.0
        record.state, record.ended = State.FINISHED, 9000.0
        journal.store(record, 9000.0, took=3.0)
        assert [view.ran(0.0) for view in journal.views()] == [2.0, 3.0]


def test_there_may_be_no_journal_yet(path: Path) -> None:
    """Reading one that does not exist says so, and does not make one."""
    with pytest.raises(ServerError, match="no server has run there"):
        Journal.open_readonly(path)
    assert not path.exists()


@pytest.mark.parametrize("damage", ["rubbish", "header", "empty"])
def test_a_damaged_journal_is_a_clear_error(path: Path, damage: str) -> None:
    """What SQLite cannot read is named, with a way out; an empty file is a new journal."""
    Journal.open(path).close()
    content = path.read_bytes()
    path.write_bytes(
        {"rubbish": os.urandom(8192), "header": bytes(100) + content[100:], "empty": b""}[damage]
    )
    if damage == "empty":
        with pytest.raises(ServerError, match="no server has run there"):
            Journal.open_readonly(path)
        Journal.open(path).close()
        return
    for opening in (Journal.open, Journal.open_readonly):
        with pytest.raises(ServerError, match="Move it away"):
            opening(path)


# --- what dies, what is full ---

_KILLED = """
import os, pathlib, signal, sys
sys.path.insert(0, sys.argv[2])
from dask_async_run.scheduler.journal import BRIEF_PATIENCE, Journal
from dask_async_run.scheduler.events import (Record)
from dask_async_run.scheduler.reader import JournalReader
from scripted import job_spec

journal = Journal.open(pathlib.Path(sys.argv[1]))
for n in range(50):
    spec = job_spec(f"job-{n}")
    journal.create(Record(spec.id, "nb", spec.name), spec, 0.0)
journal.append(spec.id, 1, [b"committed"], 0.0)
journal.flush()
journal.append(spec.id, 2, [b"not committed"], 0.0)
print(spec.id, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_committed_survives_a_kill(path: Path) -> None:
    """Without any orderly end; readable both before and after the next server opened it."""
    helpers = Path(__file__).parent.parent / "helpers"
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(path), str(helpers)], capture_output=True, text=True
    )
    assert done.returncode == -9, done.stderr
    last = done.stdout.strip()

    openings: list[Callable[[Path], JournalReader]]
    openings = [Journal.open_readonly, Journal.open, Journal.open_readonly]
    for opening in openings:
        with opening(path) as journal:
            assert len(journal.views()) == 50
            assert journal.outputs(last) == [(1, 0.0, b"committed")]


def test_cut_off_in_the_middle_of_a_write_the_journal_is_as_before_it(
    path: Path, tmp_path: Path
) -> None:
    """Whatever length of the log reached the disk: some prefix of the jobs is there, whole."""
    journal = Journal.open(path)
    for n in range(5):
        add(journal, f"job-{n}")
    log = path.with_name("journal.sqlite-wal").read_bytes()
    seen = set()
    for cut in range(0, len(log), 1000):
        copy = tmp_path / f"cut-{cut}" / path.name
        copy.parent.mkdir()
        shutil.copy(path, copy)
        copy.chmod(0o600)
        copy.with_name("journal.sqlite-wal").write_bytes(log[:cut])
        try:
            with Journal.open(copy) as again:
                names = [v.name for v in again.views()]
        except ServerError:
            names = []  # before its tables were there
        assert names == [f"job-{n}" for n in range(len(names))]
        seen.add(len(names))
    journal.close()
    assert {0, 1, 4} <= seen


@pytest.fixture
def full(journal: Journal) -> Iterator[Callable[[bool], None]]:
    """Makes the journal's disk full, or not: SQLite's own limit on the file's size."""

    def set_full(is_full: bool) -> None:
        pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
        limit = pages if is_full else 1_000_000
        journal._connection.execute(f"PRAGMA max_page_count = {limit}")

    yield set_full
    set_full(False)


def test_a_journal_that_is_locked_is_no_full_disk(journal: Journal) -> None:
    """Who holds it is to be ended; what could not be written is, afterwards."""
    journal._connection.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(journal.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(ServerError, match=r"is locked\. Another process keeps it locked"):
        add(journal, "refused")
    other.close()
    add(journal, "after")
    assert [v.name for v in journal.views()] == ["after"]


def test_a_journal_that_was_deleted_is_written_anew(journal: Journal, path: Path) -> None:
    """All of it, with what could not be written meanwhile; one that was moved away is not."""
    _, record = add(journal)
    aside = path.rename(path.with_name("aside"))
    assert not journal.is_deleted()
    aside.rename(path)
    shutil.rmtree(path.parent)
    assert journal.is_deleted()
    finish(journal, record, JobResult(Payload(b"out", [["d1", 5]]).to_message(), bound=["x"]))
    with pytest.raises(ServerError, match="was removed or replaced"):
        journal.flush()
    path.parent.mkdir()
    journal.make_anew()
    assert not journal.is_deleted()
    add(journal, "b")
    journal.flush()
    with Journal.open_readonly(path) as reader:
        assert [(v.name, v.state) for v in reader.views()] == [("a", "finished"), ("b", "pending")]
    assert journal.without_results(lambda digest: digest != "d1") == [record.id]
    assert not journal.without_results(lambda digest: True)
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    with pytest.raises(ServerError, match="another server runs on this state folder"):
        Journal.open(path)
    journal.close()
    assert {file.name for file in path.parent.iterdir()} == {"journal.lock", "journal.sqlite"}


def test_one_in_the_place_of_a_deleted_journal_is_left_alone(journal: Journal, path: Path) -> None:
    """Somebody brought it from a backup: that is said, and neither is written over."""
    add(journal)
    for file in path.parent.iterdir():
        file.unlink()
    path.write_bytes(b"")
    assert not journal.is_deleted()
    with pytest.raises(ServerError, match="was removed or replaced"):
        add(journal, "b")
    assert path.read_bytes() == b""


@pytest.fixture
def locked(path: Path) -> Iterator[Callable[[], None]]:
    """A journal with one job that a process keeps locked even from readers, until it is told."""
    with Journal.open(path) as journal:
        add(journal)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    yield other.close
    other.close()


def test_a_reader_is_told_soon_that_the_journal_is_locked(
    path: Path, locked: Callable[[], None]
) -> None:
    """And goes on waiting: it is not silent for as long as it waits."""
    told: list[str] = []
    begun = time.monotonic()

    def let_go(why: str) -> None:
        told.append(f"{time.monotonic() - begun:.0f} {why}")
        threading.Timer(0.5, locked).start()

    with Journal.open_readonly(path, locked=let_go) as reader:
        assert [view.name for view in reader.views()] == ["a"]
    (why,) = told
    assert why.startswith("2 the journal ")
    assert "Another process keeps it locked" in why


@pytest.mark.parametrize(
    "opening", [Journal.open, lambda path: Journal.open_readonly(path, schema.BRIEF)]
)
def test_a_locked_journal_is_not_waited_for_long(
    path: Path, locked: Callable[[], None], opening: Callable[[Path], Journal]
) -> None:
    """By a server that starts, and by what nobody asked for."""
    begun = time.monotonic()
    with pytest.raises(LockedJournalError, match=r"is locked\. Another process keeps it locked"):
        opening(path)
    assert time.monotonic() - begun < 6


def test_who_keeps_the_journal_locked_is_waited_for_once(journal: Journal) -> None:
    """All else that is asked of the scheduler is answered meanwhile, with what is there."""
    _, record = add(journal)
    journal._connection.execute("PRAGMA busy_timeout = 2000")
    other = sqlite3.connect(journal.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    finish(journal, record)
    begun = time.monotonic()
    with pytest.raises(ServerError, match="is locked"):
        journal.flush()
    assert time.monotonic() - begun > 1.9
    begun = time.monotonic()
    for _ in range(10):
        assert journal.views()[0].state == "pending"
    assert time.monotonic() - begun < 1.9
    other.close()
    assert journal.views()[0].state == "finished"
    (patience,) = journal._connection.execute("PRAGMA busy_timeout").fetchone()
    assert patience == 1000 * BRIEF_PATIENCE


def test_what_could_not_be_forgotten_is_not_forgotten_later(journal: Journal) -> None:
    """Who was told so may have gathered it meanwhile, or want to keep it."""
    jobs = [add(journal, name)[0].id for name in ("one", "two")]
    journal._connection.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(journal.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(ServerError, match="is locked"):
        journal.forget(jobs)
    other.close()
    assert [view.name for view in journal.views()] == ["one", "two"]
    journal.forget(jobs)
    assert journal.views() == []


def test_all_are_forgotten_or_none(journal: Journal) -> None:
    """Also where writing fails at the second one: who was told of a failure has them all."""
    jobs = [add(journal, name)[0].id for name in ("one", "two")]
    journal.flush()
    journal._connection.execute(
        "CREATE TEMP TRIGGER fails BEFORE DELETE ON jobs WHEN old.name = 'two'"
        " BEGIN SELECT RAISE(ABORT, 'no space left'); END"
    )
    with pytest.raises(ServerError, match="no space left"):
        journal.forget(jobs)
    journal._connection.execute("DROP TRIGGER fails")
    assert [view.name for view in journal.views()] == ["one", "two"]


def test_who_else_keeps_the_journal_locked_is_named(journal: Journal) -> None:
    """The process that is to be ended is told by its number (Linux)."""
    journal._connection.execute("PRAGMA busy_timeout = 50")
    lock = (
        "import sqlite3, sys\n"
        f"other = sqlite3.connect({str(journal.path)!r}, isolation_level=None)\n"
        "other.execute('BEGIN EXCLUSIVE')\n"
        "print(flush=True)\n"
        "sys.stdin.read()\n"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", lock], stdin=pipe, stdout=pipe) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(ServerError, match="keeps it locked") as refused:
            add(journal, "refused")
        assert sys.platform != "linux" or f"process {other.pid})" in str(refused.value)
        other.communicate()
    add(journal, "after")


def test_a_checkpoint_of_the_servers_own_is_waited_for(journal: Journal) -> None:
    """However long its disk takes: it is over by itself, and no reason to refuse a job."""
    journal._connection.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(journal.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    asked: list[bool] = []

    def is_checkpointing() -> bool:
        asked.append(True)
        if len(asked) == 3:
            other.execute("ROLLBACK")
        return True

    journal.keeps_it_itself = is_checkpointing
    add(journal, "waited")
    assert len(asked) == 3
    other.close()


def test_on_a_full_disk_a_new_job_is_refused_and_leaves_nothing(
    journal: Journal, full: Callable[[bool], None]
) -> None:
    """The client is told; nothing half-made appears later."""
    add(journal, "before")
    full(True)
    with pytest.raises(ServerError, match="cannot be written: database or disk is full"):
        add(journal, "refused", inputs=Payload(bytes(100_000)).to_message())
    full(False)
    add(journal, "after")
    assert [v.name for v in journal.views()] == ["before", "after"]


def test_on_a_full_disk_nothing_that_was_said_is_dropped(
    journal: Journal, full: Callable[[bool], None]
) -> None:
    """Outputs and ends that could not be written are written when there is space."""
    spec, record = add(journal)
    full(True)
    journal.append(spec.id, 1, [bytes(100_000)], 1.0)
    with pytest.raises(ServerError, match="full"):
        journal.flush()
    finish(journal, record)
    assert journal.views()[0].state == "pending"  # reading goes on, with what is there
    full(False)
    journal.flush()
    assert journal.views()[0].state == "finished"
    assert len(journal.outputs(spec.id)[0][2]) == 100_000


def test_on_a_full_disk_frames_are_renamed_one_after_the_other(
    journal: Journal, full: Callable[[bool], None]
) -> None:
    """The second one's name does not undo the first one's, which is not written yet."""
    frames = [["unread1-4", 4], ["unread2-9", 9]]
    spec, _ = add(journal, inputs=Payload(bytes(100_000), frames).to_message())
    full(True)
    names: dict[str, str] = {}
    for name, digest in (("unread1-4", "d-4"), ("unread2-9", "e-9")):
        names[name] = digest
        journal.rename_frame(name, names)
        with pytest.raises(ServerError, match="full"):
            journal.flush()
    full(False)
    journal.flush()
    renamed = journal.spec(spec.id)
    assert renamed is not None
    assert renamed.payload.digests == ["d-4", "e-9"] == list(journal.frames(spec.id))


def test_what_is_said_to_a_journal_that_was_removed_is_not_lost(path: Path) -> None:
    """SQLite would write it to a file that nobody reads again; back in its place, it is written."""
    journal = Journal.open(path)
    spec, _ = add(journal)
    aside = path.with_name("aside")
    path.rename(aside)
    journal.append(spec.id, 1, [b"x"], 0.0)
    with pytest.raises(ServerError, match="removed or replaced"):
        journal.flush()
    with pytest.raises(ServerError, match="removed or replaced"):
        add(journal, "refused")
    aside.rename(path)
    journal.close()
    with Journal.open_readonly(path) as reader:
        assert reader.outputs(spec.id) == [(1, 0.0, b"x")]
        assert reader.names() == ["a"]


def test_readers_and_the_writer_do_not_wait_for_one_another(journal: Journal, path: Path) -> None:
    """A slow reader does not hold a write up, and sees a consistent past."""
    add(journal, "one")
    with Journal.open_readonly(path) as reader:
        cursor = reader._execute("BEGIN")
        assert len(reader.views()) == 1
        start = time.monotonic()
        add(journal, "two")
        assert time.monotonic() - start < 5
        assert len(reader.views()) == 1
        reader._execute("COMMIT")
        cursor.close()
        assert len(reader.views()) == 2


def test_costs_do_not_grow_with_the_number_of_jobs(journal: Journal) -> None:
    """Each question about one job, and each write, uses an index: no table is scanned."""
    seen: list[str] = []
    journal._connection.set_trace_callback(seen.append)
    spec, record = add(journal)
    record.state = State.RUNNING
    journal.store(record, 0.0)
    journal.append(spec.id, 1, [b"x"], 0.0)
    journal.progress(spec.id, 1, "", 1)
    journal.store_tail(spec.id, "t")
    finish(journal, record, JobResult(Payload(b"", [["d", 1]]).to_message()))
    journal.mark(spec.id, "saved")
    journal.rows(jobs=[spec.id])
    journal.rows("nb")
    journal.rows("nb", wanted=["a", spec.id])
    journal.rows(latest=2)
    journal.rows("nb", latest=2)
    journal.spec(spec.id)
    journal.result(spec.id)
    journal.outputs(spec.id, 0)
    journal.tail(spec.id)
    journal.events(spec.id)
    journal.frames(spec.id)
    journal.is_named("d")
    journal.known([spec.id])
    journal.ended([spec.id])
    journal.unfinished()
    journal.unsaved()
    journal.next_version("nb", "a")
    journal.forget([spec.id])
    journal.flush()
    journal._connection.set_trace_callback(None)
    statements = [s for s in seen if s.startswith(("SELECT", "UPDATE", "DELETE", "INSERT"))]
    assert len(statements) > 20
    for statement in statements:
        plan = journal._connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
        for row in plan:
            scanned = row["detail"]
            allowed = ("json_each", "CONSTANT ROW", "USING INDEX", "USING COVERING INDEX")
            if scanned.startswith("SCAN"):
                assert any(word in scanned for word in allowed), (statement, scanned)


def steps(journal: Journal, work: Callable[[], object]) -> int:
    """How many steps SQLite's machine takes for `work`, in hundreds."""
    counted = [0]

    def count() -> int:
        counted[0] += 1
        return 0

    journal._connection.set_progress_handler(count, 100)
    try:
        work()
    finally:
        journal._connection.set_progress_handler(None, 0)
    return counted[0]


def a_jobs_way(journal: Journal, name: str) -> None:
    """All that is asked and written of one job, from its submission to its end."""
    for _ in range(20):
        spec, record = add(journal, name)
        journal.rows(jobs=[spec.id])
        record.state = State.RUNNING
        journal.store(record, 0.0)
        journal.spec(spec.id)
        journal.append(spec.id, 1, [b"x"], 0.0)
        journal.progress(spec.id, 1, "", 1)
        finish(journal, record, JobResult(Payload(b"", [["d", 1]]).to_message()))
        journal.flush()
        journal.rows(spec.notebook, wanted=[name])
        journal.rows(wanted=[spec.id])
        journal.outputs(spec.id)
        journal.result(spec.id)
        journal.unsaved()
        journal.mark(spec.id, "saved")
        journal.mark(spec.id, "gathered")
        journal.flush()


def test_a_job_costs_the_same_among_thousands(journal: Journal) -> None:
    """Counted in SQLite's own steps, not in seconds."""
    a_jobs_way(journal, "first")
    few = steps(journal, lambda: a_jobs_way(journal, "few"))
    for number in range(2_000):
        record = add(journal, f"job-{number}")[1]
        finish(journal, record)
        journal.mark(record.id, "saved")
    many = steps(journal, lambda: a_jobs_way(journal, "many"))
    assert few > 20
    assert many <= 1.2 * few, (few, many)


def test_the_latest_jobs_cost_the_same_among_thousands(journal: Journal) -> None:
    """What is listed is bounded; what has not ended is always among it."""
    pending = add(journal, "pending")[0].id
    for number in range(50):
        finish(journal, add(journal, f"few-{number}")[1])

    def listed() -> None:
        found = [journal.views(latest=20), journal.views("nb", latest=20)]
        assert [len(views) for views in found] == [21, 21]
        for views in found:
            assert views[0].id == pending
            numbers = [int(view.name.rpartition("-")[2]) for view in views[1:]]
            assert numbers == sorted(numbers)
            assert numbers[-1] == number

    few = steps(journal, listed)
    for number in range(50, 2_000):
        finish(journal, add(journal, f"many-{number}")[1])
    assert steps(journal, listed) <= 1.2 * few + 1
    assert journal.count() == 2_001
    assert journal.count("other") == 0


def test_jobs_are_listed_by_owner(journal: Journal) -> None:
    """Whose name begins with another's, or has signs that SQL knows, too."""
    for owner in ("al", "al%", "alice", "al", ""):
        spec = job_spec("a", notebook=owned("n.ipynb", owner))
        version = journal.next_version(spec.notebook, spec.name)
        journal.create(Record(spec.id, spec.notebook, spec.name, version), spec, 1.0)
    for owner, count in (("al", 2), ("al%", 1), ("alice", 1), ("bob", 0), ("", 5)):
        assert len(journal.rows(owner=owner)) == journal.count(owner=owner) == count
    assert len(journal.rows(owner="al", latest=1)) == 2  # none has ended
    assert journal.rows("~alice/n.ipynb", owner="al") == []


def test_what_jobs_are_called_is_what_their_views_say(journal: Journal) -> None:
    for name in ("a", "b", "a", "\udcff"):
        add(journal, name)
    views = journal.views()
    said = [[view.id, view.notebook, view.name, view.version, view.latest] for view in views]
    assert journal.labels() == said
    assert [label[4] for label in said] == [False, True, True, True]


def test_gathered_and_not(journal: Journal) -> None:
    first, second = add(journal, "a")[0].id, add(journal, "b")[0].id
    journal.mark(first, "gathered")
    assert [view.id for view in journal.views(gathered=True)] == [first]
    assert [view.id for view in journal.views("nb", gathered=False)] == [second]


def test_a_journal_is_closed_from_any_state(path: Path) -> None:
    """Closing writes what is left, and lets go of the lock."""
    journal = Journal.open(path)
    spec, _ = add(journal)
    journal.append(spec.id, 1, [b"x"], 0.0)
    closed = threading.Event()
    journal.close()
    closed.set()
    with Journal.open(path) as again:
        assert again.outputs(spec.id) == [(1, 0.0, b"x")]
        assert again.known([uuid.uuid4().hex]) == set()
