"""Names that did not come along into the cell, told where the cell misses one.

A name that the cell only mentions, or that goes along because the cell may reach any name,
need not be needed: where it can't be pickled, or can't be loaded here, the cell runs without
it. If it does need it, what Python says (``name 'db' is not defined``) is not the whole
truth: the notebook has such a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from dask_async_run.namespace.inputs import SHOWN

_QUOTED = re.compile(r"['\"`]([^\W\d]\w*)['\"`]")


def tell(error: BaseException | None, absent: Mapping[str, str]) -> None:
    """Have an exception say why the names that it is about are not there.

    Parameters
    ----------
    error : BaseException or None
    absent : mapping of str to str
        Names that did not come along, and why.
    """
    if error is None or not absent:
        return
    told = "\n".join(getattr(error, "__notes__", ()))
    for name in dict.fromkeys(_missed(error)):
        note = f"{name!r} of the notebook is not in this cell: {absent.get(name)}."
        if name in absent and note not in told:
            error.add_note(f"{note} Make it in the cell.")


def _missed(error: BaseException) -> Iterator[str]:
    """Yield the names that an exception, or what it was raised from, may be about."""
    pending: list[BaseException | None] = [error]
    seen: set[int] = set()
    while pending:
        at = pending.pop()
        if at is None or id(at) in seen:
            continue
        seen.add(id(at))
        pending += [at.__cause__, at.__context__]
        if isinstance(name := getattr(at, "name", None), str):
            yield name
        if isinstance(at, KeyError):
            yield from (f"{name}[{at.args[0]!r}]" for name in SHOWN if at.args)
        try:
            text = str(at)
        except Exception:  # noqa: BLE001 - a user's __str__
            continue
        yield from _QUOTED.findall(text)
