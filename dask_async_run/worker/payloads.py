"""A cell's inputs and its result, between frames and the cell's namespace."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dask_async_run import surroundings
from dask_async_run.frames import FrameStore, content_digest
from dask_async_run.job import JobResult, JobSpec, Message, Payload
from dask_async_run.namespace import Parent, Stream
from dask_async_run.namespace import collect as collect_names
from dask_async_run.namespace import restore as restore_names
from dask_async_run.namespace.inputs import Restored
from dask_async_run.worker.displays import error_text
from dask_async_run.worker.shell import CellShell

_IDENTIFIER = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Inputs:
    """What `restore` keeps for `collect`.

    `surroundings` are those of the cell's start, None for a job without inputs.
    """

    restored: Restored
    store: FrameStore
    surroundings: Mapping[str, Any]


def restore(task: Message, spec: JobSpec, shell: CellShell) -> Inputs:
    """Put the inputs into the shell's namespace and the kernel's surroundings around it.

    Raises
    ------
    FrameError
        A frame is missing or damaged.
    Exception
        Whatever a pickle's own code raises, a module that is not there included.
    """
    store = FrameStore(Path(task["frames"]))
    surroundings.freshen()
    parents = []
    for message in task.get("parents", ()):
        parent = JobSpec.from_message(message["spec"])
        result = JobResult.from_message(message["result"])
        parents.append(
            Parent(
                parent.id,
                parent.parents,
                _stream(store, parent.payload),
                _stream(store, Payload.from_message(result.payload)),
            )
        )
    restored = restore_names(
        _stream(store, spec.payload),
        shell.user_ns,
        parents,
        lambda early: surroundings.write(early, shell),
    )
    surroundings.write(restored.late, shell)
    return Inputs(restored, store, surroundings.state(shell))


def collect(
    inputs: Inputs, spec: JobSpec, shell: CellShell, error: BaseException | None
) -> JobResult:
    """Store what the cell bound, deleted and changed.

    Raises
    ------
    OSError
        No space left, for instance.
    """
    collected = collect_names(
        inputs.restored,
        error,
        _displayed(shell),
        surroundings.changes(inputs.surroundings, shell),
        spec.only,
        spec.also,
        assigns=spec.binds,
        words=_IDENTIFIER.findall(spec.code),
        sources=lambda files: surroundings.sources(files, shell),
    )
    payload = inputs.store.put_payload(collected.stream, collected.buffers)
    ename, evalue = error_text(error)
    return JobResult(
        payload=payload.to_message(),
        bound=list(collected.bound),
        deleted=list(collected.deleted),
        mutated=list(collected.mutated),
        failed=dict(collected.failed),
        ename=ename,
        evalue=evalue,
        nbytes=payload.nbytes,
    )


def _displayed(shell: Any) -> tuple[Any, ...]:
    """The last results that the cell showed, oldest first: ``___``, ``__`` and ``_``."""
    hook = shell.displayhook
    shown = (hook.___, hook.__, hook._)
    return tuple(value for value in shown if not (isinstance(value, str) and not value))


def _stream(store: FrameStore, payload: Payload) -> Stream:
    data, buffers = store.open_payload(payload)
    return Stream(data, buffers, [content_digest(digest) for digest, _ in payload.frames])
