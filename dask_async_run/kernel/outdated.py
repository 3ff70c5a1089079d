"""What a cell that is run here reads, and jobs have not brought yet: names, changes, files."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from dask_async_run.kernel.pending import (
    PendingName,
    changed_names,
    pending_names,
    stale_names,
)
from dask_async_run.kernel.record import Record
from dask_async_run.kernel.session import Session
from dask_async_run.kernel.writing import being_written
from dask_async_run.namespace.analyse import Analysis


@dataclass(frozen=True, slots=True)
class Outdated:
    """What is not here as it is on the cluster, of what a cell reads.

    Parameters
    ----------
    names : dict of str to PendingName
        Those that jobs bind or delete.
    changed : dict of str to PendingName
        Those that lead to what jobs have changed in place.
    files : dict of str to Record
        Those that jobs may still write.
    """

    names: dict[str, PendingName]
    changed: dict[str, PendingName]
    files: dict[str, Record]

    def jobs(self) -> set[str]:
        """Answer the ids of the jobs that bring it."""
        made = [*self.names.values(), *self.changed.values()]
        return {r.id for each in made for r in each.makers} | {r.id for r in self.files.values()}

    def lines(self, session: Session) -> Iterator[str]:
        """Yield what is to be told of it, each the last job that brings it.

        Raises
        ------
        AsyncRunError
        """
        makers = {name: made.makers[-1] for name, made in (self.changed | self.names).items()}
        labels = {
            name: session.registry.show(record.id).label
            for name, record in (makers | self.files).items()
        }
        for name, made in sorted(self.names.items()):
            told = _told(name, made, labels[name], session.namespace)
            yield f"{told}. %async_gather {labels[name]} brings it."
        for name in sorted(self.changed):
            yield (
                f"{name} is as it was here: {labels[name]} has changed it. "
                f"%async_gather {labels[name]} brings that."
            )
        for file in sorted(self.files):
            yield (
                f"{file} is to be written yet: {labels[file]} may do so, and has not ended. "
                f"%async_wait {labels[file]} waits for it."
            )


def outdated(session: Session, analysed: Callable[[], Analysis], guess: bool) -> Outdated:
    """Find what a cell reads that is not here as it is on the cluster.

    Parameters
    ----------
    session : Session
    analysed : callable
        Answers the cell's analysis.
    guess : bool
        Also what jobs that have not ended may change in place.

    Raises
    ------
    SyntaxError, AsyncRunError
    """
    pending = pending_names(session)
    files = being_written(session, analysed)
    reads = _reads(analysed(), session.namespace)
    stale = stale_names(session, pending, reads)
    changed = changed_names(session, reads if guess else reads - stale.keys(), guess)
    return Outdated(stale, changed, files)


def lines_without_a_server(session: Session, analysed: Callable[[], Analysis]) -> Iterator[str]:
    """Yield what is to be told of names that jobs would make on a server that has gone.

    Raises
    ------
    SyntaxError, AsyncRunError
    """
    pending = pending_names(session, ask=False)
    reads = _reads(analysed(), session.namespace) if pending else frozenset()
    for name, made in sorted(pending.items()):
        if name in reads:
            maker = made.makers[-1].spec.name
            yield (
                f"{_told(name, made, maker, session.namespace)}, and there is no connection to "
                f"the server. %async_run_server connects again, then %async_gather {maker} "
                "brings what it has made."
            )


def _told(name: str, made: PendingName, maker: str, namespace: Collection[str]) -> str:
    has = "its old value" if name in namespace else "no value yet"
    return f"{name} has {has} here: {maker} {'makes' if made.certain else 'may make'} it"


def _reads(analysis: Analysis, namespace: Collection[str]) -> frozenset[str]:
    # What is here can be deleted whatever a job brings.
    return frozenset(analysis.reads.keys() - analysis.discarded.intersection(namespace))
