"""Magics that a kernel's shell has beside IPython's own: ``%less``, ``%man``, ``%clear``.

In a terminal these names are commands, which would wait for a key. Here, as in a kernel, the
page that they show is an output.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from IPython.core import page
from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_magic, magics_class
from IPython.utils import openpy


@magics_class
class FileMagics(Magics):
    """Registered with the shell of a cell process."""

    @line_magic
    def less(self, line: str) -> None:
        """Show a file as a page; one of Python code in colours."""
        self._show(line)

    @line_magic
    def more(self, line: str) -> None:
        """Show a file as a page."""
        self._show(line)

    def _show(self, name: str) -> None:
        if not name:
            raise UsageError("Missing filename.")
        if name.endswith(".py"):
            shell: Any = self.shell
            page.page(shell.pycolorize(openpy.read_py_file(name, skip_encoding_cookie=False)))
        else:
            page.page(Path(name).read_text())

    @line_magic
    def man(self, line: str) -> None:
        """Show the manual of a command as a page."""
        shell: Any = self.shell
        page.page(shell.getoutput(f"man {line} | col -b", split=False))

    @line_magic
    def clear(self, line: str) -> None:
        """Clear the terminal."""
        shell: Any = self.shell
        shell.system("clear")
