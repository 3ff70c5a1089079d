"""A cell's inputs and its result, between frames and the cell's namespace."""

from __future__ import annotations

import errno
import functools
import re
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dask_async_run import surroundings
from dask_async_run.advice import gone
from dask_async_run.frames import FrameStore, content_digest
from dask_async_run.job import JobResult, JobSpec, Message, Payload
from dask_async_run.namespace import Parent, Stream
from dask_async_run.namespace import collect as collect_names
from dask_async_run.namespace import restore as restore_names
from dask_async_run.namespace.inputs import Inherited, Restored
from dask_async_run.namespace.members import MemberLoader, member_of, table
from dask_async_run.namespace.results import Collected
from dask_async_run.worker import local_code
from dask_async_run.worker.displays import error_text
from dask_async_run.worker.files import WorkingFolder
from dask_async_run.worker.shell import CellShell

NO_SPACE = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the limit on the size of files is too low (ulimit -f)",
    errno.EMFILE: "too many files are open (ulimit -n)",
    errno.EROFS: "the disk is read-only",
    errno.ESTALE: "the server's state folder was moved or removed",
}
"""Why there may be no space for a result, by the error's number."""

_LARGEST = (None, 1 << 20, 0)
"""Bytes of the largest buffer that is stored; the next one if there was no space for that.

What has no buffers of its own needs no frame: it is kept by the registry.
"""

_ANEW = 5.0
"""Seconds in which a state folder that somebody deleted is there again."""

_IDENTIFIER = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Inputs:
    """What `restore` keeps for `collect`.

    `surroundings` are those of the cell's start, None for a job without inputs.
    `folder` is the cell's working folder, where that is its own. `finalisers` are those
    that there were before the cell.
    """

    restored: Restored
    store: FrameStore
    surroundings: Mapping[str, Any]
    folder: WorkingFolder | None = None
    finalisers: frozenset[Any] = frozenset()


def restore(
    task: Message, spec: JobSpec, shell: CellShell, known: Mapping[str, Any] | None = None
) -> Inputs:
    """Put the inputs into the shell's namespace and the kernel's surroundings around it.

    Parameters
    ----------
    known : mapping, optional
        What is known of the surroundings as they are then.

    Raises
    ------
    FrameError
        A frame is missing or damaged.
    FileNotFoundError
        The store was moved or removed.
    NotLoadedError
        A name that the cell reads cannot be loaded.
    Exception
        Whatever a pickle's own code raises, a module that is not there included.
    """
    home = Path(task["frames"]).parent
    if not home.is_dir():  # a store would make it again, in the way of who puts it back
        raise FileNotFoundError(errno.ENOENT, gone(home).rstrip("."))
    store = _store(task["frames"])
    surroundings.freshen()
    parents = []
    parent_specs = []
    for message in task.get("parents", ()):
        parent = JobSpec.from_message(message["spec"])
        parent_specs.append(parent)
        result = JobResult.from_message(message["result"])
        parents.append(
            Parent(
                parent.id,
                parent.parents,
                _stream(store, parent.payload),
                _stream(store, result.values),
                parent.execution_count,
                parent.makers,
            )
        )

    leaving: list[Inherited] = []  # those that leave something early: of a long chain few do
    looked_at = 0

    def prepare(early: Mapping[str, Any], inherited: Sequence[Inherited]) -> None:
        nonlocal looked_at
        surroundings.write(early, shell)
        leaving.extend(x for x in inherited[looked_at:] if surroundings.has_early(x.changed))
        looked_at = len(inherited)
        for left in leaving:
            surroundings.inherit(left.changed, left.submitted, early, shell, early=True)
        if "modules" in task:
            local_code.enter([*parent_specs, spec], store, Path(task["modules"]))

    there = _finalisers()
    with surroundings.undrawn():  # figures that are open in the kernel, and were not shown
        restored = restore_names(
            _stream(store, spec.payload),
            shell.user_ns,
            parents,
            prepare,
            spec.member,
            surroundings.place,
            spec.reads,
            spec.makers,
        )
    shell.absent = spec.left_out | restored.lost
    if spec.has_members:
        shell.user_ns[spec.sweep["table"]] = _table(task, spec, store, parents)
    if "_i" in shell.user_ns:
        # They move on by one when the cell is run.
        last = (shell.user_ns.get(name, "") for name in ("_i", "_ii", "_iii"))
        manager: Any = shell.history_manager
        manager._i00, manager._i, manager._ii = last
    surroundings.begin_to_count()
    surroundings.write(restored.late, shell)
    for left in restored.inherited:
        surroundings.inherit(left.changed, left.submitted, restored.late, shell, early=False)
    folder = None
    if spec.files:
        folder = WorkingFolder(Path(task["folder"]), spec, store)
        folder.enter()
    finalisers = _finalisers()
    for finaliser in finalisers - there:
        finaliser.atexit = False  # its object is the notebook's
    return Inputs(restored, store, surroundings.state(shell, known or {}), folder, finalisers)


def collect(
    inputs: Inputs,
    spec: JobSpec,
    shell: CellShell,
    error: BaseException | None,
    keep: Callable[[list[Any]], object] = lambda keys: None,
) -> tuple[JobResult, dict[str, Any]]:
    """Store what the cell bound, deleted and changed; the result, and the changed surroundings.

    On a full disk, and the like, what is small is stored, and the result's `failed` names the rest.

    Parameters
    ----------
    keep : callable
        Gets the keys of the Dask futures in the result, if there are any.

    Raises
    ------
    OSError
        Not even that could be stored.
    """
    changes = surroundings.changes(inputs.surroundings, shell)
    figures = surroundings.open_figures()
    finalisers = _finalisers() - inputs.finalisers
    hook: Any = shell.displayhook

    def attempt(largest: int | None, full: int) -> tuple[Collected, Payload]:
        collected = collect_names(
            inputs.restored,
            error,
            hook.values,
            changes,
            spec.only,
            spec.also,
            assigns=[name for name in spec.binds if not _is_shown(hook, name)],
            words=_IDENTIFIER.findall(spec.code),
            sources=lambda files: surroundings.sources(files, shell),
            largest=largest,
            full=full,
            asked=[*figures.values(), *finalisers],
            removes=() if error is not None else spec.removes,
        )
        return collected, inputs.store.put_payload(collected.stream, collected.buffers)

    full = errno.ENOSPC
    for largest in _LARGEST:
        try:
            collected, payload = attempt(largest, full)
            break
        except OSError as failure:
            moved = failure.errno == errno.ENOENT and not inputs.store.folder.is_dir()
            if moved and largest is None and _is_there_again(inputs.store.folder):
                collected, payload = attempt(largest, full)
                break
            number = errno.ESTALE if moved else failure.errno
            if number not in NO_SPACE or largest == 0:
                raise
            full = number
    for finaliser in finalisers:
        if id(finaliser) in collected.sent:
            finaliser.atexit = False  # its object lives on where the result goes
    files: list[str] = []
    if inputs.folder is not None:
        files, frames = inputs.folder.collect()
        payload = replace(payload, frames=[*payload.frames, *frames])
    if collected.futures:
        keep(collected.futures)
    ename, evalue = error_text(error)
    result = JobResult(
        payload=payload.to_message(),
        bound=list(collected.bound),
        deleted=list(collected.deleted),
        mutated=list(collected.mutated),
        failed=surroundings.left_open(figures, collected.sent) | collected.failed,
        ename=ename,
        evalue=evalue,
        nbytes=payload.nbytes,
        environment=surroundings.environment(),
        files=files,
    )
    return result, changes


def _is_shown(hook: Any, name: str) -> bool:
    """Whether a name, if it is ``_``, is what the cell has shown, and not a variable of its own.

    ``for _ in rows`` makes one, unless there are no rows.
    """
    return name == "_" and bool(hook.values) and hook.shell.user_ns.get(name) is hook.values[-1]


def _is_there_again(folder: Path) -> bool:
    """Wait for a folder that was deleted, and that the registry makes anew; whether it has."""
    until = time.monotonic() + _ANEW
    while not folder.is_dir():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def _table(task: Message, spec: JobSpec, store: FrameStore, parents: list[Parent]) -> Any:
    """Collect what the members of a sweep have bound."""

    def result(message: Message | None) -> Stream | None:
        left = JobResult.from_message(message or {}).payload
        return _stream(store, Payload.from_message(left)) if left else None

    members = [member_of(message, result(message["result"])) for message in task["members"]]
    loader = MemberLoader(parents, _stream(store, spec.payload), spec.makers)
    return table(members, loader, spec.only, spec.sweep["frame"])


@functools.cache
def _store(folder: str) -> FrameStore:
    """Answer a frame store; one for all cells of this process."""
    return FrameStore(Path(folder))


def _finalisers() -> frozenset[Any]:
    """Answer every `weakref.finalize` of this process that is still to be called."""
    return frozenset(getattr(weakref.finalize, "_registry", ()))


def _stream(store: FrameStore, payload: Payload) -> Stream:
    data, buffers = store.open_payload(payload)
    return Stream(data, buffers, [content_digest(digest) for digest, _ in payload.frames])
