"""Scripts and notebooks as one cell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dask_async_run.commands.program import as_shown, code_cells, read_program, unshown
from dask_async_run.errors import OptionError


def notebook(*cells: str, **metadata: Any) -> str:
    return json.dumps(
        {
            "nbformat": 4,
            "nbformat_minor": 5,
            "metadata": metadata,
            "cells": [{"cell_type": "markdown", "source": "# a title"}]
            + [{"cell_type": "code", "source": cell.splitlines(True)} for cell in cells],
        }
    )


@pytest.mark.parametrize(
    ("script", "runs"),
    [
        ("x = 1\n", "x = 1\n"),
        ("main()  # at the end\n", "main();  # at the end\n"),
        ("main();\n", "main();\n"),
        ("print('é'); f('é',\n  2)\n", "print('é'); f('é',\n  2);\n"),
        ("(a\n + b)", "(a\n + b);"),
        ("if True:\n    main()\n", "if True:\n    main()\n"),
        ('"""Only a text."""', '"""Only a text.""";'),
        ("await main()", "await main();"),
        ("", ""),
    ],
)
def test_a_script_shows_no_last_expression(script: str, runs: str) -> None:
    """And keeps its lines."""
    assert unshown(script, "s.py") == runs


def test_each_cell_shows_its_last_expression() -> None:
    """Also over several lines; not behind a semicolon; the last cell does it by itself."""
    cells = ["x = 1\nx", "('é',\n x)  # why", "x;", "y = 2", "await y", "x"]
    shown: list[object] = []
    hook = "__import__('sys').displayhook("
    found = as_shown(cells, lambda cell: cell + "\n")
    assert found == [
        f"x = 1\n{hook}x)",
        f"{hook}('é',\n x))  # why",
        "x;",
        "y = 2",
        f"{hook}await y)",
        "x",
    ]
    exec("\n".join([*found[:4], found[5]]).replace(hook, "show("), {"show": shown.append})
    assert shown == [1, ("é", 1)]


def test_a_notebook_is_its_code_cells(tmp_path: Path) -> None:
    """In IPython's syntax, magics included; lines are where the source has them."""
    path = tmp_path / "my report.ipynb"
    path.write_text(notebook("%%time\nx = 1", "!echo hi\nx"), encoding="utf-8")
    program = read_program(path)
    assert (program.name, program.rich) == ("my-report", True)
    assert program.source == "# In [1]:\n%%time\nx = 1\n\n# In [2]:\n!echo hi\nx\n"
    assert "run_cell_magic('time'" in program.code
    assert "get_ipython().system('echo hi')" in program.code


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.ipynb", "{}", "no notebook of nbformat 4"),
        ("a.ipynb", "[1]", "no notebook of nbformat 4"),
        ("a.ipynb", "nonsense", "no notebook of nbformat 4"),
        ("a.ipynb", notebook(kernelspec={"language": "julia"}), "written in julia"),
        ("a.txt", "x", r"no \.py, \.ipy or \.ipynb"),
    ],
)
def test_what_is_no_program_is_refused(name: str, text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(OptionError, match=problem):
        read_program(tmp_path / name)
    with pytest.raises(OptionError, match="cannot be read: No such file"):
        read_program(tmp_path / "none.py")


def test_a_syntax_error_names_the_cell() -> None:
    with pytest.raises(SyntaxError) as caught:
        as_shown(code_cells(notebook("x = 1", "y = 2\nif"), "n"), str)
    assert (caught.value.filename, caught.value.lineno) == ("In [2]", 2)
