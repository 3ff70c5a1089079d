"""The end of a job's outputs, put together from the last one backwards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from dask_async_run.glimpse import HTML, PICTURE, TEXT, ending


def text(words: str, name: str = "stdout") -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": words}


def bar(words: str) -> dict[str, Any]:
    return text(words, "stderr")


def shown(kind: str = "display_data", place: str = "", **data: str) -> dict[str, Any]:
    bundle = {name.replace("_", "/"): value for name, value in data.items()}
    return {"output_type": kind, "data": bundle, "transient": {"display_id": place or None}}


CLEAR = {"output_type": "clear_output", "wait": False}
CLEAR_LATER = {"output_type": "clear_output", "wait": True}


@dataclass(frozen=True)
class Case:
    name: str
    outputs: list[dict[str, Any]]
    text: str = ""
    picture: str = ""
    tail: str = field(default="", kw_only=True)


CASES = [
    Case("nothing", []),
    Case("text in order", [text("a\n"), text("b\n")], "a\nb\n"),
    Case(
        "a bar goes on below what is printed meanwhile",
        [bar("\r1 %"), text("a\n"), bar("\r2 %"), shown(image_png="1"), bar("\r3 %")],
        "a\n\r3 %",
        "1",
    ),
    Case(
        "a bar that was cleared before something is printed",
        [bar("a\n\r1 %"), bar("\r   \r"), text("b\n"), bar("\r1 %"), bar("\r2 %")],
        "a\nb\n\r1 %\r2 %",
    ),
    Case(
        "a bar that does not go on",
        [bar("was\n\r1 %"), text("a\n"), bar("x\n")],
        "was\n\r1 %a\nx\n",
    ),
    Case("a flood's end comes last", [text("a\n")], "a\nz\n", tail="z\n"),
    Case("the last picture", [shown(image_png="1"), text("x"), shown(image_png="2")], "x", "2"),
    Case("a result", [shown("execute_result", text_plain="42")], "42\n"),
    Case("a picture's text is not text", [shown(text_plain="<Figure>", image_png="1")], "", "1"),
    Case("the last table", [shown(text_html="<p>1", text_plain="1"), text("x")], "x", "<p>1"),
    Case(
        "a table's text is not text",
        [shown(text_html="<b>1</b>", text_plain="1"), shown(image_png="2")],
        "",
        "2",
    ),
    Case("HTML that is nothing but text", [shown(text_html="<pre>1</pre>", text_plain="1")], "1\n"),
    Case(
        "HTML that needs scripts", [shown(text_html="<p></p><SCRIPT>", text_plain="F()")], "F()\n"
    ),
    Case("too much HTML", [shown(text_html="x" * (HTML + 1), text_plain="1")], "1\n"),
    Case("cleared", [text("old"), shown(image_png="1"), CLEAR, text("new")], "new"),
    Case("to be cleared by what comes", [text("old"), CLEAR_LATER], "old"),
    Case("cleared by what came", [text("old"), CLEAR_LATER, text("new")], "new"),
    Case(
        "updated, so the first is not shown",
        [
            shown(place="p", text_plain="0 %"),
            text("x\n"),
            shown("update_display_data", "p", text_plain="9 %"),
        ],
        "9 %\nx\n",
    ),
    Case(
        "an update whose display is too far back",
        [
            text("x\n"),
            shown("update_display_data", "p", text_plain="8 %"),
            text("y\n"),
            shown("update_display_data", "p", text_plain="9 %"),
            text("z\n"),
        ],
        "9 %\nx\ny\nz\n",
    ),
    Case("an error", [{"output_type": "error", "traceback": ["Traceback", "E"]}], "Traceback\nE\n"),
    Case(
        "an error in a library",
        [
            {
                "output_type": "error",
                "traceback": [
                    "---",
                    "File a.py",
                    "Cell \x1b[3mIn[7]\x1b[0m, line 2",
                    "File b.py",
                    "E",
                ],
            }
        ],
        "Cell \x1b[3mIn[7]\x1b[0m, line 2\nE\n",
    ),
    Case(
        "too large a picture", [shown(image_png="1"), shown(image_png="x" * (PICTURE + 1))], "", "1"
    ),
    Case("only the end", [text("a" * TEXT), text("b\n")], "a" * (TEXT - 2) + "b\n"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_ending(case: Case) -> None:
    """Text and picture are what a notebook would show last."""
    numbered = list(enumerate(case.outputs, 1))
    found = ending(reversed(numbered), case.tail)
    assert found.text == case.text
    assert (found.picture.data if found.picture else "") == case.picture


def test_no_more_is_read_than_is_needed() -> None:
    """With text and a picture found, nothing before is looked at."""
    taken = []

    def outputs() -> Iterator[tuple[int, dict[str, Any]]]:
        for number in range(1000, 0, -1):
            taken.append(number)
            yield number, shown(image_png="1") if number == 999 else text("x" * TEXT)

    assert ending(outputs()).picture is not None
    assert taken == [1000, 999]
