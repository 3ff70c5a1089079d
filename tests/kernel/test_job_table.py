"""The table of jobs: what it says, in which order, with and without HTML."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from dask_async_run.job import JobView
from dask_async_run.kernel.job_table import SORTS, JobTable

NOW = 10_000.0


def view(name: str, state: str, **facts: object) -> JobView:
    return JobView.from_message(
        {"id": name, "notebook": "/a/story.ipynb", "name": name, "state": state, **facts}
    )


JOBS = [
    view("train", "running", submitted=1000, started=9000, last_line="epoch <7>"),
    view("score", "pending", submitted=1001, after=["train"]),
    view("Old", "finished", submitted=1002, started=1003, ended=1004, nbytes=10, saved=True),
    view("bad", "failed", submitted=1003, started=1004, ended=9990, ename="KeyError", evalue="'x'"),
]


def names(table: JobTable) -> list[str]:
    return [view.name for view in table.views]


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("submitted", "train score Old bad"),
        ("name", "bad Old score train"),
        ("state", "score train Old bad"),
        ("took", "score Old train bad"),
        ("age", "bad train Old score"),
        ("size", "train score bad Old"),
    ],
)
def test_orders(sort: str, expected: str) -> None:
    """Each key, and its reverse."""
    assert names(JobTable(JOBS, NOW, sort=sort)) == expected.split()
    rows = re.findall(r"<b title=[^>]*>(\w+)</b>", JobTable(JOBS, NOW, sort=sort)._repr_html_())
    assert rows == expected.split()
    there = JobTable(JOBS, NOW, sort=sort, reverse=True)
    keys = [SORTS[sort](view, NOW) for view in there.views]
    assert keys == sorted(keys, reverse=True)


def test_the_order_of_submission_is_not_the_clocks() -> None:
    """It may have been set back meanwhile, and those of two kernels differ."""
    earlier = [
        view("first", "pending", submitted=NOW + 7200),
        view("second", "pending", submitted=NOW),
    ]
    assert names(JobTable(earlier, NOW)) == ["first", "second"]
    assert names(JobTable(earlier, NOW, reverse=True)) == ["second", "first"]


def test_jobs_of_other_notebooks_are_shown_with_theirs() -> None:
    """Also where all are of one: it is not the one that looks."""
    for notebook, name in (("/a/story.ipynb", "bad"), ("/a/b.ipynb", "story.ipynb/bad")):
        table = JobTable(JOBS, NOW, notebook=notebook)
        assert f"\n{name} " in repr(table)
        assert f">{name}<" in table._repr_html_()


def test_who_waits_for_whom() -> None:
    """Is said at both of them."""
    for shown in (repr(JobTable(JOBS, NOW)), JobTable(JOBS, NOW)._repr_html_()):
        assert "waits for train" in shown
        assert "score waits for it" in shown
    # The other one may be out of sight.
    assert "waits for train" in repr(JobTable(JOBS[1:2], NOW, everybody=JOBS))


def test_what_is_said_without_colour() -> None:
    """State by sign and word; a line of output is escaped, code only if it is one."""
    html = JobTable(JOBS, NOW, dashboard="http://x/?a=1&b=2")._repr_html_()
    states = ("▶ running", "○ pending", "✔ finished", "✘ failed")
    for part in (*states, "<code>epoch &lt;7&gt;</code>"):
        assert part in html
    assert "<code>KeyError" not in html
    assert 'href="http://x/?a=1&amp;b=2"' in html
    assert 'aria-sort="ascending"' not in html  # in order of submission, which is no column


def test_a_row_is_one_line() -> None:
    """Whatever a cell has printed or raised last."""
    raised = replace(JOBS[3], ename="ValueError", evalue="first\nsecond")
    for job in (replace(JOBS[0], last_line="a\x0b\x0cb\x1b[2Jc\x08"), raised):
        assert len(repr(JobTable([job], NOW)).splitlines()) == 2
        assert repr(JobTable([job], NOW)).replace("\n", "").isprintable()
    long = replace(JOBS[3], state="running", ename="", reason="not on record yet: " + "x" * 120)
    for shown in (repr(JobTable([long], NOW)), JobTable([long], NOW)._repr_html_()):
        assert long.reason in shown
    assert "ValueError: first second" in repr(JobTable([raised], NOW))


def test_notebooks_are_told_apart() -> None:
    """Where jobs of several are listed, each has its notebook's name."""
    other = JobView("o", "/b/other.ipynb", "train")
    assert "other.ipynb/train" in repr(JobTable([*JOBS, other], NOW))
    assert "story.ipynb/" not in repr(JobTable(JOBS, NOW))


def test_how_many_more_there_are() -> None:
    """Nobody takes a part for all of it."""
    table = JobTable(JOBS, NOW, more=9_900)
    for shown in (repr(table), table._repr_html_()):
        assert "and 9,900 more: %async_jobs --last all" in shown
    assert " more" not in repr(JobTable(JOBS, NOW))


def test_times_are_not_negative() -> None:
    """The clock may have been set back while the job ran."""
    odd = view("odd", "finished", submitted=NOW + 50, started=NOW + 60, ended=NOW + 40)
    assert [SORTS[key](odd, NOW) for key in ("took", "age")] == [0.0, 0.0]


def test_a_sweep_is_one_row_that_says_how_far_it_is() -> None:
    """Until it has ended; then its reason says how many members did not finish."""
    members = {"finished": 30, "running": 2, "pending": 68}
    facts = {"submitted": 0, "started": NOW - 60, "sweep": {"size": 100}, "members": members}
    table = JobTable([view("lr", "running", **facts)], NOW)
    assert "30/100 members, 2 running, about 2 min left" in repr(table)
    table = JobTable([view("lr", "finished", ended=NOW, reason="5 of 100 members", **facts)], NOW)
    assert "5 of 100 members" in repr(table)
    assert "30/100" not in repr(table)
