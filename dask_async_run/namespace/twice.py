"""What two jobs that did not know of each other have computed alike, and kept in one object.

A fitted model computes its residuals when it is first asked for them. Where two queued cells ask,
either job has them: the second one has nothing to add.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dask_async_run.namespace.containers import DICT
from dask_async_run.namespace.instances import INSTANCE, plain_state


def is_there_already(
    obj: Any, sent: Any, kind: str, state: Any, same: Callable[[Any, Any], bool]
) -> bool:
    """Whether all that a job did to an object was to add what has been added here since, too.

    What has another value than it was sent with is not asked for: a count that two jobs have
    raised by one is alike, and wrong.

    Parameters
    ----------
    obj, sent : object
        As it is here, and a copy as it was sent.
    kind : str
        Name of the object's kind.
    state : object
        What the job says of it.
    same : callable(object, object) -> bool
        Whether two values look the same.
    """
    if type(obj) is not type(sent):
        return False
    if kind == DICT.name and type(obj) is dict and isinstance(state, dict):
        return sent.keys() <= state.keys() and _are_added(obj, sent, state, same)
    if kind != INSTANCE.name or state[0] != "changes":
        return False
    cls, changed, deleted, slots, inner, factory = state[1]
    if cls is not type(obj) or deleted or slots or inner is not None or factory is not None:
        return False
    here, before = plain_state(obj)[1], plain_state(sent)[1]
    return _are_added(here, before, changed, same)


def _are_added(
    here: Mapping[Any, Any],
    before: Mapping[Any, Any],
    items: Mapping[Any, Any],
    same: Callable[[Any, Any], bool],
) -> bool:
    """Whether items look as they do here, and were nothing before, or look as they did."""
    return all(
        name in here
        and (value is here[name] or same(here[name], value))
        and (before.get(name) is None or same(before[name], value))
        for name, value in items.items()
    )
