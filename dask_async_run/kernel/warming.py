"""What the next cell will want to have imported: told to the workers while the user thinks.

A cell is a fork of a template process. What that has imported costs a cell nothing; what
it has not, such as scikit-learn, costs seconds. The template never runs user code and
does not know what notebooks use, so the kernel tells.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable

from dask_async_run.kernel.session import Session
from dask_async_run.warmable import WARMABLE


def imported(modules: Iterable[str] | None = None) -> list[str]:
    """Answer what this process has imported that a template may import, packages first.

    Parts of parts come with those, so they are left out.
    """
    if modules is None:
        return list(_imported_here(len(sys.modules)))
    return _warmable(list(modules))


@functools.lru_cache(maxsize=1)
def _imported_here(count: int) -> list[str]:
    """Answer it for this process, which has imported so many modules."""
    return _warmable(list(sys.modules))


def _warmable(names: list[str]) -> list[str]:
    found = []
    for name in names:
        words = name.split(".")
        if words[0] in WARMABLE and len(words) <= 2 and not any(w.startswith("_") for w in words):
            found.append(name)
    return sorted(found, key=lambda name: (name.count("."), name))


class Warming:
    """Tells a session's workers what is new; in the kernel's main thread, never waits.

    Parameters
    ----------
    session : Session
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._told: set[str] = set()
        self._seen = 0

    def tell(self) -> None:
        """Tell what was imported since the last time; failures do not matter."""
        if len(sys.modules) == self._seen or not self._session.alive:
            return
        self._seen = len(sys.modules)
        new = [name for name in imported() if name not in self._told]
        if new:
            self._told.update(new)
            self._session.registry.warm(new)
