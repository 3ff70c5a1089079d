"""Text as a terminal would show it."""

from __future__ import annotations

import io
from dataclasses import dataclass

import pytest
from tqdm import tqdm

from dask_async_run.screen import Style, restyled, screen

tqdm.monitor_interval = 0  # else it leaves a thread behind


@dataclass(frozen=True)
class Case:
    name: str
    text: str
    lines: list[str]


CASES = [
    Case("nothing", "", []),
    Case("lines", "a\nb\n", ["a", "b"]),
    Case("an empty line between", "a\n\nb", ["a", "", "b"]),
    Case("written over", "10 %\r20 %", ["20 %"]),
    Case("written over by less", "abcdef\rXY", ["XYcdef"]),
    Case("a line of Windows", "a\r\nb\r\n", ["a", "b"]),
    Case("backspace", "wait |\b/\b-", ["wait -"]),
    Case("tab", "a\tb", ["a       b"]),
    Case("erased to the end", "abcdef\rX\x1b[K", ["X"]),
    Case("erased and written", "abcdef\x1b[2K\rX", ["X"]),
    Case("two bars", "one\n\rtwo\x1b[A\rONE\n\rTWO", ["ONE", "TWO"]),
    Case("up beyond the top", "a\x1b[9Ab", ["ab"]),
    Case("colours are no text", "\x1b[1;31mred\x1b[0m!", ["red!"]),
    Case("a window's title", "\x1b]0;title\x07text", ["text"]),
    Case("a link", "\x1b]8;;http://x\x1b\\here\x1b]8;;\x1b\\", ["here"]),
    Case("rubbish", "a\x00\x07\x1b\x1b[999zb", ["ab"]),
    Case("a code that was cut", "text\x1b[3", ["text"]),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_screen(case: Case) -> None:
    """Lines are what a terminal shows."""
    assert [line.text for line in screen(case.text)] == case.lines


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("<b>&", "&lt;b&gt;&amp;"),
        ("a\x1b[1mb\x1b[0mc", 'a<span style="font-weight:600">b</span>c'),
        ("\x1b[4m\x1b[3mx", '<span style="font-style:italic;text-decoration:underline">x</span>'),
        ("\x1b[38;5;196mx", '<span style="color:rgb(255,0,0)">x</span>'),
        (
            "\x1b[48;2;1;2;300mx\x1b[49my",
            '<span style="color:#fff;background:rgb(1,2,255)">x</span>y',
        ),
        ("\x1b[32;43mx", '<span style="color:#000;background:#967100">x</span>'),
        ("\x1b[31;48;5;231mx", '<span style="color:#d1453b;background:rgb(255,255,255)">x</span>'),
        ("\x1b[31m\x1b[39mx", "x"),
        ("x" * 500, "x" * 400 + "…"),
    ],
)
def test_html(text: str, html: str) -> None:
    """Styles are spans, text is escaped, data is cut."""
    assert screen(text)[0].html == html


def test_a_colour_has_the_same_place_in_light_and_bright() -> None:
    """Bright red is red: both have to be legible on white and on black."""
    assert restyled(Style(), "31") == restyled(Style(), "91")


def test_a_line_that_was_written_over_says_so() -> None:
    """And one that was only continued does not."""
    assert [line.rewritten for line in screen("a\rb\na" + "b")] == [True, False]


def test_tqdm_is_one_line() -> None:
    """However often it was drawn."""
    file = io.StringIO()
    for _ in tqdm(range(50), file=file, mininterval=0):
        pass
    (line,) = screen(file.getvalue())
    assert "50/50" in line.text
