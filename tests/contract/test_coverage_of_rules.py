"""Every line of the contract is linked to tests by its number."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from .cases import CASES

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "namespace-contract.md"


def lines_of_the_contract() -> list[int]:
    """The numbers on the page, in order."""
    return [int(n) for n in re.findall(r"^(\d+)\. ", PAGE.read_text(), re.MULTILINE)]


def marked() -> Iterator[tuple[int, Path]]:
    """Numbers that a test says it is about, with ``@pytest.mark.contract(n, ...)``."""
    for file in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "contract"
            ):
                for argument in node.args:
                    yield ast.literal_eval(argument), file


def test_the_page_is_numbered() -> None:
    """The page's lines are 1 to 27: numbers in cases and markers mean something."""
    assert lines_of_the_contract() == list(range(1, 28))


def test_every_line_has_a_test() -> None:
    """No line of the contract is without a case or a marked test."""
    tested = {rule for case in CASES for rule in case.rules} | {number for number, _ in marked()}
    assert [n for n in lines_of_the_contract() if n not in tested] == []


def test_no_test_is_about_a_line_that_does_not_exist() -> None:
    """A number that the page does not have is a mistake."""
    known = set(lines_of_the_contract())
    assert [(case.id, case.rules) for case in CASES if not set(case.rules) <= known] == []
    assert [(number, str(file)) for number, file in marked() if number not in known] == []
