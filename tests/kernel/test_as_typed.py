"""What a shell makes of a cell by itself: found out only where it can be anything else."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.macro import Macro
from traitlets.config import Config

from dask_async_run.kernel.cell_text import as_typed

PIECES = (
    *("cd x", "m", "ls -l", "!ls", " = !ls", "x?", "%cd a", "%time ", "%%time\n", ",f a"),
    *("a(", "1)", "if 1:", "'''", "# c", "; ", "  ", "\t", "\\"),
    *("\n", "\\\n", "\r\n", "\f", "\u2028", ">>> ", "... ", "In [1]: ", "   ...: "),
)


@pytest.fixture(scope="module")
def shell() -> Any:
    shell: Any = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
    shell.user_ns["m"] = Macro("a = 1\nb = 2")
    return shell


def always_found_out(shell: Any, cell: str) -> str:
    """As `as_typed`, whatever the cell is."""
    static = shell.input_transformer_manager.transform_cell(cell)
    dynamic: str = shell.transform_cell(cell)
    if len(static.splitlines()) != 1 or dynamic.strip() == static.strip():
        return cell
    return dynamic


@given(cell=st.lists(st.sampled_from(PIECES), max_size=7).map("".join))
def test_a_cell_is_left_alone_where_a_shell_would_leave_it(shell: Any, cell: str) -> None:
    """As if each had been looked at."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # IPython's, of lines that it splits otherwise
        try:
            expected = always_found_out(shell, cell)
        except (SyntaxError, IndexError):  # of IPython's
            return
        assert as_typed(shell, cell) == expected


@pytest.mark.parametrize(("cell", "code"), [("cd x", "'cd', 'x'"), ("m\n", "b = 2"), ("\n m", "")])
def test_a_line_that_only_this_shell_knows_is_taken_as_it_knows_it(
    shell: Any, cell: str, code: str
) -> None:
    """An automagic, a macro; one with others beside it is Python."""
    assert code in as_typed(shell, cell)
    assert as_typed(shell, f"{cell}\n1") == f"{cell}\n1"


def test_a_name_that_a_job_defines_is_no_magic(shell: Any) -> None:
    """``save(x)`` is that function's call, though it is not here yet."""
    assert "run_line_magic" in as_typed(shell, "save(x)")
    assert as_typed(shell, "save(x)", lambda: {"save"}) == "save(x)"
    assert "run_line_magic" in as_typed(shell, "cd x", lambda: {"save"})
