"""``gather``: what a job has bound, shown or written to a file.

Read from the journal and the frames beside it, so that it needs no server. Nothing is
marked as gathered: a notebook can still have all of it. Results are pickles, and loading
one runs its code: folder, journal and frames have to be this user's alone, which is
checked when each is opened.
"""

from __future__ import annotations

import argparse
import json
import reprlib
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from dask_async_run.commands import files, text
from dask_async_run.commands.exit_codes import NOT_YET, OK
from dask_async_run.commands.jobs import ended_well
from dask_async_run.commands.journals import chosen_one, journal_of, until_ended
from dask_async_run.errors import (
    AsyncRunError,
    JobStateError,
    NoSuchJobError,
    OptionError,
    ResultError,
    explained,
)
from dask_async_run.folders import FRAMES, check_private_file, check_private_folder, state_folder
from dask_async_run.job import JobResult, JobView, State
from dask_async_run.surroundings import path_entries


def run(given: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    with journal_of(given.server) as journal:
        view = chosen_one(given.server, journal, given.job)
    if given.wait:
        (view,) = until_ended(given.server, [view], given.timeout) or [view]
    elif given.timeout is not None:
        raise OptionError("--timeout", "it is for how long to --wait.")
    if not State(view.state).terminal:
        print(
            f"dask-async-run: {text.label(view)} is {view.state}: there is nothing to gather yet. "
            "Wait for it with --wait.",
            file=sys.stderr,
        )
        return NOT_YET
    names, failed = result_of(given.server, view, given.var)
    if given.output is not None:
        if not names:
            raise JobStateError(view.label, view.state, "it has bound nothing.")
        files.write(names, given.output, single=len(given.var) == 1)
    for name, why in failed.items():
        print(f"{view.label}: {name} did not come back: {why}", file=sys.stderr)
    if given.json:
        print(json.dumps(_facts(given, view, names, failed)))
    elif given.output is not None:
        print(f"{text.label(view)}: {', '.join(names)} written to {given.output}")
    else:
        for name, value in names.items():
            shown = _shown(value) if len(given.var) != 1 else _whole(value)
            print(shown if len(given.var) == 1 else f"{name} = {shown}")
    code = ended_well([view])
    if code != OK:
        print(f"{text.label(view)} is {view.state}{text.because(view)}", file=sys.stderr)
    return code


def result_of(server: str, view: JobView, only: list[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Load what a job has bound, or the variables that are asked for, as the cell left them.

    Returns
    -------
    names : dict
        Copies, by name.
    failed : dict of str to str
        What could not be pickled where it ran, or cannot be loaded here, and why.

    Raises
    ------
    JobStateError
        It brought nothing back, or has no such variable.
    ResultError
        It cannot be loaded here.
    """
    result = JobResult.from_message(view.result or {})
    namespace, lost = _loaded(server, view)
    for name in only:
        if name in lost:
            raise ResultError(view.label, f"{name}: {lost[name]}. {_ENVIRONMENT}")
        if name not in namespace:
            near = get_close_matches(name, namespace, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            why = (
                f" It could not be pickled: {result.failed[name]}" if name in result.failed else ""
            )
            raise JobStateError(view.label, view.state, f"it has no variable {name!r}.{why}{hint}")
    theirs = {*result.bound, *result.mutated}
    # Also what it was only given may not be loaded here.
    lost = {name: why for name, why in lost.items() if name in theirs or not name.isidentifier()}
    brought = theirs & namespace.keys()
    # What was imported is no result, unless it is asked for.
    wanted = only or sorted(n for n in brought if not isinstance(namespace[n], ModuleType))
    if lost and not wanted:
        told = "; ".join(f"{name}: {why}" for name, why in lost.items())
        raise ResultError(view.label, f"{told}. {_ENVIRONMENT}")
    failed = {name: f"it cannot be loaded ({why})" for name, why in lost.items() if not only}
    failed |= {name: why for name, why in result.failed.items() if not only or name in only}
    return {name: namespace[name] for name in wanted}, failed


_ENVIRONMENT = f"Is this the Python environment of the notebook? This one is {sys.prefix}."


def private_store(server: str) -> Any:
    """The frames of a server's jobs, once it is sure that nobody else has written them."""
    from dask_async_run.frames import FrameStore  # here: mmap and more, for this command only
    from dask_async_run.scheduler.recalling import recall
    from dask_async_run.stores import RecalledFrames

    folder = state_folder(server)
    check_private_folder(folder)
    path = folder / "journal.sqlite"
    check_private_file(path.stat(), path)
    frames = FrameStore(folder / FRAMES)

    def from_elsewhere(digests: list[str]) -> None:
        with journal_of(server) as journal:
            recall(journal, frames, digests)

    return RecalledFrames(frames, from_elsewhere)


def _loaded(server: str, view: JobView) -> tuple[dict[str, Any], dict[str, str]]:
    from dask_async_run.kernel.materialise import names_after
    from dask_async_run.kernel.record import Record

    store = private_store(server)
    records: dict[str, Record] = {}
    with journal_of(server) as journal:

        def record_of(job: str) -> Record:
            if job not in records:
                spec = journal.spec(job)
                if spec is None:
                    raise NoSuchJobError(job)
                records[job] = Record(spec, store, {})
            return records[job]

        try:
            found = names_after(view.id, record_of, journal.result, find_modules)
        except NoSuchJobError as error:
            raise ResultError(
                view.label, f"it builds on the job {error.name}, which was forgotten."
            ) from error
        except AsyncRunError as error:
            raise ResultError(view.label, str(error)) from error
        except Exception as error:
            # What a module that is not there, or the pickled objects' own code, raises.
            raise ResultError(
                view.label, f"{type(error).__name__}: {error}. {_ENVIRONMENT}"
            ) from error
    if found is None:
        problem = explained(view.state, view.reason, "it brought nothing back.")
        raise JobStateError(view.label, view.state, problem)
    names, lost = found
    return {name: value for name, value in names.items() if not name.startswith("__")}, lost


def find_modules(early: Mapping[str, Any], inherited: object) -> None:
    """Have the modules beside the notebook be found, behind all others."""
    del inherited
    entries = path_entries(early.get("path", ()))
    sys.path += [entry or str(Path.cwd()) for entry in entries if entry not in sys.path]


def _facts(
    given: argparse.Namespace, view: JobView, names: Mapping[str, Any], failed: dict[str, str]
) -> dict[str, Any]:
    variables = {}
    for name, value in names.items():
        facts: dict[str, Any] = {"type": _type(value), "text": _shown(value)}
        if name in given.var:
            try:
                facts["value"] = json.loads(files.as_json(value))
            except Exception:  # noqa: BLE001 - it has no form in JSON: its text has to do
                pass
        variables[name] = facts
    return {
        "id": view.id,
        "job": text.label(view),
        "state": str(view.state),
        "variables": variables,
        "failed": failed,
        "file": None if given.output is None else str(given.output),
    }


def _type(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _shown(value: Any) -> str:
    """One line, and no more of it than a line holds."""
    line = " ".join(_attempt(reprlib.repr, value).split())
    return line if len(line) <= 100 else line[:97] + "..."


def _whole(value: Any) -> str:
    return _attempt(repr, value) if not isinstance(value, str) else value


def _attempt(represent: Any, value: Any) -> str:
    try:
        return str(represent(value))
    except Exception as error:  # noqa: BLE001 - a user's __repr__
        return f"<{_type(value)}: {type(error).__name__}: {error}>"
