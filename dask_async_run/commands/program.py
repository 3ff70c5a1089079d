"""A script or a notebook as one cell: what `run` submits."""

from __future__ import annotations

import ast
import json
import re
import tokenize
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dask_async_run.errors import OptionError

_HOOK = "__import__('sys').displayhook("

Transform = Callable[[str], str]
"""IPython's syntax to Python's."""


@dataclass(frozen=True, slots=True)
class Program:
    """A file as a cell.

    Parameters
    ----------
    name : str
        A job's name, after the file's.
    source : str
        As it is in the file; of a notebook, its code cells, one after the other.
    code : str
        What is to run: as many lines.
    rich : bool
        Whether it expects a notebook's front end.
    """

    name: str
    source: str
    code: str
    rich: bool


def read_program(path: Path) -> Program:
    """Read a script (``.py``, ``.ipy``) or a notebook (``.ipynb``).

    Raises
    ------
    OptionError
        It cannot be read, or is none of these.
    SyntaxError
        At the line that the user sees.
    """
    try:
        text = _read(path)
    except (OSError, UnicodeDecodeError, SyntaxError) as error:
        problem = getattr(error, "strerror", None) or str(error)
        raise OptionError(str(path), f"it cannot be read: {problem}.") from error
    name = re.sub(r"[^\w.-]+", "-", path.stem).strip("-.")[:100] or "script"
    if path.suffix == ".ipynb":
        cells = code_cells(text, str(path))
        return Program(name, joined(cells), joined(as_shown(cells, _transform())), rich=True)
    if path.suffix not in (".py", ".ipy", ""):
        raise OptionError(str(path), "it is no .py, .ipy or .ipynb file.")
    code = _transform()(text) if path.suffix == ".ipy" else text
    return Program(name, text, unshown(code, str(path)), rich=False)


def _read(path: Path) -> str:
    """Read a file; a script in the encoding that its first lines tell, as Python does."""
    if path.suffix == ".ipynb":
        return path.read_text(encoding="utf-8-sig")
    with tokenize.open(path) as file:
        return file.read()


def code_cells(text: str, path: str) -> list[str]:
    """The sources of a notebook's code cells.

    Raises
    ------
    OptionError
        It is no notebook, or not one of Python's.
    """
    try:
        notebook: Any = json.loads(text)
        language = notebook.get("metadata", {}).get("kernelspec", {}).get("language", "python")
        found = [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OptionError(path, "it is no notebook of nbformat 4.") from error
    if language != "python":
        raise OptionError(path, f"its cells are written in {language}, not in Python.")
    return [source if isinstance(source, str) else "".join(source) for source in found]


def joined(cells: list[str]) -> str:
    """Cells as one text, each under a line with its number."""
    return "\n".join(f"# In [{number}]:\n{cell}\n" for number, cell in enumerate(cells, 1))


def as_shown(cells: list[str], transform: Transform) -> list[str]:
    """Cells in Python's syntax, each of which shows its last expression; the last one by itself.

    Through ``sys.displayhook``, as the interpreter itself shows one.

    Raises
    ------
    SyntaxError
        It names the cell.
    """
    found = []
    for number, cell in enumerate(cells, 1):
        code = transform(cell).rstrip("\n")
        expression = _last_expression(code, f"In [{number}]")
        if expression is not None and number < len(cells):
            begin, end = _span(code, expression)
            if not code[end:].lstrip().startswith(";"):
                code = f"{code[:begin]}{_HOOK}{code[begin:end]}){code[end:]}"
        found.append(code)
    return found


def unshown(code: str, path: str) -> str:
    """A script whose last expression is not shown: a semicolon is put behind it.

    Raises
    ------
    SyntaxError
    """
    expression = _last_expression(code, path)
    if expression is None:
        return code
    end = _span(code, expression)[1]
    return code if code[end:].lstrip().startswith(";") else f"{code[:end]};{code[end:]}"


def _last_expression(code: str, filename: str) -> ast.Expr | None:
    flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    tree = compile(code, filename, "exec", flags, dont_inherit=True)
    assert isinstance(tree, ast.Module)
    last = tree.body[-1] if tree.body else None
    return last if isinstance(last, ast.Expr) else None


def _span(code: str, node: ast.Expr) -> tuple[int, int]:
    """Where a statement begins and ends in `code`."""
    # Not `splitlines`: a form feed ends no line of Python's.
    lines = code.split("\n")

    def at(line: int, column: int) -> int:
        before = sum(len(text) + 1 for text in lines[: line - 1])
        return before + len(lines[line - 1].encode()[:column].decode())

    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return at(node.lineno, node.col_offset), at(node.end_lineno, node.end_col_offset)


def _transform() -> Transform:
    from IPython.core.inputtransformer2 import TransformerManager  # here: for notebooks only

    transform: Transform = TransformerManager().transform_cell
    return transform
