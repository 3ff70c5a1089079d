"""Who looks: somebody at a page, somebody at a terminal, or nobody.

A notebook that is executed without a person (nbclient, papermill, ``jupyter execute``)
shall come out the same each time. So what depends on the moment, live views and notices,
is only for people.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Any


class Audience(StrEnum):
    """Who looks at what is put out now."""

    PAGE = "page"
    TERMINAL = "terminal"
    NOBODY = "nobody"


def audience(shell: Any) -> Audience:
    """Answer who looks at the cell that runs now.

    A front end says with each cell whether its user could be asked something
    (``allow_stdin``): those that execute notebooks by themselves say no.

    Parameters
    ----------
    shell : InteractiveShell
    """
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        there = all(s is not None and s.isatty() for s in (sys.stdin, sys.stdout))
        return Audience.TERMINAL if there else Audience.NOBODY
    if not all(hasattr(kernel, name) for name in ("session", "iopub_socket", "get_parent")):
        return Audience.NOBODY  # not ipykernel: how to reach its pages is not known
    content = (kernel.get_parent() or {}).get("content", {})
    return Audience.PAGE if content.get("allow_stdin") else Audience.NOBODY
