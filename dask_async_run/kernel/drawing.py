"""Random numbers of which a process has one row: who drew which, seen where jobs are gathered.

Jobs that do not build on one another begin where the row is here. What a library draws by itself
(an estimator without a seed) no code tells: that a job drew is seen by the row having moved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dask_async_run import surroundings

if TYPE_CHECKING:  # it has one of these
    from dask_async_run.kernel.record import Record

States = Mapping[str, int]
"""Of each row: where it is, as a number that is another one elsewhere."""


def states_here() -> States:
    """Answer where the rows of this process are."""
    return _numbers(surroundings.random_states())


def _numbers(found: Mapping[str, Any]) -> States:
    return {name: hash(found[name]) for name in surroundings.ROWS if name in found}


@dataclass(slots=True)
class Drawn:
    """What one session knows of its jobs' random numbers.

    Parameters
    ----------
    firsts : dict of (str, int, str) to (Record, int)
        The jobs that were gathered first of those that drew from somewhere in a row, where that
        was so here or after the same job; and how many were gathered before.
    merged : dict of str to int
        Where gathering has brought the rows.
    """

    firsts: dict[tuple[str, int, str], tuple[Record, int]] = field(default_factory=dict)
    merged: dict[str, int] = field(default_factory=dict)

    def note(
        self,
        record: Record,
        changed: Mapping[str, Any],
        records: Mapping[str, Record],
        gathered: int,
    ) -> str:
        """Note what a job drew; answer the name of another that drew the same, if one did.

        Parameters
        ----------
        record : Record
            That is being gathered.
        changed : mapping
            Surroundings that it changed.
        records : mapping of str to Record
            Those that it builds on have been noted.
        gathered : int
            How many were gathered before.
        """
        same = ""
        for name, left in _numbers(changed).items():
            record.rows_left[name] = left
            if name not in record.rows or record.lineage.seeds:
                continue
            start, after = record.rows[name], ""
            for parent in (records[job] for job in record.spec.parents if job in records):
                if parent.rows.get(name) == record.rows[name] and name in parent.rows_left:
                    start, after = parent.rows_left[name], parent.id
            first, before = self.firsts.get((name, start, after), (record, 0))
            if first is record or before < record.gathered_before:  # the notebook went on, or back
                self.firsts[name, start, after] = record, gathered
            elif not (first.lineage.draws and record.lineage.draws):
                same = first.spec.name  # where both spell it, submitting has told
        return same

    def to_leave(self, record: Record, here: States) -> frozenset[str]:
        """Answer the rows that cells drew from, or seeded, here since a job was submitted.

        Parameters
        ----------
        record : Record
        here : States
            Before its result was loaded: what modules draw when they are imported for that, they
            drew there, too, unless they had been imported there before.
        """
        return frozenset(
            name
            for name, state in here.items()
            if name in record.rows and state not in (record.rows[name], self.merged.get(name))
        )

    def merge(self) -> None:
        """Note that a job's rows were brought here."""
        self.merged = dict(states_here())
