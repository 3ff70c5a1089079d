"""Jobs and outputs as plain text."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import pytest

from dask_async_run.commands import text
from dask_async_run.job import JobView, State


def test_both_streams_into_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order in which the cell wrote them, as ``2>&1`` lets one expect."""
    raw = io.BytesIO()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(raw, encoding="utf-8"))
    names = ["stdout", "stderr", "stdout"]
    text.show(
        [{"output_type": "stream", "name": n, "text": f"{n}\n"} for n in names], colours=False
    )
    assert raw.getvalue().decode().split() == names


def test_a_line_for_each_job() -> None:
    now = 10_000.0
    views = [
        JobView(
            "a", "n.ipynb", "train", state=State.RUNNING, started=now - 65, last_line="epoch 3"
        ),
        JobView(
            "b", "n.ipynb", "x", state=State.FINISHED, started=1.0, ended=now - 7200, saved=True
        ),
        JobView(
            "c",
            "m",
            "y",
            2,
            False,
            State.FAILED,
            "",
            started=now,
            ended=now,
            ename="E",
            evalue="1\n2",
        ),
        JobView("d", "m", "z", state=State.FINISHED, started=now - 1, ended=now),
        JobView("e", "m", "w", reason="waits for 'z'", submitted=now - 3),
    ]
    assert text.table(views, now).splitlines() == [
        "JOB    NOTEBOOK  STATE      TIME                  LAST",
        "train  n.ipynb   running    1 min                 epoch 3",
        "x      n.ipynb   finished   46 min 39 s, 2 h ago",
        "y@2    m         failed     0 s, 0 s ago          E: 1 2",
        "z      m         finished*  1 s, 0 s ago",
        "w      m         pending    for 3 s               waits for 'z'",
        "* not yet safe against a loss of power",
    ]


def test_facts_are_json_without_the_result() -> None:
    view = JobView("a", "n", "x", result={"payload": {"stream": b""}})
    facts = json.loads(json.dumps(text.job_facts(view)))
    assert facts["label"] == "x"
    assert facts["state"] == "pending"
    assert "result" not in facts


def stream(words: str, name: str = "stdout") -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": words}


def display(plain: str, name: str | None = None, kind: str = "display_data") -> dict[str, Any]:
    transient = {} if name is None else {"display_id": name}
    return {"output_type": kind, "data": {"text/plain": plain}, "transient": transient}


@pytest.mark.parametrize(
    ("outputs", "shown"),
    [
        ([stream("a"), stream("b")], [stream("a"), stream("b")]),
        ([stream("a"), {"output_type": "clear_output", "wait": False}], []),
        ([stream("a"), {"output_type": "clear_output", "wait": True}], [stream("a")]),
        (
            [stream("a"), {"output_type": "clear_output", "wait": True}, stream("b")],
            [stream("b")],
        ),
        (
            [display("1", "x"), display("2"), display("3", "x", "update_display_data")],
            [display("3", "x"), display("2")],
        ),
        ([display("3", "x", "update_display_data")], []),
    ],
)
def test_what_is_left_in_the_end(outputs: list[dict[str, Any]], shown: Any) -> None:
    assert text.folded(outputs) == shown


def test_outputs_go_where_they_belong(capsys: pytest.CaptureFixture[str]) -> None:
    outputs = [
        stream("out\n"),
        stream("\x1b[31merr\x1b[0m", "stderr"),
        {"output_type": "execute_result", "data": {"text/plain": "42"}, "execution_count": 3},
        {
            "output_type": "display_data",
            "data": {"text/plain": "<Figure>", "image/png": "iVBOR"},
        },
        {"output_type": "display_data", "data": {"text/html": "<b>"}},
        {
            "output_type": "error",
            "ename": "E",
            "evalue": "v",
            "traceback": ["\x1b[1;31mE\x1b[0m: v"],
        },
    ]
    text.show(outputs, colours=False)
    seen = capsys.readouterr()
    assert seen.out == "out\n42\n<Figure> [image/png]\n[text/html]\nE: v\n"
    assert seen.err == "\x1b[31merr\x1b[0m"
