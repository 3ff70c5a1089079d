"""What a job's cell got of earlier jobs' objects: were these changed here since?

Of its own inputs a job's kernel knows how they were. Objects that came with earlier jobs, or that
these made, are changed by them on the way: how the cell got them is found out by loading the
streams of these jobs once more, as the cell's process did.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dask_async_run.kernel.cell_text import changes_nothing
from dask_async_run.kernel.record import Record
from dask_async_run.namespace.compare import Comparison
from dask_async_run.namespace.inputs import Chain, Inputs
from dask_async_run.namespace.merge import looks_like_its_copy

Token = tuple[int, int]


class Earlier:
    """The streams of jobs, one after another as the processes of later ones loaded them.

    Of jobs that follow one another each is loaded once: it is as the next one's cell got it before
    that one's own result is loaded.
    """

    def __init__(self) -> None:
        self._chain: Chain | None = None
        self._jobs: list[str] = []

    def loaded(self, jobs: Sequence[str], records: Mapping[str, Record]) -> Chain:
        """Load what a job builds on, as it was when that was all.

        What was answered before for other jobs changes.

        Raises
        ------
        Exception
            A job was forgotten; or whatever loading what it left raises.
        """
        chain = self._chain
        if chain is None or [*jobs[: len(self._jobs)]] != self._jobs:
            chain, self._jobs = Chain({"__name__": "__main__"}, salvaging=True), []
        self._chain = None  # unless all goes well
        for job in jobs[len(self._jobs) :]:
            parent = records[job]
            chain.merge(parent.as_parent(parent.result()))
            self._jobs.append(job)
        self._chain = chain
        return chain


class Received:
    """Objects of earlier jobs as one job's cell got them, beside those that are here.

    Parameters
    ----------
    record : Record
        The job.
    records : mapping of str to Record
        Those that it builds on among them.
    shell : InteractiveShell or None
    earlier : Earlier
        What is loaded for this job may be used for the next one, too.
    """

    def __init__(
        self, record: Record, records: Mapping[str, Record], shell: Any, earlier: Earlier
    ) -> None:
        self._earlier = earlier
        self._record = record
        self._records = records
        self._is_open = shell is None or _ran_since(shell, record)
        self._copies: dict[Token, Any] = {}
        self._comparison: Comparison | None = None

    def stands(self, token: Token, obj: Any, state: Any) -> bool:
        """Whether an object is here as the cell got it, as far as that can be told.

        It cannot where an earlier job was forgotten.

        Parameters
        ----------
        token : Token
        obj : object
            What it means here.
        state : object
            Of a class, the attributes that matter, as of `namespace.definitions.CLASS`.
        """
        if not self._is_open:
            return True
        if not looks_like_its_copy(obj):
            earlier = reversed([j for j in self._record.spec.parents if j in self._records])
            known = (self._records[job].stands(obj, state) for job in earlier)
            return next((stands for stands in known if stands is not None), True)
        if self._comparison is None:
            try:
                self._comparison = self._load()
            except Exception:  # noqa: BLE001 - whatever a user's __setstate__ raises
                self._comparison = Comparison({}, {})
        return token not in self._copies or self._comparison.own_state(obj, self._copies[token])

    def _load(self) -> Comparison:
        spec = self._record.spec
        chain = self._earlier.loaded(spec.parents, self._records)
        own = chain.load(self._record.sent(salvaging=True), spec.parents)
        mine: dict[int, Token] = {}
        sent: dict[int, Token] = {}
        for token, obj, copy in self._pairs(chain, own):
            # One object may have come with several jobs, each of which has a token for it.
            sent.setdefault(id(copy), mine.setdefault(id(obj), token))
            self._copies[token] = copy
        return Comparison(mine, sent)

    def _pairs(self, chain: Chain, own: Inputs) -> Iterator[tuple[Token, Any, Any]]:
        """Yield tokens, the objects that they mean here, and the copies of these."""
        sections = [(0, self._record.objects_here(made=False), own.objects)]
        for number, job in enumerate(self._record.spec.parents):
            parent = self._records[job]
            inputs, result = chain.inputs[job].objects, chain.results[job].objects
            sections.append((2 * number + 1, parent.objects_here(made=False), inputs))
            sections.append((2 * number + 2, parent.objects_here(made=True), result))
        for section, objects, copies in sections:
            for index in objects.keys() & copies.keys():
                yield (section, index), objects[index], copies[index]


def _ran_since(shell: Any, record: Record) -> bool:
    """Whether cells that may change something were run here since a job was submitted."""
    begun = record.spec.execution_count if record.kept is not None else 0
    typed = shell.history_manager.input_hist_raw
    return begun is None or not all(map(changes_nothing, typed[begun:]))
