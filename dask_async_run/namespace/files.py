"""Files: closed ones, open ones, and what the `csv` module makes of them.

An open file goes as that file. It is opened again, by its path, at the place where it stands:
what was written so far is flushed first, and nothing is cut off. In place it is changed by
moving it there, or by closing it.
"""

from __future__ import annotations

import csv
import gc
import io
import itertools
import os
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from dask_async_run.namespace.kinds import Kind, NotInPlace, Undo

TYPES = (
    io.TextIOWrapper,
    io.BufferedReader,
    io.BufferedWriter,
    io.BufferedRandom,
    io.FileIO,
)

_SEARCHED = 64 * 2**20
"""Bytes that are read to find out where a text file stands."""

_NEWLINES = ("", "\n", "\r", "\r\n")

Place = tuple[int, bool]
"""Where a file stands, and whether it was brought there by ``next``, and does not tell."""

Settings = dict[str, Any]
"""What `io.TextIOWrapper.reconfigure` gives a text file; nothing of other files."""


def make_closed_file(kind: type, name: Any, mode: str | None, encoding: str | None) -> Any:
    """Make a closed file: what ``with open(...) as file`` leaves behind.

    Its mode is None for a text file that `open` did not make: a pipe, what `gzip.open` answers.
    """
    opened = (mode or "r").replace("x", "w")
    if kind is io.FileIO:
        raw: Any = io.FileIO(os.devnull, opened)
    else:
        file: Any = open(os.devnull, opened, encoding=encoding)  # noqa: SIM115, PTH123
        raw = file.buffer.raw if kind is io.TextIOWrapper else file.raw
    raw.name = name
    if kind is io.FileIO:
        file = raw
    elif kind is io.TextIOWrapper:
        file.mode = mode
        if mode is None:
            del file.mode
    file.close()
    return file


def make_open_file(
    path: str, name: Any, mode: str, buffering: int, settings: Settings, place: Place
) -> Any:
    """Open a file again, at some place, as it is."""

    def opener(_: str, flags: int) -> int:
        return os.open(path, flags & ~(os.O_TRUNC | os.O_EXCL))

    encoding = settings.get("encoding")
    file: Any = open(name, mode, buffering, encoding, opener=opener)  # noqa: SIM115
    if settings:
        file.reconfigure(**settings)
    _move(file, place)
    return file


def _mode(file: Any) -> str:
    telling: Any = file.raw if isinstance(file, io.BufferedRandom) else file
    return str(telling.mode)


def _move(file: Any, place: Place) -> None:
    at, by_next = place
    file.seek(at)
    if by_next and at > 0:
        with suppress(UnicodeDecodeError):
            file.seek(at - 1)
            if next(file) == "\n":
                return
        file.seek(at)


def reduce_file(file: Any) -> Any:
    """Reduce a file.

    Raises
    ------
    TypeError
        It is open and can't be opened again.
    """
    kind = type(file)
    if file.closed:
        mode = _mode(file) if hasattr(file, "mode") else None
        return make_closed_file, (kind, file.name, mode, getattr(file, "encoding", None))
    for name in ("stdout", "stderr"):
        if file is getattr(sys, name) or file is getattr(sys, f"__{name}__"):
            return getattr, (sys, name)
    path, place = _path(file), _place(file)
    buffering = 0 if kind is io.FileIO else -1
    made = (path, file.name, _mode(file), buffering, _settings(file, place), place)
    return make_open_file, made


def _refusal(why: str) -> TypeError:
    return TypeError(f"cannot pickle an open file{why}")


def _status(file: Any) -> os.stat_result:
    """Answer the status of a regular file that was opened by its name."""
    below = file.buffer if isinstance(file, io.TextIOWrapper) else file
    if type(below) not in TYPES or not isinstance(getattr(file, "name", None), (str, os.PathLike)):
        raise _refusal("")
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        raise _refusal("")
    return status


def _path(file: Any) -> str:
    """Answer where a regular file lies, if its name still leads there."""
    status = _status(file)
    path: str = os.path.abspath(file.name)  # noqa: PTH100 - not resolved
    if not os.path.exists(path):  # noqa: PTH110
        raise _refusal("")
    if not os.path.samestat(status, os.stat(path)):  # noqa: PTH116
        raise _refusal(" that is no longer where it was opened")
    return path


def _place(file: Any) -> Place:
    """Answer where a file stands, everything that was written to it flushed.

    Its name need not lead to it any more: a cell that closes a file and removes it has changed
    the kernel's in no other way than by closing it.
    """
    _status(file)
    if file.writable():
        file.flush()
    try:
        return int(file.tell()), False
    except OSError:  # a text file that gave a line with `next`, or one that has no place
        if not (file.seekable() and file.readable()):
            raise _refusal(" that cannot be read") from None
        return _place_of_text(file), True


def _place_of_text(file: Any) -> int:
    size = os.fstat(file.fileno()).st_size
    if size > _SEARCHED:
        raise _refusal(" of this size that gave a line with next()")
    rest = file.read()
    for end in ("\n", "\r\n"):
        left = rest.replace("\n", end).encode(file.encoding, file.errors or "strict")
        file.seek(max(0, size - len(left)))
        if file.read() == rest:
            _move(file, (size - len(left), True))
            return size - len(left)
    raise _refusal(f" in {file.encoding} that gave a line with next()")


def _settings(file: Any, place: Place) -> Settings:
    if type(file) is not io.TextIOWrapper:
        return {}
    names = ("encoding", "errors", "line_buffering", "write_through")
    return {name: getattr(file, name) for name in names} | {"newline": _newline(file, place)}


def _newline(file: Any, place: Place) -> str | None:
    """Answer the ``newline`` that a text file was given, which only its references tell."""

    def ends() -> list[str]:
        return [part for part in gc.get_referents(file) if type(part) is str and part in _NEWLINES]

    found = ends()
    if found and file.readable():  # one may be what was decoded, and has not been given yet
        file.seek(0)
        found = ends()
        _move(file, place)
    return found[0] if found else None


State = tuple[Place, Settings]


def _state(file: Any, snapshot: Any) -> State | None:
    if file.closed:
        return None
    place = _place(file)
    return place, _settings(file, place)


def _set(file: Any, state: State) -> None:
    place, settings = state
    if settings != _settings(file, _place(file)):
        file.seek(0)  # with what was decoded, it does not take other settings
        file.reconfigure(**settings)
    _move(file, place)


def _apply(file: Any, state: State | None) -> Undo:
    if file.closed:
        if state is not None:
            raise NotInPlace("a closed file cannot be opened again")
    elif state is None:
        file.close()
    else:
        place = _place(file)
        before = place, _settings(file, place)
        _set(file, state)
        return lambda: _set(file, before)
    return lambda: None


def _snapshot(file: Any) -> State | str | None:
    try:
        return _state(file, None)
    except TypeError as error:
        return str(error)


FILE = Kind(
    "file",
    lambda file: (),
    _snapshot,
    lambda file, snapshot: bool(_snapshot(file) == snapshot),
    _state,
    _apply,
)

# -- csv ------------------------------------------------------------------------------------------


def make_reader(lines: Any, options: dict[str, Any], done: int) -> Any:
    """Make a `csv.reader` that has read some lines."""
    reader = csv.reader(itertools.chain([""] * done, lines) if done else lines, **options)
    for _ in range(done):
        next(reader)
    return reader


def make_writer(target: Any, options: dict[str, Any]) -> Any:
    return csv.writer(target, **options)


def _options(dialect: Any) -> dict[str, Any]:
    return {name: getattr(dialect, name) for name in dir(dialect) if not name.startswith("_")}


def _reduce_reader(reader: Any) -> Any:
    lines = next(part for part in gc.get_referents(reader) if hasattr(part, "__next__"))
    return make_reader, (lines, _options(reader.dialect), reader.line_num)


def _reduce_writer(writer: Any) -> Any:
    for part in gc.get_referents(writer):
        target = getattr(part, "__self__", None)
        if target is not None and getattr(part, "__name__", "") == "write":
            return make_writer, (target, _options(writer.dialect))
    raise TypeError("cannot pickle '_csv.writer' object")


def held_by_csv(obj: Any) -> list[Any] | None:
    """Answer what a reader or a writer of `csv` works with; None of other objects."""
    if type(obj) in (_READER, _WRITER):
        return [part for part in gc.get_referents(obj) if part is not type(obj)]
    return None


_READER: type = type(csv.reader([]))
_WRITER: type = type(csv.writer(io.StringIO()))

REDUCERS: dict[type, Callable[[Any], Any]] = {
    **dict.fromkeys(TYPES, reduce_file),
    _READER: _reduce_reader,
    _WRITER: _reduce_writer,
}
