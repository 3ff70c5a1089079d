"""What is written over within a line is left out, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_async_run.bars import JOBS, LONGEST, RANGES, Overwritten, collapsed, width
from dask_async_run.messages import pack
from dask_async_run.screen import screen


def update(place: str) -> dict[str, Any]:
    return {"output_type": "update_display_data", "data": {}, "transient": {"display_id": place}}


PARTS = st.sampled_from(
    [
        "a",
        "bc",
        "def",
        "g ",
        "\r",
        "\r",
        "\n",
        "\b",
        "\t",
        "\x1b[31m",
        "\x1b[0m",
        "\x1b[K",
        "\x1b[A",
    ]
)
TEXTS = st.lists(PARTS, max_size=25).map("".join)


def text(words: str, name: str = "stderr") -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": words}


def seen(words: str) -> list[tuple[str, bool]]:
    return [(line.html, line.rewritten) for line in screen(words)]


@pytest.mark.parametrize(
    ("words", "columns"),
    [
        ("abc", 3),
        ("", 0),
        ("\x1b[31mabc\x1b[0m", 3),
        ("\x1b[31mabc\x1b[m", 3),
        ("\x1b[31mabc", None),
        ("abc\x1b[K", None),
        ("a\bc", None),
        ("a\tc", None),
    ],
)
def test_width(words: str, columns: int | None) -> None:
    assert width(words) == columns


@given(TEXTS)
def test_a_screen_is_the_same_without_what_is_written_over(words: str) -> None:
    """In what it shows, in its colours, and in which of its lines were written over."""
    assert seen(collapsed(words)) == seen(words)


def test_of_a_long_line_three_writings_are_left() -> None:
    """The first, and the last two."""
    line = "".join(f"\r{n:5} %" for n in range(1000))
    assert collapsed(f"above\n{line}\nbelow") == "above\n\r  998 %\r  999 %\nbelow"


@given(st.lists(TEXTS.filter(bool), max_size=12))
def test_outputs_that_were_written_over_are_not_missed(words: list[str]) -> None:
    """The screen is the same without them."""
    overwritten = Overwritten()
    for number, piece in enumerate(words, 1):
        overwritten.add("job", number, text(piece))
    hidden = {n for first, last in overwritten.ranges("job") for n in range(first, last + 1)}
    left = [piece for number, piece in enumerate(words, 1) if number not in hidden]
    assert seen("".join(left)) == seen("".join(words))


def test_what_covers_with_spaces_is_covered_itself() -> None:
    """As tqdm's bars do whenever they get shorter."""
    overwritten = Overwritten()
    for number, words in enumerate(["\r10 s", "\r9 s ", "\r8 s", "\r7 s"], 1):
        overwritten.add("job", number, text(words))
    assert overwritten.ranges("job") == [(1, 2)]
    assert collapsed("\r10 s\r9 s \r8 s\r7 s") == "\r8 s\r7 s"


def test_displays_are_updated_in_turns() -> None:
    """Of each its last update stays, wherever the ones before are."""
    overwritten = Overwritten()
    for number, place in enumerate("aabbcaabcc", 1):
        overwritten.add("job", number, update(place))
    assert overwritten.ranges("job") == [(1, 6), (9, 9)]
    overwritten.add("job", 11, update("b"))
    assert overwritten.ranges("job") == [(1, 6), (8, 9)]


def test_a_bar_between_other_outputs() -> None:
    """What is printed, and pictures, stay; two streams have a bar each."""
    overwritten = Overwritten()
    outputs = [
        text("\r1 %"),
        text("out\n", "stdout"),
        text("\r2 %"),
        {"output_type": "display_data", "data": {}, "metadata": {}},
        text("\r3 %"),
        text("\r4 %"),
        text("\n"),
        text("\r1 %"),
        text("\r2 %"),
    ]
    for number, output in enumerate(outputs, 1):
        overwritten.add("job", number, output)
    assert overwritten.ranges("job") == [(1, 1), (3, 3)]
    assert overwritten.ranges("another") == ()


def test_a_long_output_is_no_bar() -> None:
    """What it comes after stays."""
    overwritten = Overwritten()
    outputs = ["\r1", "\r2", "x" * 2 * LONGEST + "\n", "\r3", "\r4", "\r5"]
    for number, words in enumerate(outputs, 1):
        overwritten.add_packed("job", number, pack(text(words)))
    assert overwritten.ranges("job") == [(4, 4)]


def test_it_is_bounded() -> None:
    """A long bar is one range; of many ranges and jobs the latest are known."""
    overwritten = Overwritten()
    for number in range(1, 5001):
        overwritten.add("long", number, text(f"\r{number:5}"))
    assert overwritten.ranges("long") == [(1, 4998)]
    for number in range(1, 4 * RANGES + 1):
        overwritten.add("many", number, text("\n" if number % 4 == 0 else f"\r{number % 4}"))
    assert len(overwritten.ranges("many")) == RANGES
    assert overwritten.ranges("many")[-1] == (4 * RANGES - 3, 4 * RANGES - 3)
    for job in range(JOBS):
        overwritten.add(f"{job}", 1, text("x"))
    assert overwritten.ranges("long") == ()
