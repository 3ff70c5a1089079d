"""Files that jobs write which have not ended: who else uses them waits, or is told."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from dask_async_run import surroundings
from dask_async_run.kernel.building_on import to_build_on
from dask_async_run.kernel.record import Record
from dask_async_run.kernel.session import Session
from dask_async_run.namespace.analyse import Analysis
from dask_async_run.namespace.file_names import FileFinder, FileNames, shared
from dask_async_run.namespace.functions import Function, functions_behind

_LOOKED_AT = 10_000
"""So many objects are looked at for an attribute, or submitting took long."""


def files_of(
    analysis: Analysis,
    values: Mapping[str, Any],
    functions: Iterable[Function],
    objects: Collection[Any],
    imported: Collection[str] = (),
) -> FileNames:
    """Answer the files that a cell may read and write.

    Parameters
    ----------
    analysis : Analysis
    values : mapping
        Of the names that it reads.
    functions : iterable of Function
        Those that it may call.
    objects : collection of object
        Among which an attribute is looked for that a file is named by.
    imported : collection of str
        Names that pending jobs import.
    """
    if not analysis.effects.runs:
        return FileNames()

    def attributes(name: str) -> Iterator[Any]:
        for obj in islice(objects, _LOOKED_AT):
            found = getattr(obj, "__dict__", None)
            if type(found) is dict and name in found:
                yield found[name]

    folder = str(surroundings.working_folder() or "")
    finder = FileFinder(values, functions, attributes, folder)
    # A module's file is read by who imports it, and with `%autoreload` by who uses it.
    named = (name for name in analysis.reads if name in imported)
    used = (values[name] for name in analysis.reads if name in values)
    loaded = (value.__name__ for value in used if type(value) is types.ModuleType)
    found = dict.fromkeys((*analysis.imports, *named, *loaded))
    modules = [name.replace(".", "/") for name in found if _may_be_beside(name, folder)]
    return finder.find(analysis.effects.files, modules)


def _may_be_beside(module: str, folder: str) -> bool:
    """Whether a module may be a file of the working folder."""
    if module in sys.stdlib_module_names:
        return False
    if module not in sys.modules:
        return True
    file = getattr(sys.modules[module], "__file__", None)
    return isinstance(file, str) and file.startswith(f"{folder}{os.sep}")


def jobs_on_files(session: Session, files: FileNames) -> list[Record]:
    """Answer the jobs that have not ended and use files so that it matters who is first."""
    if not (files.reads or files.writes):
        return []
    records = [record for record in session.waiting() if record.ended is None]
    found = [record for record in records if files.waits_for(record.lineage.files)]
    return _going_on(session, found)


def being_written(session: Session, analysed: Callable[[], Analysis]) -> dict[str, Record]:
    """Answer the files that a cell which is run here reads, and the jobs that write them.

    Parameters
    ----------
    session : Session
    analysed : callable() -> Analysis
        Of the cell; it is called where there are such jobs.
    """
    records = [
        record
        for record in session.waiting()
        if record.ended is None and record.lineage.files.writes
    ]
    if not records:
        return {}
    analysis = analysed()
    values = {n: session.namespace[n] for n in analysis.reads if n in session.namespace}
    codes = [value.__code__ for value in values.values() if type(value) is types.FunctionType]
    functions = {*functions_behind(codes), *analysis.effects.functions}
    reads = files_of(analysis, values, functions, list(values.values())).reads
    spelled = [name for name in reads if "*" not in name]
    found = {
        name: record for record in records for name in shared(spelled, record.lineage.files.writes)
    }
    going = {record.id for record in _going_on(session, list(found.values()))}
    return {name: record for name, record in found.items() if record.id in going}


def _going_on(session: Session, records: list[Record]) -> list[Record]:
    """Answer those jobs that have not ended."""
    return [r for r in to_build_on(session, records) if r.ended is None] if records else []
