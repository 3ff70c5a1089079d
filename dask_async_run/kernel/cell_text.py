"""The text of a cell: as it is typed, numbered, analysed and known to tracebacks."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Collection
from typing import Any

from dask_async_run import surroundings
from dask_async_run.namespace.analyse import Analysis, analyse

_WORD = re.compile(r"[^\W\d]\w*")
MAGIC = "%%async_run"
_COMMENTED = re.compile(rf"((?:[ \t]*(?:#.*)?\n)+)({MAGIC}\b.*)")


def comments_below(lines: list[str]) -> list[str]:
    """Answer a cell's lines with the comments above its ``%%async_run`` below that.

    IPython looks for a cell magic in the first line alone. Cells that were written in an editor
    begin with a comment (``# %% training``). For `input_transformers_cleanup`; cells of other
    magics are left as they are, and so is the number of lines.
    """
    if lines and lines[0].lstrip()[:1] in ("", "#"):
        text = "".join(lines)
        if found := _COMMENTED.match(text):
            above, magic = found.groups()
            rest = text[found.end() :].removeprefix("\n")
            return f"{magic}\n{above}{rest}".splitlines(keepends=True)
    return lines


def submits(source: str) -> bool:
    """Whether a cell, as it was written, does nothing but submit a job."""
    return source.startswith(MAGIC) or _COMMENTED.match(source) is not None


def changes_nothing(source: str) -> bool:
    """Whether a cell, as it was written, does nothing but submit jobs, gather or ask for them."""
    lines = [line for each in source.splitlines() if (line := each.strip())]
    return submits(source) or all(line.startswith(("%async_", "#")) for line in lines)


def analyse_cell(shell: Any, code: str) -> Analysis:
    """Analyse a cell as IPython would run it.

    Raises
    ------
    SyntaxError
        At the line that the user sees.
    """
    flags = surroundings.future_flags(shell)
    return analyse(_transform(shell, code), lambda body: _transform(shell, body), flags)


def _transform(shell: Any, code: str) -> str:
    text: str = shell.transform_cell(code) if shell is not None else code
    return text


def shows(shell: Any, code: str) -> bool:
    """Whether a cell ends with an expression that IPython displays, as far as its text tells."""
    if code.rstrip().endswith(";"):
        return False
    body = ast.parse(_transform(shell, code)).body
    return bool(body) and isinstance(body[-1], ast.Expr)


def numbered(line: str, cell: str) -> str:
    """Answer a cell's code so that its lines have the numbers that the user sees.

    ``Cell In[7], line 3`` means the third line of ``In[7]``, the magic's included; a
    comment stands for it. (A blank line would be dropped by IPython.) Another cell
    magic has to come first, and counts lines its own way.
    """
    if cell.lstrip().startswith("%%"):
        return cell
    return f"{surroundings.STAND_IN} {line}".rstrip() + "\n" + cell


def as_typed(shell: Any, cell: str, pending: Callable[[], Collection[str]] = tuple) -> str:
    """Answer a cell with what only this shell can make of it put in the place of the text.

    That is ``cd data`` without its ``%`` and a macro's name, which a shell takes for what they
    are in a cell of one line, by what it has names for; and what the user's own
    ``input_transformers_post`` do.

    Parameters
    ----------
    shell : InteractiveShell or None
    cell : str
    pending : callable() -> collection of str
        Answers the names that are to come yet: ``save(x)`` calls what a job defines, it is not
        ``%save``.
    """
    if shell is None or not (shell.input_transformers_post or _may_be_one_line(cell)):
        return cell
    static = shell.input_transformer_manager.transform_cell(cell)
    if len(static.splitlines()) != 1 and not shell.input_transformers_post:
        return cell
    dynamic: str = shell.transform_cell(cell)
    if dynamic.strip() == static.strip():
        return cell
    first = _WORD.match(static)
    is_name = first is not None and not shell.input_transformers_post and first[0] in pending()
    return cell if is_name else dynamic


def _may_be_one_line(cell: str) -> bool:
    """Whether IPython may make one line of a cell: to find out takes long for a long one."""
    return "\\\n" in cell or cell.lstrip().startswith("%%") or len(cell.strip().splitlines()) < 2


def register_code(shell: Any, code: str, number: int | None) -> str:
    """Make a cell's code known to this kernel's tracebacks; answer its file name."""
    if shell is None:
        return f"<cell {number or 1}>"
    name: str = shell.compile.cache(shell.transform_cell(code), number or 0, raw_code=code)
    surroundings.hide_stand_in(name)
    return name
