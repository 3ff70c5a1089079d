"""The live card: what is said, what is left out, what does not move."""

from __future__ import annotations

import re

from dask_async_run.glimpse import Picture
from dask_async_run.job import JobView
from dask_async_run.kernel.live import pace
from dask_async_run.kernel.live_card import (
    LINES,
    SAVED_PICTURE,
    Shown,
    lines_of,
    live_card,
    submitted,
    summary,
    summary_text,
)
from dask_async_run.looks import span

RUNNING = JobView(
    id="a" * 32,
    notebook="n",
    name="<train>",
    state="running",
    submitted=100,
    started=110,
    host="node7",
    pid=42,
    memory=3e8,
    cpu=98.4,
    binds=["model"],
)
BAR = "\r 45%|████▌     | 36/80 [00:05<00:06,  7.10it/s]"


def ended(**changes: object) -> JobView:
    facts = {"state": "finished", "ended": 295.0, **changes}
    return JobView.from_message({**RUNNING.to_message(), **facts})


def words(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def test_what_a_running_job_says() -> None:
    """Name, state in words, time, place, use, what it binds, how to gather: escaped."""
    card = live_card(Shown(RUNNING, lines_of("hello <world>\n"), now=175))
    said = words(card.html)
    assert "&lt;train&gt; ▶ running for 1 min 05 s on node7, process 42" in said
    assert "300.0 MB memory 98 % CPU" in said
    assert "will bind model" in said
    assert "%async_gather &lt;train&gt;" in said
    assert "hello &lt;world&gt;" in said


def test_a_failed_job_that_brought_nothing_binds_nothing() -> None:
    """One that was killed had no time to hand over; one that raised had."""
    assert "binds model" not in words(live_card(Shown(ended(state="failed"), [], now=300)).html)
    kept = ended(state="failed", nbytes=10)
    assert "binds model" in words(live_card(Shown(kept, [], now=300)).html)


def test_only_a_pending_job_waits_for_others() -> None:
    """What it has waited for is over when it runs."""
    for state, waits in (("pending", True), ("running", False), ("finished", False)):
        view = ended(state=state, ended=None, after=["b" * 32])
        assert ("waits for 1 job" in words(live_card(Shown(view)).html)) is waits
        known = Shown(view, awaited=["fit<2>"])
        assert ("waits for fit&lt;2&gt;" in words(live_card(known).html)) is waits


def test_a_bar_takes_its_lines_place() -> None:
    """Said once: as a bar while it runs, as text at the end."""
    lines = lines_of("loading\n" + BAR)
    card = live_card(Shown(RUNNING, lines))
    assert "45 %" in card.bar
    assert "36/80" in card.bar
    assert words(card.text) == "loading"
    last = summary(Shown(ended(), lines))
    assert last.bar == ""
    assert "36/80" in last.text


def test_a_sweep_shows_how_far_its_members_are() -> None:
    """How many have ended, failed and run, and how long the rest takes at that pace."""
    sweep = {"size": 10, "axes": [[["lr"], 5], [["a", "b"], 2]]}
    members = {"finished": 3, "failed": 1, "running": 2, "pending": 4}
    view = JobView.from_message({**RUNNING.to_message(), "sweep": sweep, "members": members})
    card = live_card(Shown(view, now=150))
    assert 'aria-valuenow="40"' in card.bar
    assert words(card.bar).endswith(
        "40 % 4/10 members, 1 failed, 2 running&nbsp;&nbsp;about 1 min 00 s left"
    )
    assert "runs 10 members: lr (5) x a, b (2)" in words(card.facts)


def test_the_texts_place_never_shrinks() -> None:
    """While it is watched; the summary takes no more than it needs."""
    full = live_card(Shown(RUNNING, lines_of("x\n" * 40)))
    assert full.height == LINES
    less = live_card(Shown(RUNNING, (), height=full.height))
    assert less.height == LINES
    assert "min-height" in less.text
    assert "min-height" not in full.text
    assert summary(Shown(ended(), (), height=LINES)).text == ""


def test_a_million_lines_cost_no_more_than_twenty() -> None:
    """Only the last ones are shown."""
    lines = lines_of("".join(f"line {n}\n" for n in range(1000)))
    assert words(live_card(Shown(RUNNING, lines)).text).startswith("line 985 ")


def test_how_it_ended() -> None:
    """With the reason, in HTML and in text."""
    shown = Shown(ended(state="failed", ename="ValueError", evalue="no <x>"), lines_of("a\nb\n"))
    assert "✘ failed after 3 min 05 s" in words(summary(shown).html)
    assert "ValueError: no &lt;x&gt;" in summary(shown).html
    assert summary_text(shown) == (
        "Job <train>: failed after 3 min 05 s (ValueError: no <x>)\n  | a\n  | b\n"
        "  %async_gather <train> shows its output and brings the results."
    )
    assert "%async_rerun" in summary_text(Shown(ended(state="lost", reason="server died")))


def test_a_long_reason_stays_in_the_card() -> None:
    """Cut, on one line of the text, and broken where it has no spaces."""
    shown = Shown(ended(state="failed", ename="ValueError", evalue="x" * 3000 + "\nsecond"))
    assert "overflow-wrap:anywhere" in summary(shown).head
    assert "x…<" in summary(shown).head
    assert len(summary_text(shown).splitlines()[0]) < 300


def test_pictures() -> None:
    """base64 and SVG; a large one is not saved twice."""
    png = Picture(1, "image/png", "ab\ncd")
    assert 'src="data:image/png;base64,abcd"' in live_card(Shown(RUNNING, (), png)).picture
    svg = Picture(1, "image/svg+xml", '<svg onload="x">')
    assert "%3Csvg%20onload%3D%22x%22%3E" in live_card(Shown(RUNNING, (), svg)).picture
    large = Picture(1, "image/png", "x" * (SAVED_PICTURE + 1))
    assert live_card(Shown(RUNNING, (), large)).picture
    assert summary(Shown(ended(), (), large)).picture == ""


def test_what_stays_true() -> None:
    """What a saved notebook keeps of a job that ran on says no state and no time."""
    html, text = submitted(RUNNING)
    for said in (words(html), text):
        assert "running" not in said
        assert "submitted" in said
        assert "%async_gather" in said


def test_spans() -> None:
    """Two units, so that one sees time pass."""
    seconds = (-1, 0, 59.9, 60, 3599, 3600, 86399, 90000)
    assert [span(s) for s in seconds] == [
        *("0 s", "0 s", "59 s", "1 min 00 s", "59 min 59 s", "1 h 00 min", "23 h 59 min"),
        "1 d 1 h",
    ]


def test_the_pace_slows_down() -> None:
    """Four updates a second at first, and not too many in a night."""
    assert pace(0) == pace(59) == 0.25
    time = count = 0.0
    while time < 8 * 3600:
        time, count = time + pace(time), count + 1
    assert count < 7000


def test_html_is_shown_as_it_is() -> None:
    """In a place that does not grow; what is too large for a saved notebook is not in there."""
    table = Picture(3, "text/html", "<table><tr><td>7</td></tr></table>")
    card = live_card(Shown(RUNNING, picture=table))
    assert "<td>7</td>" in card.picture
    assert "max-height" in card.picture
    assert "<td>7</td>" in summary(Shown(ended(), picture=table)).html
    large = Picture(3, "text/html", "<b>" * SAVED_PICTURE)
    assert summary(Shown(ended(), picture=large)).picture == ""
