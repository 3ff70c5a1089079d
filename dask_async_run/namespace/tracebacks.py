"""Tracebacks of exceptions in streams: of the same lines and columns, without what was there."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any


@dataclass(frozen=True, slots=True)
class Entry:
    """One frame of a traceback.

    Parameters
    ----------
    file, name, qualname : str
    first : int
        The line with which the code begins.
    line : int
    columns : tuple of int or None
        Last line, first and last column of what was being done.
    module : str or None
    """

    file: str
    name: str
    qualname: str
    first: int
    line: int
    columns: tuple[int, int, int] | None
    module: str | None


def entries_of(traceback: types.TracebackType | None) -> Iterator[Entry]:
    """Yield the frames of a traceback, the outermost one first."""
    while traceback is not None:
        code, names = traceback.tb_frame.f_code, traceback.tb_frame.f_globals
        _, end, start, stop = _position(code, traceback.tb_lasti)
        columns = None if end is None or start is None or stop is None else (end, start, stop)
        module = names.get("__name__")
        what = code.co_filename, code.co_name, code.co_qualname, code.co_firstlineno
        name = module if isinstance(module, str) else None
        yield Entry(*what, traceback.tb_lineno, columns, name)
        traceback = traceback.tb_next


def _position(code: types.CodeType, at: int) -> tuple[int | None, ...]:
    return next(islice(code.co_positions(), at // 2, None), (None,) * 4)


def make_traceback(entries: list[Entry]) -> types.TracebackType | None:
    """Make a traceback that shows the same lines: one code each that does nothing but to raise."""
    made: types.TracebackType | None = None
    for entry in reversed(entries):
        raised = _raised(_code(entry), {"__name__": entry.module} if entry.module else {})
        made = types.TracebackType(made, raised.tb_frame, raised.tb_lasti, max(entry.line, 0))
    return made


_RAISING = compile("raise ValueError", "<traceback>", "exec")


def _raised(code: types.CodeType, names: dict[str, Any]) -> types.TracebackType:
    try:
        exec(code, names)
    except ValueError as error:
        found = error.__traceback__ and error.__traceback__.tb_next
    assert found is not None
    return found


def _code(entry: Entry) -> types.CodeType:
    return _RAISING.replace(
        co_filename=entry.file,
        co_name=entry.name,
        co_qualname=entry.qualname,
        co_firstlineno=entry.first,
        co_linetable=_table(entry, len(_RAISING.co_code) // 2),
    )


_LONG, _NO_COLUMNS = 14, 13
_MOST_UNITS = 8


def _table(entry: Entry, units: int) -> bytes:
    """Answer a table of locations in which all of a code is at one place (PEP 626 and 657)."""
    table = bytearray()
    step = entry.line - entry.first
    while units > 0:
        length = min(units, _MOST_UNITS)
        form = _NO_COLUMNS if entry.columns is None else _LONG
        table.append(0x80 | form << 3 | (length - 1))
        table += _number(step << 1 if step >= 0 else -step << 1 | 1)
        if entry.columns is not None:
            end, start, stop = entry.columns
            for value in (max(end - entry.line, 0), start + 1, stop + 1):
                table += _number(value)
        units -= length
        step = 0
    return bytes(table)


def _number(value: int) -> bytes:
    """Answer a number in six bits a byte, the lowest ones first."""
    found = bytearray()
    while value >= 64:
        found.append(0x40 | value & 63)
        value >>= 6
    found.append(value)
    return bytes(found)
