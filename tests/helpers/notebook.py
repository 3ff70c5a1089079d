"""A namespace like a kernel's, whose cells run in a forked child and are merged back.

The way of a real job without cluster and shell: capture, restore in another
process with a fresh ``__main__``, run, collect, merge. The child is a fork that
forgets the classes it inherited, so nothing but the streams gets there.
"""

from __future__ import annotations

import ast
import os
import pickle
import sys
import traceback
import types
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cloudpickle import cloudpickle as _cp

from dask_async_run.frames import FrameStore
from dask_async_run.job import JobResult, JobSpec, Payload
from dask_async_run.kernel.lineage import Lineage
from dask_async_run.kernel.record import Record
from dask_async_run.namespace.analyse import Analysis, analyse
from dask_async_run.namespace.capture import Captured, Wanted, capture
from dask_async_run.namespace.classify import kind_of
from dask_async_run.namespace.inputs import Parent, collect, is_hidden, restore
from dask_async_run.namespace.loaded import Loaded
from dask_async_run.namespace.merge import Kept, Merger, Plan
from dask_async_run.namespace.results import Collected


def in_child(work: Callable[[], Any]) -> Any:
    """Do `work` in a forked child and answer what it answers, pickled."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        # numpy's threads; they are idle, and the child does not use them.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            os.close(read)
            try:
                answer = True, work()
            except BaseException:
                answer = False, traceback.format_exc()
            with os.fdopen(write, "wb") as pipe:
                pickle.dump(answer, pipe)
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    assert data, "the child died"
    good, answer = pickle.loads(data)
    assert good, answer
    return answer


def forget_classes() -> None:
    """Make this process a stranger to the notebook classes that it has met so far."""
    _cp._DYNAMIC_CLASS_TRACKER_BY_CLASS.clear()
    _cp._DYNAMIC_CLASS_TRACKER_BY_ID.clear()


def fresh_main() -> dict[str, Any]:
    """Give this process a new, empty ``__main__``; answer its dict."""
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    vars(module)["__builtins__"] = __builtins__
    return vars(module)


def run(code: str, namespace: dict[str, Any]) -> tuple[Any, ...]:
    """Run a cell; answer its last expression's value, in a tuple, if it has one."""
    tree = ast.parse(code)
    last = tree.body[-1] if tree.body else None
    if isinstance(last, ast.Expr):
        tree.body.pop()
    exec(compile(tree, "<cell>", "exec"), namespace)
    if not isinstance(last, ast.Expr):
        return ()
    return (eval(compile(ast.Expression(last.value), "<cell>", "eval"), namespace),)


@dataclass
class Run:
    """A job: submitted, run in a child when it is first asked for, gathered here."""

    notebook: Notebook
    code: str
    record: Record
    captured: Captured
    analysis: Analysis
    parents: Sequence[Run]
    result: JobResult | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def run(self) -> JobResult:
        """Run the cell now, what it builds on first; once."""
        for parent in self.parents:
            parent.run()
        if self.result is None:
            self.result = in_child(self._in_child)
        return self.result

    def parent(self) -> Parent:
        """Answer this job as one that others build on."""
        assert self.result is not None
        return Parent(
            self.record.id,
            self.record.spec.parents,
            self.record.stream(self.record.spec.payload),
            self.record.stream(Payload.from_message(self.result.payload)),
        )

    def _in_child(self) -> JobResult:
        forget_classes()
        namespace = fresh_main()
        restored = restore(
            self.record.stream(self.record.spec.payload),
            namespace,
            [job.parent() for job in self.parents],
            needed=self.analysis.reads,
        )
        error: BaseException | None = None
        out: tuple[Any, ...] = ()
        try:
            out = run(self.code, namespace)
        except BaseException as raised:
            error = raised
        collected: Collected = collect(restored, error, out, **self.options)
        payload = self.notebook.store.put_payload(collected.stream, collected.buffers)
        return JobResult(
            payload=payload.to_message(),
            bound=collected.bound,
            deleted=collected.deleted,
            mutated=collected.mutated,
            failed=collected.failed,
        )

    def load(self) -> Loaded:
        """Load the result here; nothing is applied."""
        return self.record.load(self.run(), self.notebook.records)

    def merger(self) -> Merger:
        records = self.notebook.records
        return Merger(
            self.load(),
            self.notebook.namespace,
            self.record.kept,
            lambda: self.record.original(records),
            self.record.resolver(records),
            was_updated=lambda token: self.record.was_updated(token, records),
            sent=lambda token: self.record.as_sent(token, records),
        )

    def gather(self, only: Iterable[str] = (), overwrite: bool = False) -> Plan:
        """Merge the result into the notebook, as `Gatherer` does."""
        merger = self.merger()
        plan = merger.plan(only, overwrite)
        moved = merger.apply(plan)
        self.record.note_updates(plan.updates, self.load(), self.notebook.records)
        later = False
        for record in self.notebook.records.values():
            if record.kept is not None and (later or record is self.record):
                for name, (old, new) in moved.items():
                    record.kept.rebase(name, old, new)
            later = later or record is self.record
        return plan


class Notebook:
    """A kernel's namespace, for the time of a test.

    Parameters
    ----------
    folder : Path
        Where frames are kept.
    """

    def __init__(self, folder: Path) -> None:
        self.store = FrameStore(folder)
        self.records: dict[str, Record] = {}
        self.namespace = fresh_main()

    def __getitem__(self, name: str) -> Any:
        return self.namespace[name]

    def __contains__(self, name: str) -> bool:
        return name in self.namespace

    def here(self, code: str) -> Any:
        """Run code here; answer its last expression's value."""
        out = run(code, self.namespace)
        return out[0] if out else None

    def wanted(
        self, code: str, not_here: Iterable[str] = (), uncertain: Iterable[str] = ()
    ) -> Wanted:
        found = analyse(code)
        return Wanted(
            reads=found.reads,
            mentions=found.weak | (found.deletes & self.namespace.keys()),
            attributes=frozenset(
                word.id if isinstance(word, ast.Name) else word.attr
                for word in ast.walk(ast.parse(code))
                if isinstance(word, (ast.Name, ast.Attribute))
            ),
            everything=found.dynamic or found.star,
            not_here=frozenset(not_here),
            uncertain=frozenset(uncertain),
            hidden=frozenset(filter(is_hidden, self.namespace)),
        )

    def capture(self, code: str, seeds: dict[int, Any] | None = None) -> Captured:
        return capture(self.namespace, self.wanted(code), seeds=seeds)

    def submit(self, code: str, parents: Sequence[Run] = (), **options: Any) -> Run:
        """Capture what a cell needs; it runs later.

        Parameters
        ----------
        parents : sequence of Run
            What it builds on, in order: names that they bind or delete come from
            them, and so do objects that they may change.
        options : dict
            ``only``, ``also`` and the like, for `collect`.
        """
        elsewhere = {n for p in parents for n in (*p.analysis.binds, *p.analysis.deletes)}
        certain = {name for parent in parents for name in parent.analysis.certain}
        seeds = {
            key: (2 * number + 1, index)
            for number, parent in enumerate(parents)
            if parent.record.kept is not None
            for key, index in parent.record.kept.indices().items()
            if key in parent.record.lineage.changes
        }
        captured = capture(
            self.namespace, self.wanted(code, elsewhere, elsewhere - certain), seeds=seeds
        )
        spec = JobSpec(
            id=uuid.uuid4().hex,
            notebook="notebook",
            name="cell",
            source=code,
            code=code,
            filename="<cell>",
            inputs=self.store.put_payload(captured.stream, captured.buffers).to_message(),
            parents=[parent.record.id for parent in parents],
        )
        kept = Kept(captured, self.namespace)
        record = Record(spec, self.store, self.namespace, kept)
        record.lineage = Lineage(
            changes=frozenset(
                id(obj) for obj in captured.objects.values() if kind_of(obj) is not None
            )
        )
        self.records[spec.id] = record
        return Run(self, code, record, captured, analyse(code), parents, options=options)

    def there(self, code: str, **options: Any) -> Run:
        """Run a cell in a child and gather it; answer the job."""
        job = self.submit(code, **options)
        job.gather()
        return job

    def restart(self, jobs: Iterable[Run] = ()) -> None:
        """Be a new kernel that knows nothing but the jobs' ids, once they have run."""
        for job in jobs:
            job.run()
        forget_classes()
        self.namespace = fresh_main()
        self.records.clear()
        for job in jobs:
            job.record = Record(job.record.spec, self.store, self.namespace)
            self.records[job.record.id] = job.record


@contextmanager
def notebook_in(folder: Path) -> Iterator[Notebook]:
    """Answer a new notebook; ``__main__`` is this process's own again afterwards."""
    main = sys.modules["__main__"]
    try:
        yield Notebook(folder)
    finally:
        sys.modules["__main__"] = main
