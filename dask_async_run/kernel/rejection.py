"""A cell that is not run, since the user interrupted what this extension does before it.

IPython runs a cell whatever becomes of the callbacks before it: after a Ctrl-C in one of
them it shows our frames, and runs the cell. What it lets refuse a cell is a transformer of
its syntax tree.
"""

from __future__ import annotations

from typing import Any

from IPython.core.error import InputRejected


class Rejection:
    """Has a shell not run the cell that comes next, once.

    Parameters
    ----------
    shell : InteractiveShell
    told : str
        What is shown instead: ``KeyboardInterrupt: ...``.
    """

    def __init__(self, shell: Any, told: str) -> None:
        self._shell = shell
        self._told = told
        shell.ast_transformers.append(self)

    def withdraw(self) -> None:
        """Let cells run again; of a cell with a syntax error there was no tree to refuse."""
        if self in self._shell.ast_transformers:
            self._shell.ast_transformers.remove(self)

    def visit(self, tree: Any) -> Any:
        """Refuse the cell; called by IPython, as of `ast.NodeTransformer`."""
        self.withdraw()
        # The name is what a front end, or a program that runs the notebook, sees of it.
        told = self._told
        kind: Any = type(
            "KeyboardInterrupt", (InputRejected,), {"_render_traceback_": lambda _: [told]}
        )
        raise kind(told.partition(": ")[2])
