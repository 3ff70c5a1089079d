"""The table of a sweep: for each member its parameters, and what it bound.

Made where the sweep collects, in a cell process, and in a kernel that wants to see what
there is by now. Both load each member's result into a namespace of its own, so that
members do not see one another, and neither does the notebook.
"""

from __future__ import annotations

import importlib.util
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from dask_async_run.namespace.axes import Axis, parameters
from dask_async_run.namespace.inputs import Chain, Inputs, Parent, Stream
from dask_async_run.namespace.loaded import Loaded, apply_updates, salvage_result

STATE, ERROR, VALUE = "state", "error", "Out"
"""Columns beside the names: how a member ended, why, and the value of its last expression."""

_NO_COLUMN = (types.ModuleType, types.FunctionType, type)
"""What a cell binds by ``import``, ``def`` and ``class``: not what it found out."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member that has ended.

    Parameters
    ----------
    number : int
    state : str
    error : str
        Why it did not finish; empty if it did.
    result : Stream or None
    """

    number: int
    state: str
    error: str
    result: Stream | None


def member_of(message: dict[str, Any], result: Stream | None) -> Member:
    """Make a member of what `Registry.collected` says of it."""
    ename, evalue, reason = message["ename"], message["evalue"], message["reason"]
    error = f"{ename}: {evalue}".rstrip(": ") if ename else reason or message["state"]
    if message["state"] == "finished":
        error = ""
    return Member(message["member"], message["state"], error, result)


Base = tuple[Chain, Inputs, Callable[[Any], Any]]
"""A sweep's inputs, loaded, and what resolves the tokens of its members' results."""


class MemberLoader:
    """Loads the results of a sweep's members.

    The inputs are loaded once, and again only for a member that has changed something of
    them in place.

    Parameters
    ----------
    parents : sequence of Parent
        What the sweep builds on, in order.
    inputs : Stream
        Its own.
    makers : mapping of str to sequence of int
        As of `Chain.fall_back`.
    """

    def __init__(
        self,
        parents: Sequence[Parent],
        inputs: Stream,
        makers: Mapping[str, Sequence[int]] = MappingProxyType({}),
    ) -> None:
        self._parents = parents
        self._makers = makers
        self._stream = inputs
        self._base = self._load()

    @property
    def axes(self) -> list[Axis]:
        """The sweep's axes."""
        return self._base[1].axes

    def load(self, result: Stream) -> Loaded:
        """Load a result; what it changed in place is changed in what it refers to."""
        chain, _, resolve = base = self._base
        loaded = self._result(result, base)
        if chain.private(loaded.updates, resolve):
            chain, _, resolve = base = self._load()
            loaded = self._result(result, base)
            updates = chain.private(loaded.updates, resolve)
            apply_updates(updates, resolve)
            loaded.finish(updates, resolve)
        return loaded

    def _load(self) -> Base:
        namespace: dict[str, Any] = {"__name__": "__main__"}
        chain = Chain(namespace, salvaging=True)
        for parent in self._parents:
            chain.merge(parent)
        ids = [parent.id for parent in self._parents]
        inputs = chain.load(self._stream, ids)
        chain.fall_back(inputs, ids, self._makers)
        namespace.update(inputs.names)
        return chain, inputs, chain.resolver(inputs, ids)

    def _result(self, result: Stream, base: Base) -> Loaded:
        chain, _, resolve = base
        how = result.data, result.buffers, chain.namespace, resolve, True, True
        return salvage_result(*how, finalisers=False)


def rows(
    members: Sequence[Member], loader: MemberLoader, only: Sequence[str]
) -> list[dict[str, Any]]:
    """Answer a row for each member: parameters, what it bound, how it ended.

    All have the same columns, in the order in which members bound them; None where one has
    nothing.
    """
    found: list[dict[str, Any]] = []
    names: dict[str, None] = {}
    results: dict[str, None] = {}
    for member in members:
        given = parameters(loader.axes, member.number)
        bound, error = _bound(member, loader, only)
        names.update(dict.fromkeys(given))
        results.update(dict.fromkeys(bound))
        row: dict[str, Any] = given | bound
        found.append({**row, _STATE: member.state, _ERROR: error})
    shown = {name: name for name in [*names, *results] if name != VALUE}
    if VALUE in results:
        shown[VALUE] = VALUE
    for key, title in ((_STATE, STATE), (_ERROR, ERROR)):
        shown[key] = f"{title}_" if title in shown else title
    return [{title: row.get(key) for key, title in shown.items()} for row in found]


_STATE, _ERROR = " state", " error"  # no variable is called so


def _bound(member: Member, loader: MemberLoader, only: Sequence[str]) -> tuple[dict[str, Any], str]:
    """Answer what a member bound that makes a column, and its error."""
    if member.result is None:
        return {}, member.error
    loaded = loader.load(member.result)
    bound = {
        name: value
        for name, value in loaded.bound.items()
        if not name.startswith("_") and not isinstance(value, _NO_COLUMN)
    }
    if loaded.out and VALUE not in bound and not only:
        bound[VALUE] = loaded.out[-1]
    lost = "; ".join(f"{name} cannot be loaded: {why}" for name, why in loaded.lost.items())
    return bound, "; ".join(part for part in (member.error, lost) if part)


def table(members: Sequence[Member], loader: MemberLoader, only: Sequence[str], frame: bool) -> Any:
    """Answer the table: a DataFrame with the members' numbers as its index.

    Where there is no pandas, or `frame` is False, it is a list of dicts.
    """
    found = rows(members, loader, only)
    if not frame or importlib.util.find_spec("pandas") is None:
        return found
    import pandas as pd

    columns = list(found[0]) if found else []
    numbers = [member.number for member in members]
    # Column by column, as objects first: a value that is a list or an array stays one.
    data = {
        name: pd.Series([row[name] for row in found], index=numbers, dtype=object).infer_objects()
        for name in columns
    }
    made = pd.DataFrame(data, index=numbers, columns=columns)
    made.index.name = "member"
    return made
