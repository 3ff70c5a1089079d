"""The parts of the jobs' page that need no browser."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from dask.utils import key_split

from dask_async_run.glimpse import Picture
from dask_async_run.job import JobSpec, JobView, State
from dask_async_run.progress import Progress
from dask_async_run.scheduler.page import detail
from dask_async_run.scheduler.page.board import Board
from dask_async_run.scheduler.page.feed import Feed
from dask_async_run.scheduler.page.rows import COLUMNS, NONE, Span, row_of, span_of
from dask_async_run.scheduler.page.timeline import Lanes, Timeline
from dask_async_run.scheduler.tasks import HYPHEN, dask_key
from dask_async_run.scheduler.usage import MOST, Usage

RUNNING = JobView(
    "a" * 32,
    "/home/ann/digits.ipynb",
    "train",
    state="running",
    submitted=90.0,
    started=100.0,
    worker="tcp://1:1",
    memory=268_435_456.0,
    cpu=99.6,
    last_line="epoch 3",
)
EVIL = "<img src=x onerror=alert(1)>"


def test_a_row_has_what_the_table_shows() -> None:
    row = row_of(RUNNING, Progress(-1, 25.0, count="20/80", left="0:03"), [], "worker 1", 107.9)
    assert set(row) == set(COLUMNS)
    assert (row["state"], row["name"], row["notebook"]) == ("running", "train", "digits.ipynb")
    assert (row["progress"], row["says"]) == (25.0, "20/80, 0:03 left")
    assert (row["elapsed"], row["memory"], row["cpu"]) == (7, 268_000_000, 100)
    ended = replace(RUNNING, state="failed", ended=103.0, ename="ValueError", evalue="no")
    row = row_of(ended, None, [], "worker 1", 200.0)
    assert (row["elapsed"], row["memory"], row["says"]) == (3, NONE, "ValueError: no")


def test_a_row_says_what_a_job_waits_for() -> None:
    pending = JobView("b" * 32, "n", "next")
    assert row_of(pending, None, ["a", "b", "c", "d"], "", 1.0)["says"] == (
        "waits for a, b, c and 1 more"
    )
    nobody = replace(pending, reason="waits for a worker that offers GPU=1: none does")
    assert row_of(nobody, None, [], "", 1.0)["says"] == nobody.reason
    assert row_of(pending, None, [], "", 1.0)["elapsed"] == NONE


def test_a_sweep_has_a_bar_of_its_members_and_these_the_lines() -> None:
    sweep = replace(
        RUNNING, last_line="", sweep={"size": 4, "axes": []}, members={"finished": 1, "running": 3}
    )
    row = row_of(sweep, None, [], "", 110.0)
    assert (row["progress"], row["bar"]) == (25.0, "1/4 members")
    assert span_of(sweep, "") is None
    assert span_of(replace(sweep, of="s", name="lr[1]"), "worker 1") is not None


def test_a_feed_sends_what_changed() -> None:
    """Rows that change are patched, new ones streamed; only one that goes costs them all."""
    feed = Feed(("id", "n"))
    sent: list[str] = []
    source: Any = feed.source

    def noting(name: str) -> Any:
        whole = getattr(source, name)

        def note(data: Any) -> None:
            sent.append(f"{name} {data}")
            whole(data)

        return note

    for name in ("patch", "stream"):
        object.__setattr__(source, name, noting(name))
    rows = {job: {"id": job, "n": 1} for job in ("a", "b")}
    feed.update(rows)
    feed.select(["b"])
    feed.update({"b": {"id": "b", "n": 2}, "c": {"id": "c", "n": 3}})
    feed.update({"b": {"id": "b", "n": 2}})
    assert sent == [
        "stream {'id': ['a', 'b'], 'n': [1, 1]}",
        "patch {'n': [(1, 2)]}",
        "stream {'id': ['c'], 'n': [3]}",
    ]
    feed.update({}, gone=["a", "never"])
    assert source.data == {"id": ["b", "c"], "n": [2, 3]}
    assert feed.selected() == ["b"]


def run(job: str, started: float, ended: float | None, worker: str = "w") -> Span:
    return Span(job, job, "n", "running", worker, worker, started, ended)


def test_runs_that_overlap_have_lines_of_their_own() -> None:
    lanes = Lanes()
    assert lanes.line(run("a", 0, None)) == 0
    assert lanes.line(run("b", 1, 2)) == 1
    assert lanes.line(run("x", 1, 2, "other")) == 0
    assert lanes.line(run("a", 0, 1)) == 0
    assert lanes.line(run("c", 1.5, None)) == 0
    assert lanes.line(run("d", 2, 3)) == 1


def test_a_timeline_follows_and_looks_back() -> None:
    timeline = Timeline()
    spans = {"old": run("old", 0, 10), "now": run("now", 950, None)}
    timeline.show(spans, list(spans), 1000.0)
    data = timeline.feed.source.data
    assert (data["id"], data["end"]) == (["now"], [1000e3])
    timeline.show(spans, [], 1001.0)  # it grows while nothing happens
    assert timeline.feed.source.data["end"] == [1001e3]
    timeline.look_back(3600.0, spans, 1001.0)
    assert timeline.feed.source.data["id"] == ["old", "now"]


def test_usage_is_bounded_and_of_the_whole_run() -> None:
    usage = Usage()
    for second in range(5000):
        usage.add(float(second), second * 10.0, 1.0)
    assert len(usage.samples) < MOST
    assert usage.samples[0][0] == 0.0
    assert usage.samples[-1][0] > 4900


def test_nothing_of_a_cell_is_markup() -> None:
    """Each part of the page's own HTML escapes what a cell, its name or its notebook says."""
    view = replace(
        RUNNING, name=EVIL, notebook=EVIL, reason=EVIL, binds=[EVIL], ename=EVIL, evalue=EVIL
    )
    parts = [detail.facts(replace(view, state=state), [EVIL], EVIL, 200.0) for state in State]
    parts += [
        detail.output(f"\x1b[31m{EVIL}\x1b[0m\n\r{EVIL}"),
        detail.source(EVIL),
        detail.question("cancel", [EVIL]),
        detail.answer(EVIL),
        detail.picture(Picture(1, "image/png", '"' + EVIL)),
        detail.picture(Picture(1, "image/svg+xml", f'"{EVIL}')),
        detail.picture(Picture(1, "text/html", f'"></iframe>{EVIL}')),
    ]
    for part in parts:
        assert "<img src=x" not in part
        assert '"<' not in part
    assert 'sandbox=""' in parts[-1]


def test_that_there_is_no_output_is_said_where_nothing_is_shown() -> None:
    """And not that some may come, of a job that has ended."""
    assert "No output yet." in detail.output("")
    assert "No output." in detail.output("", ended=True)
    assert detail.output("", ended=True, pictured=True) == ""


def test_a_board_sleeps_while_nobody_looks() -> None:
    """Nothing is heard of jobs, and nothing kept, before it is opened."""
    registry: Any = SimpleNamespace(watchers=[])
    board = Board(registry, lambda worker: "")
    assert (registry.watchers, board.rows, board.since(0, 9)) == ([], {}, ([], 0))


@pytest.mark.parametrize("name", ["train", "cell-7", "lr-0.1", "grid_search", "2024-01-run"])
def test_dask_groups_tasks_by_the_jobs_name(name: str) -> None:
    """All runs of a job are one group in Dask's pages, which begins with the job's whole name."""
    spec = JobSpec("7b3a" * 8, "/home/ann/my-work/run-2.ipynb", name, "", "", "")
    groups = {
        key_split(dask_key(replace(spec, id=job), n)) for n, job in enumerate(("1" * 32, "f1" * 16))
    }
    assert groups == {f"{name} in run-2".replace("-", HYPHEN)}
    member = replace(spec, name=f"{name}[3]", of="7" * 32, member=3)
    assert key_split(dask_key(member, 9)) in groups
