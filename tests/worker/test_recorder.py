"""What of a flood is kept, and what is coalesced: pure."""

from __future__ import annotations

import re
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_async_run.worker.recorder import Recorder

SAID = re.compile(
    r"\n\[\.\.\. ([\d,]+) bytes of text were dropped here: too much output \.\.\.\]\n"
)


def display(value: object, place: str | None = None, *, update: bool = False) -> dict[str, Any]:
    return {
        "output_type": "update_display_data" if update else "display_data",
        "data": {"text/plain": str(value)},
        "metadata": {},
        "transient": {"display_id": place} if place else {},
    }


def clear(*, wait: bool) -> dict[str, Any]:
    return {"output_type": "clear_output", "wait": wait}


def everything(recorder: Recorder) -> list[dict[str, Any]]:
    outputs = recorder.take()[0]
    recorder.close()
    return outputs + recorder.take()[0]


def text(outputs: list[dict[str, Any]]) -> str:
    return "".join(o["text"] for o in outputs if o["output_type"] == "stream")


def test_text_of_one_stream_is_joined_in_a_batch() -> None:
    recorder = Recorder()
    for part in "abc":
        recorder.text("stdout", part)
    recorder.text("stderr", "d")
    recorder.text("stdout", "e")
    assert recorder.take()[0] == [
        {"output_type": "stream", "name": "stdout", "text": "abc"},
        {"output_type": "stream", "name": "stderr", "text": "d"},
        {"output_type": "stream", "name": "stdout", "text": "e"},
    ]
    assert not recorder.waiting


def test_order_of_text_and_displays_is_kept() -> None:
    recorder = Recorder()
    recorder.text("stdout", "a")
    recorder.output(display(1))
    recorder.text("stdout", "b")
    kinds = [output["output_type"] for output in recorder.take()[0]]
    assert kinds == ["stream", "display_data", "stream"]


def test_head_and_tail_of_a_flood_are_kept_and_the_rest_is_counted() -> None:
    recorder = Recorder(head=10, tail=5)
    recorder.text("stdout", "0123456789")
    recorder.text("stdout", "x" * 100)
    recorder.text("stdout", "end")
    outputs = everything(recorder)
    assert [o["text"] for o in outputs] == [
        "0123456789",
        "\n[... 98 bytes of text were dropped here: too much output ...]\n",
        "xxend",
    ]


def test_a_text_that_just_fits_loses_nothing() -> None:
    recorder = Recorder(head=10, tail=5)
    recorder.text("stdout", "0123456789abcde")
    assert text(everything(recorder)) == "0123456789abcde"


@pytest.mark.parametrize("head", [1, 300_000])
def test_short_lines_take_not_much_more_memory_than_their_text(head: int) -> None:
    """A hundred cells that print to one worker: also while what is to be recorded waits."""
    recorder = Recorder(head=head, tail=200_000)
    count = (head + 200_000) // 33
    tracemalloc.start()
    try:
        for number in range(count):
            recorder.text("stdout", f"line {number:06} of a cell in a hurry\n")
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    recorder.close()
    (whole,) = recorder.take()[0]
    lines = whole["text"].splitlines()
    assert lines == [f"line {number:06} of a cell in a hurry" for number in range(count)]
    assert taken < 1.3 * (head + 200_000)


def test_the_tail_is_shown_while_it_is_held_back() -> None:
    recorder = Recorder(head=1, tail=100)
    recorder.text("stdout", "abc")
    assert recorder.take() == ([{"output_type": "stream", "name": "stdout", "text": "a"}], "bc")
    assert recorder.take() == ([], None)
    recorder.text("stderr", "d")
    assert recorder.take() == ([], "bcd")
    recorder.close()
    outputs, glimpse = recorder.take()
    assert (text(outputs), glimpse) == ("bcd", "")


def test_a_display_in_a_flood_comes_with_the_text_before_it() -> None:
    recorder = Recorder(head=1, tail=10)
    recorder.text("stdout", "a" * 100)
    recorder.output(display("figure"))
    recorder.text("stdout", "b" * 100)
    outputs = everything(recorder)
    assert [o["output_type"] for o in outputs] == ["stream"] * 3 + ["display_data"] + ["stream"] * 2
    assert "89 bytes" in outputs[1]["text"]
    assert "90 bytes" in outputs[4]["text"]


def test_a_flood_of_displays_keeps_the_first_and_the_last() -> None:
    recorder = Recorder(rich=10_000)
    for number in range(1000):
        recorder.output(display(f"{number} " + "x" * 100))
    recorder.output({"output_type": "error", "ename": "E", "evalue": "", "traceback": []})
    outputs = everything(recorder)
    numbers = [
        int(o["data"]["text/plain"].split()[0])
        for o in outputs
        if o["output_type"] == "display_data"
    ]
    assert numbers[0] == 0
    assert numbers[-1] == 999
    assert numbers == sorted(numbers)
    assert 30 < len(numbers) < 100
    assert "bytes of displays were dropped" in text(outputs)
    assert outputs[-1]["output_type"] == "error"


def test_an_animation_of_any_length_ends_with_its_last_frame() -> None:
    recorder = Recorder(rich=10_000)
    for number in range(1000):
        recorder.output(clear(wait=True))
        recorder.output(display(f"{number} " + "x" * 1000))
        recorder.take()
    recorder.close()
    outputs = recorder.take()[0]
    assert outputs[-1]["data"]["text/plain"].startswith("999 ")


def test_what_is_cleared_in_a_batch_is_not_recorded() -> None:
    recorder = Recorder()
    recorder.text("stdout", "a")
    recorder.output(display(1))
    recorder.output(clear(wait=False))
    recorder.text("stdout", "b")
    assert [o["output_type"] for o in recorder.take()[0]] == ["clear_output", "stream"]


def test_clear_and_wait_clears_only_when_something_follows() -> None:
    recorder = Recorder()
    recorder.text("stdout", "a")
    recorder.output(clear(wait=True))
    assert [o["output_type"] for o in recorder.take()[0]] == ["stream", "clear_output"]
    recorder.text("stdout", "a")
    recorder.output(clear(wait=True))
    recorder.text("stdout", "b")
    assert [o["output_type"] for o in recorder.take()[0]] == ["clear_output", "stream"]


def test_only_the_last_update_of_a_batch_is_recorded() -> None:
    recorder = Recorder()
    recorder.output(display(0, "one"))
    for number in range(5):
        recorder.output(display(number, "one", update=True))
        recorder.output(display(-number, "two", update=True))
    shown = [(o["output_type"], o["data"]["text/plain"]) for o in recorder.take()[0]]
    assert shown == [
        ("display_data", "0"),
        ("update_display_data", "4"),
        ("update_display_data", "-4"),
    ]


def test_the_last_line_is_what_a_terminal_shows() -> None:
    recorder = Recorder()
    assert recorder.last_line == ""
    recorder.text("stdout", "first\n\x1b[31msecond\x1b[0m\n\n  \n")
    assert recorder.last_line == "second"
    recorder.text("stderr", "\r 10%\r 20%\r")
    assert recorder.last_line == "20%"
    recorder.text("stderr", "y" * 1000)
    assert recorder.last_line == "y" * 200


@given(
    st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.text(max_size=20)), max_size=30),
    st.integers(1, 50),
    st.integers(1, 50),
)
def test_what_is_kept_is_a_head_and_a_tail(
    parts: list[tuple[str, str]], head: int, tail: int
) -> None:
    """Law: kept text is a start and an end of all text, and with the dropped adds up to it."""
    recorder = Recorder(head=head, tail=tail)
    for name, part in parts:
        recorder.text(name, part)
    outputs = everything(recorder)
    whole = "".join(part for _, part in parts)
    said = SAID.search(text(outputs))
    if not said:
        assert text(outputs) == whole
        return
    start, end = text(outputs)[: said.start()], text(outputs)[said.end() :]
    dropped = int(said[1].replace(",", ""))
    assert whole.startswith(start)
    assert whole.endswith(end)
    size = [len(t.encode("utf-8", "surrogatepass")) for t in (whole, start, end)]
    assert size[0] == size[1] + size[2] + dropped
    assert size[2] <= tail
