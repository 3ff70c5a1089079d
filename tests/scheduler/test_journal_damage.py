"""A damaged journal, wherever the damage is: one clear error, or what is not damaged."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_async_run.errors import ServerError
from dask_async_run.job import JobResult, Payload, State
from dask_async_run.messages import pack, unpack_output
from dask_async_run.scheduler.events import Record
from dask_async_run.scheduler.journal import Journal
from dask_async_run.scheduler.reader import JournalReader
from scripted import job_spec

TEXT = {"output_type": "stream", "name": "stdout", "text": "hi\n" * 20}


@pytest.fixture(scope="module")
def written() -> Iterator[tuple[bytes, list[str]]]:
    """A journal's bytes, and the ids of the jobs in it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.sqlite"
        ids = []
        with Journal.open(path) as journal:
            for number in range(8):
                spec = job_spec(f"job-{number}")
                record = Record(spec.id, spec.notebook, spec.name, 1)
                journal.create(record, spec, time.time())
                journal.append(spec.id, 1, [pack(TEXT)] * 3, time.time())
                journal.progress(spec.id, 3, "hi", 1)
                if number % 2:
                    record.state, record.ended = State.FINISHED, time.time()
                    journal.store(record, time.time())
                    payload = Payload(b"stream" * 20, [["d", 1]])
                    result = JobResult(payload.to_message(), bound=["x"])
                    journal.store_result(spec.id, result, time.time())
                ids.append(spec.id)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        yield path.read_bytes(), ids


def ask_everything(journal: JournalReader, ids: list[str]) -> None:
    journal.views()
    for job in ids:
        journal.spec(job)
        journal.result(job)
        for _, _, packed in journal.outputs(job):
            assert isinstance(unpack_output(packed), dict)
        list(journal.latest(job))
        journal.tail(job)
        journal.events(job)
        journal.frames(job)
    journal.names()
    journal.known(ids)
    journal.unsaved()
    if isinstance(journal, Journal):
        journal.unfinished()


@pytest.mark.filterwarnings("ignore:Generating overly large repr")  # hides what has failed
@given(
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=200),
    st.floats(0, 1),
    st.booleans(),
)
def test_any_damage_is_one_clear_error(
    written: tuple[bytes, list[str]], flips: list[tuple[float, int]], kept: float, cut: bool
) -> None:
    """Bytes changed, or the end cut off."""
    content, ids = written
    damaged = bytearray(content)
    for place, byte in flips:
        damaged[int(place * len(damaged))] = byte
    if cut:
        del damaged[int(kept * len(damaged)) :]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.sqlite"
        path.touch(0o600)
        openings: tuple[Callable[[Path], JournalReader], ...] = (
            Journal.open_readonly,
            Journal.open,
        )
        for opening in openings:
            path.write_bytes(damaged)
            with suppress(ServerError), opening(path) as journal:
                ask_everything(journal, ids)


def test_a_job_whose_cell_is_lost_is_one_clear_error(
    written: tuple[bytes, list[str]], tmp_path: Path
) -> None:
    """Of one that has not ended: a server cannot go on with it."""
    path = tmp_path / "journal.sqlite"
    path.touch(0o600)
    path.write_bytes(written[0])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM specs WHERE number = 1")
        connection.commit()
    with Journal.open(path) as journal, pytest.raises(ServerError, match="is not there"):
        journal.unfinished()


def test_one_damaged_record_hides_no_other(
    written: tuple[bytes, list[str]], tmp_path: Path
) -> None:
    """It says so itself; results, outputs and the other jobs are there."""
    content, ids = written
    path = tmp_path / "journal.sqlite"
    path.touch(0o600)
    path.write_bytes(content)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE briefs SET spec = x'c1' WHERE number = 2")
        connection.execute("UPDATE outputs SET output = x'c1' WHERE job = ? AND seq = 2", [ids[0]])
        connection.commit()
    with Journal.open(path) as journal:
        views = journal.views()
        assert [view.id for view in views] == ids
        assert [view.reason[:21] for view in views if view.reason] == ["its record is damaged"]
        outputs = [unpack_output(packed) for _, _, packed in journal.outputs(ids[0])]
        assert outputs[0] == outputs[2] == TEXT
        assert "damaged" in outputs[1]["text"]


@pytest.mark.parametrize("name", ["journal.sqlite", "journal.lock", "journal.sqlite-wal"])
def test_a_folder_in_place_of_a_file(tmp_path: Path, name: str) -> None:
    Journal.open(tmp_path / "journal.sqlite").close()
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).mkdir()
    with pytest.raises(ServerError, match="Move it away"):
        Journal.open(tmp_path / "journal.sqlite")
